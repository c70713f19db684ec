//! What an operator sees and does.

use cks_tests::node::code;
use serde_json::Value;

use crate::bed::{self, Bed};

#[test]
fn status_tells_what_is_there_and_what_is_wrong() {
    let mut bed = Bed::formed(3, true, &bed::etcd().unwrap()).unwrap();
    let text = bed.ok(0, &["status"]).unwrap();
    assert!(text.contains("3 members, quorum, 1 may fail") && !text.contains("warning"), "{text}");
    let json: Value = serde_json::from_str(&bed.ok(0, &["status", "--json"]).unwrap()).unwrap();
    assert_eq!((json["quorum"].as_bool(), json["tolerates"].as_u64()), (Some(true), Some(1)), "{json}");
    assert_eq!(json["members"].as_array().unwrap().iter().filter(|member| member["leader"] == true).count(), 1);
    assert!(json["certificates"]["server"].as_i64().unwrap() >= 364, "{json}");
    let list: Value = serde_json::from_str(&bed.ok(0, &["member", "list", "--json"]).unwrap()).unwrap();
    assert_eq!(list[2]["name"], "e3");

    bed.nodes[2].power_off().unwrap();
    let text = bed.ok(0, &["status"]).unwrap();
    assert!(text.contains("e3 does not serve") && text.contains("no further member may fail"), "{text}");

    bed.nodes[1].power_off().unwrap();
    bed.poll(|| {
        let output = bed.nodes[0].agent(&["status"]).unwrap().output().unwrap();
        let seen = output.stdout.contains("NO QUORUM") && output.stdout.matches("does not serve").count() >= 2;
        seen && (output.code, code(&output)) == (75, "ETCD_UNAVAILABLE")
    });
}

#[test]
fn defragmentation_goes_from_member_to_member_and_not_past_an_ill_one() {
    let mut bed = Bed::formed(3, false, &bed::etcd().unwrap()).unwrap();
    let big = "x".repeat(100_000);
    for _ in 0..40 {
        bed.nodes[0].put("/big", &big).unwrap();
    }
    let revision = 41;
    bed.nodes[0].etcdctl(&["compact", &revision.to_string(), "--physical"]).ok().unwrap();
    let hash = bed.agree().unwrap();
    let leader = |bed: &Bed| {
        let json: Value = serde_json::from_str(&bed.ok(0, &["status", "--json"]).unwrap()).unwrap();
        let members = json["members"].as_array().unwrap().clone();
        members.iter().find(|member| member["leader"] == true).unwrap()["name"].as_str().unwrap().to_owned()
    };
    let last = leader(&bed);
    let said = bed.ok(0, &["defragment"]).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.len() == 3 && lines[2].starts_with(&last), "{said}");
    assert_eq!(bed.agree().unwrap(), hash);
    let json: Value = serde_json::from_str(&bed.ok(0, &["status", "--json"]).unwrap()).unwrap();
    assert!(json["members"].as_array().unwrap().iter().all(|member| member["db_bytes"].as_u64().unwrap() < 1 << 20));
    bed.nodes[2].power_off().unwrap();
    let output = bed.nodes[0].agent(&["defragment"]).unwrap().output().unwrap();
    assert_eq!((output.code, code(&output)), (78, "ETCD_QUORUM"), "{output:?}");
    assert!(output.stderr.contains("e3 does not serve"), "{output:?}");
}

#[test]
fn a_machine_that_is_no_member_says_so() {
    let bed = Bed::new(1, false, &bed::etcd().unwrap()).unwrap();
    for args in [&["status"][..], &["snapshot"], &["member", "list"], &["member", "replace"], &["defragment"]] {
        let output = bed.nodes[0].agent(args).unwrap().output().unwrap();
        assert_eq!((output.code, code(&output)), (75, "ETCD_UNAVAILABLE"), "{args:?}: {output:?}");
        assert!(output.stderr.contains("never made a member"), "{output:?}");
    }
}

#[test]
fn members_are_restarted_while_the_others_serve() {
    let mut bed = Bed::formed(3, true, &bed::etcd().unwrap()).unwrap();
    for at in 0..3 {
        let before = bed.nodes[at].pid();
        let said = bed.ok(at, &["restart"]).unwrap();
        assert!(said.contains("serves as member"), "{said}");
        assert_ne!(bed.nodes[at].pid(), before);
        bed.nodes[at].put("/key", "value").unwrap();
    }
    bed.nodes[2].power_off().unwrap();
    let before = bed.nodes[0].pid();
    bed.poll(|| {
        let output = bed.nodes[0].agent(&["restart"]).unwrap().output().unwrap();
        (output.code, code(&output)) == (78, "ETCD_QUORUM") && output.stderr.contains("member e1 can't stop")
    });
    assert_eq!(bed.nodes[0].pid(), before);
}
