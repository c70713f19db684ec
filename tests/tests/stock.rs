//! The stock way of installing from an ISO that was built here, with the real tools and the command
//! lines of `setup-kube-system` (CloudStack 4.21): nothing of ours runs on the node.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootstrap::bundle::Manifest;
use cks_tests::components::Components;
use cks_tests::containerd::Containerd;
use cks_tests::netns::ADDRESS;
use cks_tests::process::Command;
use cks_tests::tree::{Tree, digest_of};
use cks_tests::vr::Vr;
use cks_tests::{programs, spec};
use tempfile::TempDir;

/// An ISO of three real images, CNI plugins, crictl and etcd.
fn build(directory: &Path) -> PathBuf {
    let components = Components::make(&directory.join("components"), None).unwrap();
    let (spec, iso) = (spec::write(&components, "stock").unwrap(), directory.join("stock.iso"));
    Command::new(programs::built("cks-iso").unwrap()).arg("build").arg(spec).arg("-o").arg(&iso).ok().unwrap();
    iso
}

/// What `wget -r` brings from the virtual router, as the worker's script calls it.
fn download(vr: &Vr, directory: &Path) -> PathBuf {
    let site = format!("{ADDRESS}/cks-iso");
    let wget = Command::new("wget").args(["-q", "-r", "-R", "index.html*", site.as_str(), "-P"]).arg(directory);
    // 8: the server refused something. It does, /metadata of other guests: wget climbs to the parent.
    let output = vr.netns.enter(wget.limit(Duration::from_secs(120))).output().unwrap();
    assert!(matches!(output.code, 0 | 8), "{output:?}");
    directory.join(site)
}

fn sh(script: &str, directory: &Path) -> String {
    Command::new("bash").args(["-e", "-c", script]).directory(directory).ok().unwrap()
}

#[test]
fn wget_tar_ctr_and_crictl_install_from_it() {
    let work: TempDir = cks_tests::scratch("stock").unwrap();
    let iso = build(work.path());
    let vr = Vr::start(&iso).unwrap();
    let disc = download(&vr, &work.path().join("aux-dwnld"));

    // All files, unchanged. The modes don't come over HTTP; the script makes the programs executable.
    let (served, got) = (vr.docroot.join("cks-iso"), &disc);
    let names = |root: &Path| -> Vec<String> {
        let lines = Tree::read(root, &[]).unwrap().lines;
        lines.iter().map(|line| line.splitn(3, ' ').skip(2).collect()).collect()
    };
    assert_eq!(names(got), names(&served));
    let manifest = Manifest::parse(&fs::read(disc.join("cks-bundle.json")).unwrap()).unwrap();
    for entry in &manifest.entries {
        assert_eq!(Some(digest_of(&disc.join(&entry.path)).unwrap()), entry.sha256, "{}", entry.path);
    }

    // tar of both globs, each matching exactly one file.
    let disc_path = disc.display();
    let (cni, bin) = (work.path().join("opt/cni/bin"), work.path().join("opt/bin"));
    for directory in [&cni, &bin] {
        fs::create_dir_all(directory).unwrap();
    }
    sh(&format!("tar -f {disc_path}/cni/cni-plugins-*64.tgz -C opt/cni/bin -xz"), work.path());
    sh(&format!("tar -f {disc_path}/cri-tools/crictl-linux-*64.tar.gz -C opt/bin -xz"), work.path());
    assert_eq!(digest_of(&cni.join("bridge")).unwrap(), digest_of(Path::new("/usr/lib/cni/bridge")).unwrap());
    let told = Command::new(bin.join("crictl")).arg("--version").ok().unwrap();
    assert!(told.starts_with("crictl version v"), "{told}");

    // ctr of every entry of docker/, and crictl lists the images under their names.
    let containerd = Containerd::start(&programs::containerd(None).unwrap(), None).unwrap();
    for name in sh(&format!("ls {disc_path}/docker"), work.path()).lines() {
        containerd.ctr(["images", "import"]).arg(disc.join("docker").join(name)).ok().unwrap();
    }
    let checked = containerd.ctr(["images", "check"]).ok().unwrap();
    let listed = containerd.crictl(["images"]).unwrap().ok().unwrap();
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(manifest.images.len(), 3);
    for image in &manifest.images {
        let (name, tag) = image.reference.rsplit_once(':').unwrap();
        assert!(rows.iter().any(|row| row.starts_with(&[name, tag])), "no {name} {tag} in\n{listed}");
        let whole = |line: &&str| line.starts_with(&image.reference) && line.contains(" complete ");
        assert!(checked.lines().any(|line| whole(&line) && line.contains(" true")), "{checked}");
    }
}

#[test]
fn an_etcd_node_finds_its_programs() {
    let work = cks_tests::scratch("stock").unwrap();
    let iso = build(work.path());
    let (disc, bin) = (work.path().join("disc"), work.path().join("bin"));
    Command::new("xorriso")
        .args(["-osirrox", "on", "-indev"])
        .arg(iso)
        .args(["-extract", "/"])
        .arg(&disc)
        .ok()
        .unwrap();
    fs::create_dir(&bin).unwrap();
    // `setup-etcd-node`: extract, then move what the directory inside holds.
    sh("tar -f disc/etcd/etcd-linux-amd64.tar.gz -C bin -xz && mv bin/etcd*/etcd* bin/", work.path());
    for (program, package) in [("etcd", "/usr/bin/etcd"), ("etcdctl", "/usr/bin/etcdctl")] {
        assert_eq!(digest_of(&bin.join(program)).unwrap(), digest_of(Path::new(package)).unwrap());
    }
}
