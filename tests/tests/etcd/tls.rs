//! Who is let in where members speak TLS.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use cks_tests::node::code;
use cks_tests::process::Command;

use crate::bed::{self, Bed, Node};

/// curl on `node`, asking `url`, as the owner of a certificate where one is named.
fn curl(node: &Node, url: &str, certificate: Option<&str>, more: &[&str]) -> (i32, String) {
    let pki = node.root.join("etc/etcd/pki");
    let curl = Command::new("curl").args(["-sS", "--http1.1", "--max-time", "10", "--noproxy", "*", url]).args(more);
    let curl = curl.arg("--cacert").arg(pki.join("ca.crt"));
    let curl = match certificate {
        Some(name) => {
            curl.arg("--cert").arg(pki.join(format!("{name}.crt"))).arg("--key").arg(pki.join(format!("{name}.key")))
        }
        None => curl,
    };
    let output = node.enter(curl).output().unwrap();
    (output.code, format!("{}{}", output.stdout, output.stderr))
}

#[test]
fn only_clients_of_the_own_authority_are_answered() {
    let bed = Bed::formed(3, true, &bed::etcd().unwrap()).unwrap();
    let (one, two) = (&bed.nodes[0], &bed.nodes[1]);
    for port in [2379, 2380] {
        let at = format!("10.1.1.12:{port}");
        let (exit, said) = curl(one, &format!("https://{at}/version"), Some("client"), &[]);
        assert!(exit == 0 && said.contains("etcdserver"), "{port}: {said}");
        // Plain HTTP: etcd answers in words that it is not spoken here, or ends the connection.
        let (_, said) = curl(one, &format!("http://{at}/version"), None, &[]);
        assert!(!said.contains("etcdserver"), "{port}: {said}");
        let (exit, said) = curl(one, &format!("https://{at}/version"), None, &[]);
        assert!(exit != 0, "{port}: without a certificate: {said}");
        // A client of another authority.
        bed::authority(one.root.join("etc/etcd/pki").as_path(), &format!("foreign{port}")).unwrap();
        let (exit, said) = curl(one, &format!("https://{at}/version"), Some(&format!("foreign{port}")), &[]);
        assert!(exit != 0, "{port}: foreign: {said}");
        // A server at a name that its certificate does not have.
        let other = format!("e9:{port}:{at}");
        let (exit, said) = curl(one, &format!("https://e9:{port}/version"), Some("client"), &["--connect-to", &other]);
        assert_eq!(exit, 60, "{port}: {said}");
        for name in ["e2", "localhost", "127.0.0.1", "[::1]"] {
            let known = ["--connect-to", &format!("{name}:{port}:{at}")];
            let (exit, said) = curl(one, &format!("https://{name}:{port}/version"), Some("client"), &known);
            assert_eq!(exit, 0, "{name}:{port}: {said}");
        }
    }
    let plain = ["--endpoints", "http://10.1.1.12:2379", "--command-timeout", "3s", "get", "/key"];
    let plain = two.enter(Command::new(two.root.join("opt/bin/etcdctl")).args(plain)).output().unwrap();
    assert_ne!(plain.code, 0, "{plain:?}");
}

#[test]
fn a_member_of_another_authority_or_address_stays_outside() {
    let bed = Bed::formed(3, true, &bed::etcd().unwrap()).unwrap();
    let three = &bed.nodes[2];
    let pki = three.root.join("etc/etcd/pki");
    let kept = ["peer.crt", "peer.key"].map(|name| (name, fs::read(pki.join(name)).unwrap()));
    bed::authority(bed.directory.path(), "foreign").unwrap();
    for (issuer, address) in [("foreign", "10.1.1.13"), ("ca", "10.1.1.99")] {
        bed::issue(bed.directory.path(), issuer, address, &pki.join("peer.crt"), &pki.join("peer.key")).unwrap();
        three.tell("kill").unwrap();
        // Its own etcd may not serve, and the others say why.
        bed.poll(|| {
            let log = bed.nodes[0].log_of_etcd();
            let refused = log.lines().rev().take(40).any(|line| line.contains("rejected connection"));
            refused && three.etcdctl(&["--command-timeout", "1s", "put", "/in", "side"]).output().unwrap().code != 0
        });
        bed.nodes[0].put("/key", "served without it").unwrap();
        // Drift is mended: whatever lies there is made anew.
        bed.start(three).unwrap().ok().unwrap();
        bed.agree().unwrap();
        assert_ne!(fs::read(pki.join("peer.crt")).unwrap(), kept[0].1);
    }
}

#[test]
fn certificates_are_renewed_under_a_running_cluster() {
    let bed = Bed::formed(3, true, &bed::etcd().unwrap()).unwrap();
    let shown = |node: &Node| {
        let ask = "openssl s_client -connect \"$1:2379\" </dev/null 2>/dev/null | openssl x509 -noout -serial";
        let serial = node.enter(Command::new("sh").args(["-c", ask, "sh", &node.address]));
        serial.ok().unwrap()
    };
    let pids = |bed: &Bed| bed.nodes.iter().map(Node::pid).collect::<Vec<_>>();
    let (before, running) = (bed.nodes.iter().map(shown).collect::<Vec<_>>(), pids(&bed));
    for at in 0..3 {
        let said = bed.ok(at, &["certificates", "--renew"]).unwrap();
        assert!(said.lines().filter(|line| line.contains(" 36")).count() >= 3, "{said}");
    }
    for (node, before) in bed.nodes.iter().zip(&before) {
        assert_ne!(shown(node), *before);
    }
    bed.nodes[0].put("/key", "value").unwrap();
    bed.agree().unwrap();
    assert_eq!(pids(&bed), running, "etcd was started again");
    // Without a reason nothing is renewed.
    let now = shown(&bed.nodes[0]);
    bed.ok(0, &["certificates"]).unwrap();
    bed.ok(0, &["start"]).unwrap();
    assert_eq!(shown(&bed.nodes[0]), now);
}

#[test]
fn keys_are_read_by_their_users_alone_and_shown_nowhere() {
    let bed = Bed::formed(1, true, &bed::etcd().unwrap()).unwrap();
    let node = &bed.nodes[0];
    let pki = node.root.join("etc/etcd/pki");
    let told = |name: &str| {
        let meta = fs::metadata(pki.join(name)).unwrap();
        (meta.permissions().mode() & 0o7777, meta.uid())
    };
    for (name, want) in [
        ("ca.crt", (0o644, 0)),
        ("ca.key", (0o600, 0)),
        ("client.key", (0o600, 0)),
        ("server.key", (0o600, 999)),
        ("peer.key", (0o600, 999)),
    ] {
        assert_eq!(told(name), want, "{name}");
    }
    let data = fs::metadata(node.root.join("var/lib/etcd")).unwrap();
    assert_eq!((data.permissions().mode() & 0o7777, data.uid()), (0o700, 999));
    // A line out of the middle of the authority's key.
    let key = fs::read_to_string(pki.join("ca.key")).unwrap();
    let line = key.lines().nth(1).unwrap();
    let found = Command::new("grep").args(["-rlF", line]).arg(&node.root).output().unwrap();
    assert_eq!(found.stdout.trim(), pki.join("ca.key").to_string_lossy());
    let output = bed.start(node).unwrap().output().unwrap();
    assert!(!output.stdout.contains(line) && !output.stderr.contains(line));
}

#[test]
fn an_authority_that_is_none_is_refused_before_anything_is_written() {
    let bed = Bed::new(1, true, &bed::etcd().unwrap()).unwrap();
    let directory = bed.directory.path();
    bed::authority(directory, "other").unwrap();
    bed::issue(directory, "ca", "10.1.1.11", &directory.join("leaf.crt"), &directory.join("leaf.key")).unwrap();
    fs::write(directory.join("no.key"), "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n").unwrap();
    for (certificate, key, named) in [
        ("ca.crt", "other.key", "is not that of its certificate"),
        ("leaf.crt", "leaf.key", "not one of an authority"),
        ("ca.crt", "no.key", "no private key"),
    ] {
        let start = bed.nodes[0].start(&bed.members).unwrap();
        let start = start.arg("--ca-certificate").arg(directory.join(certificate));
        let output = start.arg("--ca-key").arg(directory.join(key)).output().unwrap();
        assert_eq!((output.code, code(&output)), (78, "CONFIG_INVALID"), "{output:?}");
        assert!(output.stderr.contains(named) && !output.stderr.contains("secret"), "{output:?}");
        assert!(!bed.nodes[0].root.join("etc/etcd").exists());
    }
}
