//! Inputs that are far.

use std::fs;

use bootstrap::digest::Digest;

use crate::fixture::{Bed, Server};

#[test]
fn downloads_are_checked_and_kept() {
    let bed = Bed::new();
    let kubelet = fs::read(bed.path("bin/kubelet")).unwrap();
    let server = Server::start(&[("/kubelet", "200 OK", kubelet.clone())]);
    let digest = Digest::of(&kubelet).hex();
    let input = format!("url = \"{}\", sha256 = \"{digest}\"", server.url("/kubelet"));
    bed.edit("file = \"bin/kubelet\"", &input);
    let first = fs::read(bed.build()).unwrap();
    assert!(first == fs::read(bed.build()).unwrap());
    assert_eq!(server.asked(), 1, "the second build takes the cache");

    // A damaged cache is not trusted, and what a killed download left is taken over.
    bed.write(&format!("cache/sha256/{digest}"), "damaged");
    bed.write(&format!("cache/sha256/.{digest}.partial"), "half");
    assert!(first == fs::read(bed.build()).unwrap());
    assert_eq!(server.asked(), 2);
    assert_eq!(fs::read_dir(bed.path("cache/sha256")).unwrap().count(), 1, "no temporary file stays");

    // The same ISO as from local files.
    assert!(first == fs::read(Bed::new().build()).unwrap());
}

#[test]
fn passwords_are_sent_but_not_shown() {
    let server = Server::start(&[("/other", "200 OK", b"other".to_vec())]);
    let digest = Digest::of(b"wanted").hex();
    for url in [server.url("/missing"), server.url("/other"), "http://127.0.0.1:1/kubelet".to_owned()] {
        let bed = Bed::new();
        let with_password = url.replace("http://", "http://me:secret@");
        bed.edit("file = \"bin/kubelet\"", &format!("url = \"{with_password}\", sha256 = \"{digest}\""));
        let output = bed.cks_iso(&["build", "spec.toml", "-o", "out.iso"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(&url), "{said}");
        assert!(!said.contains("secret") && !said.contains("me:"), "{said}");
    }
}

#[test]
fn refused_downloads_have_their_codes() {
    let server = Server::start(&[
        ("/broken", "503 Service Unavailable", b"later".to_vec()),
        ("/denied", "403 Forbidden", b"<html>".to_vec()),
        ("/other", "200 OK", b"other".to_vec()),
    ]);
    let digest = Digest::of(b"wanted").hex();
    for (url, code, exit) in [
        (server.url("/missing"), "SOURCE_FILE_MISSING", 65),
        (server.url("/broken"), "SOURCE_UNREACHABLE", 75),
        (server.url("/denied"), "SOURCE_INVALID", 65),
        (server.url("/other"), "DIGEST_MISMATCH", 65),
        ("http://127.0.0.1:1/kubelet".to_owned(), "SOURCE_UNREACHABLE", 75),
    ] {
        let bed = Bed::new();
        bed.edit("file = \"bin/kubelet\"", &format!("url = \"{url}\", sha256 = \"{digest}\""));
        let output = bed.cks_iso(&["build", "spec.toml", "-o", "out.iso"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("error[{code}]: kubernetes.kubelet: ")), "{said}");
        assert!(said.contains(&url) && said.contains("\nremedy: "), "{said}");
        assert_eq!(output.status.code(), Some(exit), "{said}");
        assert!(!bed.path("out.iso").exists() && bed.hidden().is_empty());
        assert_eq!(fs::read_dir(bed.path("cache/sha256")).unwrap().count(), 0);
    }
}
