//! Snapshots, and clusters that begin anew from one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use cks_tests::node::code;
use serde_json::Value;

use crate::bed::{self, Bed};

/// Three members with some keys, and a snapshot of them with its hash; then they write more.
fn with_snapshot(tls: bool) -> (Bed, PathBuf, u64) {
    let bed = Bed::formed(3, tls, &bed::etcd().unwrap()).unwrap();
    for number in 0..50 {
        bed.nodes[0].put(&format!("/key/{}", number % 20), &format!("value {number}")).unwrap();
    }
    let hash = bed.agree().unwrap();
    let path = bed.directory.path().join("etcd.db");
    let said = bed.ok(1, &["snapshot", "--json", "--output", &path.to_string_lossy()]).unwrap();
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((said["revision"].as_u64(), said["path"].as_str()), (Some(51), path.to_str()), "{said}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    bed.nodes[0].put("/later", "lost").unwrap();
    (bed, path, hash)
}

#[test]
fn a_cluster_begins_anew_from_a_snapshot_on_all_members() {
    let (bed, path, hash) = with_snapshot(true);
    let file = path.to_string_lossy();
    bed.nodes.iter().for_each(|node| node.stop().unwrap());
    let old = bed.nodes[0].root.join("var/lib/etcd");
    for at in 0..3 {
        let said = bed.ok(at, &["restore", &file]).unwrap();
        assert!(said.contains("revision 51"), "{said}");
    }
    bed.start_all().unwrap();
    assert_eq!(bed.agree().unwrap(), hash);
    assert_eq!(bed.nodes[2].get("/later").unwrap(), "");
    assert_eq!(bed.nodes[2].get("/key/19").unwrap(), "value 39");
    let kept = fs::read_dir(old).unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut kept: Vec<String> = kept.collect();
    kept.sort();
    assert!(kept.len() == 2 && kept[0].starts_with("aside-") && kept[1] == "member", "{kept:?}");
}

#[test]
fn one_member_begins_anew_alone_and_the_others_join_it() {
    let (mut bed, path, hash) = with_snapshot(false);
    bed.nodes.iter().for_each(|node| node.stop().unwrap());
    bed.ok(1, &["restore", "--alone", &path.to_string_lossy()]).unwrap();
    bed.ok(1, &["start"]).unwrap();
    assert_eq!(bed.nodes[1].hash().unwrap(), hash);
    // The others are of the old cluster, and say so instead of mixing with the new one.
    let output = bed.start(&bed.nodes[0]).unwrap().output().unwrap();
    assert_eq!((output.code, code(&output)), (78, "ETCD_FOREIGN"), "{output:?}");
    for at in [0, 2] {
        bed.ok(at, &["member", "replace"]).unwrap();
    }
    assert_eq!(bed.agree().unwrap(), hash);
    assert!(bed.ok(0, &["status"]).unwrap().contains("3 members, quorum, 1 may fail"));
    // What it was told when it began does not count any more: others need it now.
    bed.nodes[2].power_off().unwrap();
    let before = bed.nodes[1].pid();
    for args in [&["restart"][..], &["member", "remove", "e2"]] {
        bed.poll(|| {
            let output = bed.nodes[1].agent(args).unwrap().output().unwrap();
            (output.code, code(&output)) == (78, "ETCD_QUORUM")
        });
    }
    assert_eq!(bed.nodes[1].pid(), before, "nothing was stopped");
}

#[test]
fn a_living_cluster_and_a_bad_snapshot_are_refused() {
    let (bed, path, _) = with_snapshot(false);
    let restore = |at: usize, more: &[&str]| {
        let output = bed.nodes[at].agent(&["restore", &path.to_string_lossy()]).unwrap().args(more).output().unwrap();
        (output.code, code(&output).to_owned(), output.stderr)
    };
    let refused = |(exit, code, said): (i32, String, String), want: &str, part: &str| {
        assert_eq!(code, want, "{said}");
        assert!(exit != 0 && said.contains(part), "{said}");
    };
    refused(restore(2, &[]), "ETCD_QUORUM", "etcd.service runs on this node");
    bed.nodes[2].stop().unwrap();
    refused(restore(2, &[]), "ETCD_QUORUM", "has a quorum");
    // Each byte counts: of the pages, and of the digest behind them.
    let whole = fs::read(&path).unwrap();
    for (at, part) in [(whole.len() / 2, "etcd.db"), (whole.len() - 1, "can't be restored")] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        refused(restore(2, &["--force"]), "CONTENT_INVALID", part);
    }
    fs::write(&path, "no snapshot").unwrap();
    refused(restore(2, &["--force"]), "CONTENT_INVALID", "no snapshot of etcd");
    // Nothing of it was changed.
    bed.start(&bed.nodes[2]).unwrap().ok().unwrap();
    bed.agree().unwrap();
}

#[test]
fn scheduled_snapshots_make_room_for_themselves() {
    let bed = Bed::formed(1, false, &bed::etcd().unwrap()).unwrap();
    let root = &bed.nodes[0].root;
    fs::create_dir_all(root.join("etc/cks-agent")).unwrap();
    fs::write(root.join("etc/cks-agent/config.toml"), "[etcd]\nsnapshots = 2\ndirectory = \"/backup\"\n").unwrap();
    fs::create_dir(root.join("backup")).unwrap();
    let theirs = ["etcd-e1-before-upgrade.db", "notes"];
    let ours = ["etcd-e1-20250101T000000Z.db", "etcd-e1-20250102T000000Z.db", "etcd-e1-20250103T000000Z.db"];
    // Another run may be at it, here or on the node that shares the directory.
    let written = [".etcd-e1-20250105T000000Z.db.cks-new", ".etcd-e2-20250104T000000Z.db.cks-new"];
    let abandoned = ".etcd-e1-20250104T000000Z.db.cks-new.part";
    for name in theirs.iter().chain(&ours).chain(&written).chain(&[abandoned]) {
        let file = fs::File::create(root.join("backup").join(name)).unwrap();
        if *name != written[0] {
            file.set_modified(SystemTime::now() - Duration::from_secs(2 * 60 * 60)).unwrap();
        }
    }
    bed.ok(0, &["snapshot", "--scheduled"]).unwrap();
    let names = fs::read_dir(root.join("backup")).unwrap().flatten();
    let mut names: Vec<String> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let new: Vec<&String> = names.iter().filter(|name| !name.starts_with("etcd-e1-2025")).collect();
    assert_eq!(new.len(), 5, "{names:?}");
    assert!(names.contains(&ours[2].to_owned()) && names.len() == 6, "{names:?}");
    assert!(written.iter().all(|name| names.contains(&(*name).to_owned())), "{names:?}");
}

#[test]
fn a_snapshot_that_fails_leaves_no_file() {
    let mut bed = Bed::formed(1, false, &bed::etcd().unwrap()).unwrap();
    bed.nodes[0].power_off().unwrap();
    let path = bed.directory.path().join("etcd.db");
    let output = bed.nodes[0].agent(&["snapshot", "--output", &path.to_string_lossy()]).unwrap().output().unwrap();
    assert_eq!((output.code, code(&output)), (75, "ETCD_UNAVAILABLE"), "{output:?}");
    assert_eq!(fs::read_dir(bed.directory.path()).unwrap().count(), 0);
}
