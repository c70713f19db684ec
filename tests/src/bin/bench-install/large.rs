//! The agent's memory beside an ISO of 8 GB: an image with one layer of 3 GB, and a tarball that the role has
//! no use for. Both are holes, so that the disk holds only what the node gets of them.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use bootstrap::bundle::Role;
use bootstrap::digest::{Digest, Hasher};
use serde_json::json;

use crate::rounds::{Case, Results, Way};
use crate::way::Site;

/// Bytes of the one file in the layer.
const FILE: u64 = 3 << 30;
/// Bytes of the tarball that nobody reads.
const UNREAD: u64 = 5 << 30;

/// What a worker takes besides images.
const PARTS: [&str; 7] = [
    "k8s/kubeadm",
    "k8s/kubelet",
    "k8s/kubectl",
    "cni/cni-plugins-linux-amd64.tgz",
    "cri-tools/crictl-linux-amd64.tar.gz",
    "kubelet.service",
    "10-kubeadm.conf",
];

/// Installs a worker from such an ISO, with the other parts of `stock`.
pub(crate) fn measure(stock: &Path, containerd: &str, results: &mut Results) -> Result<()> {
    let work = cks_tests::scratch("bench-install")?;
    let tree = work.path().join("tree");
    for part in PARTS.into_iter().chain(["docker/pause:3.10.tar"]) {
        let to = tree.join(part);
        fs::create_dir_all(to.parent().unwrap_or(&tree)).with_context(|| format!("Making room for {part}"))?;
        fs::copy(stock.join(part), &to).with_context(|| format!("Copying {part}"))?;
    }
    fs::create_dir_all(tree.join("etcd")).context("Making a directory")?;
    let unread = File::create(tree.join("etcd/etcd-linux-amd64.tar.gz")).and_then(|file| file.set_len(UNREAD));
    unread.context("Making a large file")?;
    archive(&tree.join("docker/large:1.tar")).context("Making a large image")?;
    let case = Case::new(Role::Worker, None, Some(containerd))?;
    let site = Site::new(&tree, None)?;
    let runs = site.ours(case.role, case.programs.as_deref()).context("Installing from an ISO of 8 GB")?;
    results.add(&case, Way::Large, None, runs.first);
    Ok(())
}

/// An OCI archive of one image with one uncompressed layer, which has one file of zeros.
fn archive(path: &Path) -> Result<()> {
    let inner = header("large", FILE)?;
    // A tar ends with two empty blocks.
    let size = inner.as_bytes().len() as u64 + FILE + 1024;
    let layer = zeros_after(inner.as_bytes(), size);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [layer] },
    })
    .to_string();
    let described = |kind: &str, digest: &Digest, size: usize| json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": size });
    let config_digest = Digest::of(config.as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described("config.v1+json", &config_digest, config.len()),
        "layers": [described("layer.v1.tar", &layer, usize::try_from(size)?)],
    })
    .to_string();
    let manifest_digest = Digest::of(manifest.as_bytes());
    let reference = "registry.example.org/large:1";
    let mut listed = described("manifest.v1+json", &manifest_digest, manifest.len());
    listed["annotations"] = json!({ "io.containerd.image.name": reference, "org.opencontainers.image.ref.name": "1" });
    let index = json!({ "schemaVersion": 2, "manifests": [listed] }).to_string();
    let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    let docker =
        json!([{ "Config": blob(&config_digest), "RepoTags": [reference], "Layers": [blob(&layer)] }]).to_string();
    let files = [
        (blob(&config_digest), config),
        (blob(&manifest_digest), manifest),
        ("index.json".to_owned(), index),
        ("manifest.json".to_owned(), docker),
        ("oci-layout".to_owned(), r#"{"imageLayoutVersion":"1.0.0"}"#.to_owned()),
    ];
    let mut file = File::create(path)?;
    for (name, text) in &files {
        file.write_all(header(name, text.len() as u64)?.as_bytes())?;
        file.write_all(text.as_bytes())?;
        file.seek(SeekFrom::Current((text.len().next_multiple_of(512) - text.len()) as i64))?;
    }
    file.write_all(header(&blob(&layer), size)?.as_bytes())?;
    file.write_all(inner.as_bytes())?;
    let end = file.stream_position()? + size - inner.as_bytes().len() as u64 + 1024;
    file.set_len(end)?;
    Ok(())
}

fn header(name: &str, size: u64) -> Result<tar::Header> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).with_context(|| format!("Naming {name}"))?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(1_700_000_000);
    header.set_cksum();
    Ok(header)
}

/// The digest of `head` with zeros behind it, `size` bytes in all.
fn zeros_after(head: &[u8], size: u64) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(head);
    let (zeros, mut left) = (vec![0; 1 << 20], size - head.len() as u64);
    while left > 0 {
        let count = left.min(1 << 20);
        hasher.update(&zeros[..count as usize]);
        left -= count;
    }
    hasher.finish()
}
