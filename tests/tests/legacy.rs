//! ISOs as the stock script makes them, without a manifest: they install too, and it is said that nothing
//! vouches for them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use bootstrap::bundle::Arch;
use cks_tests::containerd::Containerd;
use cks_tests::node::{self, Node};
use cks_tests::vr::Vr;
use cks_tests::{programs, small};

/// The archive that only a control plane needs, by its stock name.
const CONTROL_PLANE_ARCHIVE: &str = "docker/kube-apiserver:v1.34.0.tar";

/// The directory of a small stock ISO, and the ISO.
fn stock(work: &Path) -> (PathBuf, PathBuf) {
    let directory = work.join("components");
    small::components(&directory, Arch::parse(std::env::consts::ARCH).unwrap()).unwrap();
    let iso = small::stock_iso(&directory, "CDROM").unwrap();
    (directory, iso)
}

fn containerd() -> Containerd {
    Containerd::start(&programs::containerd(None).unwrap(), None).unwrap()
}

#[test]
fn a_stock_iso_makes_a_worker_and_an_etcd_node() {
    let work = cks_tests::scratch("legacy").unwrap();
    let (directory, iso) = stock(work.path());
    let vr = Vr::start(&iso).unwrap();
    let iso = iso.to_string_lossy();
    let mut trees = Vec::new();
    for source in [vr.url.as_str(), &iso] {
        let containerd = containerd();
        let worker = Node::new("worker").unwrap().using(&containerd).inside(&vr.netns);
        let etcd = Node::new("etcd").unwrap().inside(&vr.netns);
        for node in [&worker, &etcd] {
            let output = node.run(&[source]).unwrap();
            assert_eq!(output.code, 0, "{source}: {output:?}");
            assert!(output.stderr.contains("warning[LEGACY_BUNDLE]: "), "{source}: {output:?}");
            assert!(output.stdout.contains("not verified: stock ISO without manifest"), "{source}: {output:?}");
            let state = node.status().unwrap();
            assert_eq!((&state["phase"], &state["bundle"]["trust"]), (&"installed".into(), &"legacy".into()));
            let warnings = state["warnings"].to_string();
            assert!(warnings.contains("LEGACY_BUNDLE: ") && warnings.contains("require-manifest"), "{warnings}");
            assert_eq!(state["bundle"]["kubernetes"], "v1.34.0");

            let again = node.run(&[source]).unwrap();
            assert!(again.code == 0 && again.stdout.contains("nothing to do"), "{source}: {again:?}");
            assert!(again.stderr.contains("warning[LEGACY_BUNDLE]: "), "{source}: {again:?}");
        }
        assert_eq!(containerd.images().unwrap(), [small::APPLICATION, small::SANDBOX], "{source}");
        let checked = containerd.ctr(["images", "check"]).ok().unwrap();
        assert!(checked.lines().skip(1).all(|line| line.contains(" complete ") && line.contains(" true")), "{checked}");
        trees.push((worker.tree().unwrap(), etcd.tree().unwrap()));
    }
    assert_eq!(trees[0], trees[1], "the router and the disc give the same nodes");
    let lines = [trees[0].0.lines.clone(), trees[0].1.lines.clone()].concat();
    for (path, from) in [("bin/kubelet", "k8s/kubelet"), ("bin/kubeadm", "k8s/kubeadm"), ("bin/kubectl", "k8s/kubectl")]
    {
        let digest = cks_tests::tree::digest_of(&directory.join(from)).unwrap().to_string();
        assert!(lines.iter().any(|line| line.contains(path) && line.ends_with(&digest)), "{path}: {lines:?}");
    }
    for path in ["opt/bin/crictl -> ", "opt/bin/etcd -> ", "opt/bin/etcdctl -> ", "opt/cni/bin/bridge -> "] {
        assert!(lines.iter().any(|line| line.starts_with(&format!("l {path}"))), "{path}: {lines:?}");
    }
}

#[test]
fn a_worker_does_not_read_the_archives_of_the_control_plane() {
    let work = cks_tests::scratch("legacy").unwrap();
    let (directory, iso) = stock(work.path());
    let vr = Vr::start(&iso).unwrap();
    let (vr_containerd, iso_containerd) = (containerd(), containerd());
    let node = Node::new("worker").unwrap().using(&vr_containerd).inside(&vr.netns);
    assert_eq!(node.run(&[&vr.url]).unwrap().code, 0);
    let told = vr.requests().unwrap();
    let asked = |request: &&cks_tests::vr::Request| request.path.ends_with(CONTROL_PLANE_ARCHIVE);
    let methods: Vec<&str> = told.iter().filter(asked).map(|request| request.method.as_str()).collect();
    assert_eq!(methods, ["HEAD"], "its size is all that is wanted");
    let beside = |request: &cks_tests::vr::Request| !request.path.starts_with("/cks-iso/");
    assert!(!told.iter().any(beside), "nothing beside the ISO is asked for: {told:?}");
    assert!(!told.iter().any(|request| request.method == "GET" && request.path.contains("/etcd/etcd-")), "{told:?}");

    // A disc keeps no log; what was read of it must not have room for that archive.
    let node = Node::new("worker").unwrap().using(&iso_containerd);
    assert_eq!(node.run(&[&iso.to_string_lossy()]).unwrap().code, 0);
    let read = node.status().unwrap()["sources"][0]["bytes"].as_u64().unwrap();
    let size = |path: &str| fs::metadata(directory.join(path)).unwrap().len();
    let needed: u64 = cks_tests::tree::Tree::read(&directory, &[CONTROL_PLANE_ARCHIVE, "etcd"])
        .unwrap()
        .lines
        .iter()
        .filter_map(|line| line.strip_prefix("f ")?.split_whitespace().nth(1).map(size))
        .sum();
    assert!(read < needed + size(CONTROL_PLANE_ARCHIVE) / 2, "{read} bytes read, {needed} needed");
}

#[test]
fn the_policy_refuses_it() {
    let work = cks_tests::scratch("legacy").unwrap();
    let (_, iso) = stock(work.path());
    let vr = Vr::start(&iso).unwrap();
    let iso = iso.to_string_lossy();
    for source in [vr.url.as_str(), &iso] {
        let node = Node::new("etcd").unwrap().inside(&vr.netns).with(&["--policy", "require-manifest"]);
        let output = node.run(&[source]).unwrap();
        assert_eq!((node::code(&output), output.code), ("MANIFEST_REQUIRED", 65), "{output:?}");
        assert!(output.stderr.contains(source) && output.stderr.contains("remedy: "), "{output:?}");
        assert_eq!(node.in_force().unwrap(), [""; 0]);
        assert_eq!(node.status().unwrap()["failure"]["code"], "MANIFEST_REQUIRED");
    }
}
