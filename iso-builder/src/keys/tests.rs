use bootstrap::signature::verify;

use super::*;

/// An unencrypted key of Debian's minisign 0.11, and what it made with it.
const SECRET: &str = include_str!("minisign.key");
const PUBLIC: &str = include_str!("../../../bootstrap/tests/data/minisign.pub");
const SIGNATURE: &str = include_str!("../../../bootstrap/tests/data/minisign.minisig");

fn at(dir: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

fn public(made: &Made) -> PublicKey {
    PublicKey::parse(&fs::read_to_string(&made.public).unwrap()).unwrap()
}

#[test]
fn signatures_are_those_of_minisign() {
    let dir = tempfile::tempdir().unwrap();
    let key = SecretKey::load(&at(&dir, "a.key", SECRET), &Asked::Terminal).unwrap();
    assert_eq!(key.id(), PublicKey::parse(PUBLIC).unwrap().id());
    let ours = key.sign_bytes(b"hello\n", "timestamp:1\tfile:f\thashed");
    // All but the first line, which says who made it.
    assert_eq!(ours.split_once('\n').unwrap().1, SIGNATURE.split_once('\n').unwrap().1);
}

#[test]
fn a_pair_is_made_once_and_opened_by_its_password() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (at(&dir, "good", "swordfish\r\n"), at(&dir, "bad", "swordfishes\n"));
    let made = generate(&dir.path().join("ours.v1"), Some(&Asked::File(good.clone()))).unwrap();
    assert_eq!(made.secret, dir.path().join("ours.v1.key"));
    assert_eq!(fs::metadata(&made.secret).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&made.public).unwrap().permissions().mode() & 0o777, 0o644);

    let key = SecretKey::load(&made.secret, &Asked::File(good.clone())).unwrap();
    assert_eq!(verify(&[public(&made)], b"x", &key.sign_bytes(b"x", "c")).unwrap()[0].comment, "c");
    let failure = SecretKey::load(&made.secret, &Asked::File(bad)).unwrap_err();
    assert_eq!(failure.code, Code::KeyInvalid, "{failure}");
    assert!(failure.what.contains("password is another one"), "{failure}");

    let before = fs::read(&made.secret).unwrap();
    for gone in [&made.public, &made.secret] {
        let failure = generate(&dir.path().join("ours.v1"), None).unwrap_err();
        assert_eq!(failure.code, Code::ConfigInvalid);
        assert!(failure.what.contains("never replaced"), "{failure}");
        assert!(fs::read(&made.secret).unwrap() == before);
        let _ = fs::remove_file(gone);
    }
    assert!(Unnamed::new(&good, b"x", 0o600).unwrap().appear().is_err(), "a file is replaced");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "something is left behind");
}

#[test]
fn nothing_secret_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let made = generate(&dir.path().join("k"), None).unwrap();
    let text = fs::read_to_string(&made.secret).unwrap();
    let bytes = STANDARD.decode(text.lines().nth(1).unwrap()).unwrap();
    let shown = format!("{:?} {made:?}", SecretKey::load(&made.secret, &Asked::Terminal).unwrap());
    let hex: String = bytes[SEED..POINT].iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!shown.contains(&hex[..8]) && shown.contains(&made.id), "{shown}");
    assert_eq!(format!("{:?}", Password::new("swordfish").unwrap()), "Password");
}

#[test]
fn what_is_no_secret_key_is_refused_unshown() {
    let dir = tempfile::tempdir().unwrap();
    let line = SECRET.lines().nth(1).unwrap();
    let mut bytes = STANDARD.decode(line).unwrap();
    bytes[POINT] ^= 1;
    let other_half = format!("untrusted comment: x\n{}\n", STANDARD.encode(&bytes));
    for (text, reason) in [
        ("", "no minisign secret key"),
        (PUBLIC, "it is a public key"),
        (&SECRET[..SECRET.len() - 20], "no minisign secret key"),
        (&SECRET.replace("RWQA", "RWQB"), "no minisign secret key"),
        (&other_half, "it is damaged"),
    ] {
        let failure = SecretKey::load(&at(&dir, "a.key", text), &Asked::Terminal).unwrap_err();
        assert_eq!(failure.code, Code::KeyInvalid, "{text}");
        assert!(failure.what.contains(reason), "{failure} lacks {reason}");
        assert!(!format!("{failure:?}").contains(&line[100..140]), "the key is told");
    }
    let empty = Asked::File(at(&dir, "password", "\n"));
    assert!(empty.ask(Path::new("k")).unwrap_err().what.contains("is empty"));
    let absent = SecretKey::load(&dir.path().join("absent"), &Asked::Terminal).unwrap_err();
    assert_eq!(absent.code, Code::ConfigInvalid);
}
