//! A large ISO on a small node: the memory that a bootstrap takes, and the room.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bootstrap::bundle::Arch;
use cks_tests::containerd::Containerd;
use cks_tests::images::{Format, Image, noise};
use cks_tests::node::Node;
use cks_tests::process::Command;
use cks_tests::tarball::{Tarball, gzip, save};
use cks_tests::vr::Vr;
use cks_tests::{programs, small};

/// What a bootstrap may hold, in KiB: of the 48 MiB that it may take, a quarter is left to the pages of the program file.
/// These are not counted here, for an unoptimised program has three times as many as one that is installed; `bench-install`
/// tells the whole of that one.
const MEMORY_KIB: u64 = 36 << 10;
const MIB: u64 = 1 << 20;
const IMAGES: u64 = 6;
const LAYERS: u64 = 2;
const LAYER: usize = 112 << 20;
/// The etcd tarball, which is kept until its last member is whole.
const ETCD_TARBALL: u64 = 130 * MIB;
/// Content that is no layer, metadata, and blocks that a filesystem gives out whole.
const SLACK: u64 = 16 * MIB;

/// An ISO of 1.5 GB: images with layers that no compressor shrinks, and an etcd tarball of 150 MB.
fn iso(work: &Path) -> PathBuf {
    let directory = work.join("components");
    let arch = Arch::parse(std::env::consts::ARCH).unwrap();
    let mut components = small::components(&directory, arch).unwrap();
    let block = noise(LAYER, 7);
    for number in 0..IMAGES {
        let layers = (0..LAYERS).map(|layer| {
            // One block of noise is enough: the seal makes each layer another one.
            let seal = (number * LAYERS + layer).to_le_bytes();
            Arc::new(
                Tarball::default().file("seal", 0o644, seal).file("noise", 0o644, block.as_slice()).finish().unwrap(),
            )
        });
        let image = Image::new(&format!("quay.io/example/large-{number}:v1"), &["/noise"], layers.collect());
        image.archive(Format::DockerSave, &directory.join("docker")).unwrap();
        components.archives.push(format!("docker/{}", image.file_name()));
    }
    let program = fs::read("/usr/bin/etcd").unwrap();
    let top = format!("etcd-v3.5.21-linux-{arch}");
    let etcd = Tarball::default().file(&format!("{top}/etcd"), 0o755, [program.as_slice(), &block].concat()).file(
        &format!("{top}/etcdctl"),
        0o755,
        program,
    );
    let etcd = gzip(&etcd.finish().unwrap()).unwrap();
    save(&directory.join("etcd/etcd-linux-amd64.tar.gz"), &etcd).unwrap();
    let iso = small::build(&components, "large").unwrap();
    Command::new("rm").arg("-r").arg(&directory).ok().unwrap();
    iso
}

/// Bytes that the files below `directory` take on the disk, counted once each.
fn room(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => room(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        // It went away while it was looked at.
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

struct Peaks {
    memory_kib: u64,
    root: u64,
    store: u64,
    took: Duration,
}

/// The memory in KiB that a process holds for itself: no page of a file, which the kernel may drop at any time.
fn held(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

/// Runs a bootstrap and watches it, every two milliseconds.
fn watch(node: &Node, source: &str, store: &Path, log: &Path) -> Peaks {
    let began = Instant::now();
    let mut running = node.bootstrap(&[source]).unwrap().start(log).unwrap();
    let mut peaks = Peaks { memory_kib: 0, root: 0, store: 0, took: Duration::ZERO };
    let status = format!("/proc/{}/status", running.pid());
    let mut looks = 0_u32;
    while running.ended().unwrap().is_none() {
        peaks.memory_kib = peaks.memory_kib.max(held(&fs::read_to_string(&status).unwrap_or_default()));
        if looks.is_multiple_of(5) {
            peaks.root = peaks.root.max(room(&node.root));
            peaks.store = peaks.store.max(room(store));
        }
        looks += 1;
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(running.wait().unwrap(), 0, "{}", fs::read_to_string(log).unwrap());
    peaks.took = began.elapsed();
    peaks
}

#[test]
fn a_large_iso_takes_little_memory_and_no_second_copy() {
    let work = cks_tests::scratch("memory").unwrap();
    let began = Instant::now();
    let iso = iso(work.path());
    let size = fs::metadata(&iso).unwrap().len();
    println!("{} MiB made in {:.1} s", size / MIB, began.elapsed().as_secs_f64());
    assert!(size > 1_500_000_000, "{size}");

    let vr = Vr::start(&iso).unwrap();
    let local = iso.to_string_lossy().into_owned();
    let start = || Containerd::start(&programs::containerd(None).unwrap(), None).unwrap();
    let (near, far) = (start(), start());
    let worker = |containerd: &Containerd| Node::new("worker").unwrap().using(containerd).inside(&vr.netns);
    let etcd = Node::new("etcd").unwrap();
    for (what, node, source, containerd, spool) in [
        ("worker, from the disc", worker(&near), &local, &near, 4 * MIB),
        ("worker, from the router", worker(&far), &vr.url, &far, 4 * MIB),
        ("etcd, from the disc", etcd, &local, &near, ETCD_TARBALL),
    ] {
        let store = containerd.directory().join("root");
        let peaks = watch(&node, source, &store, &work.path().join(what));
        let (memory, root, stays) = (peaks.memory_kib, room(&node.root), room(&store));
        println!(
            "{what}: {:.1} s, {} MiB of memory; root: {} MiB, at most {} MiB; containerd: {} MiB, at most {} MiB",
            peaks.took.as_secs_f64(),
            memory >> 10,
            root / MIB,
            peaks.root / MIB,
            stays / MIB,
            peaks.store / MIB
        );
        assert!(memory > 0 && memory <= MEMORY_KIB, "{what} took {memory} KiB");
        assert!(peaks.root <= root + spool + SLACK, "{what}: {} bytes on the way to {root}", peaks.root);
        // Every blob once, every layer unpacked once, and nothing besides at any time.
        assert!(peaks.store <= stays + SLACK, "{what}: {} bytes, {stays} stay", peaks.store);
        let layers = IMAGES * LAYERS * LAYER as u64;
        assert!(stays <= 2 * layers + SLACK, "{what}: {stays} bytes for {layers} of layers");
        assert_eq!(containerd.images().unwrap().len() as u64, IMAGES + 2);
    }
}
