//! How `cks-iso serve` bears many clients, slow ones, its end, and files that change under it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::TcpStream;

use bootstrap::digest::Digest;

use crate::fixture::serving::{Serving, tree};
use crate::fixture::{Bed, run};

/// More than all buffers between two programs hold.
const LARGE: usize = 64 << 20;

const KUBELET: &str = "/cks-iso/k8s/kubelet";

/// A client that has read the head of an answer, and no more.
fn begin(serving: &Serving, target: &str) -> BufReader<TcpStream> {
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut reader = BufReader::new(serving.send(&request));
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0);
    }
    reader
}

/// Reads to the end; what came.
fn rest(mut reader: BufReader<TcpStream>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A connection that was broken off ends with an error or without one.
    drop(reader.read_to_end(&mut bytes));
    bytes
}

#[test]
fn a_hundred_clients_get_the_same_while_others_are_slow() {
    let bed = Bed::new();
    let tree = tree(bed.dir(), LARGE);
    let serving = Serving::start(&tree, &[]);
    let slow: Vec<_> = (0..20).map(|_| begin(&serving, KUBELET)).collect();
    let idle: Vec<_> = (0..20).map(|_| serving.send("GET / HT")).collect();
    let want = Digest::of(&fs::read(tree.join("k8s/kubelet")).unwrap()[12_345..][..1 << 20]);
    let url = serving.url(KUBELET);
    let mut args =
        vec!["-sS", "--noproxy", "*", "-Z", "--parallel-max", "100", "--parallel-immediate", "-r", "12345-1060920"];
    let names: Vec<String> = (0..100).map(|index| format!("got-{index}")).collect();
    for name in &names {
        args.extend(["-o", name.as_str(), url.as_str()]);
    }
    run(serving.scratch(), "curl", &args);
    for name in &names {
        assert_eq!(Digest::of(&fs::read(serving.scratch().join(name)).unwrap()), want, "{name}");
    }
    drop((slow, idle));
    let status = fs::read_to_string(format!("/proc/{}/status", serving.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let peak: u64 = peak.trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 96 << 10, "{peak} KiB");
}

#[test]
fn a_stop_lets_running_downloads_end() {
    let bed = Bed::new();
    let tree = tree(bed.dir(), LARGE);
    let want = fs::read(tree.join("k8s/kubelet")).unwrap();
    for signal in ["TERM", "INT"] {
        let mut serving = Serving::start(&tree, &[]);
        let running = begin(&serving, KUBELET);
        serving.signal(signal);
        serving.closed();
        assert!(rest(running) == want);
        assert_eq!(serving.ended(), Some(0), "{}", serving.said());
        assert_eq!(serving.logged("request")["bytes"], LARGE);
        assert_eq!(serving.logged("stopped")["cut"], 0);
    }
}

#[test]
fn a_second_signal_or_the_end_of_patience_cuts_them_off() {
    let bed = Bed::new();
    let tree = tree(bed.dir(), LARGE);
    for (grace, signals) in [("600", 2), ("0", 1)] {
        let mut serving = Serving::start(&tree, &["--grace", grace]);
        let running = begin(&serving, KUBELET);
        for _ in 0..signals {
            serving.signal("TERM");
            serving.closed();
        }
        assert_eq!(serving.ended(), Some(75), "{grace}");
        let said = serving.said();
        assert!(said.contains("error[INTERRUPTED]: running answers were cut off: 1\nremedy: "), "{said}");
        assert!(rest(running).len() < LARGE);
        assert_eq!(serving.logged("stopped")["cut"], 1);
    }
}

#[test]
fn a_port_in_use_is_told() {
    let bed = Bed::new();
    let tree = tree(bed.dir(), 800);
    let serving = Serving::start(&tree, &[]);
    let address = serving.address.to_string();
    for (path, listen, code, text) in [
        ("tree", address.as_str(), "CONFIG_INVALID", "choose another port with --listen"),
        ("tree", "192.0.2.1:0", "CONFIG_INVALID", "name an address of this machine"),
        ("absent", "127.0.0.1:0", "CONFIG_INVALID", "correct the path"),
        ("cache", "127.0.0.1:0", "CONFIG_INVALID", "directory of *.iso files"),
        ("spec.toml", "127.0.0.1:0", "SOURCE_INVALID", "name a CKS ISO"),
        ("config.iso", "127.0.0.1:0", "MEDIA_NOT_A_BUNDLE", "name a CKS ISO"),
    ] {
        fs::create_dir_all(bed.path("cache/none")).unwrap();
        run(bed.dir(), "genisoimage", &["-quiet", "-J", "-R", "-o", "config.iso", "cache"]);
        let output = bed.cks_iso(&["serve", path, "--listen", listen]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with(&format!("error[{code}]: ")) && said.contains(text), "{said}");
        assert_eq!(output.status.code(), Some(if code == "CONFIG_INVALID" { 78 } else { 65 }));
    }
    assert_eq!(bed.cks_iso(&["serve", "tree", "--listen", "here"]).status.code(), Some(2));
}

#[test]
fn ipv6_is_served() {
    let bed = Bed::new();
    let serving = Serving::on("[::1]:0", &tree(bed.dir(), 800), &[]);
    assert!(serving.url("").starts_with("http://[::1]:"));
    assert_eq!(serving.curl(&["-g"], "/cks-iso/docker/pause:3.10.tar"), b"pause");
    assert_eq!(serving.logged("request")["client"], "::1");
    assert_eq!(serving.listening["served"][0]["source"], serving.url("/cks-iso/"));
}

#[test]
fn two_isos_bytes_are_never_mixed() {
    let bed = Bed::new();
    let iso = bed.build();
    let old = fs::read(&iso).unwrap();
    bed.edit("v1.33.1-bed", "v1.33.1-new");
    let other = bed.cks_iso(&["build", "spec.toml", "-o", "new.iso"]);
    assert!(other.status.success());
    let serving = Serving::start(&iso, &[]);
    let etag = serving.ask("HEAD", "/out.iso", &[]).header("etag").unwrap().to_owned();

    // Replaced by a rename: the old one is served until the server is told to look again.
    fs::rename(bed.path("new.iso"), &iso).unwrap();
    let new = fs::read(&iso).unwrap();
    assert!(old != new && serving.get("/out.iso").body == old);
    serving.signal("HUP");
    serving.logged("reloaded");
    assert!(serving.get("/out.iso").body == new);
    let resumed = serving.ask("GET", "/out.iso", &["Range: bytes=9-", &format!("If-Range: {etag}")]);
    assert!(resumed.status == 200 && resumed.body == new, "a resumed download begins again");

    // Overwritten in place: nothing is served, and a look at half an ISO changes nothing.
    fs::write(&iso, &old[..50_000]).unwrap();
    for target in ["/out.iso", "/cks-iso/kubelet.service"] {
        assert_eq!(serving.get(target).status, 503, "{target}");
    }
    serving.signal("HUP");
    until_said(&serving, "error[SOURCE_TRUNCATED]");
    fs::write(&iso, &old).unwrap();
    serving.signal("HUP");
    serving.logged("reloaded");
    assert!(serving.get("/out.iso").body == old);
}

fn until_said(serving: &Serving, text: &str) {
    crate::fixture::serving::until(|| serving.said().contains(text));
}

#[test]
fn a_download_of_a_file_that_is_overwritten_breaks_off() {
    let bed = Bed::new();
    let tree = tree(bed.dir(), LARGE);
    let want = fs::read(tree.join("k8s/kubelet")).unwrap();
    let serving = Serving::start(&tree, &[]);
    let running = begin(&serving, KUBELET);
    let mut file = fs::OpenOptions::new().write(true).open(tree.join("k8s/kubelet")).unwrap();
    file.seek(SeekFrom::Start(LARGE as u64 / 2)).unwrap();
    file.write_all(&vec![0xff; LARGE / 2]).unwrap();
    let got = rest(running);
    assert!(got.len() < LARGE && want.starts_with(&got), "{} bytes", got.len());
    assert_eq!(serving.get(KUBELET).status, 503);
    assert!(serving.said().contains("k8s/kubelet has changed since it was listed"), "{}", serving.said());
}
