//! Where a bundle comes from makes no difference, looking changes nothing, and what gets lost afterwards
//! is mended.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use bootstrap::bundle::{Arch, Manifest};
use bootstrap::digest::Digest;
use cks_tests::containerd::Containerd;
use cks_tests::node::Node;
use cks_tests::tree::Tree;
use cks_tests::vr::{Request, Vr};
use cks_tests::{programs, small};
use serde_json::Value;

fn iso(directory: &Path) -> PathBuf {
    let arch = Arch::parse(std::env::consts::ARCH).unwrap();
    small::build(&small::components(&directory.join("components"), arch).unwrap(), "sources").unwrap()
}

fn stock_containerd() -> Containerd {
    Containerd::start(&programs::containerd(None).unwrap(), None).unwrap()
}

/// Everything of a containerd that a worker's images are: names, digests, labels.
fn images(containerd: &Containerd) -> Vec<String> {
    let listed = containerd.ctr(["images", "list"]).ok().unwrap();
    let mut rows: Vec<String> = listed.lines().skip(1).map(str::to_owned).collect();
    rows.sort();
    rows
}

#[test]
fn disc_directory_and_router_give_the_same_node() {
    let work = cks_tests::scratch("sources").unwrap();
    let iso = iso(work.path());
    let vr = Vr::start(&iso).unwrap();
    let directory = vr.docroot.join("cks-iso");
    let (iso, directory) = (iso.to_string_lossy(), directory.to_string_lossy());
    let mut trees: Vec<(String, Tree, Tree, Vec<String>)> = Vec::new();
    for source in [vr.url.as_str(), &iso, &directory] {
        let containerd = stock_containerd();
        let etcd = Node::new("etcd").unwrap().inside(&vr.netns);
        let worker = Node::new("worker").unwrap().using(&containerd).inside(&vr.netns);
        for node in [&etcd, &worker] {
            let output = node.run(&[source]).unwrap();
            assert_eq!(output.code, 0, "{source}: {output:?}");
            let state = node.status().unwrap();
            let used = &state["sources"][0];
            assert_eq!((used["source"].as_str(), used["verdict"].as_str()), (Some(source), Some("in-use")));
        }
        trees.push((source.to_owned(), etcd.tree().unwrap(), worker.tree().unwrap(), images(&containerd)));
    }
    let (_, etcd, worker, images) = &trees[0];
    for (source, other_etcd, other_worker, other_images) in &trees[1..] {
        assert_eq!(etcd.digest(), other_etcd.digest(), "{source}: {}", etcd.difference(other_etcd));
        assert_eq!(worker.digest(), other_worker.digest(), "{source}: {}", worker.difference(other_worker));
        assert_eq!(images, other_images, "{source}");
    }
}

#[test]
fn a_dead_source_is_passed_over_and_shown() {
    let work = cks_tests::scratch("sources").unwrap();
    let iso = iso(work.path());
    let vr = Vr::start(&iso).unwrap();
    let iso = iso.to_string_lossy();
    let nobody = "http://10.1.1.1:81/cks-iso/";
    for (sources, verdicts) in [
        ([nobody, &vr.url], ["SOURCE_UNREACHABLE", "in-use"]),
        (["/nowhere.iso", &iso], ["MEDIA_NOT_FOUND", "in-use"]),
        ([&vr.url, &iso], ["in-use", "standby"]),
    ] {
        let node = Node::new("etcd").unwrap().inside(&vr.netns);
        let output = node.run(&sources).unwrap();
        assert_eq!(output.code, 0, "{sources:?}: {output:?}");
        let state = node.status().unwrap();
        let told = state["sources"].as_array().unwrap();
        assert_eq!([&told[0]["verdict"], &told[1]["verdict"]], verdicts, "{state}");
        assert_eq!([&told[0]["source"], &told[1]["source"]], sources);
        let shown = node.agent("status").unwrap().ok().unwrap();
        assert!(shown.contains(&format!("{} {}", sources[0], verdicts[0])), "{shown}");
    }
}

#[test]
fn a_source_of_another_machine_or_without_the_role_keeps_nobody_from_the_next() {
    let work = cks_tests::scratch("sources").unwrap();
    let iso = iso(work.path());
    let vr = Vr::start(&iso).unwrap();
    let iso = iso.to_string_lossy();
    let path = vr.docroot.join("cks-iso/cks-bundle.json");
    let good: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let (mut foreign, mut poor) = (good.clone(), good);
    foreign["arch"] = Value::from(if foreign["arch"] == "amd64" { "arm64" } else { "amd64" });
    poor["entries"].as_array_mut().unwrap().retain(|entry| entry["kind"] != "etcd");
    for (manifest, code) in [(foreign, "ARCH_MISMATCH"), (poor, "MEDIA_LACKS_ETCD")] {
        vr.replace("cks-bundle.json", manifest.to_string().as_bytes()).unwrap();
        let node = Node::new("etcd").unwrap().inside(&vr.netns);
        let output = node.run(&[&vr.url, &iso]).unwrap();
        assert_eq!(output.code, 0, "{output:?}");
        let told = &node.status().unwrap()["sources"];
        assert_eq!([&told[0]["verdict"], &told[1]["verdict"]], [code, "in-use"], "{told}");
        assert!(told[0]["reason"].as_str().unwrap().starts_with(&vr.url), "{told}");
    }
}

#[test]
fn a_source_that_turns_bad_is_replaced_by_the_other() {
    let work = cks_tests::scratch("sources").unwrap();
    let iso = iso(work.path());
    let vr = Vr::start(&iso).unwrap();
    let tarball = "etcd/etcd-linux-amd64.tar.gz";
    let mut bytes = fs::read(vr.docroot.join("cks-iso").join(tarball)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let iso = iso.to_string_lossy();
    for bad in [bytes.as_slice(), &bytes[..middle]] {
        vr.replace(tarball, bad).unwrap();
        let node = Node::new("etcd").unwrap().inside(&vr.netns);
        let output = node.run(&[&vr.url, &iso]).unwrap();
        assert_eq!(output.code, 0, "{output:?}");
        let clean = Node::new("etcd").unwrap();
        assert_eq!(clean.run(&[&iso]).unwrap().code, 0);
        assert_eq!(node.tree().unwrap(), clean.tree().unwrap());
    }
}

#[test]
fn a_dry_run_changes_nothing() {
    let work = cks_tests::scratch("sources").unwrap();
    let iso = iso(work.path());
    let iso = iso.to_string_lossy();
    let containerd = stock_containerd();
    let node = Node::new("worker").unwrap().using(&containerd);
    let dry = |node: &Node| {
        let (before, images_before) = (Tree::read(&node.root, &[]).unwrap(), images(&containerd));
        let text = node.bootstrap(&[&iso]).unwrap().arg("--dry-run").ok().unwrap();
        let plan = node.bootstrap(&[&iso]).unwrap().args(["--dry-run", "--json"]).ok().unwrap();
        assert_eq!(before, Tree::read(&node.root, &[]).unwrap());
        assert_eq!(images_before, images(&containerd));
        assert_eq!(containerd.ctr(["leases", "list", "-q"]).ok().unwrap(), "");
        let plan: Value = serde_json::from_str(&plan).unwrap();
        (text, plan["steps"].as_array().unwrap().len())
    };
    let (text, steps) = dry(&node);
    assert!(steps > 10 && text.starts_with(&format!("plan: {steps} steps, ")), "{steps}: {text}");
    assert_eq!(Tree::read(&node.root, &[]).unwrap().lines, [""; 0], "an empty root stays empty");

    let done = node.bootstrap(&[&iso]).unwrap().arg("--json").ok().unwrap();
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!(done["steps"]["done"].as_u64().unwrap(), steps as u64, "what was planned was done");
    assert_eq!(done, node.status().unwrap());
    assert_eq!(dry(&node), ("plan: nothing to do\n".to_owned(), 0));

    // Without a containerd the plan is told all the same.
    let alone = Node::new("worker").unwrap().with(&["--containerd", "/nowhere.sock"]);
    let output = alone.bootstrap(&[&iso]).unwrap().arg("--dry-run").output().unwrap();
    assert!(output.code == 0 && output.stderr.contains("CONTAINERD_UNAVAILABLE"), "{output:?}");
}

#[test]
fn what_gets_lost_is_mended_and_nothing_else_is_fetched() {
    let work = cks_tests::scratch("sources").unwrap();
    let vr = Vr::start(&iso(work.path())).unwrap();
    let manifest = Manifest::parse(&fs::read(vr.docroot.join("cks-iso/cks-bundle.json")).unwrap()).unwrap();
    let containerd = stock_containerd();
    let node = Node::new("worker").unwrap().using(&containerd).inside(&vr.netns);
    assert_eq!(node.run(&[&vr.url]).unwrap().code, 0);
    let (whole, whole_images) = (node.tree().unwrap(), images(&containerd));
    let version = whole.lines.iter().find_map(|line| line.strip_prefix("d 0755 opt/cks/v")).unwrap();
    let version = node.root.join(format!("opt/cks/v{version}"));
    let kubelet = version.join("bin/kubelet");
    let bridge = version.join("cni/bridge");

    let size = |path: &str| manifest.entry(path).unwrap().size;
    let plugins = format!("cni/cni-plugins-linux-{}.tgz", manifest.arch);
    let application = manifest.images.iter().find(|image| image.reference == small::APPLICATION).unwrap();
    let blob = |digest: &Digest| manifest.blob(digest).unwrap().size;
    let image_bytes = [application.digest, application.config].iter().chain(&application.layers).map(blob).sum::<u64>();
    let damages: [(&str, &dyn Fn(), u64); 8] = [
        ("a lost program", &|| fs::remove_file(&kubelet).unwrap(), size("k8s/kubelet")),
        ("a changed byte", &|| flip(&kubelet), size("k8s/kubelet")),
        ("a changed mode", &|| chmod(&kubelet, 0o600), size("k8s/kubelet")),
        ("a lost plugin", &|| fs::remove_file(&bridge).unwrap(), size(&plugins)),
        ("a lost link", &|| fs::remove_file(node.root.join("opt/bin/kubelet")).unwrap(), 0),
        ("a link elsewhere", &|| relink(&node.root.join("opt/cni/bin/bridge")), 0),
        ("a changed unit", &|| flip(&node.root.join("etc/systemd/system/kubelet.service")), 0),
        ("an image", &|| drop(remove_image(&containerd, small::APPLICATION)), image_bytes),
    ];
    for (what, damage, bytes) in damages {
        damage();
        let before = vr.requests().unwrap().len();
        let output = node.run(&[&vr.url]).unwrap();
        assert_eq!(output.code, 0, "{what}: {output:?}");
        let now = node.tree().unwrap();
        assert_eq!(whole.digest(), now.digest(), "{what}: {}", whole.difference(&now));
        assert_eq!(whole_images, images(&containerd), "{what}");
        let told = vr.requests().unwrap().split_off(before);
        let content = |request: &&Request| !request.path.contains("/cks-bundle.json");
        let fetched: u64 = told.iter().filter(content).map(|request| request.bytes).sum();
        let headers = told.iter().filter(content).count() as u64 * 600;
        assert!((bytes..=bytes + headers).contains(&fetched), "{what}: {fetched} bytes instead of {bytes}: {told:?}");
        assert_eq!(node.status().unwrap()["sources"][0]["bytes"].as_u64(), Some(bytes), "{what}");
    }
    assert!(node.run(&[&vr.url]).unwrap().stdout.contains("nothing to do"));
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn relink(path: &Path) {
    fs::remove_file(path).unwrap();
    std::os::unix::fs::symlink("/usr/lib/cni/bridge", path).unwrap();
}

/// By its name and by the name that the CRI plugin gives it, so that its content goes, too.
fn remove_image(containerd: &Containerd, reference: &str) -> String {
    let listed = containerd.ctr(["images", "list"]).ok().unwrap();
    let digest = |line: &str| line.split_whitespace().find(|word| word.starts_with("sha256:")).map(str::to_owned);
    let target = listed
        .lines()
        .find(|line| line.starts_with(reference))
        .and_then(|line| line.split_whitespace().nth(2))
        .unwrap();
    let named = listed.lines().filter(|line| line.contains(target)).filter_map(|line| line.split_whitespace().next());
    assert!(digest(target).is_some(), "{listed}");
    containerd.ctr(["images", "rm", "--sync"]).args(named).ok().unwrap()
}
