//! Images in containerd: every way of unpacking gives the same, what is lost comes again, what is old goes, and a
//! containerd that hangs is seen.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

mod late;
mod room;

use std::fs;
use std::path::{Path, PathBuf};

use bootstrap::bundle::Arch;
use cks_tests::components::Components;
use cks_tests::containerd::Containerd;
use cks_tests::images::{self, Format, Image};
use cks_tests::node::{self, Node};
use cks_tests::process::Command;
use cks_tests::tree::Tree;
use cks_tests::{programs, small};
use tempfile::TempDir;

const OWN: &str = "quay.io/example/layers:v1";
const OLD: &str = "quay.io/example/old:v1";

/// An ISO, and what it is made of.
struct World {
    iso: String,
    components: Components,
    work: TempDir,
}

impl World {
    /// With an image of two layers beside those of `small`, the upper one large.
    fn new() -> Self {
        let work = cks_tests::scratch("imports").unwrap();
        let arch = Arch::parse(std::env::consts::ARCH).unwrap();
        let mut components = small::components(&work.path().join("components"), arch).unwrap();
        let layers = [images::busybox("x").unwrap().layers, images::incompressible("x", 24 << 20, 5).unwrap().layers];
        add(&mut components, &Image::new(OWN, &["sh"], layers.concat()));
        let iso = built(&components, "imports");
        Self { iso, components, work }
    }

    /// Another bundle: without [`OWN`], with [`OLD`].
    fn older(&self) -> String {
        let copy = self.work.path().join("older");
        Command::new("cp").args(["-a", "-T"]).arg(&self.components.directory).arg(&copy).ok().unwrap();
        let mut older = self.components.clone();
        older.directory = copy;
        older.archives.retain(|archive| !archive.contains("layers"));
        fs::remove_file(older.directory.join("docker/layers:v1.tar")).unwrap();
        add(&mut older, &images::incompressible(OLD, 1 << 20, 9).unwrap());
        built(&older, "older")
    }
}

fn add(components: &mut Components, image: &Image) {
    image.archive(Format::CtrExport, &components.directory.join("docker")).unwrap();
    components.archives.push(format!("docker/{}", image.file_name()));
}

fn built(components: &Components, name: &str) -> String {
    small::build(components, name).unwrap().to_string_lossy().into_owned()
}

fn stock() -> Containerd {
    Containerd::start(&programs::containerd(None).unwrap(), None).unwrap()
}

fn bring(node: &Node, source: &str) -> String {
    let output = node.run(&[source]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    output.stdout
}

fn rows(containerd: &Containerd, list: &[&str]) -> Vec<String> {
    let listed = containerd.ctr(list.iter().copied()).ok().unwrap();
    listed.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Nothing half-done is left, and what the images need is whole.
fn assert_whole(containerd: &Containerd, snapshotter: &str) {
    for left in [["content", "active"], ["leases", "ls"]] {
        assert_eq!(rows(containerd, &left), [""; 0]);
    }
    let snapshots = rows(containerd, &["snapshots", "--snapshotter", snapshotter, "ls"]);
    assert!(!snapshots.is_empty() && snapshots.iter().all(|row| row.ends_with("Committed")), "{snapshots:?}");
    let check = ["images", "check", "--snapshotter", snapshotter];
    let checked = rows(containerd, &check);
    assert!(checked.iter().all(|row| row.contains(" complete ") && row.ends_with("true")), "{checked:?}");
}

/// What lies in the snapshots, sorted.
fn layers(containerd: &Containerd, snapshotter: &str) -> Vec<String> {
    let snapshots = containerd.data().join(format!("io.containerd.snapshotter.v1.{snapshotter}/snapshots"));
    let directories = fs::read_dir(&snapshots).unwrap().map(|entry| entry.unwrap().path());
    let files = |path: PathBuf| if snapshotter == "native" { path } else { path.join("fs") };
    let mut all: Vec<String> =
        directories.map(|path| Tree::read(&files(path), &[]).unwrap().digest().to_string()).collect();
    all.sort();
    all
}

#[test]
fn every_containerd_and_every_way_gives_the_same_layers() {
    let world = World::new();
    let versions = [None, Some("1.7"), Some("2.3")];
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for version in versions {
        let built = match version {
            None => programs::containerd(None),
            Some(version) => programs::containerd_built(version),
        };
        let Ok(programs) = built else {
            println!("NOT CHECKED: containerd {version:?} is not built here");
            continue;
        };
        for snapshotter in ["overlayfs", "native"] {
            let containerd = Containerd::start(&programs, None).unwrap();
            let node = Node::new("worker").unwrap().using(&containerd).with(&["--snapshotter", snapshotter]);
            bring(&node, &world.iso);
            assert_whole(&containerd, snapshotter);
            assert!(bring(&node, &world.iso).contains("nothing to do"));
            found.push((snapshotter.to_owned(), layers(&containerd, snapshotter)));
        }
        // In a mount namespace of its own its directories are not to be seen: its diff service unpacks.
        let hidden = Containerd::start_on_disk(&programs, 512).unwrap();
        let node = Node::new("worker").unwrap().using(&hidden);
        bring(&node, &world.iso);
        assert!(fs::read_dir(hidden.directory().join("root")).unwrap().next().is_none());
        assert_whole(&hidden, "overlayfs");
        assert!(bring(&node, &world.iso).contains("nothing to do"));
        found.push(("overlayfs".to_owned(), layers(&hidden, "overlayfs")));
    }
    for snapshotter in ["overlayfs", "native"] {
        let mut of = found.iter().filter(|(name, _)| name == snapshotter).map(|(_, layers)| layers);
        let first = of.next().unwrap();
        assert!(of.all(|layers| layers == first), "{found:?}");
    }
}

#[test]
fn what_is_lost_comes_again_and_what_is_unpacked_is_not_fetched() {
    let (world, containerd) = (World::new(), stock());
    let node = Node::new("worker").unwrap().using(&containerd);
    bring(&node, &world.iso);
    let whole = layers(&containerd, "overlayfs");
    let image = rows(&containerd, &["images", "ls"]).into_iter().find(|row| row.starts_with(OWN)).unwrap();
    let manifest = image.split(' ').nth(2).unwrap().to_owned();
    containerd.ctr(["images", "rm", "--sync", OWN]).ok().unwrap();
    bring(&node, &world.iso);
    let tops = rows(&containerd, &["snapshots", "ls"]);
    let top = tops.iter().map(|row| row.split(' ').collect::<Vec<_>>()).find(|row| row.len() == 3).unwrap();
    containerd.ctr(["snapshots", "rm", top[0]]).ok().unwrap();
    bring(&node, &world.iso);
    let state = node.status().unwrap();
    assert_eq!(state["bytes"]["total"].as_u64(), Some(0), "unpacked again from the store: {state}");
    // From now on the layers' blobs belong to nobody: whether containerd collects them before the agent looks is open.
    containerd.ctr(["content", "rm", &manifest]).ok().unwrap();
    bring(&node, &world.iso);
    assert_whole(&containerd, "overlayfs");
    assert_eq!(layers(&containerd, "overlayfs"), whole);
    assert!(bring(&node, &world.iso).contains("nothing to do"));
}

#[test]
fn old_bundles_and_what_broken_off_runs_left_are_collected() {
    let (world, containerd) = (World::new(), stock());
    let node = Node::new("worker").unwrap().using(&containerd);
    bring(&node, &world.older());
    containerd.ctr(["leases", "create", "--id", "cks-agent-v1.0.0-000000000000"]).ok().unwrap();
    let noise = world.work.path().join("noise");
    fs::write(&noise, images::noise(1 << 20, 3)).unwrap();
    let ingest = containerd.ctr(["content", "ingest", "--expected-size", "2000000", "cks-of-another-bundle"]);
    assert_ne!(ingest.under("sh", ["-c", "\"$@\" < \"$0\"", &noise.to_string_lossy()]).output().unwrap().code, 0);
    assert!(rows(&containerd, &["content", "active"])[0].starts_with("cks-of-another-bundle"));
    // Its version directory is still there: it may be gone back to, and kubelet may remove it.
    bring(&node, &world.iso);
    let row = |name: &str| rows(&containerd, &["images", "ls"]).into_iter().find(|row| row.starts_with(name));
    assert!(!row(OLD).unwrap().contains("pinned=pinned"));
    assert!(row(OWN).unwrap().contains("pinned=pinned") && row(small::SANDBOX).unwrap().contains("pinned=pinned"));
    assert_whole(&containerd, "overlayfs");
    let before = layers(&containerd, "overlayfs").len();
    remove_old_versions(&node);
    bring(&node, &world.iso);
    assert_eq!(row(OLD), None);
    assert_eq!(layers(&containerd, "overlayfs").len(), before - 1);
    assert_whole(&containerd, "overlayfs");
}

/// Removes the version directories that no link leads to.
fn remove_old_versions(node: &Node) {
    let used = fs::read_link(node.root.join("opt/bin/kubelet")).unwrap();
    let used = used.to_string_lossy().into_owned();
    for version in fs::read_dir(node.root.join("opt/cks")).unwrap().map(Result::unwrap) {
        if !used.contains(&*version.file_name().to_string_lossy()) {
            Command::new("rm").arg("-r").arg(version.path()).ok().unwrap();
        }
    }
}

#[test]
fn bytes_that_come_twice_are_progress_once() {
    let (world, containerd) = (World::new(), stock());
    let damaged = world.work.path().join("damaged.iso");
    let mut bytes = fs::read(&world.iso).unwrap();
    // The large layer is most of the ISO.
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let node = Node::new("worker").unwrap().using(&containerd);
    let output = node.run(&[&damaged.to_string_lossy(), &world.iso]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    let state = node.status().unwrap();
    let (done, total, fetched) =
        (&state["bytes"]["done"], &state["bytes"]["total"], &state["counters"]["bytes_fetched"]);
    assert!(done == total && fetched.as_u64() > total.as_u64(), "{state}");
    assert_whole(&containerd, "overlayfs");
}

#[test]
fn a_containerd_that_hangs_is_seen() {
    let (world, containerd) = (World::new(), stock());
    let node = Node::new("worker").unwrap().using(&containerd);
    let log = world.work.path().join("log");
    let mut run = node.bootstrap(&[&world.iso]).unwrap().start(&log).unwrap();
    let ingest = containerd.data().join("io.containerd.content.v1.content/ingest");
    while fs::read_dir(&ingest).is_ok_and(|mut entries| entries.next().is_none()) {
        assert_eq!(run.ended().unwrap(), None, "{}", fs::read_to_string(&log).unwrap());
    }
    signal(containerd.directory(), "-STOP");
    let (code, said) = (run.wait().unwrap(), fs::read_to_string(&log).unwrap());
    signal(containerd.directory(), "-CONT");
    assert!(code == 75 && said.contains("error[CONTAINERD_UNAVAILABLE]"), "{code}: {said}");
    bring(&node, &world.iso);
    assert_whole(&containerd, "overlayfs");
    assert_eq!(node::code(&node.run(&[&world.iso]).unwrap()), "");
}

/// Sends a signal to the daemon whose configuration lies in `directory`.
fn signal(directory: &Path, signal: &str) {
    let config = directory.join("config.toml").to_string_lossy().into_owned();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.split('\0').next().is_some_and(|program| program.ends_with("/containerd")) && line.contains(&config) {
            Command::new("kill").arg(signal).arg(process.file_name()).ok().unwrap();
        }
    }
}
