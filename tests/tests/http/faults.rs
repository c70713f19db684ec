//! Each fault once, at the head and in the middle of what is fetched, in both forms: the node is the same as
//! without it. Where the fault stays, the run ends with the right code.

use std::time::Duration;

use cks_tests::faults::{Fault, Moment};
use cks_tests::node::code;
use cks_tests::throttle::SOCKET_BYTES;

use crate::{Bed, Form, fetched};

/// What a program may have read of an answer that it then refuses, and what opening an .iso file reads that is
/// content as well.
const READ_AHEAD: u64 = 256 << 10;

#[test]
fn a_fault_changes_nothing_about_the_node() {
    let bed = Bed::new();
    let size = bed.etcd_bytes();
    let (middle, later) = (size / 2, size / 4 * 3);
    let head = |fault| (fault, 0);
    let table: Vec<(Fault, u64)> = vec![
        head(Fault::Reset),
        head(Fault::Close),
        head(Fault::Status(503, None)),
        head(Fault::Status(503, Some("1".to_owned()))),
        head(Fault::Status(429, Some("0".to_owned()))),
        head(Fault::Status(408, None)),
        head(Fault::Status(502, None)),
        head(Fault::Status(504, None)),
        head(Fault::Status(416, None)),
        head(Fault::WrongRange),
        head(Fault::NoRange),
        head(Fault::Multipart),
        head(Fault::Encoded),
        head(Fault::Chunked),
        head(Fault::Garbage),
        head(Fault::Redirect("http://10.1.1.1/metadata/".to_owned())),
        head(Fault::Redirect("http://192.0.2.1/cks-iso/x".to_owned())),
        head(Fault::Page),
        head(Fault::Extra(100)),
        head(Fault::Refuse(Duration::from_millis(700))),
        (Fault::Reset, middle),
        (Fault::Close, later),
        (Fault::Refuse(Duration::from_millis(700)), middle),
        (Fault::Slow(512), later),
    ];
    for form in bed.forms() {
        let (whole, bytes) = bed.whole_by(&form.url);
        // For an .iso file: the range behind what opening it takes.
        let nth = opening(&bed, &form);
        for (fault, after) in &table {
            let what = format!("{fault:?} after {after} of {}", form.url);
            let faults = bed.faults(&form.url);
            let moment = if *after > 0 { Moment::of(form.path, 0).after(*after) } else { Moment::of(form.path, nth) };
            faults.on(moment, fault.clone());
            let node = bed.node();
            let output = node.run(&[&faults.url]).unwrap();
            assert_eq!(output.code, 0, "{what}: {output:?}\n{:#?}", faults.asked());
            assert_eq!(faults.left(), 0, "{what}: has struck");
            let tree = node.tree().unwrap();
            assert_eq!(whole.digest(), tree.digest(), "{what}: {}", whole.difference(&tree));
            assert_eq!(fetched(&node), bytes, "{what}: each byte is taken once");
            // What was on its way when a connection ended is sent again.
            let (sent, repeated) = faults.sent_and_repeated();
            assert!(repeated <= SOCKET_BYTES + READ_AHEAD, "{what}: {repeated} of {sent} bytes twice");
            println!("{what}: {sent} bytes, {repeated} twice");
        }
    }
}

/// How many requests opening an .iso file takes.
fn opening(bed: &Bed, form: &Form) -> usize {
    let faults = bed.faults(&form.url);
    let node = bed.node().with(&["--dry-run"]);
    let output = node.run(&[&faults.url]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    faults.asked().iter().filter(|asked| asked.path.ends_with(form.path)).count()
}

#[test]
fn a_connection_that_says_nothing_is_given_up_and_the_rest_comes() {
    let bed = Bed::new();
    let whole = bed.whole();
    let settings = cks_tests::scratch("settings").unwrap();
    let config = settings.path().join("config.toml");
    std::fs::write(&config, "[http]\ninactivity = \"1s\"\n").unwrap();
    for form in bed.forms() {
        for fault in [Fault::Stall, Fault::Silence] {
            let faults = bed.faults(&form.url);
            let after = if matches!(fault, Fault::Stall) { bed.etcd_bytes() / 2 } else { 0 };
            faults.on(Moment::of(form.path, 0).after(after), fault.clone());
            let node = bed.node().with(&["--config", &config.to_string_lossy()]);
            let output = node.run(&[&faults.url]).unwrap();
            assert_eq!(output.code, 0, "{fault:?} {}: {output:?}", form.url);
            assert_eq!(faults.left(), 0);
            assert_eq!(whole.digest(), node.tree().unwrap().digest());
        }
    }
}

#[test]
fn a_fault_that_stays_ends_with_its_code() {
    let bed = Bed::new();
    for (fault, expected, exit) in [
        (Fault::Status(404, None), "SOURCE_FILE_MISSING", 65),
        (Fault::Status(503, None), "SOURCE_UNREACHABLE", 75),
        (Fault::Page, "SOURCE_TRUNCATED", 65),
        (Fault::WrongRange, "SOURCE_INVALID", 65),
        (Fault::Multipart, "SOURCE_INVALID", 65),
        (Fault::Encoded, "SOURCE_INVALID", 65),
        (Fault::Redirect("http://192.0.2.1/".to_owned()), "SOURCE_INVALID", 65),
        (Fault::Corrupt, "DIGEST_MISMATCH", 65),
    ] {
        let faults = bed.faults(&bed.vr.url);
        faults.on(Moment::of(crate::ETCD, 0).always(), fault.clone());
        let node = bed.node().with(&["--wait", "2s"]);
        let output = node.run(&[&faults.url]).unwrap();
        assert_eq!((code(&output), output.code), (expected, exit), "{fault:?}: {output:?}");
        assert_eq!(node.in_force().unwrap(), [""; 0], "{fault:?}");
    }
}
