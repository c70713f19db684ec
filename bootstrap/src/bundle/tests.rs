use super::*;

const HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn manifest(entries: &str, rest: &str) -> String {
    format!(r#"{{"schema":1,"name":"n","arch":"amd64","entries":[{entries}]{rest}}}"#)
}

fn entry(path: &str, rest: &str) -> String {
    format!(r#"{{"path":"{path}","size":10,"kind":"other","roles":[]{rest}}}"#)
}

#[test]
fn what_is_written_is_read_again() {
    let text = manifest(&entry("k8s/kubelet", &format!(r#","sha256":"sha256:{HEX}""#)), "");
    let manifest = Manifest::parse(text.as_bytes()).unwrap();
    assert_eq!(Manifest::parse(manifest.to_json().unwrap().as_bytes()).unwrap(), manifest);
}

#[test]
fn manifests_that_do_not_hold_are_refused_with_the_reason() {
    let sha = format!(r#","sha256":"sha256:{HEX}""#);
    let whole = entry("a", &sha);
    let tarball = r#"{"path":"etcd/e.tar.gz","size":1,"kind":"etcd","roles":[]"#;
    let blob = |at: &str| format!(r#","blobs":[{{"digest":"sha256:{HEX}","size":9,"media_type":"m","at":{at}}}]"#);
    for (text, reason) in [
        ("<html>".to_owned(), "expected value"),
        (manifest(&entry("a", ""), ""), "entry \"a\" has no sha256"),
        (manifest(&format!("{tarball}{sha}}}"), ""), "has no list of members"),
        (manifest(&entry("../a", &sha), ""), "leads out"),
        (manifest(&entry("a\\u001b[31m", &sha), ""), "no file name here may have"),
        (manifest(&entry("cks-bundle.json", &sha), ""), "can be no entry"),
        (manifest(&entry("cks-bundle.json.minisig", &sha), ""), "can be no entry"),
        (manifest(&format!("{whole},{whole}"), ""), "stands twice"),
        (manifest(&whole.replace(":10,", ":9999999999999999999,"), ""), "more than 8 TiB"),
        (manifest(&whole, r#","sandbox_image":"x:1""#), "is no image of the bundle"),
        (manifest(&whole, r#","kubernetes":"v1\u0007""#), "no name or version"),
        (manifest(&whole, &blob(r#"{"range":{"path":"a","offset":2}}"#)), "reaches beyond the end"),
        (manifest(&whole, &blob(r#"{"range":{"path":"b","offset":0}}"#)), "which is no entry"),
        (manifest(&whole, &blob(r#"{"inline":{"text":"xyz"}}"#)), "does not match its inline text"),
        (manifest(&whole, r#","surprise":1"#), "unknown field"),
    ] {
        let failure = Manifest::parse(text.as_bytes()).unwrap_err();
        assert_eq!(failure.code, Code::ManifestInvalid, "{text}");
        assert!(failure.what.contains(reason), "{:?} lacks {reason:?}", failure.what);
    }
    let newer = manifest(&whole, "").replace("\"schema\":1", "\"schema\":2");
    assert_eq!(Manifest::parse(newer.as_bytes()).unwrap_err().code, Code::ManifestUnsupported);
}
