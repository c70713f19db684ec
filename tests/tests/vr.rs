//! The virtual router's bed: what it serves, what it writes down, and that it goes away.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::fs;
use std::path::Path;

use cks_tests::leash::mentioning;
use cks_tests::netns::Netns;
use cks_tests::process::Command;
use cks_tests::vr::{Request, Vr};

fn content() -> tempfile::TempDir {
    let directory = cks_tests::scratch("content").unwrap();
    let put = |path: &str, bytes: &[u8]| {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    put("10-kubeadm.conf", b"[Service]\n");
    put("docker/pause:3.10.tar", &[7; 100_000]);
    put("docker/a b&c.tar", b"odd name");
    put("k8s/kubelet", &[1; 5]);
    directory
}

fn curl(vr: &Vr, args: &[&str], path: &str) -> String {
    let url = format!("{}{path}", vr.url);
    vr.netns.enter(Command::new("curl").arg("-sS").args(args).arg(url)).ok().unwrap()
}

#[test]
fn the_index_has_every_form_of_link_that_apache_writes() {
    let content = content();
    let vr = Vr::start(content.path()).unwrap();
    let index = curl(&vr, &[], "docker/");
    for link in [
        r#"href="?C=N;O=D""#,
        r#"href="?C=M;O=A""#,
        r#"href="?C=S;O=A""#,
        r#"href="?C=D;O=A""#,
        r#"href="/cks-iso/">Parent Directory"#,
        r#"href="./pause:3.10.tar""#,
        r#"href="a%20b&amp;c.tar""#,
    ] {
        assert!(index.contains(link), "no {link} in\n{index}");
    }
    // The stock `wget -r` needs a file before the first directory.
    let top = curl(&vr, &[], "");
    let place = |name: &str| top.find(&format!(r#"href="{name}""#)).unwrap();
    assert!(place("10-kubeadm.conf") < place("docker/") && place("docker/") < place("k8s/"), "{top}");
    let root = curl(&vr, &[], "../");
    for directory in ["cks-iso/", "metadata/", "userdata/"] {
        assert!(root.contains(&format!(r#"href="{directory}""#)), "{root}");
    }
}

#[test]
fn files_come_whole_and_in_ranges_and_the_log_tells() {
    let content = content();
    let vr = Vr::start(content.path()).unwrap();
    assert_eq!(curl(&vr, &[], "docker/pause%3A3.10.tar").len(), 100_000);
    assert_eq!(curl(&vr, &["-r", "10-19"], "docker/pause:3.10.tar").len(), 10);
    curl(&vr, &["-I"], "k8s/kubelet");
    curl(&vr, &[], "docker/?C=N;O=D");
    curl(&vr, &[], "nothing");

    let told = vr.requests().unwrap();
    let short: Vec<_> = told.iter().map(|r| (r.method.as_str(), r.path.as_str(), r.status)).collect();
    assert_eq!(
        short,
        [
            ("GET", "/cks-iso/docker/pause:3.10.tar", 200),
            ("GET", "/cks-iso/docker/pause:3.10.tar", 206),
            ("HEAD", "/cks-iso/k8s/kubelet", 200),
            ("GET", "/cks-iso/docker/", 200),
            ("GET", "/cks-iso/nothing", 404),
        ]
    );
    let bytes = |request: &Request, body: u64| request.bytes > body && request.bytes < body + 600;
    assert!(bytes(&told[0], 100_000) && bytes(&told[1], 10) && bytes(&told[2], 0), "{told:?}");
    assert_eq!(told[0].range, None);
    assert_eq!(told[1].range.as_deref(), Some("bytes=10-19"));
    assert_eq!(told[3].query, "?C=N;O=D");
}

#[test]
fn metadata_is_for_its_guest_only() {
    let content = content();
    let vr = Vr::start(content.path()).unwrap();
    let status = |path: &str| curl(&vr, &["-o", "/dev/null", "-w", "%{http_code}"], path);
    assert_eq!(status("../metadata/10.1.1.1/instance-id"), "200");
    assert_eq!(status("../metadata/10.1.1.77/instance-id"), "403");
    assert_eq!(status("../userdata/10.1.1.77/user-data"), "403");
}

#[test]
fn an_iso_is_served_with_its_rock_ridge_names() {
    let content = content();
    let iso = content.path().join("test.iso");
    let tree = cks_tests::scratch("tree").unwrap();
    fs::create_dir(tree.path().join("docker")).unwrap();
    fs::write(tree.path().join("docker/pause:3.10.tar"), "pause").unwrap();
    Command::new("genisoimage").args(["-quiet", "-J", "-R", "-l", "-o"]).arg(&iso).arg(tree.path()).ok().unwrap();
    let vr = Vr::start(&iso).unwrap();
    assert_eq!(curl(&vr, &[], "docker/pause:3.10.tar"), "pause");
}

#[test]
fn a_replaced_file_leaves_the_content_alone() {
    let content = content();
    let vr = Vr::start(content.path()).unwrap();
    vr.replace("k8s/kubelet", b"other").unwrap();
    assert_eq!(curl(&vr, &[], "k8s/kubelet"), "other");
    assert_eq!(fs::read(content.path().join("k8s/kubelet")).unwrap(), [1; 5]);
}

#[test]
fn nothing_stays_after_it() {
    let content = content();
    let vr = Vr::start(content.path()).unwrap();
    let (netns, directory) = (vr.netns.path(), vr.docroot.parent().unwrap().to_owned());
    let servers = || mentioning(&directory.join("apache2.conf").to_string_lossy()).unwrap();
    assert!(Path::new(&netns).exists());
    assert!(!servers().is_empty());
    drop(vr);
    assert!(!Path::new(&netns).exists());
    assert!(!directory.exists());
    assert_eq!(servers(), [""; 0]);
}

#[test]
fn a_network_namespace_has_the_routers_address_and_no_way_out() {
    let netns = Netns::new().unwrap();
    let ip = |args: &[&str]| netns.enter(Command::new("ip").arg("-brief").args(args)).ok().unwrap();
    let addresses = ip(&["address"]);
    assert!(addresses.contains("127.0.0.1/8") && addresses.contains("10.1.1.1/24"), "{addresses}");
    assert_eq!(addresses.lines().count(), 1, "{addresses}");
    assert_eq!(ip(&["route"]), "");
}
