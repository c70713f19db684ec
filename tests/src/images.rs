//! Image archives with real content, as the two tools write them that fill CKS ISOs: `docker save`
//! (CloudStack before 4.16.1) and `ctr image export` (since).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bootstrap::bundle::layout;
use bootstrap::digest::Digest;
use serde_json::{Value, json};

use crate::process::Command;
use crate::programs::fixture;
use crate::tarball::{Tarball, gzip, save};

/// A container image: a reference and layers from the bottom up.
#[derive(Debug, Clone)]
pub struct Image {
    /// Full reference: `registry.k8s.io/pause:3.10`.
    pub reference: String,
    /// What it runs.
    pub entrypoint: Vec<String>,
    /// The layers, uncompressed tars.
    pub layers: Vec<Arc<Vec<u8>>>,
}

/// The layout of an image archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `docker save`: `manifest.json`, `<id>.json`, `<id>/layer.tar`; layers uncompressed.
    DockerSave,
    /// `ctr image export`: OCI layout with `manifest.json`; layers gzip'd.
    CtrExport,
    /// `docker save` of an image that BuildKit built (Docker 25 and later with containerd's image store): an
    /// OCI layout whose index names another index, and that the image and what attests how it was built.
    BuildKit,
}

impl Image {
    /// `reference` with these layers.
    pub fn new(reference: &str, entrypoint: &[&str], layers: Vec<Arc<Vec<u8>>>) -> Self {
        let entrypoint = entrypoint.iter().map(|&word| word.to_owned()).collect();
        Self { reference: reference.to_owned(), entrypoint, layers }
    }

    /// The file name that the stock script gives the archive: `pause:3.10.tar`.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.tar", self.reference.rsplit('/').next().unwrap_or(&self.reference))
    }

    /// Writes the archive into `directory` under its stock name and gives its path.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn archive(&self, format: Format, directory: &Path) -> Result<PathBuf> {
        let path = directory.join(self.file_name());
        let bytes = match format {
            Format::DockerSave => self.docker_save()?,
            Format::CtrExport => self.oci_layout(false)?,
            Format::BuildKit => self.oci_layout(true)?,
        };
        save(&path, &bytes)?;
        Ok(path)
    }

    fn config(&self) -> Vec<u8> {
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
        let config = json!({
            "architecture": own_arch(),
            "config": { "Entrypoint": self.entrypoint, "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"] },
            "created": "1970-01-01T00:00:00Z",
            "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        config.to_string().into_bytes()
    }

    fn docker_save(&self) -> Result<Vec<u8>> {
        let config = self.config();
        let config_name = format!("{}.json", Digest::of(&config).hex());
        let mut tar = Tarball::default();
        let mut names = Vec::new();
        for layer in &self.layers {
            let id = Digest::of(layer).hex();
            let name = format!("{id}/layer.tar");
            tar = tar.directory(&format!("{id}/")).file(&format!("{id}/VERSION"), 0o644, "1.0");
            tar = tar.file(&name, 0o644, layer.as_slice());
            names.push(name);
        }
        let manifest = json!([{ "Config": config_name, "RepoTags": [self.reference], "Layers": names }]);
        tar.file(&config_name, 0o644, config).file("manifest.json", 0o644, manifest.to_string()).finish()
    }

    fn oci_layout(&self, with_attestation: bool) -> Result<Vec<u8>> {
        let path_of = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
        let config = self.config();
        let layers = self.layers.iter().map(|layer| gzip(layer)).collect::<Result<Vec<_>>>()?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", &config),
            "layers": layers.iter().map(|layer| descriptor("layer.v1.tar+gzip", layer)).collect::<Vec<_>>(),
        })
        .to_string()
        .into_bytes();
        let mut named = descriptor("manifest.v1+json", &manifest);
        let mut attached = Vec::new();
        if with_attestation {
            attached = attested(named);
            named = descriptor("index.v1+json", &attached[0]);
        }
        named["annotations"] = json!({
            "io.containerd.image.name": self.reference,
            "org.opencontainers.image.ref.name": layout::tag(&self.reference).unwrap_or("latest"),
        });
        let index = json!({ "schemaVersion": 2, "manifests": [named] });
        let docker = json!([{
            "Config": path_of(&Digest::of(&config)),
            "RepoTags": [self.reference],
            "Layers": layers.iter().map(|layer| path_of(&Digest::of(layer))).collect::<Vec<_>>(),
        }]);
        let all = layers.into_iter().chain([config, manifest]).chain(attached);
        let mut blobs: Vec<(String, Vec<u8>)> = all.map(|blob| (path_of(&Digest::of(&blob)), blob)).collect();
        blobs.sort();
        blobs.dedup();
        let tar = Tarball::default().directory("blobs/").directory("blobs/sha256/");
        let tar = blobs.into_iter().fold(tar, |tar, (path, blob)| tar.file(&path, 0o444, blob));
        tar.file("index.json", 0o444, index.to_string())
            .file("manifest.json", 0o444, docker.to_string())
            .file("oci-layout", 0o444, r#"{"imageLayoutVersion":"1.0.0"}"#)
            .finish()
    }
}

/// In OCI's spelling.
fn own_arch() -> String {
    std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64")
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    let media_type = format!("application/vnd.oci.image.{kind}");
    json!({ "mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len() })
}

/// BuildKit's index of an image and its attestation, and the blobs of the latter.
fn attested(mut image: Value) -> Vec<Vec<u8>> {
    let statement = json!({ "_type": "https://in-toto.io/Statement/v0.1", "subject": [] }).to_string().into_bytes();
    let config = json!({
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&statement).to_string()] },
    });
    let config = config.to_string().into_bytes();
    let mut layer = descriptor("", &statement);
    layer["mediaType"] = "application/vnd.in-toto+json".into();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", &config),
        "layers": [layer],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut attestation = descriptor("manifest.v1+json", &manifest);
    attestation["annotations"] = json!({
        "vnd.docker.reference.digest": image["digest"],
        "vnd.docker.reference.type": "attestation-manifest",
    });
    attestation["platform"] = json!({ "architecture": "unknown", "os": "unknown" });
    image["platform"] = json!({ "architecture": own_arch(), "os": "linux" });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [image, attestation],
    });
    vec![index.to_string().into_bytes(), manifest, config, statement]
}

/// `pause`, compiled here from `tests/fixtures/pause.c`: one static program in one layer.
///
/// # Errors
/// Without a C compiler.
pub fn pause(reference: &str) -> Result<Image> {
    let directory = crate::scratch("pause")?;
    let program = directory.path().join("pause");
    Command::new("gcc").args(["-Os", "-static", "-s", "-o"]).arg(&program).arg(fixture("pause.c")).ok()?;
    let layer = Tarball::default().program("pause", &program)?.finish()?;
    Ok(Image::new(reference, &["/pause"], vec![Arc::new(layer)]))
}

/// The distribution's static busybox; the layer that [`etcd`] stands on too.
///
/// # Errors
/// Without the package busybox-static.
pub fn busybox(reference: &str) -> Result<Image> {
    Ok(Image::new(reference, &["sh"], vec![Arc::new(busybox_layer()?)]))
}

/// The distribution's etcd and etcdctl, with the libraries they want, on busybox.
///
/// # Errors
/// Without the packages etcd-server, etcd-client and busybox-static.
pub fn etcd(reference: &str) -> Result<Image> {
    let (etcd, etcdctl) = (Path::new("/usr/bin/etcd"), Path::new("/usr/bin/etcdctl"));
    let mut tar = Tarball::default().directory("usr/").directory("usr/local/").directory("usr/local/bin/");
    tar = tar.program("usr/local/bin/etcd", etcd)?.program("usr/local/bin/etcdctl", etcdctl)?;
    for library in libraries(etcd)? {
        let inside = library.strip_prefix("/").unwrap_or(&library).to_string_lossy().into_owned();
        tar = tar.program(&inside, &library)?;
    }
    let layers = vec![Arc::new(busybox_layer()?), Arc::new(tar.finish()?)];
    Ok(Image::new(reference, &["etcd"], layers))
}

/// An image of one layer with `size` bytes that no compressor shrinks, the same for the same `seed`.
///
/// # Errors
/// When the tar can't be made.
pub fn incompressible(reference: &str, size: usize, seed: u64) -> Result<Image> {
    let layer = Tarball::default().file("noise", 0o644, noise(size, seed)).finish()?;
    Ok(Image::new(reference, &["/noise"], vec![Arc::new(layer)]))
}

/// `size` bytes of xorshift64*; `seed` 0 counts as 1, which that generator needs.
#[must_use]
pub fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.max(1);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

fn busybox_layer() -> Result<Vec<u8>> {
    let tar = Tarball::default().directory("bin/").program("bin/busybox", Path::new("/bin/busybox"))?;
    ["cat", "ls", "sh", "sleep"].iter().fold(tar, |tar, name| tar.symlink(&format!("bin/{name}"), "busybox")).finish()
}

/// The shared libraries of a program, as the loader finds them.
pub(crate) fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let told = Command::new("ldd")
        .arg(program)
        .ok()
        .with_context(|| format!("Asking for the libraries of {}", program.display()))?;
    let paths = told.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}
