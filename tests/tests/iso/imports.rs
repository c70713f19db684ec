//! The image archive of an ISO in the hands of others: three containerds, skopeo, CloudStack's scripts.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bootstrap::bundle::{Arch, Manifest};
use bootstrap::digest::Digest;
use cks_tests::containerd::Containerd;
use cks_tests::process::Command;
use cks_tests::programs;
use cks_tests::published::skopeo;
use cks_tests::stock::StockNode;
use cks_tests::vr::Vr;
use cks_tests::world::{FLOW, KUBERNETES_IMAGES, LARGE, World};
use tempfile::TempDir;

use crate::{Desk, PLAIN, extract, publish_plain, references};

/// An ISO, and its content as a directory.
fn made(world: &World) -> (Desk, PathBuf, PathBuf) {
    let desk = Desk::new(world, &world.registry.url(), &[]);
    publish_plain(world);
    desk.want(PLAIN);
    let (iso, disc) = (desk.iso(), desk.user.place.with_file_name("disc"));
    extract(&iso, &disc);
    (desk, iso, disc)
}

#[test]
fn three_containerds_and_every_stock_role_take_it() {
    let world = World::new(false).unwrap();
    let (_desk, iso, disc) = made(&world);
    let references: Vec<String> = references(&world).into_iter().chain([PLAIN.to_owned()]).collect();
    let versions = [None, Some("1.7"), Some("2.3")];
    for version in versions {
        let programs = version.map_or_else(|| programs::containerd(None), programs::containerd_built).unwrap();
        let containerd = Containerd::start(&programs, None).unwrap();
        let what = format!("containerd {}", version.unwrap_or("of the distribution"));
        if version.is_none() {
            stock_roles(&iso, &disc, &containerd);
        } else {
            containerd.ctr(["images", "import"]).arg(disc.join("docker/images.tar")).ok().unwrap();
        }
        // containerd's CRI plugin adds names that are a digest and nothing else.
        let listed = containerd.ctr(["images", "list", "-q"]).ok().unwrap();
        let names: BTreeSet<&str> = listed.lines().filter(|name| !name.starts_with("sha256:")).collect();
        assert_eq!(names, references.iter().map(String::as_str).collect(), "{what}");
        let checked = containerd.ctr(["images", "check"]).ok().unwrap();
        let whole = |line: &str| line.contains(" complete ") && line.contains(" true");
        assert!(checked.lines().skip(1).all(whole), "{what}: {checked}");
        // The index that a manifest names is not on the ISO: the platform's manifest stands for it.
        let flow = world.layout.images()[FLOW].blobs[&Arch::Amd64][0].to_string();
        let by_digest = references.iter().find(|name| name.contains("/flow@")).unwrap();
        let rows = containerd.ctr(["images", "list"]).ok().unwrap();
        assert!(rows.lines().any(|row| row.starts_with(by_digest) && row.contains(&flow)), "{what}: {rows}");
        let found = containerd.crictl(["inspecti", "-o", "json", by_digest]).unwrap().output().unwrap();
        assert_eq!(found.code, 0, "{what}: kubelet asks by this name: {found:?}");
    }
}

/// Control plane, worker and etcd node from the disc, and a worker over the virtual router.
fn stock_roles(iso: &Path, disc: &Path, containerd: &Containerd) {
    let vr = Vr::start(iso).unwrap();
    for role in ["control", "worker", "etcd", "over the router"] {
        let node = StockNode::new().unwrap();
        let output = match role {
            "etcd" => node.install(role, iso, disc, None),
            "over the router" => node.install_over(&vr, containerd),
            _ => node.install(role, iso, disc, Some(containerd)),
        };
        let output = output.unwrap();
        assert_eq!(output.code, 0, "{role}: {output:?}");
        let names = |directory: &str| node.names(directory).unwrap();
        if role == "etcd" {
            assert_eq!(names("opt/bin"), ["etcd", "etcdctl"]);
            continue;
        }
        assert_eq!(names("opt/bin"), ["crictl", "kubeadm", "kubectl", "kubelet"], "{role}");
        assert_eq!(names("opt/cni/bin"), ["bridge", "host-local", "loopback"], "{role}");
        let config = fs::read_to_string(node.root.join("etc/containerd/config.toml")).unwrap();
        assert!(config.contains("sandbox_image = \"registry.k8s.io/pause:3.10\""), "{role}: {config}");
        let control = ["dashboard.yaml", "headlamp.yaml", "manifest.yaml", "network.yaml", "snapshot-crds.yaml"];
        let (applied, csi): (&[&str], &[&str]) =
            if role == "control" { (&control, &["manifest.yaml", "snapshot-crds.yaml"]) } else { (&[], &[]) };
        assert_eq!(names("tmp/k8sconfigscripts"), applied, "{role}");
        assert_eq!(names("opt/csi"), csi, "{role}");
    }
}

#[test]
fn skopeo_reads_it_both_ways() {
    let world = World::new(false).unwrap();
    let (_desk, _, disc) = made(&world);
    let archive = disc.join("docker/images.tar");
    let home: TempDir = cks_tests::scratch("skopeo").unwrap();
    Command::new("chown").arg("1000:1000").arg(home.path()).ok().unwrap();
    // As `docker load` reads it: by manifest.json, every name with a tag.
    let manifest = Manifest::parse(&fs::read(disc.join("cks-bundle.json")).unwrap()).unwrap();
    for image in manifest.images.iter().filter(|image| !image.reference.contains('@')) {
        let from = format!("docker-archive:{}:{}", archive.display(), image.reference);
        let told = skopeo(home.path()).args(["inspect", "--config", "--raw", &from]).ok().unwrap();
        assert_eq!(Digest::of(told.as_bytes()), image.config, "{}", image.reference);
    }
    let to = home.path().join("copy");
    let from = format!("docker-archive:{}:{LARGE}", archive.display());
    skopeo(home.path()).args(["copy", "--quiet", &from, &format!("dir:{}", to.display())]).ok().unwrap();
    let config = world.layout.images()[LARGE].blobs[&Arch::Amd64][1];
    assert!(fs::read_to_string(to.join("manifest.json")).unwrap().contains(&config.hex()));
    // And as an OCI layout, by index.json: upstream's manifest, unchanged.
    let pause = KUBERNETES_IMAGES[6];
    let from = format!("oci-archive:{}:3.10", archive.display());
    // It unpacks the archive with its owners.
    let told = Command::new("skopeo").arg("--tmpdir").arg(home.path()).args(["inspect", "--raw", &from]).ok().unwrap();
    assert_eq!(Digest::of(told.as_bytes()), world.layout.images()[pause].blobs[&Arch::Amd64][0]);
}
