//! `cks-agent reconcile`: silent while nothing is lost, and then only what is lost.

use std::fs;
use std::path::Path;

use cks_tests::containerd::Containerd;
use cks_tests::node::{self, Node};
use cks_tests::process::Output;
use cks_tests::vr::Vr;
use cks_tests::{programs, small};

use crate::{Isos, current, installed};

fn reconcile(node: &Node, arguments: &[&str]) -> Output {
    node.agent("reconcile").unwrap().args(arguments).output().unwrap()
}

#[test]
fn a_whole_node_is_left_alone_and_asks_nobody() {
    let isos = Isos::new();
    let vr = Vr::start(&isos.with("a", &[])).unwrap();
    let containerd = Containerd::start(&programs::containerd(None).unwrap(), None).unwrap();
    let node = Node::new("worker").unwrap().using(&containerd).inside(&vr.netns);
    let before = reconcile(&node, &["-v"]);
    assert!(before.code == 0 && before.stderr.contains("no bootstrap has succeeded here"), "{before:?}");
    assert_eq!(node.run(&[&vr.url]).unwrap().code, 0);
    let (tree, status) = (node.tree().unwrap(), node.status().unwrap());
    let asked = vr.requests().unwrap().len();
    let output = reconcile(&node, &[]);
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (0, "", ""));
    assert!(reconcile(&node, &["-v"]).stderr.contains("nothing to do"));
    let told = reconcile(&node, &["--json"]);
    let told: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(told["steps"].as_array().unwrap().len(), 0);
    assert_eq!(vr.requests().unwrap().len(), asked, "no source is opened");
    assert_eq!((node.tree().unwrap(), node.status().unwrap()), (tree.clone(), status));

    // An image and a program are lost.
    let listed = containerd.ctr(["images", "list", "-q"]).ok().unwrap();
    containerd.ctr(["images", "rm", "--sync", small::APPLICATION]).ok().unwrap();
    let kubelet = node.root.join("opt/cks").join(current(&node.root)).join("bin/kubelet");
    fs::remove_file(&kubelet).unwrap();
    let dry = reconcile(&node, &["--dry-run"]);
    assert!(dry.code == 0 && dry.stdout.contains(small::APPLICATION), "{dry:?}");
    assert!(!kubelet.exists());
    let output = reconcile(&node, &[]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.contains("2 steps"), "{output:?}");
    assert_eq!(tree.digest(), node.tree().unwrap().digest(), "{}", tree.difference(&node.tree().unwrap()));
    assert_eq!(containerd.ctr(["images", "list", "-q"]).ok().unwrap(), listed);
    assert_eq!(reconcile(&node, &[]).stdout, "");
}

#[test]
fn no_other_bundle_is_taken() {
    let isos = Isos::new();
    let (a, b) = (isos.with("a", &[]), isos.with("b", &[]));
    let source = isos.work.path().join("source.iso");
    let offer = |iso: &Path| assert!(fs::copy(iso, &source).unwrap() > 0);
    let node = Node::new("etcd").unwrap();
    offer(&a);
    let second = isos.work.path().join("second.iso").to_string_lossy().into_owned();
    let output = node.run(&[&source.to_string_lossy(), &second]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    let (tree, version) = (node.tree().unwrap(), current(&node.root));
    offer(&b);
    let output = reconcile(&node, &[]);
    assert_eq!((output.code, output.stdout.as_str()), (0, ""), "nothing is lost: {output:?}");
    let etcd = node.root.join("opt/cks").join(&version).join("bin/etcd");
    fs::write(&etcd, "changed").unwrap();
    let output = reconcile(&node, &["--wait", "1s"]);
    assert_eq!((node::code(&output), output.code), ("MEDIA_NOT_FOUND", 75), "{output:?}");
    assert_eq!(current(&node.root), version);
    // The other source has the right one.
    fs::copy(&a, &second).unwrap();
    let output = reconcile(&node, &[]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(tree.digest(), node.tree().unwrap().digest(), "{}", tree.difference(&node.tree().unwrap()));
    // The manifest itself is lost: it comes from the source that has this very one.
    fs::remove_file(node.root.join("opt/cks").join(&version).join("cks-bundle.json")).unwrap();
    assert_eq!(reconcile(&node, &[]).code, 0);
    assert_eq!(tree.digest(), node.tree().unwrap().digest(), "{}", tree.difference(&node.tree().unwrap()));
}

#[test]
fn a_node_of_a_stock_iso_is_kept_whole_too() {
    let isos = Isos::new();
    let directory = isos.work.path().join("first");
    let iso = small::stock_iso(&directory, "CDROM").unwrap();
    let node = Node::new("etcd").unwrap();
    installed(&node, &iso);
    let tree = node.tree().unwrap();
    let output = reconcile(&node, &[]);
    assert_eq!((output.code, output.stdout.as_str()), (0, ""), "{output:?}");
    fs::remove_file(node.root.join("opt/bin/etcdctl")).unwrap();
    assert_eq!(reconcile(&node, &[]).code, 0);
    assert_eq!(tree, node.tree().unwrap());
}
