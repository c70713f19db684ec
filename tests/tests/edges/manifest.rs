//! Manifests that somebody wrote by hand, to break what reads them.

use std::fs;

use bootstrap::bundle::MANIFEST_PATH;
use cks_tests::node::Node;
use cks_tests::small;
use cks_tests::vr::Vr;
use serde_json::Value;

use crate::{Stock, assert_refused, served};

/// Clears a terminal's screen.
const CLEAR: &str = "\u{1b}[2J";

type Change = fn(&mut Value);

const CASES: [(&str, Change, &str); 13] = [
    ("no digest", |m| drop(m["entries"][0].as_object_mut().unwrap().remove("sha256")), "has no sha256"),
    ("an empty digest", |m| m["entries"][0]["sha256"] = "".into(), "sha256"),
    ("an image twice", |m| twice(m, "images"), "stands twice"),
    ("an entry twice", |m| twice(m, "entries"), "stands twice"),
    ("a size", |m| m["entries"][0]["size"] = (1_u64 << 63).into(), "TiB"),
    ("the largest size", |m| m["entries"][0]["size"] = u64::MAX.into(), "TiB"),
    ("a negative size", |m| m["entries"][0]["size"] = (-1).into(), "-1"),
    ("a sandbox image that is none", |m| m["sandbox_image"] = quoted().into(), "[evil]"),
    (
        "a sandbox image of that name",
        |m| {
            m["sandbox_image"] = quoted().into();
            m["images"][0]["reference"] = quoted().into();
        },
        "no image reference may have",
    ),
    ("a path", |m| m["entries"][0]["path"] = format!("{CLEAR}k8s").into(), "no file name here may have"),
    ("a kind", |m| m["entries"][0]["kind"] = CLEAR.into(), "unknown variant"),
    ("a field", |m| m[CLEAR] = 1.into(), "unknown field"),
    ("a version", |m| m["kubernetes"] = format!("v1{CLEAR}").into(), "no name or version"),
];

fn quoted() -> String {
    format!("{}\"\n[evil]\n", small::SANDBOX)
}

fn twice(manifest: &mut Value, list: &str) {
    let first = manifest[list][0].clone();
    manifest[list].as_array_mut().unwrap().push(first);
}

#[test]
fn a_hostile_manifest_is_refused_and_no_terminal_obeys_it() {
    let vr = Vr::start(&Stock::new().built()).unwrap();
    let path = served(&vr.docroot, MANIFEST_PATH);
    let source = vr.docroot.join("cks-iso").to_string_lossy().into_owned();
    let good: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (what, change, says) in CASES {
        let mut manifest = good.clone();
        change(&mut manifest);
        assert_ne!(manifest, good, "{what}");
        vr.replace(MANIFEST_PATH, manifest.to_string().as_bytes()).unwrap();
        println!("{what}");
        let node = Node::new("etcd").unwrap().with(&["--wait", "1s"]);
        let output = node.run(&[&source]).unwrap();
        println!("  {}", output.stderr.lines().find(|line| line.starts_with("error[")).unwrap());
        assert_refused(&node, &output, ("MANIFEST_INVALID", 65), says);
        assert!(!node.root.join("opt").exists(), "{what}");
    }
    vr.replace(MANIFEST_PATH, good.to_string().as_bytes()).unwrap();
    assert_eq!(Node::new("etcd").unwrap().run(&[&source]).unwrap().code, 0);
}
