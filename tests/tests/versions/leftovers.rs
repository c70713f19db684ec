//! `/mnt/k8sdisk`, where the stock scripts leave a copy of the ISO that they got from the router.

use std::fs;
use std::path::Path;

use cks_tests::node::{self, Node};
use cks_tests::process::{Command, Output};

use crate::{Isos, installed, names};

#[test]
fn the_copy_of_an_iso_goes_and_anything_else_stays() {
    let isos = Isos::new();
    let iso = isos.with("a", &[]);
    let stale = |node: &Node, foreign: bool| {
        let disc = node.root.join("mnt/k8sdisk");
        fs::create_dir_all(disc.join("k8s")).unwrap();
        fs::write(disc.join("k8s").join(if foreign { "notes" } else { "kubelet" }), vec![1; 3 << 20]).unwrap();
        disc
    };
    let node = Node::new("etcd").unwrap();
    let disc = stale(&node, false);
    fs::write(disc.join("network.yaml"), "a: b\n").unwrap();
    let said = installed(&node, &iso);
    assert!(said.contains("STALE_STAGING") && said.contains("3 MiB"), "{said}");
    assert!(!disc.exists() && node.root.join("mnt").is_dir());
    assert!(!installed(&node, &iso).contains("STALE_STAGING"));

    // With something of a person's in it.
    let disc = stale(&node, false);
    fs::write(disc.join("notes.txt"), "mine").unwrap();
    let said = installed(&node, &iso);
    assert!(said.contains("notes.txt"), "{said}");
    assert_eq!(names(&disc), ["notes.txt"]);
    // No ISO at all.
    let said = installed(&node, &iso);
    assert!(!said.contains("STALE_STAGING"), "{said}");
    let node = Node::new("etcd").unwrap();
    let disc = stale(&node, true);
    installed(&node, &iso);
    assert!(disc.join("k8s/notes").exists());

    // What this very run is fed from.
    let node = Node::new("etcd").unwrap();
    let disc = node.root.join("mnt/k8sdisk");
    fs::create_dir_all(disc.parent().unwrap()).unwrap();
    let extract = Command::new("xorriso").args(["-osirrox", "on", "-indev"]).arg(&iso);
    extract.args(["-extract", "/"]).arg(&disc).ok().unwrap();
    assert!(!installed(&node, &disc).contains("STALE_STAGING"));
    assert!(disc.join("k8s/kubelet").exists());
    // From elsewhere it is only in the way; and it is no mount point.
    assert!(installed(&node, &iso).contains("STALE_STAGING"));
    assert!(!disc.exists());
}

#[test]
fn what_is_mounted_there_is_left_alone() {
    let isos = Isos::new();
    let iso = isos.with("a", &[]);
    let node = Node::new("etcd").unwrap();
    let disc = node.root.join("mnt/k8sdisk");
    let shown = isos.work.path().join("shown");
    fs::create_dir_all(&disc).unwrap();
    fs::create_dir_all(shown.join("k8s")).unwrap();
    fs::write(shown.join("k8s/kubelet"), "x").unwrap();
    let output = run_with_mount(&node, &iso, &shown, &disc);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(!output.stderr.contains("STALE_STAGING"), "{output:?}");
    assert!(shown.join("k8s/kubelet").exists());
}

#[test]
fn bytes_do_not_gather_under_a_mount_of_its_own() {
    let isos = Isos::new();
    let iso = isos.with("a", &[]);
    let node = Node::new("etcd").unwrap();
    let partial = node.root.join("opt/cks/.partial");
    let elsewhere = isos.work.path().join("elsewhere");
    fs::create_dir_all(&partial).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    let output = run_with_mount(&node, &iso, &elsewhere, &partial);
    assert_eq!((node::code(&output), output.code), ("CONFIG_INVALID", 78), "{output:?}");
    assert!(output.stderr.contains("/opt/cks/.partial is mounted by itself"), "{output:?}");
    assert_eq!(node.in_force().unwrap(), [""; 0]);
}

/// A bootstrap in a mount namespace of its own, where `from` is mounted at `at`.
fn run_with_mount(node: &Node, iso: &Path, from: &Path, at: &Path) -> Output {
    let mounted = "mount --bind \"$1\" \"$2\" && shift 2 && \"$@\"";
    let run = node.bootstrap(&[&iso.to_string_lossy()]).unwrap();
    let run = run.under("sh", ["-c".as_ref(), mounted.as_ref(), "sh".as_ref(), from.as_os_str(), at.as_os_str()]);
    run.under("unshare", ["--mount", "--propagation", "private"]).output().unwrap()
}
