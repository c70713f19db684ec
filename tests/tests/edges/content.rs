//! Content of stock ISOs that is unusual, or means harm, where nothing vouches for it.

use std::fs::{self, File};
use std::io::Write as _;
use std::thread;
use std::time::Duration;

use cks_tests::images::{self, Format, Image};
use cks_tests::node::{Node, code};
use cks_tests::small;
use cks_tests::tarball::gzip;
use cks_tests::vr::Vr;
use flate2::read::GzDecoder;

use crate::{ETCD, Stock, assert_refused, stock_containerd};

const SANDBOX: &str = "docker/pause:3.10.tar";

/// What a hostile archive may cost, in KiB; the header alone says 400 MiB.
const MEMORY_KIB: u64 = 64 << 10;
const HUGE: u64 = 400 << 20;

#[test]
fn a_tarball_of_several_gzip_members_installs() {
    let stock = Stock::new();
    let mut tar = Vec::new();
    std::io::Read::read_to_end(&mut GzDecoder::new(File::open(stock.directory.join(ETCD)).unwrap()), &mut tar).unwrap();
    let program = tar.windows(4).position(|bytes| bytes == b"\x7fELF").unwrap();
    let usual = Node::new("etcd").unwrap();
    assert_eq!(usual.run(&[&stock.with(ETCD, &gzip(&tar).unwrap())]).unwrap().code, 0);
    // The first piece of a program is then shorter than its ELF header.
    let cuts = [0, program + 3, program + 5, tar.len() / 2, tar.len()];
    let members: Vec<u8> = cuts.windows(2).flat_map(|cut| gzip(&tar[cut[0]..cut[1]]).unwrap()).collect();
    let node = Node::new("etcd").unwrap();
    let output = node.run(&[&stock.with(ETCD, &members)]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    let programs = |node: &Node| {
        let lines = node.tree().unwrap().lines.into_iter().filter(|line| line.contains("/bin/"));
        // The version directory is named after the bundle, which is another one.
        lines.map(|line| line.split("/bin/").last().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(programs(&node), programs(&usual));
    for name in ["etcd", "etcdctl"] {
        let path = format!("opt/bin/{name}");
        assert_eq!(fs::read(node.root.join(&path)).unwrap(), fs::read(usual.root.join(&path)).unwrap(), "{name}");
    }
}

/// The header of a PAX record that says it has [`HUGE`] bytes.
fn huge_header() -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_path("PaxHeaders/x").unwrap();
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_size(HUGE);
    header.set_cksum();
    header
}

/// Runs a bootstrap to its end: its output and the kernel's own peak of its memory, in KiB.
fn watched(node: &Node, source: &str) -> (cks_tests::process::Output, u64) {
    let log = node.root.with_extension("log");
    let mut running = node.bootstrap(&[source]).unwrap().start(&log).unwrap();
    let status = format!("/proc/{}/status", running.pid());
    let mut peak = 0;
    while running.ended().unwrap().is_none() {
        let told = fs::read_to_string(&status).unwrap_or_default();
        let line = told.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        peak = peak.max(line.trim().trim_end_matches(" kB").parse().unwrap_or(0));
        thread::sleep(Duration::from_millis(1));
    }
    let stderr = fs::read_to_string(&log).unwrap();
    fs::remove_file(&log).unwrap();
    let code = running.wait().unwrap();
    (cks_tests::process::Output { code, stdout: String::new(), stderr, elapsed: Duration::ZERO }, peak)
}

#[test]
fn an_endless_extended_header_is_not_taken_into_memory() {
    let stock = Stock::new();
    let containerd = stock_containerd();
    // In a tarball it takes a few kilobytes: each member is a MiB of one letter.
    let letters = gzip(&vec![b'x'; 1 << 20]).unwrap();
    let mut tarball = gzip(huge_header().as_bytes()).unwrap();
    (0..HUGE >> 20).for_each(|_| tarball.extend(&letters));
    assert!(tarball.len() < 1 << 20, "{}", tarball.len());
    let packed = stock.with(ETCD, &tarball);
    // In an image archive nothing is compressed, so its file has a hole.
    let hole = stock.directory.join("docker/hole:v1.tar");
    let mut file = File::create(&hole).unwrap();
    file.write_all(huge_header().as_bytes()).unwrap();
    file.set_len(HUGE + (1 << 20)).unwrap();
    let directory = stock.directory.to_string_lossy();
    for (role, source, code, says) in [
        ("etcd", packed.as_str(), "CONTENT_INVALID", ETCD),
        ("worker", &directory, "IMAGE_INVALID", "docker/hole:v1.tar"),
    ] {
        let node = Node::new(role).unwrap().using(&containerd).with(&["--wait", "1s"]);
        let (output, peak) = watched(&node, source);
        assert_refused(&node, &output, (code, 65), says);
        println!("{code}: {peak} KiB");
        assert!((1..MEMORY_KIB).contains(&peak), "{code}: {peak} KiB");
    }
}

#[test]
fn an_empty_file_that_apache_tells_no_size_of_does_no_harm() {
    let stock = Stock::new();
    fs::write(stock.directory.join("RELEASE"), "").unwrap();
    let vr = Vr::start(&stock.directory).unwrap();
    let containerd = stock_containerd();
    for role in ["etcd", "worker"] {
        let node = Node::new(role).unwrap().using(&containerd).inside(&vr.netns);
        let output = node.run(&[&vr.url]).unwrap();
        assert_eq!(output.code, 0, "{output:?}");
        assert!(output.stderr.contains("LEGACY_BUNDLE"), "{output:?}");
    }
    let heads = vr.requests().unwrap().into_iter().filter(|request| request.path == "/cks-iso/RELEASE");
    let methods: Vec<String> = heads.map(|request| request.method).collect();
    assert!(methods.contains(&"GET".to_owned()), "Apache told the size: {methods:?}");
}

/// The archive with another image config of the same length.
fn with_config(archive: &[u8], change: impl Fn(String) -> String) -> Vec<u8> {
    let start = archive.windows(16).position(|bytes| bytes == b"{\"architecture\":").unwrap();
    let length = archive[start..].iter().position(|byte| *byte == 0).unwrap();
    let config = change(String::from_utf8(archive[start..start + length].to_vec()).unwrap());
    assert_eq!(config.len(), length);
    [&archive[..start], config.as_bytes(), &archive[start + length..]].concat()
}

#[test]
fn a_page_instead_of_a_unit_and_an_image_of_another_machine_are_refused() {
    let stock = Stock::new();
    let containerd = stock_containerd();
    let page = b"<!DOCTYPE html><title>404 Not Found</title>\n[Unit]\n";
    let (own, other) = if cfg!(target_arch = "x86_64") { ("amd64", "arm64") } else { ("arm64", "amd64") };
    let good = fs::read(stock.directory.join(SANDBOX)).unwrap();
    let foreign = with_config(&good, |config| config.replace(own, other));
    // A terminal would obey it. The config keeps its length, which the tar tells.
    let rude = with_config(&good, |config| config.replace(own, "\\u001b").replace("00:00:00Z", "00:00:00"));
    for (path, bytes, code, says) in [
        ("kubelet.service", page.as_slice(), "CONTENT_INVALID", "kubelet.service"),
        ("10-kubeadm.conf", page, "CONTENT_INVALID", "10-kubeadm.conf"),
        (SANDBOX, &foreign, "ARCH_MISMATCH", small::SANDBOX),
        (SANDBOX, &rude, "ARCH_MISMATCH", small::SANDBOX),
    ] {
        let node = Node::new("worker").unwrap().using(&containerd).with(&["--wait", "1s"]);
        let output = node.run(&[&stock.with(path, bytes)]).unwrap();
        assert_refused(&node, &output, (code, 65), says);
    }
    // A role that takes none of them is not disturbed.
    let node = Node::new("etcd").unwrap();
    assert_eq!(node.run(&[&stock.with("kubelet.service", page)]).unwrap().code, 0);
}

#[test]
fn what_buildkit_attests_beside_an_image_is_passed_over() {
    let stock = Stock::new();
    let containerd = stock_containerd();
    let reference = "quay.io/example/built:v3";
    let image: Image = images::incompressible(reference, 100_000, 5).unwrap();
    image.archive(Format::BuildKit, &stock.directory.join("docker")).unwrap();
    let mut components = stock.components.clone();
    components.archives.push(format!("docker/{}", image.file_name()));
    let stock_iso = small::stock_iso(&stock.directory, "CDROM").unwrap();
    let built = small::build(&components, "built").unwrap();
    for iso in [stock_iso, built] {
        let node = Node::new("worker").unwrap().using(&containerd);
        let output = node.run(&[&iso.to_string_lossy()]).unwrap();
        assert_eq!((code(&output), output.code), ("", 0), "{output:?}");
        assert!(containerd.images().unwrap().contains(&reference.to_owned()));
        let checked = containerd.ctr(["images", "check"]).ok().unwrap();
        let line = checked.lines().find(|line| line.starts_with(reference)).unwrap();
        assert!(line.contains(" complete ") && line.contains(" true"), "{line}");
        let names = containerd.ctr(["images", "list", "-q"]).ok().unwrap();
        containerd.ctr(["images", "rm", "--sync"]).args(names.lines()).ok().unwrap();
    }
}
