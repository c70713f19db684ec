//! What the machine itself can lack: room, a container runtime, a root, a source, sense in its arguments;
//! and two runs at once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bootstrap::bundle::Arch;
use cks_tests::containerd::Containerd;
use cks_tests::disk::Disk;
use cks_tests::gate::Gate;
use cks_tests::netns::Netns;
use cks_tests::node::{self, Node};
use cks_tests::process::Command;
use cks_tests::tree::Tree;
use cks_tests::vr::Vr;
use cks_tests::{programs, small};
use serde_json::Value;

const ETCD: &str = "etcd/etcd-linux-amd64.tar.gz";
const TWO: &str = "a=http://10.1.1.2:2380,b=http://10.1.1.3:2380";

fn iso(work: &Path) -> PathBuf {
    let arch = Arch::parse(std::env::consts::ARCH).unwrap();
    small::build(&small::components(&work.join("components"), arch).unwrap(), "machine").unwrap()
}

fn within(limit: Duration, what: &str, mut probe: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !probe() {
        assert!(Instant::now() < deadline, "{what} within {} s", limit.as_secs());
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn too_small_a_disk_is_seen_before_anything_is_written() {
    let work = cks_tests::scratch("machine").unwrap();
    let iso = iso(work.path());
    let iso = iso.to_string_lossy();
    let (small, roomy) = (Disk::new(24).unwrap(), Disk::new(96).unwrap());
    let node = Node::on("etcd", &small);
    let output = node.run(&[&iso]).unwrap();
    assert_eq!((node::code(&output), output.code), ("NO_SPACE", 78), "{output:?}");
    assert!(output.stderr.contains("MiB free, this plan needs"), "{output:?}");
    assert!(output.stderr.contains(&*small.path.to_string_lossy()), "{output:?}");
    let left = Tree::read(&node.root, &["run", "var", "lost+found"]).unwrap().lines;
    assert_eq!(left, [""; 0]);
    assert_eq!(node.status().unwrap()["failure"]["code"], "NO_SPACE");
    let node = Node::on("etcd", &roomy);
    let output = node.run(&[&iso]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
}

#[test]
fn room_that_vanishes_half_way_costs_nothing_but_a_second_run() {
    let work = cks_tests::scratch("machine").unwrap();
    let vr = Vr::start(&iso(work.path())).unwrap();
    let disk = Disk::new(64).unwrap();
    // The router's network is of no use here: the gate listens outside of it.
    let gate = Gate::start(vr.docroot.join("cks-iso"), ETCD).unwrap();
    let node = Node::on("etcd", &disk);
    let log = work.path().join("log");
    let mut running = node.bootstrap(&[&gate.url]).unwrap().start(&log).unwrap();
    gate.wait().unwrap();
    let fill = node.root.join("fill");
    let dd = Command::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", fill.display()));
    let filled = dd.output().unwrap();
    assert!(filled.stderr.contains("No space left on device"), "{filled:?}");
    gate.open();
    let code = running.wait().unwrap();
    let said = fs::read_to_string(&log).unwrap();
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("error[NO_SPACE]: Writing ") && said.contains("/opt/cks/"), "{said}");
    assert_eq!(node.in_force().unwrap(), [""; 0]);

    fs::remove_file(&fill).unwrap();
    let output = node.run(&[&gate.url]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    let clean = Node::new("etcd").unwrap();
    assert_eq!(clean.run(&[&gate.url]).unwrap().code, 0);
    let tree = Tree::read(&node.root, &["run", "var/lib/cks-agent", "lost+found"]).unwrap();
    assert_eq!(tree.digest(), clean.tree().unwrap().digest(), "{}", clean.tree().unwrap().difference(&tree));
}

#[test]
fn a_missing_containerd_is_waited_for_where_everybody_sees_it() {
    let work = cks_tests::scratch("machine").unwrap();
    let iso = iso(work.path());
    let iso = iso.to_string_lossy();
    let socket = work.path().join("containerd.sock");
    let named = socket.to_string_lossy().into_owned();
    let node = Node::new("worker").unwrap().with(&["--containerd", &named]);
    let waiting = |state: &Value| {
        let wait = state["wait"].clone();
        assert_eq!(wait["waits_for"], format!("containerd at {named}"));
        for time in ["since", "next_try", "deadline"] {
            let text = wait[time].as_str().unwrap();
            assert!(text.len() == 20 && text.ends_with('Z') && text.starts_with("20"), "{wait}");
        }
        assert!(wait["deadline"].as_str() > wait["since"].as_str(), "{wait}");
        assert!(wait["last_error"].as_str().unwrap().contains(&named), "{wait}");
    };
    let seen = || node.status().ok().filter(|state| state["wait"].is_object());

    // It never comes.
    let began = Instant::now();
    let log = work.path().join("log");
    let mut running = node.bootstrap(&[&iso]).unwrap().args(["--wait", "5s"]).start(&log).unwrap();
    within(Duration::from_secs(4), "the wait shows", || seen().is_some());
    waiting(&seen().unwrap());
    let shown = node.agent("status").unwrap().ok().unwrap();
    assert!(shown.contains(&format!("waiting   for containerd at {named}")), "{shown}");
    assert_eq!(running.wait().unwrap(), 75);
    assert!((5..20).contains(&began.elapsed().as_secs()), "not before the deadline: {:?}", began.elapsed());
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("waiting for containerd at"), "{said}");
    assert!(said.contains("error[CONTAINERD_UNAVAILABLE]: ") && said.contains(&named), "{said}");
    let state = node.status().unwrap();
    assert_eq!((&state["phase"], &state["failure"]["code"]), (&"failed".into(), &"CONTAINERD_UNAVAILABLE".into()));
    assert!(state["wait"].is_null(), "{state}");
    assert_eq!(node.in_force().unwrap(), [""; 0]);

    // It comes late.
    let log = work.path().join("late");
    let mut running = node.bootstrap(&[&iso]).unwrap().args(["--wait", "60s"]).start(&log).unwrap();
    within(Duration::from_secs(10), "the wait shows", || seen().is_some());
    let containerd = Containerd::start(&programs::containerd(None).unwrap(), None).unwrap();
    symlink(&containerd.socket, &socket).unwrap();
    assert_eq!(running.wait().unwrap(), 0, "{}", fs::read_to_string(&log).unwrap());
    assert_eq!(containerd.images().unwrap(), [small::APPLICATION, small::SANDBOX]);
}

#[test]
fn a_second_run_on_one_root_is_refused_while_the_first_goes_on() {
    let work = cks_tests::scratch("machine").unwrap();
    let vr = Vr::start(&iso(work.path())).unwrap();
    let gate = Gate::start(vr.docroot.join("cks-iso"), ETCD).unwrap();
    let node = Node::new("etcd").unwrap();
    let log = work.path().join("log");
    let mut running = node.bootstrap(&[&gate.url]).unwrap().start(&log).unwrap();
    gate.wait().unwrap();
    let second = node.run(&[&gate.url]).unwrap();
    assert_eq!((node::code(&second), second.code), ("ALREADY_RUNNING", 75), "{second:?}");
    assert!(second.stderr.contains(&*node.root.to_string_lossy()), "{second:?}");
    assert!(second.stderr.contains("cks-agent status --watch"), "{second:?}");
    // The state is the first one's: no failure.
    within(Duration::from_secs(5), "the first run shows", || node.status().unwrap()["phase"] == "install");
    assert!(node.status().unwrap()["failure"].is_null());
    gate.open();
    assert_eq!(running.wait().unwrap(), 0, "{}", fs::read_to_string(&log).unwrap());
    assert!(node.run(&[&gate.url]).unwrap().stdout.contains("nothing to do"));
}

#[test]
fn sources_that_do_not_answer_are_waited_for_and_named() {
    let work = cks_tests::scratch("machine").unwrap();
    let netns = Netns::new().unwrap();
    let disc = work.path().join("attached.iso");
    let named = disc.to_string_lossy().into_owned();
    for (source, code, exit) in [
        ("http://10.1.1.1:81/cks-iso/", "SOURCE_UNREACHABLE", 75),
        ("http://192.0.2.1/cks-iso/", "SOURCE_UNREACHABLE", 75),
        ("http://no-such-host.invalid/", "SOURCE_UNREACHABLE", 75),
        (&named, "MEDIA_NOT_FOUND", 75),
        ("http://[", "CONFIG_INVALID", 78),
        ("ftp://10.1.1.1/cks-iso/", "CONFIG_INVALID", 78),
    ] {
        let node = Node::new("etcd").unwrap().inside(&netns).with(&["--wait", "1s"]);
        let output = node.run(&[source]).unwrap();
        assert_eq!((node::code(&output), output.code), (code, exit), "{source}: {output:?}");
        let error = output.stderr.lines().find(|line| line.starts_with("error[")).unwrap();
        assert!(error.contains(source), "{source}: {error}");
        assert_eq!(node.in_force().unwrap(), [""; 0]);
        let state = node.status().unwrap();
        assert_eq!((&state["sources"][0]["verdict"], &state["sources"][0]["source"]), (&code.into(), &source.into()));
    }
    // The disc is attached while it is waited for.
    let node = Node::new("etcd").unwrap().with(&["--wait", "60s"]);
    let log = work.path().join("log");
    let mut running = node.bootstrap(&[&named]).unwrap().start(&log).unwrap();
    let waits = || node.status().is_ok_and(|state| state["wait"]["waits_for"] == "a source that holds a CKS ISO");
    within(Duration::from_secs(10), "the wait shows", waits);
    fs::rename(iso(work.path()), &disc).unwrap();
    assert_eq!(running.wait().unwrap(), 0, "{}", fs::read_to_string(&log).unwrap());
}

#[test]
fn nonsense_is_refused_before_anything_is_touched() {
    let work = cks_tests::scratch("machine").unwrap();
    let iso = iso(work.path());
    let source = iso.to_string_lossy().into_owned();
    let root = work.path().join("root");
    fs::create_dir(&root).unwrap();
    let (root, missing, file) =
        (root.to_string_lossy().into_owned(), work.path().join("missing"), work.path().join("file"));
    File::create(&file).unwrap();
    let (missing, file) = (missing.to_string_lossy().into_owned(), file.to_string_lossy().into_owned());
    let whole = ["--role", "etcd", "--root", &root, "--source", &source];
    let etcd = |more: &[&'static str]| [&whole, more].concat();
    let cases: [(Vec<&str>, i32, &str); 12] = [
        (vec!["--role", "etcd", "--root", &missing, "--source", &source], 78, "error[ROOT_NOT_FOUND]: root "),
        (vec!["--role", "etcd", "--root", &file, "--source", &source], 78, "error[ROOT_NOT_FOUND]: root "),
        (etcd(&["--node-name", "a b; rm"]), 78, "error[CONFIG_INVALID]: node name \"a b; rm\""),
        (etcd(&["--node-name", ""]), 78, "error[CONFIG_INVALID]: node name \"\""),
        (etcd(&["--node-name", "c", "--etcd-initial-cluster", TWO]), 78, "do not name this node, c"),
        (etcd(&["--node-name", "a", "--etcd-initial-cluster", TWO]), 78, "--node-ip"),
        (etcd(&["--etcd-initial-cluster", "a"]), 78, "not of the form"),
        (etcd(&["--node-ip", "10.1.1.300"]), 2, "10.1.1.300"),
        (etcd(&["--wait", "soon"]), 2, "soon"),
        (etcd(&["--policy", "trust-me"]), 2, "trust-me"),
        (etcd(&["--roll", "x"]), 2, "--roll"),
        (vec!["--role", "master", "--root", &root, "--source", &source], 2, "master"),
    ];
    for (arguments, exit, says) in cases {
        let agent = Command::new(programs::built("cks-agent").unwrap()).arg("bootstrap").args(&arguments);
        let output = agent.output().unwrap();
        assert_eq!(output.code, exit, "{arguments:?}: {output:?}");
        assert!(output.stderr.contains(says), "{arguments:?}: {output:?}");
        assert_eq!(Tree::read(Path::new(&root), &[]).unwrap().lines, [""; 0], "{arguments:?}");
    }
    assert!(!Path::new(&missing).exists(), "a wrong --root is not made");
    for subcommand in ["status", "version"] {
        let agent = Command::new(programs::built("cks-agent").unwrap()).args([subcommand, "--root", &missing]);
        let output = agent.output().unwrap();
        assert_eq!((node::code(&output), output.code), ("ROOT_NOT_FOUND", 78), "{output:?}");
    }
}
