//! containerd's bed and the image archives: real archives into a real containerd.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::fs;
use std::path::Path;

use cks_tests::containerd::Containerd;
use cks_tests::images::{self, Format, Image};
use cks_tests::leash::mentioning;
use cks_tests::process::Command;
use cks_tests::programs;

fn start() -> Containerd {
    Containerd::start(&programs::containerd(None).unwrap(), None).unwrap()
}

#[test]
fn it_answers_and_nothing_stays_after_it() {
    let containerd = start();
    let told = containerd.ctr(["version"]).ok().unwrap();
    assert!(told.contains("Server:"), "{told}");
    let directory = containerd.directory().to_owned();
    let servers = || mentioning(&directory.to_string_lossy()).unwrap();
    assert!(!servers().is_empty());
    drop(containerd);
    assert!(!directory.exists());
    assert_eq!(servers(), [""; 0]);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*directory.to_string_lossy()));
}

#[test]
fn two_run_side_by_side() {
    let (one, two) = (start(), start());
    let directory = cks_tests::scratch("archives").unwrap();
    import(
        &one,
        &images::incompressible("example.org/noise:1", 1 << 20, 7).unwrap(),
        Format::DockerSave,
        directory.path(),
    );
    assert_eq!(one.images().unwrap(), ["example.org/noise:1"]);
    assert_eq!(two.images().unwrap(), [""; 0]);
}

#[test]
fn archives_of_both_formats_are_imported_and_crictl_lists_them() {
    let containerd = start();
    let directory = cks_tests::scratch("archives").unwrap();
    let images = [
        (images::pause("registry.k8s.io/pause:3.10").unwrap(), Format::DockerSave),
        (images::etcd("registry.k8s.io/etcd:3.4.23-0").unwrap(), Format::CtrExport),
        (images::busybox("docker.io/library/busybox:1.35.0").unwrap(), Format::CtrExport),
    ];
    for (image, format) in &images {
        import(&containerd, image, *format, directory.path());
    }
    let checked = containerd.ctr(["images", "check"]).ok().unwrap();
    let whole = |line: &str| line.contains(" complete ") && line.contains(" true");
    assert!(checked.lines().skip(1).all(whole) && checked.lines().count() > 3, "{checked}");
    let listed = containerd.crictl(["images"]).unwrap().ok().unwrap();
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    for (image, _) in &images {
        let (name, tag) = image.reference.rsplit_once(':').unwrap();
        assert!(rows.iter().any(|row| row.starts_with(&[name, tag])), "no {name} {tag} in\n{listed}");
    }
    // What containerd exports again is what was imported: the gzip'd blobs are taken as they are.
    let again = directory.path().join("again.tar");
    let busybox = &images[2].0.reference;
    containerd.ctr(["images", "export"]).arg(&again).arg(busybox).ok().unwrap();
    assert_eq!(blobs(&again), blobs(&directory.path().join("busybox:1.35.0.tar")));
}

#[test]
fn an_archive_is_the_same_every_time_and_shares_its_base() {
    let (one, two) = (cks_tests::scratch("one").unwrap(), cks_tests::scratch("two").unwrap());
    let mut made = Vec::new();
    for directory in [&one, &two] {
        let pause = images::pause("registry.k8s.io/pause:3.10").unwrap();
        let etcd = images::etcd("registry.k8s.io/etcd:3.4.23-0").unwrap();
        made.push([
            fs::read(pause.archive(Format::DockerSave, directory.path()).unwrap()).unwrap(),
            fs::read(etcd.archive(Format::CtrExport, directory.path()).unwrap()).unwrap(),
        ]);
    }
    assert!(made[0] == made[1]);
    let busybox = images::busybox("docker.io/library/busybox:1.35.0").unwrap();
    busybox.archive(Format::CtrExport, one.path()).unwrap();
    let (etcd, busybox) = (blobs(&one.path().join("etcd:3.4.23-0.tar")), blobs(&one.path().join("busybox:1.35.0.tar")));
    assert_eq!(busybox.iter().filter(|blob| etcd.contains(blob)).count(), 1, "one shared layer");
}

#[test]
fn what_is_in_the_images_runs() {
    let root = cks_tests::scratch("root").unwrap();
    let etcd = images::etcd("registry.k8s.io/etcd:3.4.23-0").unwrap();
    for layer in &etcd.layers {
        tar::Archive::new(layer.as_slice()).unpack(root.path()).unwrap();
    }
    let told = Command::new("chroot").arg(root.path()).args(["/usr/local/bin/etcd", "--version"]).ok().unwrap();
    assert!(told.starts_with("etcd Version: 3.4.23"), "{told}");
    assert_eq!(Command::new("chroot").arg(root.path()).args(["/bin/sh", "-c", "echo hi"]).ok().unwrap(), "hi\n");
}

fn import(containerd: &Containerd, image: &Image, format: Format, directory: &Path) {
    let archive = image.archive(format, directory).unwrap();
    let told = containerd.ctr(["images", "import"]).arg(archive).ok().unwrap();
    assert!(told.contains(&image.reference), "{told}");
}

/// The names of the blobs in an OCI archive, sorted.
fn blobs(archive: &Path) -> Vec<String> {
    let listed = Command::new("tar").arg("-tf").arg(archive).ok().unwrap();
    let mut blobs: Vec<String> = listed.lines().filter(|l| l.len() > 20).map(str::to_owned).collect();
    blobs.sort();
    blobs
}
