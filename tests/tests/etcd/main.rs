//! Dedicated etcd clusters: three machines that begin one, lose one and get it back, with the real etcd.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

mod bed;

use cks_tests::node::code;

use crate::bed::Bed;

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
            let started = std::fs::read_to_string(node.root.join("run/bed/systemctl.log")).unwrap();
            assert_eq!(started.matches("start ").count(), 1, "{started}");
        }
    }
}

#[test]
fn a_wiped_machine_takes_its_place_again_with_all_data() {
    let programs = bed::etcd().unwrap();
    let mut bed = Bed::formed(3, true, &programs).unwrap();
    bed.nodes[0].put("/before", "1").unwrap();
    bed.nodes[2].provision(&programs).unwrap();
    bed.nodes[0].put("/meanwhile", "2").unwrap();
    let output = bed.start(&bed.nodes[2]).unwrap().output().unwrap();
    assert_eq!(output.code, 0, "{output:?}\n{}", bed.logs());
    bed.agree().unwrap();
    assert_eq!(
        (bed.nodes[2].get("/before").unwrap(), bed.nodes[2].get("/meanwhile").unwrap()),
        ("1".into(), "2".into())
    );
    let members = bed.nodes[0].etcdctl(&["member", "list"]).ok().unwrap();
    assert_eq!((members.lines().count(), members.matches("started").count()), (3, 3), "{members}");
    assert!(!members.contains("true"), "{members}");
    assert_eq!(code(&output), "");
}
