//! How clusters begin, and how none begins.

use std::fs;

use bootstrap::bundle::Role;
use bootstrap::node_spec::NodeSpec;
use bootstrap::render::{self, etcd::Beginning};
use cks_tests::node::code;
use cks_tests::process::Command;

use crate::bed::{self, Bed};

fn started(node: &bed::Node) -> usize {
    let told = fs::read_to_string(node.root.join("run/bed/systemctl.log")).unwrap_or_default();
    told.lines().filter(|line| line.starts_with("start")).count()
}

#[test]
fn three_machines_begin_one_cluster_and_a_second_run_finds_it() {
    let programs = bed::etcd().unwrap();
    for tls in [false, true] {
        let bed = Bed::formed(3, tls, &programs).unwrap();
        bed.nodes[0].put("/key", "value").unwrap();
        bed.agree().unwrap();
        assert_eq!(bed.nodes[2].get("/key").unwrap(), "value");
        for node in &bed.nodes {
            let again = bed.start(node).unwrap().output().unwrap();
            assert_eq!(again.code, 0, "{again:?}");
            assert_eq!(again.stderr.contains("ETCD_PLAINTEXT"), !tls, "{again:?}");
            assert_eq!(started(node), 1);
            // Without any argument it is what it was.
            bed.ok(0, &["start"]).unwrap();
        }
    }
}

#[test]
fn etcd_of_the_distribution_begins_one_too() {
    let bed = Bed::formed(1, true, "/usr/bin".as_ref()).unwrap();
    bed.nodes[0].put("/key", "value").unwrap();
    assert!(bed.ok(0, &["status"]).unwrap().contains("3.4."));
}

#[test]
fn etcd_runs_without_rights_and_starts_with_the_machine() {
    let programs = bed::etcd().unwrap();
    let mut bed = Bed::formed(1, true, &programs).unwrap();
    bed.nodes[0].put("/key", "value").unwrap();
    let node = &bed.nodes[0];
    let ids = node.enter(Command::new("sh").args(["-c", "ps -eo uid:8,args | grep '[o]pt/bin/etcd$'"]));
    let ids = ids.ok().unwrap();
    assert!(
        ids.lines().any(|line| line.contains(&*node.root.to_string_lossy()) && line.trim_start().starts_with("999 ")),
        "{ids}"
    );
    bed.nodes[0].power_off().unwrap();
    bed.nodes[0].boot().unwrap();
    bed.ok(0, &["start"]).unwrap();
    assert_eq!(bed.nodes[0].get("/key").unwrap(), "value");
}

#[test]
fn data_of_another_cluster_is_refused_and_not_touched() {
    let programs = bed::etcd().unwrap();
    let bed = Bed::formed(3, false, &programs).unwrap();
    let mut other = Bed::formed(1, false, &programs).unwrap();
    other.nodes[0].power_off().unwrap();
    bed.nodes[2].stop().unwrap();
    // Its disk is changed for one of another cluster's member.
    let (from, to) = (other.nodes[0].root.join("var/lib/etcd"), bed.nodes[2].root.join("var/lib/etcd"));
    Command::new("rm").arg("-r").arg(&to).ok().unwrap();
    Command::new("cp").arg("-a").arg(&from).arg(&to).ok().unwrap();
    // Not the blocks on the disk: those the kernel settles in its own time.
    let before = Command::new("find").arg(&to).args(["-printf", "%p %i %U %m %s %T@ %C@\\n"]);
    let (tree, starts) = (before.ok().unwrap(), started(&bed.nodes[2]));
    for forgotten in [false, true] {
        if forgotten {
            fs::remove_file(bed.nodes[2].root.join("var/lib/cks-agent/etcd.json")).unwrap();
        }
        let output = bed.start(&bed.nodes[2]).unwrap().output().unwrap();
        assert_eq!((output.code, code(&output)), (78, "ETCD_FOREIGN"), "{output:?}");
        assert_eq!((before.ok().unwrap(), started(&bed.nodes[2])), (tree.clone(), starts));
    }
}

#[test]
fn a_machine_that_lost_its_data_begins_nothing_beside_its_cluster() {
    let programs = bed::etcd().unwrap();
    let mut bed = Bed::formed(3, false, &programs).unwrap();
    bed.nodes[1].put("/key", "value").unwrap();
    for at in [1, 2] {
        bed.nodes[at].power_off().unwrap();
    }
    // The others are down, and it does not take their silence for consent.
    bed.nodes[0].provision(&programs).unwrap();
    let output = bed.start_within(&bed.nodes[0], "10s", "1s").unwrap().output().unwrap();
    assert_eq!((output.code, code(&output)), (75, "ETCD_UNAVAILABLE"), "{output:?}");
    assert_eq!(started(&bed.nodes[0]), 0);
    // They come back, and it joins them.
    for at in [1, 2] {
        bed.nodes[at].boot().unwrap();
    }
    let output = bed.start(&bed.nodes[0]).unwrap().output().unwrap();
    assert_eq!(output.code, 0, "{output:?}\n{}", bed.logs());
    bed.agree().unwrap();
    assert_eq!(bed.nodes[0].get("/key").unwrap(), "value");
}

#[test]
fn what_etcd_began_by_itself_is_set_aside() {
    let programs = bed::etcd().unwrap();
    let mut bed = Bed::formed(3, false, &programs).unwrap();
    bed.nodes[1].put("/key", "value").unwrap();
    for at in [1, 2] {
        bed.nodes[at].power_off().unwrap();
    }
    // As a stock unit would, or a run that was killed: etcd is told to begin the cluster, and forms none.
    let address = bed.nodes[0].address.parse().ok();
    let spec = NodeSpec::new(Role::Etcd, "e1", address, Some(&bed.members)).unwrap();
    let beginning = Beginning { cluster: bed.members.clone(), existing: false };
    let other = render::etcd::environment(&spec, &beginning).replace("etcd-cluster-1", "another");
    bed.nodes[0].provision(&programs).unwrap();
    bed.start_within(&bed.nodes[0], "3s", "1s").unwrap().output().unwrap();
    fs::create_dir_all(bed.nodes[0].root.join("etc/etcd")).unwrap();
    fs::write(bed.nodes[0].root.join("etc/etcd/etcd.env"), other).unwrap();
    let record = r#"{"name":"e1","address":"10.1.1.11","members":[],"tls":false,"identity":null}"#;
    fs::write(bed.nodes[0].root.join("var/lib/cks-agent/etcd.json"), record).unwrap();
    bed.nodes[0].unit().unwrap();
    bed.nodes[0].tell("start").unwrap();
    bed.poll(|| bed.nodes[0].root.join("var/lib/etcd/member/wal").exists());
    let aside = |bed: &Bed| {
        let entries = fs::read_dir(bed.nodes[0].root.join("var/lib/etcd")).unwrap().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("aside-")).count()
    };
    // While the others can't let it join anew, nothing is moved.
    bed.nodes[1].boot().unwrap();
    let output = bed.start_within(&bed.nodes[0], "10s", "1s").unwrap().output().unwrap();
    assert_eq!((output.code, code(&output), aside(&bed)), (75, "ETCD_UNAVAILABLE", 0), "{output:?}");
    assert!(output.stderr.contains("no quorum"), "{output:?}");
    bed.nodes[2].boot().unwrap();
    let output = bed.start(&bed.nodes[0]).unwrap().output().unwrap();
    assert_eq!(output.code, 0, "{output:?}\n{}", bed.logs());
    bed.agree().unwrap();
    assert_eq!(bed.nodes[0].get("/key").unwrap(), "value");
    assert_eq!(aside(&bed), 1);
}

#[test]
fn a_quorum_begins_without_a_machine_that_never_comes() {
    let programs = bed::etcd().unwrap();
    let mut bed = Bed::new(3, true, &programs).unwrap();
    bed.nodes[2].power_off().unwrap();
    let late = bed.nodes.pop().unwrap();
    bed.start_all().unwrap();
    bed.nodes[0].put("/key", "value").unwrap();
    // It comes after all, finds the cluster, and is the member that it was expected to be.
    bed.nodes.push(late);
    bed.nodes[2].boot().unwrap();
    let output = bed.start(&bed.nodes[2]).unwrap().output().unwrap();
    assert_eq!(output.code, 0, "{output:?}\n{}", bed.logs());
    bed.agree().unwrap();
}

#[test]
fn a_member_whose_data_is_gone_waits_for_the_others() {
    let programs = bed::etcd().unwrap();
    let mut bed = Bed::formed(3, false, &programs).unwrap();
    for at in [1, 2] {
        bed.nodes[at].power_off().unwrap();
    }
    bed.nodes[0].stop().unwrap();
    Command::new("rm").arg("-r").arg(bed.nodes[0].root.join("var/lib/etcd")).ok().unwrap();
    let output = bed.start_within(&bed.nodes[0], "10s", "1s").unwrap().output().unwrap();
    assert_eq!((output.code, code(&output)), (75, "ETCD_UNAVAILABLE"), "{output:?}");
    assert!(output.stderr.contains("its data is gone"), "{output:?}");
    assert_eq!(started(&bed.nodes[0]), 1);
}

#[test]
fn a_machine_that_boots_without_its_data_does_not_come_back_by_itself() {
    let programs = bed::etcd().unwrap();
    for others_are_up in [false, true] {
        let mut bed = Bed::formed(3, false, &programs).unwrap();
        bed.nodes[1].put("/key", "value").unwrap();
        bed.nodes[0].power_off().unwrap();
        if !others_are_up {
            [1, 2].into_iter().for_each(|at| bed.nodes[at].power_off().unwrap());
        }
        let data = bed.nodes[0].root.join("var/lib/etcd/member");
        Command::new("rm").arg("-r").arg(&data).ok().unwrap();
        fs::write(bed.nodes[0].root.join("run/bed/etcd.log"), "").unwrap();
        bed.nodes[0].boot().unwrap();
        // etcd is started, by the machine alone, and ends again and again.
        bed.poll(|| {
            data.join("wal").exists() || bed.nodes[0].log_of_etcd().matches("cannot fetch cluster info").count() > 2
        });
        assert!(!data.join("wal").exists(), "{}", bed.nodes[0].log());
        if !others_are_up {
            [1, 2].into_iter().for_each(|at| bed.nodes[at].boot().unwrap());
        }
        let output = bed.start(&bed.nodes[0]).unwrap().output().unwrap();
        assert_eq!(output.code, 0, "{output:?}\n{}", bed.logs());
        bed.agree().unwrap();
        assert_eq!(bed.nodes[0].get("/key").unwrap(), "value");
    }
}

#[test]
fn a_member_that_was_alone_and_lost_its_data_begins_anew_on_request_only() {
    let bed = Bed::formed(1, false, &bed::etcd().unwrap()).unwrap();
    bed.nodes[0].stop().unwrap();
    Command::new("rm").arg("-r").arg(bed.nodes[0].root.join("var/lib/etcd")).ok().unwrap();
    let output = bed.start(&bed.nodes[0]).unwrap().output().unwrap();
    assert_eq!((output.code, code(&output)), (78, "ETCD_QUORUM"), "{output:?}");
    assert!(output.stderr.contains("cks-agent etcd member remove e1"), "{output:?}");
    bed.ok(0, &["member", "remove", "e1"]).unwrap();
    bed.start_all().unwrap();
    bed.nodes[0].put("/key", "value").unwrap();
}

#[test]
fn what_a_stock_unit_began_is_taken_over() {
    let programs = bed::etcd().unwrap();
    let bed = Bed::formed(3, false, &programs).unwrap();
    bed.nodes[0].put("/key", "value").unwrap();
    let hash = bed.agree().unwrap();
    for node in &bed.nodes {
        node.stop().unwrap();
        let root = &node.root;
        fs::rename(root.join("var/lib/etcd"), root.join(format!("{}.etcd", node.name))).unwrap();
        Command::new("chown").args(["-R", "0:0"]).arg(root.join(format!("{}.etcd", node.name))).ok().unwrap();
        for file in ["var/lib/cks-agent/etcd.json", "etc/etcd/etcd.env"] {
            fs::remove_file(root.join(file)).unwrap();
        }
    }
    bed.start_all().unwrap();
    assert_eq!(bed.agree().unwrap(), hash);
}

#[test]
fn a_member_that_a_stock_unit_runs_is_stopped_and_taken_over() {
    let programs = bed::etcd().unwrap();
    let bed = Bed::formed(1, false, &programs).unwrap();
    let node = &bed.nodes[0];
    node.put("/key", "value").unwrap();
    let hash = bed.agree().unwrap();
    node.stop().unwrap();
    let (ours, theirs) = (node.root.join("var/lib/etcd"), node.root.join("e1.etcd"));
    fs::rename(&ours, &theirs).unwrap();
    let told = node.root.join("etc/etcd/etcd.env");
    let text = fs::read_to_string(&told).unwrap();
    fs::write(&told, text.replace("=/var/lib/etcd\n", "=/e1.etcd\n")).unwrap();
    node.tell("start").unwrap();
    assert_eq!(bed.agree().unwrap(), hash);
    assert!(theirs.join("member").exists() && !ours.join("member").exists());
    for file in [&told, &node.root.join("var/lib/cks-agent/etcd.json")] {
        fs::remove_file(file).unwrap();
    }
    let running = node.pid();
    bed.start_all().unwrap();
    assert_eq!(bed.agree().unwrap(), hash);
    assert_ne!(node.pid(), running);
    assert!(!theirs.join("member").exists() && ours.join("member").exists());
}

#[test]
fn a_member_is_not_torn_out_of_its_cluster_by_other_settings() {
    let programs = bed::etcd().unwrap();
    let bed = Bed::formed(1, false, &programs).unwrap();
    bed::authority(bed.directory.path(), "ca").unwrap();
    let told = fs::read(bed.nodes[0].root.join("etc/etcd/etcd.env")).unwrap();
    let file = |name: &str| bed.directory.path().join(name).to_string_lossy().into_owned();
    let tls = ["--ca-certificate", &file("ca.crt"), "--ca-key", &file("ca.key")];
    let name = ["start", "--node-name", "e2", "--node-ip", "10.1.1.11"];
    for start in [bed.start(&bed.nodes[0]).unwrap().args(tls), bed.nodes[0].agent(&name).unwrap()] {
        let output = start.output().unwrap();
        assert_eq!((output.code, code(&output)), (78, "ETCD_FOREIGN"), "{output:?}");
        assert!(output.stderr.contains("this node is e1 at http://10.1.1.11:2380"), "{output:?}");
    }
    assert_eq!(fs::read(bed.nodes[0].root.join("etc/etcd/etcd.env")).unwrap(), told);
    bed.ok(0, &["status"]).unwrap();
}
