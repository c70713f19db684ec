//! `kill -9` at any moment, and the same end.

use std::thread;
use std::time::Duration;

use cks_tests::process::Command;

use crate::bed::{self, Bed};

/// Runs the command again and again, each time killed a little later, until it comes to its end by itself.
fn killed(bed: &Bed, step: Duration, mut command: impl FnMut() -> Command) -> u32 {
    let log = bed.directory.path().join("killed.log");
    for kills in 0.. {
        let mut running = command().start(&log).unwrap();
        // Uneven, so that no run meets the same moment of a second that the one before it met.
        let patience = step * (kills + 1) + Duration::from_millis(u64::from(kills * 37 % 101));
        let began = std::time::Instant::now();
        while began.elapsed() < patience || kills > 30 {
            if let Some(exit) = running.ended().unwrap() {
                assert_eq!(exit, 0, "{}\n{}", std::fs::read_to_string(&log).unwrap(), bed.logs());
                return kills;
            }
            thread::sleep(Duration::from_millis(5));
        }
        running.kill().unwrap();
    }
    unreachable!("an endless loop ended")
}

fn three_voters(bed: &Bed) {
    let members = bed.nodes[0].etcdctl(&["member", "list"]).ok().unwrap();
    assert_eq!((members.lines().count(), members.matches(", started, ").count()), (3, 3), "{members}");
    assert!(!members.contains("true"), "{members}");
}

#[test]
fn a_beginning_that_is_killed_ends_in_one_cluster() {
    let bed = Bed::new(3, true, &bed::etcd().unwrap()).unwrap();
    thread::scope(|scope| {
        for node in &bed.nodes {
            let bed = &bed;
            scope.spawn(move || killed(bed, Duration::from_millis(700), || bed.start(node).unwrap()));
        }
    });
    bed.nodes[0].put("/key", "value").unwrap();
    bed.agree().unwrap();
    three_voters(&bed);
}

#[test]
fn a_replacement_that_is_killed_ends_with_all_data() {
    let bed = Bed::formed(3, false, &bed::etcd().unwrap()).unwrap();
    for number in 0..20 {
        bed.nodes[0].put(&format!("/key/{number}"), "value").unwrap();
    }
    let hash = bed.agree().unwrap();
    let kills = killed(&bed, Duration::from_millis(250), || bed.start(&bed.nodes[2]).unwrap());
    assert!(kills < 30);
    // Begun once by `member replace`, ended by whatever is run next.
    let mut first =
        bed.nodes[2].agent(&["member", "replace"]).unwrap().start(&bed.directory.path().join("log")).unwrap();
    bed.poll(|| {
        bed.nodes[2]
            .root
            .join("var/lib/etcd")
            .read_dir()
            .unwrap()
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("aside-"))
    });
    first.kill().unwrap();
    let kills = killed(&bed, Duration::from_millis(250), || bed.start(&bed.nodes[2]).unwrap());
    assert!(kills > 0);
    assert_eq!(bed.agree().unwrap(), hash);
    three_voters(&bed);
}

#[test]
fn a_restore_that_is_killed_is_done_by_the_next_one() {
    let bed = Bed::formed(1, false, &bed::etcd().unwrap()).unwrap();
    for number in 0..20 {
        bed.nodes[0].put(&format!("/key/{number}"), "value").unwrap();
    }
    let hash = bed.agree().unwrap();
    let path = bed.directory.path().join("etcd.db");
    bed.ok(0, &["snapshot", "--output", &path.to_string_lossy()]).unwrap();
    bed.nodes[0].put("/later", "lost").unwrap();
    bed.nodes[0].stop().unwrap();
    let restore = || bed.nodes[0].agent(&["restore", &path.to_string_lossy()]).unwrap();
    let kills = killed(&bed, Duration::from_millis(40), restore);
    assert!(kills > 0);
    bed.ok(0, &["start"]).unwrap();
    assert_eq!(bed.agree().unwrap(), hash);
}
