//! What a node of each role gets, over HTTP, from a disc and from a directory: what is fetched, what is
//! installed, that it runs, and that a second run finds nothing to do.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootstrap::bundle::{Blob, Manifest, Place, Role};
use bootstrap::digest::Digest;
use cks_tests::components::{Components, KUBERNETES};
use cks_tests::containerd::Containerd;
use cks_tests::images;
use cks_tests::node::Node;
use cks_tests::process::Command;
use cks_tests::tree::digest_of;
use cks_tests::vr::{Request, Vr};
use cks_tests::{programs, small, unit};
use serde_json::Value;

const ETCD_TARBALL: &str = "etcd/etcd-linux-amd64.tar.gz";
/// What may come besides content: the manifest and the headers.
const OVERHEAD: u64 = 64 << 10;

/// An ISO of real components; kubeadm, kubelet and kubectl are large files that begin as programs do.
fn iso(directory: &Path) -> PathBuf {
    let mut components = Components::make(&directory.join("components"), None).unwrap();
    for (seed, name) in (1..).zip(KUBERNETES) {
        let mut bytes = fs::read("/bin/busybox").unwrap();
        bytes.extend(images::noise(40 << 20, seed));
        cks_tests::tarball::save(&components.directory.join("k8s").join(name), &bytes).unwrap();
    }
    components.kubernetes = Some("v1.34.0".to_owned());
    small::build(&components, "roles").unwrap()
}

fn served(vr: &Vr) -> Manifest {
    Manifest::parse(&fs::read(vr.docroot.join("cks-iso/cks-bundle.json")).unwrap()).unwrap()
}

fn stock_containerd() -> Containerd {
    Containerd::start(&programs::containerd(None).unwrap(), None).unwrap()
}

/// The path below `/cks-iso/`.
fn entry(request: &Request) -> &str {
    request.path.trim_start_matches("/cks-iso/")
}

fn sum(requests: &[Request]) -> u64 {
    requests.iter().map(|request| request.bytes).sum()
}

/// `link → target` of every link in a directory of the node.
fn links(node: &Node, directory: &str) -> Vec<(String, String)> {
    let entries = fs::read_dir(node.root.join(directory)).unwrap().map(Result::unwrap);
    let mut links: Vec<_> = entries
        .map(|entry| {
            let target = fs::read_link(entry.path()).unwrap().to_string_lossy().into_owned();
            (entry.file_name().to_string_lossy().into_owned(), target)
        })
        .collect();
    links.sort();
    links
}

/// Runs the node again: nothing is to be done, little is fetched, and no installed file is read.
fn nothing_to_do(node: &Node, vr: &Vr) {
    let (before, tree) = (vr.requests().unwrap().len(), node.tree().unwrap());
    // The shell's counters have those of the children that it waited for.
    let counted = node.bootstrap(&[&vr.url]).unwrap();
    let counted = counted.under("bash", ["-c", "\"$@\" && grep rchar /proc/$$/io", "bash"]);
    let output = counted.output().unwrap();
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.contains(": nothing to do: /opt/cks/"), "{output:?}");
    let told = &vr.requests().unwrap()[before..];
    assert!(told.iter().all(|request| entry(request).starts_with("cks-bundle.json")), "{told:?}");
    assert!(sum(told) < OVERHEAD, "{told:?}");
    let read: u64 = output.stdout.rsplit_once("rchar: ").unwrap().1.trim().parse().unwrap();
    assert!(read < 8 << 20, "the second run read {read} bytes");
    let state = node.status().unwrap();
    let seconds: f64 = state["timeline"].as_array().unwrap().iter().map(|time| time["seconds"].as_f64().unwrap()).sum();
    println!(
        "second run: {seconds:.3} s by its timeline, {:.3} s in all, {read} bytes read",
        output.elapsed.as_secs_f64()
    );
    assert!(seconds < 1.0, "the second run took {seconds} s");
    assert_eq!((state["phase"].as_str(), state["steps"]["total"].as_u64()), (Some("installed"), Some(0)));
    assert_eq!(tree, node.tree().unwrap());
}

#[test]
fn an_etcd_node_takes_one_tarball_and_runs() {
    let work = cks_tests::scratch("roles").unwrap();
    let vr = Vr::start(&iso(work.path())).unwrap();
    let manifest = served(&vr);
    let node = Node::new("etcd").unwrap().with(&["--node-ip", "10.1.1.1"]).inside(&vr.netns);
    let output = node.run(&[&vr.url]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");

    let told = vr.requests().unwrap();
    let tarball = manifest.entry(ETCD_TARBALL).unwrap().size;
    assert!(sum(&told) <= tarball + OVERHEAD, "{} bytes for {tarball}: {told:?}", sum(&told));
    let asked: BTreeSet<&str> = told.iter().map(entry).collect();
    assert_eq!(asked, BTreeSet::from(["cks-bundle.json", "cks-bundle.json.minisig", ETCD_TARBALL]));

    let id = digest_of(&vr.docroot.join("cks-iso/cks-bundle.json")).unwrap();
    let version = format!("v1.34.0-{}", id.short());
    let link = |name: &str| (name.to_owned(), format!("../cks/current/bin/{name}"));
    assert_eq!(fs::read_link(node.root.join("opt/cks/current")).unwrap(), Path::new(&version));
    assert_eq!(links(&node, "opt/bin"), [link("etcd"), link("etcdctl")]);
    let wants = links(&node, "etc/systemd/system/multi-user.target.wants");
    assert_eq!(wants, [("etcd.service".to_owned(), "../etcd.service".to_owned())]);
    let installed = node.tree().unwrap().lines;
    let files: Vec<&str> = installed.iter().filter_map(|line| line.strip_prefix("f ")).collect();
    let file = |mode: &str, path: &str, digest: Digest| format!("{mode} {path} {digest}");
    let unit = digest_of(&node.root.join("etc/systemd/system/etcd.service")).unwrap();
    assert_eq!(
        files,
        [
            file("0644", "etc/systemd/system/etcd.service", unit),
            file("0755", &format!("opt/cks/{version}/bin/etcd"), digest_of(Path::new("/usr/bin/etcd")).unwrap()),
            file("0755", &format!("opt/cks/{version}/bin/etcdctl"), digest_of(Path::new("/usr/bin/etcdctl")).unwrap()),
            file("0644", &format!("opt/cks/{version}/cks-bundle.json"), id),
        ]
    );

    runs(&node, &vr);
    let told = node.agent("version").unwrap().arg("--json").ok().unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["etcd"], "3.4.23");
    assert_eq!(told["bundle"]["digest"], id.to_string());
    assert_eq!(told["bundle"]["directory"], format!("/opt/cks/{version}"));
    assert!(told["kubelet"].is_null() && told["kubeadm"].is_null() && told["containerd"].is_null(), "{told}");
    let state = node.status().unwrap();
    assert_eq!((&state["phase"], &state["bundle"]["trust"]), (&"installed".into(), &"manifest".into()));
    assert_eq!(state["bundle"]["id"], id.to_string());
    assert_eq!(state["sources"][0]["bytes"].as_u64(), Some(tarball));
    assert_eq!((state["bytes"]["done"].as_u64(), state["steps"]["done"].as_u64()), (Some(tarball), Some(7)));
    nothing_to_do(&node, &vr);
}

/// etcd by the unit's own command line: a key goes in and comes out.
fn runs(node: &Node, vr: &Vr) {
    let serve = unit::lone_etcd(&node.root, "10.1.1.1").unwrap();
    let log = cks_tests::scratch("etcd").unwrap();
    let mut etcd = vr.netns.enter(serve).daemon(&log.path().join("log")).unwrap();
    let etcdctl = |args: &[&str]| {
        let client = Command::new(node.root.join("opt/bin/etcdctl")).args(["--endpoints", "http://10.1.1.1:2379"]);
        vr.netns.enter(client.args(args).env("ETCDCTL_API", "3"))
    };
    let healthy = || etcdctl(&["endpoint", "health"]).output().is_ok_and(|output| output.code == 0);
    etcd.ready(Duration::from_secs(30), healthy).unwrap();
    etcdctl(&["put", "/key", "value of 7"]).ok().unwrap();
    assert_eq!(etcdctl(&["get", "--print-value-only", "/key"]).ok().unwrap(), "value of 7\n");
    drop(etcd);
    // Its data is the node's, not the installation's.
    Command::new("rm").arg("-r").arg(node.root.join("var/lib/etcd")).ok().unwrap();
}

#[test]
fn a_worker_leaves_the_control_plane_out() {
    let work = cks_tests::scratch("roles").unwrap();
    let vr = Vr::start(&iso(work.path())).unwrap();
    let (manifest, containerd) = (served(&vr), stock_containerd());
    let node = Node::new("worker").unwrap().using(&containerd).inside(&vr.netns);
    let output = node.run(&[&vr.url]).unwrap();
    assert_eq!(output.code, 0, "{output:?}");

    let told = vr.requests().unwrap();
    let forbidden = own_blobs_of_others(&manifest, Role::Worker);
    assert!(forbidden.iter().map(|(_, range)| range.end - range.start).sum::<u64>() > 10 << 20);
    for request in told.iter().filter(|request| entry(request).starts_with("docker/")) {
        let (from, to) = request.range.as_deref().unwrap().trim_start_matches("bytes=").split_once('-').unwrap();
        let asked = from.parse::<u64>().unwrap()..to.parse::<u64>().unwrap() + 1;
        let touched = |(path, range): &&(String, Range<u64>)| {
            path == entry(request) && range.start < asked.end && asked.start < range.end
        };
        assert_eq!(forbidden.iter().find(touched), None, "{request:?}");
    }
    assert!(told.iter().all(|request| !entry(request).starts_with("etcd/")), "{told:?}");

    let bin: Vec<String> = links(&node, "opt/bin").into_iter().map(|(name, _)| name).collect();
    assert_eq!(bin, ["crictl", "kubeadm", "kubectl", "kubelet"]);
    let plugins = fs::read_dir("/usr/lib/cni").unwrap().count();
    assert_eq!(links(&node, "opt/cni/bin").len(), plugins);
    for name in ["bridge", "loopback"] {
        let (here, there) = (node.root.join("opt/cni/bin").join(name), Path::new("/usr/lib/cni").join(name));
        assert_eq!(digest_of(&here).unwrap(), digest_of(&there).unwrap());
    }
    let kubelet = fs::read_to_string(node.root.join("etc/systemd/system/kubelet.service")).unwrap();
    assert!(kubelet.contains("ExecStart=/opt/bin/kubelet") && !kubelet.contains("/usr/bin"), "{kubelet}");
    assert!(node.root.join("etc/systemd/system/kubelet.service.d/10-kubeadm.conf").is_file());

    // Another bundle's worth of images on one containerd is nobody's business here: it has only ours.
    let mut wanted: Vec<&str> = manifest.images_for(Role::Worker).map(|image| image.reference.as_str()).collect();
    wanted.sort_unstable();
    assert_eq!(containerd.images().unwrap(), wanted);
    let installed = fs::read_dir(node.root.join("opt/cks")).unwrap().flatten();
    let version =
        installed.map(|entry| entry.file_name().to_string_lossy().into_owned()).find(|name| name.starts_with('v'));
    labelled_and_whole(&containerd, &manifest, &version.unwrap());
    nothing_to_do(&node, &vr);
}

/// The ranges that hold blobs which no image of `role` uses.
fn own_blobs_of_others(manifest: &Manifest, role: Role) -> Vec<(String, Range<u64>)> {
    let used: BTreeSet<Digest> = manifest
        .images_for(role)
        .flat_map(|image| [image.digest, image.config].into_iter().chain(image.layers.iter().copied()))
        .collect();
    let range = |blob: &Blob| match &blob.at {
        Place::Range { path, offset } => Some((path.clone(), *offset..offset + blob.size)),
        Place::Inline { .. } => None,
    };
    manifest.blobs.iter().filter(|blob| !used.contains(&blob.digest)).filter_map(range).collect()
}

fn labelled_and_whole(containerd: &Containerd, manifest: &Manifest, version: &str) {
    let (listed, checked) =
        (containerd.ctr(["images", "list"]).ok().unwrap(), containerd.ctr(["images", "check"]).ok().unwrap());
    let crictl = containerd.crictl(["images", "--output", "json"]).unwrap().ok().unwrap();
    let crictl: Value = serde_json::from_str(&crictl).unwrap();
    let (owner, whole) = (format!("io.cks-node.bundle={version}"), [" complete ", " true"]);
    for image in manifest.images_for(Role::Worker) {
        let row = |text: &str| text.lines().find(|line| line.starts_with(&image.reference)).unwrap().to_owned();
        let labels = row(&listed);
        for label in ["io.cri-containerd.image=managed", "io.cri-containerd.pinned=pinned", &owner] {
            assert!(labels.contains(label), "no {label} in {labels}");
        }
        assert!(whole.iter().all(|word| row(&checked).contains(word)), "{checked}");
        let known = |known: &&Value| known["repoTags"].as_array().unwrap().contains(&image.reference.as_str().into());
        let known = crictl["images"].as_array().unwrap().iter().find(known).unwrap();
        assert_eq!(known["id"], image.config.to_string());
    }
    assert_eq!(containerd.ctr(["leases", "list", "-q"]).ok().unwrap(), "");
    let active = containerd.ctr(["content", "active"]).ok().unwrap();
    assert_eq!(active.lines().count(), 1, "{active}");
}

#[test]
fn containerd_takes_the_sandbox_image_from_the_drop_in() {
    let work = cks_tests::scratch("roles").unwrap();
    let components = small::components(&work.path().join("components"), own_arch()).unwrap();
    let iso = small::build(&components, "sandbox").unwrap();
    for (shown, directory) in versions() {
        let (node, _containerd) = worker_of(shown, &directory, &iso);
        let again = node.run(&[&iso.to_string_lossy()]).unwrap();
        assert!(again.stdout.contains("nothing to do"), "{shown}: {again:?}");
        // In the node's /etc, where the main file looks for the drop-in.
        let script = "mount --bind \"$1\" /etc && exec \"$2\" --config /etc/containerd/config.toml config dump";
        let dump = Command::new("sh").args(["-c", script, "dump"]).arg(node.root.join("etc"));
        let dump = dump.arg(directory.join("containerd")).under("unshare", ["--mount", "--propagation", "private"]);
        let dump = dump.ok().unwrap();
        let line = |key: &str| dump.lines().map(str::trim).find(|line| line.starts_with(key)).unwrap_or_default();
        let key = if shown == "2.x" { "sandbox = " } else { "sandbox_image = " };
        let value = line(key).trim_start_matches(key).trim_matches(['"', '\'']);
        assert_eq!(value, small::SANDBOX, "{shown}: {dump}");
        assert!(dump.contains("SystemdCgroup = true"), "{shown}: {dump}");
    }
}

#[test]
fn layers_of_zstd_are_imported_by_every_containerd() {
    let work = cks_tests::scratch("roles").unwrap();
    let components = small::components(&work.path().join("components"), own_arch()).unwrap();
    let spec = cks_tests::spec::write(&components, "zstd").unwrap();
    let text = fs::read_to_string(&spec).unwrap();
    fs::write(&spec, format!("layers = \"zstd\"\n{text}")).unwrap();
    let iso = work.path().join("zstd.iso");
    Command::new(programs::built("cks-iso").unwrap()).arg("build").arg(&spec).arg("-o").arg(&iso).ok().unwrap();
    let vr = Vr::start(&iso).unwrap();
    let manifest = served(&vr);
    let layers = || manifest.images_for(Role::Worker).flat_map(|image| &image.layers);
    assert!(layers().all(|layer| manifest.blob(layer).unwrap().media_type.ends_with("+zstd")));
    for (shown, directory) in versions() {
        let (_node, containerd) = worker_of(shown, &directory, &iso);
        // containerd reads each layer itself, and finds it complete and unpacked.
        let checked = containerd.ctr(["images", "check"]).ok().unwrap();
        let whole = checked.lines().skip(1).filter(|line| line.contains(" complete ") && line.contains(" true"));
        assert!(whole.count() >= 2, "{shown}: {checked}");
        let parents = containerd.ctr(["snapshots", "list"]).ok().unwrap();
        assert_eq!(parents.matches("Committed").count(), layers().collect::<BTreeSet<_>>().len(), "{shown}: {parents}");
    }
}

/// A worker from the disc `iso` of small components, and its containerd, which has their images.
fn worker_of(shown: &str, programs: &Path, iso: &Path) -> (Node, Containerd) {
    let containerd = Containerd::start(programs, None).unwrap();
    let node = Node::new("worker").unwrap().using(&containerd);
    let output = node.run(&[&iso.to_string_lossy()]).unwrap();
    assert_eq!(output.code, 0, "{shown}: {output:?}");
    assert_eq!(containerd.images().unwrap(), [small::APPLICATION, small::SANDBOX], "{shown}");
    (node, containerd)
}

/// Every containerd that is there: its version and its programs.
fn versions() -> Vec<(&'static str, PathBuf)> {
    let mut versions = vec![("1.6 of the distribution", programs::containerd(None).unwrap())];
    for (shown, major) in [("1.7", "v1"), ("2.x", "v2")] {
        match programs::built_before("containerd", major).unwrap() {
            Some(directory) => versions.push((shown, directory)),
            // Not by println, which is shown for failed tests only.
            None => {
                let which = if major == "v1" { "1.7" } else { "" };
                let what = format!(
                    "NOT CHECKED: containerd {shown} is not there; tests/tools/build containerd {which} builds it\n"
                );
                std::io::stderr().write_all(what.as_bytes()).unwrap();
            }
        }
    }
    versions
}

fn own_arch() -> bootstrap::bundle::Arch {
    bootstrap::bundle::Arch::parse(std::env::consts::ARCH).unwrap()
}
