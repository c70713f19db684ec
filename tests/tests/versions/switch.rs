//! From one version to the next, and back.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use cks_tests::node::Node;
use cks_tests::process::Command;

use crate::{Isos, current, digest, installed, mark, names};

#[test]
fn one_link_changes_the_version_and_the_last_one_is_kept() {
    let isos = Isos::new();
    let (a, b, c) = (isos.with("a", &["etcdutl"]), isos.with("b", &[]), isos.with("c", &["etcdutl"]));
    let node = Node::new("etcd").unwrap();
    let (bin, versions) = (node.root.join("opt/bin"), node.root.join("opt/cks"));
    let mut made = Vec::new();
    for (iso, said, more) in [(&a, "a", true), (&b, "b", false), (&c, "c", true)] {
        installed(&node, iso);
        made.push(current(&node.root));
        for name in ["etcd", "etcdctl"] {
            assert_eq!(mark(&node.root, name).as_deref(), Some(said));
            assert_eq!(fs::read_link(bin.join(name)).unwrap(), Path::new("../cks/current/bin").join(name));
        }
        let mut programs = vec!["etcd", "etcdctl"];
        programs.extend(more.then_some("etcdutl"));
        assert_eq!(names(&bin), programs, "what {said} does not have is not linked");
        let mut kept: Vec<String> = made.iter().rev().take(2).cloned().collect();
        kept.push("current".to_owned());
        kept.sort();
        assert_eq!(names(&versions), kept, "the last one is kept, {said}");
    }
    // Back, without a byte fetched.
    let output = node.run(&[&b.to_string_lossy()]).unwrap();
    assert!(output.code == 0 && output.stdout.contains("0 B fetched"), "{output:?}");
    assert_eq!((current(&node.root), mark(&node.root, "etcd").as_deref()), (made[1].clone(), Some("b")));
    assert_eq!(names(&bin), ["etcd", "etcdctl"]);
    assert!(versions.join(&made[2]).is_dir());
    // What was in use is the way back from the next, not what was installed last and given up.
    installed(&node, &isos.with("d", &[]));
    let mut kept = [current(&node.root), made[1].clone(), "current".to_owned()];
    kept.sort();
    assert_eq!(names(&versions), kept);
}

#[test]
fn what_is_kept_is_settled_and_what_nobody_knows_stays() {
    let isos = Isos::new();
    let (a, b) = (isos.with("a", &[]), isos.with("b", &[]));
    let node = Node::new("etcd").unwrap();
    fs::create_dir_all(node.root.join("etc/cks-agent")).unwrap();
    fs::write(node.root.join("etc/cks-agent/config.toml"), "keep = 0\n").unwrap();
    installed(&node, &a);
    let old = node.root.join("opt/cks").join(current(&node.root));
    fs::write(old.join("bin/notes"), "mine").unwrap();
    // A run of yet another bundle that broke off, and directories of somebody else.
    let partial = node.root.join("opt/cks/v1.30.0-0123456789ab");
    fs::create_dir_all(partial.join("bin")).unwrap();
    fs::write(partial.join("bin/.etcd.cks-new"), "half").unwrap();
    fs::create_dir_all(node.root.join("opt/cks/media")).unwrap();
    fs::write(node.root.join("opt/cks/media/cks-bundle.json"), "{}").unwrap();
    let said = installed(&node, &b);
    assert!(said.contains("UNKNOWN_FILES") && said.contains("bin/notes"), "{said}");
    assert_eq!(fs::read_dir(&old).unwrap().count(), 1, "all that is known is gone");
    assert_eq!(fs::read_to_string(old.join("bin/notes")).unwrap(), "mine");
    assert!(!partial.exists() && node.root.join("opt/cks/media/cks-bundle.json").exists());
    fs::remove_file(old.join("bin/notes")).unwrap();
    installed(&node, &b);
    assert!(!old.exists());
}

/// Killed in the middle of the change, at many moments around the switch: the programs that a reboot would find
/// are all there and all of one version. Run again, the node is the same as one that nothing happened to.
#[test]
fn a_kill_in_the_middle_leaves_one_whole_version() {
    const KILLS: u32 = 40;
    let isos = Isos::new();
    let (a, b) = (isos.with("a", &["etcdutl"]), isos.with("b", &[]));
    let template = Node::new("etcd").unwrap();
    installed(&template, &a);
    let old = current(&template.root);
    let whole = Node::new("etcd").unwrap();
    installed(&whole, &a);
    installed(&whole, &b);
    let new = whole.root.join("opt/cks").join(current(&whole.root));
    let record = new.join("cks-bundle.json").strip_prefix(&whole.root).unwrap().to_owned();
    let log = isos.work.path().join("log");
    let mut seen = BTreeSet::new();
    for at in 0..KILLS {
        let node = Node::new("etcd").unwrap();
        let copy = Command::new("cp").args(["-a", "-T"]).arg(&template.root).arg(&node.root);
        copy.ok().unwrap();
        let mut run = node.bootstrap(&[&b.to_string_lossy()]).unwrap().start(&log).unwrap();
        while !node.root.join(&record).exists() && run.ended().unwrap().is_none() {
            thread::sleep(Duration::from_micros(20));
        }
        let recorded = Instant::now();
        while recorded.elapsed() < Duration::from_micros(250) * at && run.ended().unwrap().is_none() {
            thread::yield_now();
        }
        run.kill().unwrap();
        let marks = ["etcd", "etcdctl"].map(|name| mark(&node.root, name).unwrap());
        assert_eq!(marks[0], marks[1], "after kill {at}");
        assert_eq!(marks[0] == "a", current(&node.root) == old, "after kill {at}");
        if marks[0] == "a" {
            assert_eq!(mark(&node.root, "etcdutl").as_deref(), Some("a"), "its names are there as long as it is");
        }
        seen.insert(marks[0].clone());
        installed(&node, &b);
        let (now, should) = (node.tree().unwrap(), whole.tree().unwrap());
        assert_eq!(now.digest(), should.digest(), "{}", should.difference(&now));
    }
    println!("{KILLS} kills, seen in use: {seen:?}");
    assert!(seen.contains("a"), "a kill before the switch");
}

/// What the stock scripts copied, and half copied, gives way to links.
#[test]
fn copies_of_stock_scripts_are_replaced() {
    let isos = Isos::new();
    let a = isos.with("a", &[]);
    let node = Node::new("etcd").unwrap();
    fs::create_dir_all(node.root.join("opt/bin")).unwrap();
    fs::write(node.root.join("opt/bin/etcd"), "half of a pro").unwrap();
    fs::write(node.root.join("opt/bin/other"), "not ours").unwrap();
    installed(&node, &a);
    assert_eq!(mark(&node.root, "etcd").as_deref(), Some("a"));
    assert!(fs::symlink_metadata(node.root.join("opt/bin/etcd")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(node.root.join("opt/bin/other")).unwrap(), "not ours");
    let version = node.root.join("opt/cks/current/bin/etcd");
    assert_eq!(digest(&version), digest(&node.root.join("opt/bin/etcd")));
}
