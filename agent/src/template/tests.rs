use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

fn assert_fits(schema: &str, document: &impl Serialize) {
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    let document = serde_json::to_value(document).unwrap();
    let errors: Vec<String> =
        jsonschema::validator_for(&schema).unwrap().iter_errors(&document).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

/// A root with some files.
fn root(files: &[(&str, &str)]) -> (TempDir, Host) {
    let root = tempfile::tempdir().unwrap();
    let host = Host::new(root.path()).unwrap();
    for (path, text) in files {
        fs::write(host.prepare(path).unwrap(), text).unwrap();
    }
    (root, host)
}

#[tokio::test]
async fn documents_are_as_their_schemas_say() {
    let (_root, host) = root(&[("/etc/os-release", "ID=debian\nVERSION_ID=12\n"), ("/var/lib/dpkg/status", "")]);
    let items = examine(&facts::gather(&host, bootstrap::bundle::Role::Worker).await.unwrap());
    assert!(
        items.iter().any(|item| item.result == Outcome::Failed) && items.iter().any(|item| item.result == Outcome::Ok)
    );
    let text = || "x".to_owned();
    let edits = [
        Edit::Install { package: text(), again: true },
        Edit::AddUser { name: text(), home: text(), shell: text() },
        Edit::SetShell { name: text(), shell: text() },
        Edit::Directory { path: text(), mode: 0o755, owner: Owner::Login },
        Edit::Write { path: text(), text: text(), mode: 0o644, owner: Owner::Root },
        Edit::Remove { path: text() },
        Edit::Enable { unit: text(), unmask: false },
    ];
    let edits = edits.map(|edit| Done { item: text(), edit }).to_vec();
    let prepared =
        Prepared { schema: 1, root: text(), distribution: text(), dry_run: true, edits, left: items.clone() };
    assert_fits(include_str!("../../../docs/schema/prepare.schema.json"), &prepared);
    let checked = Checked { schema: 1, root: text(), distribution: text(), live: false, failed: 1, warnings: 0, items };
    assert_fits(include_str!("../../../docs/schema/check.schema.json"), &checked);
}

#[test]
fn links_are_followed_as_the_root_s_programs_follow_them() {
    let (_root, host) = root(&[("/usr/bin/true", "x"), ("/etc/os-release", "")]);
    for (link, target) in [
        ("bin", "usr/bin"),
        ("usr/bin/absolute", "/usr/bin/true"),
        ("usr/bin/climbing", "../../../../../usr/bin/true"),
        ("usr/bin/circle", "/bin/circle"),
    ] {
        symlink(target, host.root().join(link)).unwrap();
    }
    let real = host.root().join("usr/bin/true");
    for path in ["/usr/bin/true", "/bin/true", "/bin/absolute", "/bin/../bin/climbing"] {
        assert_eq!(facts::resolve(&host, path).as_deref(), Some(real.as_path()), "{path}");
    }
    assert_eq!(facts::resolve(&host, "/bin/circle"), None);
}

#[test]
fn nothing_outside_of_the_root_is_sealed() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("x.log"), "theirs").unwrap();
    let (root, _) = root(&[("/etc/passwd", "a:x:1:1::/home/../../a:\nb:x:2:2::/srv:\n")]);
    fs::create_dir(root.path().join("var")).unwrap();
    symlink(outside.path(), root.path().join("var/log")).unwrap();
    let arguments = |root: &Path| cli::Seal { root: root.to_owned(), dry_run: false, json: true };
    let failure = seal(&arguments(root.path())).unwrap_err();
    assert_eq!(failure.code, Code::ConfigInvalid, "{failure}");
    assert_eq!(fs::read_to_string(outside.path().join("x.log")).unwrap(), "theirs");
}

#[test]
fn a_private_key_is_not_taken_for_a_public_one() {
    let (_root, host) = root(&[("/id", "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n"), ("/id.pub", "ssh-rsa A b\n")]);
    assert_eq!(keep_keys(&host, &host.path("/id"), false).unwrap_err().code, Code::ConfigInvalid);
    assert_eq!(keep_keys(&host, &host.path("/none"), false).unwrap_err().code, Code::ConfigInvalid);
    assert!(keep_keys(&host, &host.path("/id.pub"), true).unwrap().is_some());
    assert!(!host.path(bootstrap::template::KEPT_KEYS).exists(), "a dry run changes nothing");
    assert!(keep_keys(&host, &host.path("/id.pub"), false).unwrap().is_some());
    assert!(keep_keys(&host, &host.path("/id.pub"), false).unwrap().is_none());
    assert_eq!(fs::read_to_string(host.path(bootstrap::template::KEPT_KEYS)).unwrap(), "ssh-rsa A b\n");
}
