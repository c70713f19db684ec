//! Sources come and go: discs that are attached late, pulled out, replaced, cut off or labelled as something
//! else; a router that vanishes; two versions at once. What became of each is told by `cks-agent sources`.
//!
//! NOT CHECKED here: a real optical drive and its ejection. Files stand for drives (`cks_tests::drive`), and a
//! loop device for what the kernel tells when a disc is attached.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bootstrap::bundle::Arch;
use cks_tests::drive::Drive;
use cks_tests::gate::Gate;
use cks_tests::leash::Running;
use cks_tests::node::{self, Node};
use cks_tests::process::Command;
use cks_tests::vr::Vr;
use cks_tests::{programs, small};
use serde_json::Value;
use tempfile::TempDir;

const ETCD: &str = "etcd/etcd-linux-amd64.tar.gz";
const LIMIT: Duration = Duration::from_secs(30);

/// Two ISOs of different bundles, and their components.
struct Bed {
    work: TempDir,
    iso: PathBuf,
    other: PathBuf,
}

impl Bed {
    fn new() -> Self {
        let work = cks_tests::scratch("discs").unwrap();
        let arch = Arch::parse(std::env::consts::ARCH).unwrap();
        let built =
            |name: &str| small::build(&small::components(&work.path().join(name), arch).unwrap(), name).unwrap();
        let (iso, other) = (built("this"), built("that"));
        Self { work, iso, other }
    }

    /// The content of the first ISO on a web server that stops in the middle of etcd's tarball.
    fn gate(&self) -> (Vr, Gate) {
        let vr = Vr::start(&self.iso).unwrap();
        let gate = Gate::start(vr.docroot.join("cks-iso"), ETCD).unwrap();
        (vr, gate)
    }

    fn start(&self, node: &Node, sources: &[&str]) -> Run {
        let log = self.work.path().join("log");
        let running = node.bootstrap(sources).unwrap().args(["--wait", "60s"]).start(&log).unwrap();
        Run { running, log }
    }

    fn size(&self) -> u64 {
        fs::metadata(self.work.path().join("this").join(ETCD)).unwrap().len()
    }
}

/// A loop device, gone when dropped.
struct Attached(String);

impl Attached {
    fn new(image: &Path) -> Self {
        let device = Command::new("losetup").args(["--find", "--show", "--read-only"]).arg(image).ok().unwrap();
        Self(device.trim().to_owned())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // It fails only where it is gone already.
        drop(Command::new("losetup").arg("--detach").arg(&self.0).ok());
    }
}

struct Run {
    running: Running,
    log: PathBuf,
}

impl Run {
    fn ends_well(&mut self) {
        let code = self.running.wait().unwrap();
        assert_eq!(code, 0, "{}", fs::read_to_string(&self.log).unwrap());
    }
}

fn sources(node: &Node, more: &[&str]) -> Value {
    let output = node.agent("sources").unwrap().arg("--json").args(more).output().unwrap();
    serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

/// What `document` tells of the source `name`.
fn row<'a>(document: &'a Value, name: &str) -> &'a Value {
    document["sources"].as_array().unwrap().iter().find(|row| row["source"] == name).unwrap_or(&Value::Null)
}

fn verdict(node: &Node, name: &str) -> String {
    row(&sources(node, &[]), name)["verdict"].as_str().unwrap_or("none").to_owned()
}

fn within(what: &str, mut probe: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !probe() {
        assert!(Instant::now() < deadline, "{what} within {} s", LIMIT.as_secs());
        thread::sleep(Duration::from_millis(20));
    }
}

fn waits_for(node: &Node, what: &str) -> bool {
    let waits = |state: Value| state["wait"]["waits_for"].as_str().is_some_and(|told| told.contains(what));
    node.status().is_ok_and(waits)
}

const BUNDLE: &str = "a source that holds a CKS ISO";

#[test]
fn a_disc_that_is_attached_late_is_used() {
    let bed = Bed::new();
    let node = Node::new("etcd").unwrap();
    let drive = Drive::new(&node.root, "sr0").unwrap();
    let mut run = bed.start(&node, &["disc"]);
    within("the wait shows", || waits_for(&node, BUNDLE));
    let document = sources(&node, &[]);
    assert_eq!((&document["running"], &document["next"]), (&true.into(), &Value::Null), "{document}");
    drive.insert(&bed.iso).unwrap();
    run.ends_well();
    let state = node.status().unwrap();
    let told = &state["sources"][0];
    assert_eq!((&told["source"], &told["verdict"]), (&drive.name().into(), &"in-use".into()), "{state}");
    // No file of the disc is open any more: otherwise nobody could take it out.
    let document = sources(&node, &["--source", "disc"]);
    let shown = row(&document, &drive.name());
    assert_eq!((&shown["verdict"], &shown["bytes"]), (&"in-use".into(), &told["bytes"]), "{document}");
    assert_eq!(document["running"], false);
}

/// That it is the event that tells, and not the look every few seconds, is shown in `agent/src/media/events.rs`.
#[test]
fn a_loop_device_is_a_disc() {
    let bed = Bed::new();
    let node = Node::new("etcd").unwrap();
    symlink("/dev", node.root.join("dev")).unwrap();
    symlink("/sys", node.root.join("sys")).unwrap();
    let before = sources(&node, &["--source", "disc"]);
    if !before["next"].is_null() {
        eprintln!("NOT CHECKED: a loop device as a disc: this machine has another CKS ISO attached: {before}");
        return;
    }
    let mut run = bed.start(&node, &["disc"]);
    within("the wait shows", || waits_for(&node, BUNDLE));
    let device = Attached::new(&bed.iso);
    run.ends_well();
    let name = format!("{}{}", node.root.display(), device.0);
    let document = sources(&node, &["--source", "disc"]);
    drop(device);
    assert_eq!(row(&document, &name)["verdict"], "in-use", "{document}");
    let detached = Command::new("losetup").arg("-j").arg(&bed.iso).ok().unwrap();
    assert_eq!(detached, "", "nobody holds it open");
}

#[test]
fn a_better_source_takes_over_what_is_left() {
    let bed = Bed::new();
    let (_vr, gate) = bed.gate();
    let node = Node::new("etcd").unwrap();
    let drive = Drive::new(&node.root, "sr0").unwrap();
    let mut run = bed.start(&node, &["disc", &gate.url]);
    gate.wait().unwrap();
    within("the server is used", || verdict(&node, &gate.url) == "in-use");
    drive.insert(&bed.iso).unwrap();
    within("the disc is next", || verdict(&node, &drive.name()) == "in-use");
    assert_eq!(verdict(&node, &gate.url), "standby");
    gate.cut_and_die();
    run.ends_well();
    gate.open();
    let state = node.status().unwrap();
    let bytes = |at: usize| state["sources"][at]["bytes"].as_u64().unwrap();
    assert!(bytes(0) > 0 && bytes(1) > 0, "{state}");
    assert_eq!(bytes(0) + bytes(1), bed.size(), "no byte came twice: {state}");
}

#[test]
fn a_disc_that_is_pulled_out_and_replaced_is_waited_for() {
    let bed = Bed::new();
    let (_vr, gate) = bed.gate();
    let node = Node::new("etcd").unwrap();
    let drive = Drive::new(&node.root, "sr0").unwrap();
    drive.insert(&bed.iso).unwrap();
    let mut run = bed.start(&node, &[&gate.url, "disc"]);
    gate.wait().unwrap();
    within("the disc stands by", || verdict(&node, &drive.name()) == "standby");
    drive.pull().unwrap();
    within("the disc is missed", || verdict(&node, &drive.name()) == "MEDIA_NOT_FOUND");
    gate.cut_and_die();
    within("the rest is waited for", || waits_for(&node, ETCD));
    drive.insert(&bed.other).unwrap();
    within("the other disc is named", || verdict(&node, &drive.name()) == "other-bundle");
    let document = sources(&node, &[]);
    let reason = row(&document, &drive.name())["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("holds v1.34.0-") && reason.contains("this run uses v1.34.0-"), "{document}");
    assert!(waits_for(&node, ETCD), "the wrong disc does not end the wait");
    drive.insert(&bed.iso).unwrap();
    run.ends_well();
    gate.open();
    assert_eq!(verdict(&node, &gate.url), "none");
    let state = node.status().unwrap();
    let bytes: u64 = state["sources"].as_array().unwrap().iter().map(|told| told["bytes"].as_u64().unwrap()).sum();
    assert_eq!(bytes, bed.size(), "{state}");
}

/// 60 s of the field are as long here as it takes to see the wait.
#[test]
fn a_server_that_vanishes_half_way_and_comes_back_is_gone_on_with() {
    let bed = Bed::new();
    let (_vr, gate) = bed.gate();
    let node = Node::new("etcd").unwrap();
    let mut run = bed.start(&node, &[&gate.url]);
    gate.wait().unwrap();
    gate.cut_and_die();
    within("the server is missed", || verdict(&node, &gate.url) == "SOURCE_UNREACHABLE");
    within("the wait shows", || waits_for(&node, &gate.url) || !node.status().unwrap()["active"][0].is_null());
    gate.open();
    run.ends_well();
    let state = node.status().unwrap();
    let told = &state["sources"][0];
    assert_eq!((&told["verdict"], &told["bytes"]), (&"in-use".into(), &bed.size().into()), "{state}");
}

#[test]
fn discs_are_told_by_their_content() {
    let bed = Bed::new();
    let root = bed.work.path();
    let stock = |label: &str| {
        let iso = small::stock_iso(&root.join("this"), label).unwrap();
        let kept = root.join(format!("{label}.iso"));
        fs::rename(&iso, &kept).unwrap();
        kept
    };
    let config = root.join("config");
    fs::create_dir_all(config.join("openstack/latest")).unwrap();
    fs::write(config.join("openstack/latest/meta_data.json"), "{}").unwrap();
    let (foreign, cut, empty) = (small::stock_iso(&config, "config-2").unwrap(), root.join("cut"), root.join("empty"));
    let bytes = fs::read(&bed.iso).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    fs::write(&empty, vec![0; 1 << 20]).unwrap();
    let discs = [
        ("sr0", &foreign, "MEDIA_NOT_A_BUNDLE", "config-2"),
        ("sr1", &cut, "SOURCE_TRUNCATED", ""),
        ("sr2", &stock("config-2"), "in-use", "config-2"),
        ("sr3", &bed.other, "other-bundle", ""),
        ("sr4", &stock("ISOIMAGE"), "standby", "ISOIMAGE"),
        ("sr5", &empty, "MEDIA_NOT_A_BUNDLE", ""),
        ("vdb", &empty, "none", ""),
    ];
    let node = Node::new("etcd").unwrap();
    for (name, disc, ..) in &discs {
        Drive::new(&node.root, name).unwrap().insert(disc).unwrap();
    }
    Drive::new(&node.root, "sr6").unwrap();
    let check = |document: &Value| {
        for (name, _, verdict, label) in &discs {
            let shown = row(document, &node.root.join("dev").join(name).to_string_lossy());
            assert_eq!(shown["verdict"].as_str().unwrap_or("none"), *verdict, "{name}: {document}");
            let told = shown["label"].as_str().unwrap_or_default();
            assert!(label.is_empty() || told == *label, "{name}: {told}");
            assert_eq!(shown["reason"].as_str().is_none(), ["none", "in-use", "standby"].contains(verdict), "{shown}");
        }
        let empty = row(document, &node.root.join("dev/sr6").to_string_lossy());
        assert_eq!(empty["verdict"], "MEDIA_NOT_FOUND", "{document}");
    };
    check(&sources(&node, &["--source", "disc"]));
    let output = node.run(&["disc"]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    check(&serde_json::from_slice(&fs::read(node.root.join("run/cks-agent/sources.json")).unwrap()).unwrap());

    // Alone, what is no bundle is waited past, and what is cut off is refused.
    let node = Node::new("etcd").unwrap().with(&["--wait", "1s"]);
    Drive::new(&node.root, "sr0").unwrap().insert(&foreign).unwrap();
    let output = node.run(&["disc"]).unwrap();
    assert_eq!((node::code(&output), output.code), ("MEDIA_NOT_A_BUNDLE", 65), "{output:?}");
    let output = node.run(&[&cut.to_string_lossy()]).unwrap();
    assert_eq!((node::code(&output), output.code), ("SOURCE_TRUNCATED", 65), "{output:?}");
}

#[test]
fn of_two_versions_the_first_source_s_wins() {
    let bed = Bed::new();
    let (this, that) = (bed.iso.to_string_lossy(), bed.other.to_string_lossy());
    for (first, second) in [(&this, &that), (&that, &this)] {
        let node = Node::new("etcd").unwrap();
        let output = node.run(&[first, second]).unwrap();
        assert_eq!(output.code, 0, "{output:?}");
        let state = node.status().unwrap();
        let told = state["sources"].as_array().unwrap();
        assert_eq!([&told[0]["source"], &told[1]["source"]], [&**first, &**second]);
        let document = sources(&node, &["--source", first, "--source", second]);
        assert_eq!(
            [&document["sources"][0]["verdict"], &document["sources"][1]["verdict"]],
            ["in-use", "other-bundle"]
        );
        let reason = document["sources"][1]["reason"].as_str().unwrap();
        assert!(reason.contains(&**first), "{reason}");
        assert_eq!(state["bundle"]["id"], document["bundle"]["id"]);
    }
}

#[test]
fn an_image_that_is_copied_to_the_media_directory_is_found() {
    let bed = Bed::new();
    let node = Node::new("etcd").unwrap();
    let media = node.root.join("opt/cks/media");
    let mut run = bed.start(&node, &["/opt/cks/media"]);
    within("the wait shows", || waits_for(&node, BUNDLE));
    fs::create_dir_all(&media).unwrap();
    let part = media.join("v1.34.iso.part");
    fs::copy(&bed.iso, &part).unwrap();
    fs::rename(&part, media.join("v1.34.iso")).unwrap();
    run.ends_well();
    let state = node.status().unwrap();
    let source = state["sources"].as_array().unwrap().iter().find(|told| told["verdict"] == "in-use").unwrap();
    assert_eq!(source["source"], media.join("v1.34.iso").to_string_lossy().as_ref());
}

#[test]
fn the_router_is_found_by_the_lease() {
    let bed = Bed::new();
    let vr = Vr::start(&bed.iso).unwrap();
    let node = Node::new("etcd").unwrap().inside(&vr.netns);
    let lease = node.root.join("run/systemd/netif/leases/2");
    fs::create_dir_all(lease.parent().unwrap()).unwrap();
    fs::write(&lease, "ADDRESS=10.1.1.23\nSERVER_ADDRESS=10.1.1.1\n").unwrap();
    let output = node.run(&["vr"]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    let document = sources(&node, &["--source", "vr"]);
    let shown = row(&document, &vr.url);
    assert_eq!((&shown["entry"], &shown["verdict"]), (&"vr".into(), &"in-use".into()), "{document}");
    assert_eq!(row(&document, "http://data-server/cks-iso/")["verdict"], "SOURCE_UNREACHABLE", "{document}");
    let text = node.agent("sources").unwrap().args(["--source", "vr"]).ok().unwrap();
    assert!(text.contains(&format!("{} (vr) in-use: this (v1.34.0)", vr.url)), "{text}");
    let path: &Path = &node.root;
    assert!(path.join("opt/bin/etcd").exists());
}

/// udev touches the node of a drive at each of its events; what is in the drive is none the newer for it.
#[test]
fn a_disc_whose_node_is_touched_meanwhile_is_the_same() {
    let bed = Bed::new();
    let program = programs::built("cks-iso").unwrap();
    let script = r#"device=$(losetup --find --show --read-only "$1"); trap 'losetup -d $device' EXIT
        (while touch $device; do :; done) & touching=$!
        "$2" verify --progress none $device; code=$?
        kill $touching; exit $code"#;
    let verify = Command::new("sh").args(["-uc", script, "sh"]).arg(&bed.iso).arg(&program);
    let file = Command::new(&program).args(["verify", "--progress", "none"]).arg(&bed.iso).output().unwrap();
    for _ in 0..3 {
        let disc = verify.output().unwrap();
        assert_eq!((disc.code, disc.stderr.contains("changed")), (file.code, false), "{disc:?}");
    }
}
