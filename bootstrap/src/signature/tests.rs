use std::io::Cursor;

use minisign::KeyPair;

use super::*;

/// Made by Debian's minisign 0.11 over [`HELLO`].
const PUBLIC: &str = include_str!("../../tests/data/minisign.pub");
const SIGNATURE: &str = include_str!("../../tests/data/minisign.minisig");
const LEGACY: &str = include_str!("../../tests/data/minisign-legacy.minisig");
const HELLO: &[u8] = b"hello\n";

struct Pair {
    pair: KeyPair,
    key: PublicKey,
}

impl Pair {
    fn new() -> Self {
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        let key = PublicKey::parse(&pair.pk.to_box().unwrap().to_string()).unwrap();
        Self { pair, key }
    }

    fn sign(&self, content: &[u8]) -> String {
        minisign::sign(None, &self.pair.sk, Cursor::new(content), Some("a comment"), None).unwrap().into_string()
    }
}

fn ids(signers: &[Signer]) -> Vec<String> {
    signers.iter().map(|signer| signer.key.id()).collect()
}

#[test]
fn what_minisign_made_is_accepted() {
    let key = PublicKey::parse(PUBLIC).unwrap();
    assert_eq!(key.id(), "511B3FC1FCD2B4F2");
    let signers = verify(&[key], HELLO, SIGNATURE).unwrap();
    assert_eq!(signers[0].comment, "timestamp:1\tfile:f\thashed");
}

#[test]
fn keys_are_read_one_by_one_and_several() {
    let line = PUBLIC.lines().nth(1).unwrap();
    for text in [PUBLIC.to_owned(), line.to_owned(), format!("\r\n  {line}\r\n\r\n")] {
        assert_eq!(PublicKey::parse(&text).unwrap(), PublicKey::parse(PUBLIC).unwrap(), "{text:?}");
    }
    let more = format!("{PUBLIC}\n{}", Pair::new().pair.pk.to_base64());
    assert_eq!(PublicKey::parse_all(&more).unwrap().len(), 2);
    let secret = Pair::new().pair.sk.to_box(None).unwrap().to_string();
    for (text, reason) in [
        (more.as_str(), "several keys"),
        ("", "holds no key"),
        ("untrusted comment: only\n", "holds no key"),
        (&line[1..], "line 1 is no minisign public key"),
        (&line.replace("RW", "AA"), "line 1 is no minisign public key"),
        ("ключ", "line 1 is no minisign public key"),
        (&secret, "line 2 is a secret key"),
    ] {
        let failure = PublicKey::parse(text).unwrap_err();
        assert_eq!(failure.code, Code::KeyInvalid, "{text}");
        assert!(failure.what.contains(reason), "{failure} lacks {reason}");
        let shown = format!("{failure}{}", failure.remedy());
        assert!(!secret.lines().any(|line| shown.contains(line)), "a secret is told");
    }
}

#[test]
fn every_key_that_signed_is_told_once() {
    let (one, two, stranger) = (Pair::new(), Pair::new(), Pair::new());
    let keys = [one.key.clone(), two.key.clone()];
    let (first, second, other) = (one.sign(HELLO), two.sign(HELLO), stranger.sign(HELLO));
    for (text, want) in [
        (first.clone(), vec![one.key.id()]),
        (format!("{second}{first}"), vec![two.key.id(), one.key.id()]),
        (format!("{first}{first}"), vec![one.key.id()]),
        (format!("{other}{second}"), vec![two.key.id()]),
        (second.replace('\n', "\r\n"), vec![two.key.id()]),
        (second.trim_end().to_owned(), vec![two.key.id()]),
    ] {
        assert_eq!(ids(&verify(&keys, HELLO, &text).unwrap()), want, "{text}");
    }
    assert_eq!(claims(&format!("{first}{other}")).unwrap()[1].id, stranger.key.id());
}

#[test]
fn what_no_trusted_key_signed_is_refused() {
    let (one, two) = (Pair::new(), Pair::new());
    let key = PublicKey::parse(PUBLIC).unwrap();
    let (good, stolen) = (one.sign(HELLO), {
        // The signature of one key under another one's id.
        let mut twin = two.pair.pk.to_bytes();
        twin[2..10].copy_from_slice(&one.pair.pk.to_bytes()[2..10]);
        PublicKey::parse(&STANDARD.encode(twin)).unwrap()
    });
    let comment = good.replace("a comment", "b comment");
    let mixed = format!("{good}{}", one.sign(b"another"));
    for (keys, content, text, reason) in [
        (vec![two.key.clone()], HELLO, good.clone(), "no trusted key"),
        (vec![one.key.clone()], b"hullo\n", good.clone(), "does not belong to this content"),
        (vec![one.key.clone()], HELLO, comment, "does not belong to this content"),
        (vec![one.key.clone()], HELLO, mixed, "does not belong to this content"),
        (vec![stolen.clone()], HELLO, good.clone(), "does not belong to this content"),
        (vec![key], HELLO, LEGACY.to_owned(), "not prehashed"),
        (vec![one.key.clone()], HELLO, String::new(), "no signatures"),
        (vec![one.key.clone()], HELLO, format!("{good}more\n"), "line 5 begins no"),
        (vec![one.key.clone()], HELLO, good.repeat(33), "132 lines"),
        (vec![one.key.clone()], HELLO, "x".repeat(70_000), "70000 bytes"),
    ] {
        let failure = verify(&keys, content, &text).unwrap_err();
        assert_eq!(failure.code, Code::SignatureInvalid, "{reason}");
        assert!(failure.what.contains(reason), "{failure} lacks {reason}");
    }
    // Of two keys with one id, the one that signed is told.
    assert_eq!(verify(&[stolen, one.key.clone()], HELLO, &good).unwrap()[0].key, one.key);
    assert_eq!(verify(&[], HELLO, &good).unwrap_err().code, Code::KeyInvalid);
}

#[test]
fn no_changed_byte_is_accepted_and_none_panics() {
    let pair = Pair::new();
    let good = pair.sign(HELLO);
    let comment = good.find('\n').unwrap();
    for (at, flip) in (0..good.len()).flat_map(|at| [1, 0x20, 0x80].map(|flip| (at, flip))) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] ^= flip;
        let text = String::from_utf8_lossy(&bytes);
        let _ = claims(&text);
        // Nobody vouches for the first comment; the last line end may be missing.
        let free = at < comment || at + 1 == good.len();
        assert!(free || verify(std::slice::from_ref(&pair.key), HELLO, &text).is_err(), "byte {at}: {text}");
        let _ = PublicKey::parse_all(&text);
    }
    for end in 0..good.len() - 1 {
        assert!(verify(std::slice::from_ref(&pair.key), HELLO, &good[..end]).is_err(), "cut at {end}");
    }
}
