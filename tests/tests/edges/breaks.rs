//! Servers that are poor, break off or die, and runs that are killed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use bootstrap::bundle::Arch;
use cks_tests::gate::Gate;
use cks_tests::leash::Running;
use cks_tests::node::Node;
use cks_tests::process::Output;
use cks_tests::small;
use cks_tests::vr::Vr;

use crate::{ETCD, Stock, served, stock_containerd};

fn bed() -> Vr {
    Vr::start(&Stock::new().built()).unwrap()
}

/// The bytes of an entry that gather on a node, without what is unpacked from them.
fn gathered(node: &Node) -> u64 {
    let files = fs::read_dir(node.root.join("opt/cks/.partial")).into_iter().flatten().flatten();
    let partials = files.filter(|file| file.path().extension().is_none());
    partials.map(|file| file.metadata().map_or(0, |meta| meta.len())).sum()
}

fn started(node: &Node, source: &str) -> Running {
    node.bootstrap(&[source]).unwrap().start(&node.root.with_extension("log")).unwrap()
}

fn said(node: &Node) -> String {
    fs::read_to_string(node.root.with_extension("log")).unwrap()
}

fn within_10_s(what: &str, mut probe: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !probe() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_server_without_ranges_serves_who_comes_back_too() {
    let vr = bed();
    let content = vr.docroot.join("cks-iso");
    let clean = Node::new("etcd").unwrap();
    assert_eq!(clean.run(&[&content.to_string_lossy()]).unwrap().code, 0);
    let size = fs::metadata(served(&vr.docroot, ETCD)).unwrap().len();

    // The connection breaks: the same run goes on.
    let gate = Gate::start(content.clone(), ETCD).unwrap().without_ranges();
    let node = Node::new("etcd").unwrap();
    let mut running = started(&node, &gate.url);
    gate.wait().unwrap();
    gate.cut();
    assert_eq!(running.wait().unwrap(), 0, "{}", said(&node));
    assert_eq!(node.tree().unwrap(), clean.tree().unwrap());
    let fetched = node.status().unwrap()["sources"][0]["bytes"].as_u64().unwrap();
    assert_eq!(fetched, size, "each byte was taken once");

    // The run is killed: the next one goes on. The connection breaks first, so that what came is written down.
    let gate = Gate::start(content, ETCD).unwrap().without_ranges();
    let node = Node::new("etcd").unwrap();
    let mut running = started(&node, &gate.url);
    gate.wait().unwrap();
    gate.cut_and_die();
    within_10_s("bytes gather", || gathered(&node) > 0);
    running.kill().unwrap();
    let kept = gathered(&node);
    assert!(kept > 0 && kept < size, "{kept} of {size}");
    gate.open();
    let output = node.run(&[&gate.url]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(node.status().unwrap()["sources"][0]["bytes"].as_u64(), Some(size - kept));
    assert_eq!(node.tree().unwrap(), clean.tree().unwrap());
}

#[test]
fn a_source_that_dies_half_way_costs_seconds() {
    let vr = bed();
    let content = vr.docroot.join("cks-iso");
    let cni = format!("cni/cni-plugins-linux-{}.tgz", Arch::parse(std::env::consts::ARCH).unwrap());
    for (role, held) in [("etcd", ETCD), ("worker", &cni)] {
        let containerd = stock_containerd();
        let dying = Gate::start(content.clone(), held).unwrap().that_dies();
        let good = Gate::start(content.clone(), "").unwrap();
        let node = Node::new(role).unwrap().using(&containerd).with(&["--wait", "60s"]);
        let output = node.run(&[&dying.url, &good.url]).unwrap();
        assert_eq!(output.code, 0, "{output:?}");
        println!("{role}: {:.1} s", output.elapsed.as_secs_f64());
        assert!(output.elapsed < Duration::from_secs(9), "{role}: {:?}", output.elapsed);
        let state = node.status().unwrap();
        assert!(state["wait"].is_null(), "{state}");
        assert!(state["sources"][1]["bytes"].as_u64().unwrap() > 0, "{state}");
    }
}

#[test]
fn zeros_in_an_ingest_of_an_earlier_run_cost_nothing_but_a_second_fetch() {
    let vr = bed();
    let mut containerd = stock_containerd();
    let gate = Gate::start(vr.docroot.join("cks-iso"), "docker/images.tar").unwrap();
    let node = Node::new("worker").unwrap().using(&containerd);
    let mut running = started(&node, &gate.url);
    gate.wait().unwrap();
    let ingests = containerd.directory().join("root/io.containerd.content.v1.content/ingest");
    let data = || -> Option<(PathBuf, u64)> {
        let begun = fs::read_dir(&ingests).into_iter().flatten().flatten().map(|ingest| ingest.path().join("data"));
        let sized = begun.map(|data| (data.clone(), fs::metadata(data).map_or(0, |meta| meta.len())));
        sized.max_by_key(|(_, size)| *size).filter(|(_, size)| *size > 100_000)
    };
    within_10_s("a blob gathers", || data().is_some());
    running.kill().unwrap();
    containerd.kill().unwrap();
    let (path, size) = data().unwrap();
    File::options().write(true).open(path).unwrap().write_all_at(&[0; 50_000], size - 50_000).unwrap();
    containerd.start_again().unwrap();
    assert_eq!(data().map(|(_, size)| size), Some(size), "containerd goes on with what it has");
    gate.open();
    let output = node.run(&[&gate.url]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    assert!(!output.stderr.contains("DIGEST_MISMATCH"), "{output:?}");
    assert_eq!(containerd.images().unwrap(), [small::APPLICATION, small::SANDBOX]);
    let checked = containerd.ctr(["images", "check"]).ok().unwrap();
    let whole = |line: &str| line.contains(" complete ") && line.contains(" true");
    assert!(checked.lines().skip(1).all(whole), "{checked}");
}

#[test]
fn a_killed_run_is_told_and_one_at_work_is_no_failure() {
    let vr = bed();
    let gate = Gate::start(vr.docroot.join("cks-iso"), ETCD).unwrap();
    let node = Node::new("etcd").unwrap();
    let status = |more: &[&str]| -> Output {
        node.agent("status").unwrap().args(more).limit(Duration::from_secs(20)).output().unwrap()
    };
    assert_eq!(status(&[]).code, 0);
    let mut running = started(&node, &gate.url);
    gate.wait().unwrap();
    let at_work = status(&[]);
    assert_eq!(at_work.code, 0, "{at_work:?}");
    assert!(!at_work.stdout.contains("INTERRUPTED"), "{at_work:?}");
    let log = node.root.with_extension("watch");
    let mut watching = node.agent("status").unwrap().args(["--watch", "--json"]).start(&log).unwrap();
    thread::sleep(Duration::from_millis(300));
    assert_eq!(watching.ended().unwrap(), None, "it watches while the run is at work");
    running.kill().unwrap();

    let began = Instant::now();
    assert_eq!(watching.wait().unwrap(), 75);
    assert!(began.elapsed() < Duration::from_secs(10));
    let last = fs::read_to_string(&log).unwrap();
    assert!(last.lines().last().unwrap().contains("INTERRUPTED"), "{last}");
    for arguments in [&[][..], &["--watch"], &["--json"]] {
        let told = status(arguments);
        assert_eq!(told.code, 75, "{told:?}");
        assert!(told.stdout.contains("INTERRUPTED"), "{told:?}");
    }
    let state = node.status().unwrap();
    assert_eq!((&state["phase"], &state["failure"]["code"]), (&"failed".into(), &"INTERRUPTED".into()), "{state}");
    assert!(state["wait"].is_null() && state["active"].as_array().unwrap().is_empty(), "{state}");

    gate.open();
    let output = node.run(&[&gate.url]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    let told = status(&[]);
    assert!(told.code == 0 && !told.stdout.contains("INTERRUPTED"), "{told:?}");
}
