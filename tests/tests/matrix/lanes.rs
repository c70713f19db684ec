//! Few connections: who waits for one is shown, and gets one in the end.

use std::fs;
use std::time::{Duration, Instant};

use cks_tests::faults::{Fault, Moment as At};

use crate::bed::Bed;
use crate::cases::Form;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn who_waits_for_a_connection_is_shown_and_gets_one() {
    let bed = Bed::new().unwrap();
    let faults = bed.faults(Form::Directory, None).unwrap();
    // The large layer takes seconds.
    faults.on(At::request(0).always(), Fault::Slow(6 << 10));
    let (node, _containerd) = bed.node("worker", true).unwrap();
    let log = bed.iso.with_extension("log");
    let mut run = node.bootstrap(&bed.sources(Form::Directory, &faults)).unwrap().start(&log).unwrap();
    let deadline = Instant::now() + LIMIT;
    let shown = || {
        let waits = node.status().ok()?["waits"].as_array()?.clone();
        waits.into_iter().find(|wait| wait["waits_for"].as_str().is_some_and(|what| what.contains("a free connection")))
    };
    let wait = loop {
        if let Some(wait) = shown() {
            break wait;
        }
        let told = || format!("{}\n{}", fs::read_to_string(&log).unwrap(), node.status().unwrap());
        assert!(Instant::now() < deadline, "the wait shows: {}", told());
    };
    assert!(wait["last_error"] == "all are in use" && wait["deadline"].is_string(), "{wait}");
    assert_eq!(run.wait().unwrap(), 0, "{}", fs::read_to_string(&log).unwrap());
    let state = node.status().unwrap();
    assert_eq!(state["waits"].as_array().map_or(0, Vec::len), 0, "{state}");
    // The one that said that there is no signature was closed with its page unread.
    assert!(faults.connections() <= 2, "{:#?}", faults.asked());
}
