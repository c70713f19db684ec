//! What a build writes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::time::{Duration, UNIX_EPOCH};

use bootstrap::archive;
use bootstrap::bundle::{Manifest, Place, Role};
use bootstrap::digest::Digest;
use iso_builder::content::Content;
use iso_builder::opened::Opened;
use serde_json::Value;

use crate::fixture::archives::{Image, docker_save, layer};
use crate::fixture::{Bed, Files, arch, by_7z, by_isoinfo, by_us, by_xorriso, run, text};

fn manifest(bed: &Bed) -> Manifest {
    Opened::open(&bed.path("out.iso")).unwrap().manifest().unwrap().unwrap().0
}

#[test]
fn two_builds_are_byte_identical() {
    let (one, two) = (Bed::new(), Bed::new());
    for name in ["a.tar", "bin/kubelet", "bin/bridge", "calico.yaml", "etcd/etcd"] {
        let time = UNIX_EPOCH + Duration::from_secs(1_000_000_007);
        File::options().append(true).open(two.path(name)).unwrap().set_modified(time).unwrap();
    }
    // The order of archives and of files to be packed tells nothing.
    two.edit("\"bin/loopback\", \"bin/bridge\"", "\"bin/bridge\", \"bin/loopback\"");
    two.edit("a.tar", "x.tar");
    two.edit("b.tar", "a.tar");
    two.edit("x.tar", "b.tar");
    let first = fs::read(one.build()).unwrap();
    assert!(first == fs::read(two.build()).unwrap(), "two builds of one spec differ");
    assert!(first == fs::read(one.build()).unwrap(), "a second build over the first differs");

    let dated = one.cks_iso(&["build", "spec.toml", "-o", "dated.iso", "--source-date-epoch", "1700000000"]);
    assert!(dated.status.success());
    assert!(first != fs::read(one.path("dated.iso")).unwrap());
    let listing = text(one.dir(), "isoinfo", &["-i", "dated.iso", "-R", "-l"]);
    assert!(listing.contains("Nov 14 2023"), "{listing}");
    assert_eq!(one.hidden(), [""; 0]);
}

#[test]
fn every_reader_reads_the_same() {
    let bed = Bed::new();
    bed.build();
    let ours = by_us(&bed.path("out.iso"));
    let arch = arch();
    let want = [
        "10-kubeadm.conf".to_owned(),
        "cks-bundle.json".to_owned(),
        format!("cni/cni-plugins-linux-{arch}.tgz"),
        format!("cri-tools/crictl-linux-{arch}.tar.gz"),
        "docker/images.tar".to_owned(),
        "etcd/etcd-linux-amd64.tar.gz".to_owned(),
        "k8s/kubeadm".to_owned(),
        "k8s/kubectl".to_owned(),
        "k8s/kubelet".to_owned(),
        "kubelet.service".to_owned(),
        "network.yaml".to_owned(),
    ];
    assert_eq!(ours.keys().cloned().collect::<Vec<_>>(), want);
    assert!(ours["k8s/kubelet"] == (0o755, fs::read(bed.path("bin/kubelet")).unwrap()));
    assert!(ours["network.yaml"] == (0o644, fs::read(bed.path("calico.yaml")).unwrap()));

    assert!(by_xorriso(bed.dir(), "out.iso") == ours, "xorriso reads something else");
    let bytes =
        |files: &Files| files.iter().map(|(path, (_, bytes))| (path.clone(), bytes.clone())).collect::<Vec<_>>();
    assert!(bytes(&by_7z(bed.dir(), "out.iso")) == bytes(&ours), "7z reads something else");
    for names in ["-R", "-J"] {
        let listed: BTreeMap<_, u64> =
            by_isoinfo(bed.dir(), "out.iso", names).into_iter().map(|(path, (_, size))| (path, size)).collect();
        let want = ours.iter().map(|(path, (_, bytes))| (path.clone(), bytes.len() as u64)).collect();
        assert_eq!(listed, want, "isoinfo {names}");
        for (path, (_, want)) in &ours {
            let found = run(bed.dir(), "isoinfo", &["-i", "out.iso", names, "-x", &format!("/{path}")]);
            assert!(found == *want, "isoinfo {names} reads something else in {path}");
        }
    }
    let modes = by_isoinfo(bed.dir(), "out.iso", "-R");
    assert!(modes.iter().all(|(path, (mode, _))| ours[path].0 == *mode), "{modes:?}");
    let label = text(bed.dir(), "blkid", &["-p", "out.iso"]);
    assert!(label.contains("LABEL=\"CDROM\"") && label.contains("TYPE=\"iso9660\""), "{label}");
}

#[test]
fn tarballs_have_the_stock_layouts() {
    let bed = Bed::new();
    bed.build();
    by_xorriso(bed.dir(), "out.iso");
    let arch = arch();
    for (tarball, want) in [
        (format!("cni/cni-plugins-linux-{arch}.tgz"), "./\n./bridge\n./loopback\n".to_owned()),
        (format!("cri-tools/crictl-linux-{arch}.tar.gz"), "crictl\n".to_owned()),
        (
            "etcd/etcd-linux-amd64.tar.gz".to_owned(),
            ["", "etcd", "etcdctl"].map(|name| format!("etcd-v3.5.21-linux-{arch}/{name}\n")).concat(),
        ),
    ] {
        assert_eq!(text(bed.dir(), "tar", &["-tzf", &format!("by-xorriso/{tarball}")]), want, "{tarball}");
        let manifest = manifest(&bed);
        let members = &manifest.entry(&tarball).unwrap().members;
        let names: Vec<_> =
            want.lines().filter(|name| !name.ends_with('/')).map(|n| n.trim_start_matches("./")).collect();
        assert_eq!(members.iter().map(|member| member.path.as_str()).collect::<Vec<_>>(), names);
        assert!(members.iter().all(|member| member.mode == 0o755));
    }
}

#[test]
fn images_are_merged_each_blob_once() {
    let bed = Bed::new();
    bed.build();
    let manifest = manifest(&bed);
    let references: Vec<_> = manifest.images.iter().map(|image| image.reference.as_str()).collect();
    let want = ["kube-apiserver:v1.33.1", "kube-proxy:v1.33.1", "pause:3.10", "pause:3.9"];
    assert_eq!(references, want.map(|name| format!("registry.k8s.io/{name}")));
    assert_eq!(manifest.sandbox_image.as_deref(), Some("registry.k8s.io/pause:3.10"));
    assert!(manifest.images_for(Role::Worker).all(|image| !image.reference.contains("apiserver")));
    // Four images: four manifests, four configs, four layers of their own, one base.
    assert_eq!(manifest.blobs.len(), 13);

    // What others read in the tar is what the manifest says.
    by_xorriso(bed.dir(), "out.iso");
    let tar = bed.path("by-xorriso/docker/images.tar");
    let read = archive::read(File::open(&tar).unwrap(), "docker/images.tar").unwrap();
    assert_eq!((&read.images, &read.blobs), (&manifest.images, &manifest.blobs));
    let bytes = fs::read(&tar).unwrap();
    for blob in &manifest.blobs {
        let Place::Range { offset, .. } = &blob.at else { panic!("{blob:?} has no place in the tar") };
        let at = usize::try_from(*offset).unwrap();
        assert_eq!(Digest::of(&bytes[at..at + usize::try_from(blob.size).unwrap()]), blob.digest);
    }
    let members = text(bed.dir(), "tar", &["-tf", "by-xorriso/docker/images.tar"]);
    assert_eq!(members.lines().take(3).collect::<Vec<_>>(), ["oci-layout", "index.json", "manifest.json"]);
    assert_eq!(members.lines().count(), 3 + 13);

    let json = |name: &str| -> Value {
        serde_json::from_slice(&run(bed.dir(), "tar", &["-xOf", "by-xorriso/docker/images.tar", name])).unwrap()
    };
    let annotations = &json("index.json")["manifests"][2]["annotations"];
    assert_eq!(annotations["io.containerd.image.name"], "registry.k8s.io/pause:3.10");
    assert_eq!(annotations["org.opencontainers.image.ref.name"], "3.10");
    let list = json("manifest.json");
    assert_eq!(list.as_array().unwrap().len(), 4);
    for image in list.as_array().unwrap() {
        let paths = image["Layers"].as_array().unwrap().iter().chain([&image["Config"]]);
        assert!(paths.into_iter().all(|path| members.lines().any(|member| path == member)), "{image}");
    }
}

/// The components of the distribution, as they are installed.
#[test]
fn the_distributions_programs_are_packed() {
    let bed = Bed::new();
    bed.edit("files = [\"bin/loopback\", \"bin/bridge\"]", "directory = \"/usr/lib/cni\"");
    bed.edit("directory = \"etcd\"", "files = [\"/usr/bin/etcd\", \"/usr/bin/etcdctl\"]");
    bed.build();
    let manifest = manifest(&bed);
    let etcd = &manifest.entry("etcd/etcd-linux-amd64.tar.gz").unwrap().members;
    assert_eq!(etcd[0].sha256, Digest::of(&fs::read("/usr/bin/etcd").unwrap()));
    let cni = &manifest.entry(&format!("cni/cni-plugins-linux-{}.tgz", arch())).unwrap().members;
    let bridge = cni.iter().find(|member| member.path == "bridge").unwrap();
    assert_eq!(bridge.sha256, Digest::of(&fs::read("/usr/lib/cni/bridge").unwrap()));
}

/// An ISO of 400 MiB within 64 MiB of address space: nothing is held in memory.
#[test]
fn memory_stays_small() {
    let bed = Bed::new();
    let layers = vec![layer("large", 400 << 20)];
    let image = Image { reference: "quay.io/large:1", arch: arch().as_str(), layers };
    docker_save(&bed.path("a.tar"), &[image]);
    let program = env!("CARGO_BIN_EXE_cks-iso");
    let script = format!("ulimit -v 65536 && {program} build spec.toml -o out.iso && {program} verify out.iso");
    let said = text(bed.dir(), "bash", &["-c", &script]);
    assert!(said.contains("out.iso: clean"), "{said}");
    assert!(fs::metadata(bed.path("out.iso")).unwrap().len() > 400 << 20);
}

#[test]
fn a_killed_build_leaves_nothing_that_stays() {
    let bed = Bed::new();
    let program = env!("CARGO_BIN_EXE_cks-iso");
    for after in ["0.005", "0.01", "0.02", "0.03", "0.05", "0.1"] {
        let killed = ["-s", "KILL", after, program, "build", "spec.toml", "-o", "out.iso"];
        let ended = crate::fixture::try_run(bed.dir(), "timeout", &killed).status.success();
        let (there, hidden) = (bed.path("out.iso").exists(), bed.hidden());
        assert!(there || !ended, "the build said it was done");
        assert!(hidden.iter().all(|name| name.starts_with(".out.iso") && name.ends_with(".partial")), "{hidden:?}");
        if there {
            assert!(bed.cks_iso(&["verify", "out.iso"]).status.success());
            fs::remove_file(bed.path("out.iso")).unwrap();
        }
    }
    bed.write(".out.iso.partial", vec![7; 50 << 20]);
    bed.build();
    assert_eq!(bed.hidden(), [""; 0]);
    assert!(bed.cks_iso(&["verify", "out.iso"]).status.success());
}

#[test]
fn two_builds_of_one_output_do_not_meet() {
    let bed = Bed::new();
    let held = File::create(bed.path(".out.iso.partial")).unwrap();
    held.lock().unwrap();
    let output = bed.cks_iso(&["build", "spec.toml", "-o", "out.iso"]);
    assert_eq!(output.status.code(), Some(75));
    assert!(String::from_utf8_lossy(&output.stderr).contains("error[ALREADY_RUNNING]"));
    drop(held);
    bed.build();
}

#[test]
fn json_and_text_say_the_same() {
    let bed = Bed::new();
    let output = bed.cks_iso(&["build", "spec.toml", "-o", "out.iso", "--json", "--name", "another"]);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let built: Value = serde_json::from_slice(&output.stdout).unwrap();
    let warnings = built["warnings"].as_array().unwrap();
    assert!(warnings.len() == 1 && warnings[0].as_str().unwrap().contains("dashboard.yaml"), "{warnings:?}");
    let said = bed.cks_iso(&["build", "spec.toml", "-o", "other.iso"]).stderr;
    let said = String::from_utf8_lossy(&said);
    assert_eq!(said.lines().filter(|line| line.starts_with("warning: stock nodes need ")).count(), 1, "{said}");
    let iso = Content::whole(&iso_builder::content::Source::open(&bed.path("out.iso")).unwrap());
    assert_eq!(built["sha256"], iso.digest(&iso_builder::progress::Bar::none()).unwrap().to_string());
    assert_eq!(built["size"], iso.length());
    let shown: Value = serde_json::from_slice(&bed.cks_iso(&["inspect", "out.iso", "--json"]).stdout).unwrap();
    assert_eq!(shown["manifest"]["name"], "another");
    assert_eq!(shown["files"].as_array().unwrap().len(), 11);
    let shown = String::from_utf8(bed.cks_iso(&["inspect", "out.iso"]).stdout).unwrap();
    for part in ["another", "kubernetes v1.33.1", "etcd v3.5.21", "registry.k8s.io/pause:3.10", "11 files", "CDROM"] {
        assert!(shown.contains(part), "{part} in\n{shown}");
    }
    let completions = bed.cks_iso(&["completions", "bash"]);
    assert!(String::from_utf8_lossy(&completions.stdout).contains("complete -F"));
    assert!(bed.cks_iso(&["man", "."]).status.success());
    assert!(bed.path("cks-iso-build.1").exists());
}
