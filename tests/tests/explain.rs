//! `cks-agent explain` as a person calls it: a file, a directory with metadata, standard output and exit code.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::fs;
use std::path::PathBuf;

use cks_tests::process::Command;
use cks_tests::programs;
use serde_json::Value;

/// A scenario's user data, and a directory with its metadata.
fn scenario(name: &str) -> (PathBuf, tempfile::TempDir) {
    let path = programs::workspace().join("bootstrap/tests/user_data").join(name);
    let keys: std::collections::BTreeMap<String, String> =
        serde_json::from_slice(&fs::read(path.join("metadata.json")).unwrap()).unwrap();
    let metadata = tempfile::tempdir().unwrap();
    for (key, value) in keys {
        fs::write(metadata.path().join(key), value).unwrap();
    }
    (path.join("user-data"), metadata)
}

#[test]
fn a_node_and_what_keeps_one_from_being_made_are_told() {
    for (name, code, told, failure) in [
        ("01-worker-4.22", 0, "joins        10.1.1.5:6443", None),
        ("62-control-first-edited-arguments", 0, "leaves alone /opt/bin/deploy-kube-system: line 13: ", None),
        ("17-cni-mixed-indentation", 78, "wrong in the CNI configuration", Some("CNI_INVALID")),
        ("53-worker-join-address-unfilled", 78, "user data", Some("USER_DATA_INVALID")),
        ("79-foreign-ubuntu", 78, "nobody that is known", Some("USER_DATA_UNKNOWN")),
    ] {
        let (user_data, metadata) = scenario(name);
        let explain = || {
            Command::new(programs::built("cks-agent").unwrap())
                .args(["explain".as_ref(), "--user-data".as_ref(), user_data.as_os_str()])
                .args(["--metadata".as_ref(), metadata.path().as_os_str()])
        };
        let output = explain().output().unwrap();
        assert_eq!(output.code, code, "{name}: {}", output.stderr);
        assert!(output.stdout.contains(told), "{name}: {}", output.stdout);
        assert_eq!(failure.is_some(), output.stderr.starts_with("error["), "{name}: {}", output.stderr);
        let output = explain().arg("--json").output().unwrap();
        let document: Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(document.pointer("/failure/code").and_then(Value::as_str), failure, "{name}");
        assert_eq!((output.code, output.stderr.as_str()), (code, ""), "{name}");
    }
}
