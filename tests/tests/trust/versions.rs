//! An old bundle is no way around a newer one, however well it is signed.

use std::fs;
use std::path::Path;

use cks_tests::node::{self, Node};

use crate::{Key, in_force, iso, settle};

#[test]
fn a_replayed_bundle_is_refused() {
    let work = cks_tests::scratch("trust").unwrap();
    let key = Key::make(work.path(), "ours");
    let signed =
        |version: &str| key.sign(&iso(work.path(), version), &work.path().join(format!("{version}.iso.new")), false);
    let (old, new) = (signed("v1.9.11"), signed("v1.34.0"));
    let run = |node: &Node, iso: &Path| node.run(&[&iso.to_string_lossy()]).unwrap();

    // Below the floor, on a node that has nothing yet.
    let node = Node::new("etcd").unwrap();
    key.trusted_by(&node);
    settle(&node, "[trust]\nminimum-version = \"v1.33\"\n");
    let refused = run(&node, &old);
    assert_eq!((node::code(&refused), refused.code), ("VERSION_TOO_OLD", 65), "{refused:?}");
    assert!(refused.stderr.contains("v1.9.11") && refused.stderr.contains("v1.33"), "{refused:?}");
    assert_eq!(node.status().unwrap()["sources"][0]["verdict"], "VERSION_TOO_OLD");
    assert!(in_force(&node).is_empty() && !node.root.join("opt").exists());

    // Older than what is installed, on a machine that is in no cluster, and on a member.
    settle(&node, "");
    assert_eq!(run(&node, &new).code, 0);
    assert_eq!(run(&node, &old).code, 0);
    assert_eq!(run(&node, &new).code, 0);
    fs::create_dir_all(node.root.join("var/lib/etcd/member")).unwrap();
    let whole = node.tree().unwrap();
    let refused = run(&node, &old);
    assert_eq!(node::code(&refused), "VERSION_TOO_OLD", "{refused:?}");
    assert!(
        ["v1.9.11", "v1.34.0", "--allow-downgrade"].iter().all(|word| refused.stderr.contains(word)),
        "{refused:?}"
    );
    assert_eq!(whole, node.tree().unwrap(), "nothing was changed");
    let other_build = key.sign(&iso(&work.path().join("again"), "v1.34.0"), &work.path().join("again.iso"), false);
    assert_eq!(run(&node, &other_build).code, 0, "the same version is no older one");
    let wanted = node.bootstrap(&[&old.to_string_lossy()]).unwrap().arg("--allow-downgrade").output().unwrap();
    assert_eq!(wanted.code, 0, "{wanted:?}");
    assert_eq!(run(&node, &new).code, 0, "and up again");
}
