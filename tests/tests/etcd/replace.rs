//! A member that is lost, and gets its place again with all data.

use cks_tests::node::code;

use crate::bed::{self, Bed};

/// Each member votes, and each has been started.
fn three_voters(bed: &Bed) {
    let members = bed.nodes[0].etcdctl(&["member", "list"]).ok().unwrap();
    assert_eq!((members.lines().count(), members.matches(", started, ").count()), (3, 3), "{members}");
    assert!(!members.contains("true"), "{members}");
}

#[test]
fn a_wiped_machine_takes_its_place_again_with_all_data() {
    // etcd 3.4 of the distribution, and 3.6.
    for (tls, programs) in [(false, "/usr/bin".into()), (true, bed::etcd().unwrap())] {
        let mut bed = Bed::formed(3, tls, &programs).unwrap();
        bed.nodes[0].put("/before", "1").unwrap();
        bed.nodes[2].provision(&programs).unwrap();
        bed.nodes[0].put("/meanwhile", "2").unwrap();
        let output = bed.start(&bed.nodes[2]).unwrap().output().unwrap();
        assert_eq!(output.code, 0, "{output:?}\n{}", bed.logs());
        bed.agree().unwrap();
        let got = ["/before", "/meanwhile"].map(|key| bed.nodes[2].get(key).unwrap());
        assert_eq!(got, ["1", "2"]);
        three_voters(&bed);
    }
}

#[test]
fn a_member_is_replaced_where_it_runs() {
    let programs = bed::etcd().unwrap();
    let bed = Bed::formed(3, true, &programs).unwrap();
    bed.nodes[0].put("/key", "value").unwrap();
    let before = bed.agree().unwrap();
    let output = bed.nodes[1].agent(&["member", "replace", "e3"]).unwrap().output().unwrap();
    assert_eq!((output.code, code(&output)), (78, "CONFIG_INVALID"), "{output:?}");
    assert!(output.stderr.contains("on e3"), "{output:?}");
    let said = bed.ok(1, &["member", "replace", "e2"]).unwrap();
    assert!(said.contains("as the others'"), "{said}");
    assert_eq!(bed.agree().unwrap(), before);
    three_voters(&bed);
    // What it had is still there.
    let aside = std::fs::read_dir(bed.nodes[1].root.join("var/lib/etcd")).unwrap().flatten();
    assert_eq!(aside.filter(|entry| entry.file_name().to_string_lossy().starts_with("aside-")).count(), 1);
}

#[test]
fn nothing_is_replaced_or_removed_that_the_quorum_needs() {
    let programs = bed::etcd().unwrap();
    let mut bed = Bed::formed(3, false, &programs).unwrap();
    bed.nodes[0].put("/key", "value").unwrap();
    bed.nodes[2].power_off().unwrap();
    // Two of three are up: neither can be spared, and neither is stopped.
    let output = bed.nodes[1].agent(&["member", "replace"]).unwrap().output().unwrap();
    assert_eq!((output.code, code(&output)), (78, "ETCD_QUORUM"), "{output:?}");
    assert!(output.stderr.contains("not healthy: e3"), "{output:?}");
    let output = bed.nodes[1].agent(&["member", "remove", "e1"]).unwrap().output().unwrap();
    assert_eq!((output.code, code(&output)), (78, "ETCD_FOREIGN"), "{output:?}");
    bed.nodes[0].put("/key", "still").unwrap();
    // The one that is down can go; two are left, of which none can.
    let said = bed.ok(1, &["member", "remove", "e3"]).unwrap();
    assert!(said.contains("e3"), "{said}");
    let status = bed.ok(1, &["status"]).unwrap();
    assert!(status.contains("2 members, quorum, 0 may fail") && status.contains("use an odd number"), "{status}");
    bed.nodes[0].stop().unwrap();
    let output = bed.nodes[1].agent(&["member", "remove", "e1"]).unwrap().output().unwrap();
    assert_ne!(output.code, 0, "{output:?}");
    // A wiped machine can't come back into a cluster without a quorum, and begins none.
    bed.nodes[0].provision(&programs).unwrap();
    let output = bed.start_within(&bed.nodes[0], "15s", "1s").unwrap().output().unwrap();
    assert_ne!(output.code, 0, "{output:?}");
    assert!(output.stderr.contains("no quorum"), "{output:?}");
    assert!(!bed.nodes[0].root.join("etc/etcd/etcd.env").exists());
}

#[test]
fn members_leave_one_after_the_other_and_the_last_one_stays() {
    let bed = Bed::formed(3, true, &bed::etcd().unwrap()).unwrap();
    bed.nodes[0].put("/key", "value").unwrap();
    for (at, name) in [(2, "e3"), (1, "e2")] {
        let said = bed.ok(at, &["member", "remove", name]).unwrap();
        assert!(said.contains("has left"), "{said}");
        let output = bed.nodes[at].agent(&["status"]).unwrap().output().unwrap();
        assert_eq!(code(&output), "ETCD_UNAVAILABLE", "{output:?}");
    }
    assert_eq!(bed.nodes[0].get("/key").unwrap(), "value");
    let status = bed.ok(0, &["status"]).unwrap();
    assert!(status.contains("1 member, quorum"), "{status}");
    // The cluster is another one than the list says: whoever comes anew joins it.
    bed.start(&bed.nodes[1]).unwrap().ok().unwrap();
    assert_eq!(bed.nodes[1].get("/key").unwrap(), "value");
}
