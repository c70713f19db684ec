//! Images as upstream's registries hold them: a multi-arch index for each, layers that several share.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bootstrap::bundle::Arch;
use bootstrap::digest::Digest;
use serde_json::{Value, json};

use crate::process::Command;
use crate::tarball::{Tarball, gzip, save};
use crate::{images, small};

/// The architectures of everything that is published.
pub const ARCHES: [Arch; 2] = [Arch::Amd64, Arch::Arm64];

/// An OCI layout that grows image by image, for `skopeo copy oci:`.
#[derive(Debug)]
pub struct Layout {
    /// Its directory.
    pub directory: PathBuf,
    images: BTreeMap<String, Published>,
    base: BTreeMap<Arch, Vec<u8>>,
}

/// One image of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Full reference with a tag: `registry.k8s.io/pause:3.10`.
    pub reference: String,
    /// The index, as registries know it: what `name@sha256:…` means.
    pub index: Digest,
    /// The manifest, config and layers of each architecture, manifest first.
    pub blobs: BTreeMap<Arch, Vec<Digest>>,
}

impl Layout {
    /// An empty one in `directory`.
    ///
    /// # Errors
    /// Without a C compiler: a layer that all images share holds a program.
    pub fn new(directory: &Path) -> Result<Self> {
        save(&directory.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        fs::create_dir_all(directory.join("blobs/sha256")).context("Making an OCI layout")?;
        let pause = images::pause("pause:1")?;
        let base = |arch| -> Result<_> {
            let program = small::program_for(&pause, arch, "base")?;
            let layer = Tarball::default().directory("bin/").file("bin/base", 0o755, program);
            Ok((arch, gzip(&layer.finish()?)?))
        };
        let base = ARCHES.into_iter().map(base).collect::<Result<_>>()?;
        Ok(Self { directory: directory.to_owned(), images: BTreeMap::new(), base })
    }

    /// Adds an image: the shared layer, and one of `size` bytes that no compressor shrinks.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn add(&mut self, reference: &str, size: usize) -> Result<Published> {
        let mut blobs = BTreeMap::new();
        let mut manifests = Vec::new();
        for arch in ARCHES {
            let mark = format!("{reference} {arch}\n");
            let seed = Digest::of(mark.as_bytes()).hex();
            let noise = images::noise(size, u64::from_str_radix(&seed[..16], 16).context("Choosing a seed")?);
            let mark = Tarball::default().file("reference", 0o644, mark);
            let own = mark.file("noise", 0o644, noise).finish()?;
            let base = self.base.get(&arch).context("An architecture without a base layer")?.clone();
            let (described, digests) = self.image(arch, &[base, gzip(&own)?])?;
            manifests.push(described);
            blobs.insert(arch, digests);
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
        });
        let index = self.keep(index.to_string().as_bytes())?;
        let published = Published { reference: reference.to_owned(), index, blobs };
        self.images.insert(reference.to_owned(), published.clone());
        self.write_index()?;
        Ok(published)
    }

    /// Everything that was added, by reference.
    #[must_use]
    pub fn images(&self) -> &BTreeMap<String, Published> {
        &self.images
    }

    fn image(&self, arch: Arch, layers: &[Vec<u8>]) -> Result<(Value, Vec<Digest>)> {
        let mut diff_ids = Vec::new();
        let mut described = Vec::new();
        let mut digests = Vec::new();
        for layer in layers {
            let mut plain = Vec::new();
            std::io::copy(&mut flate2::read::GzDecoder::new(layer.as_slice()), &mut plain).context("Inflating")?;
            diff_ids.push(Digest::of(&plain).to_string());
            digests.push(self.keep(layer)?);
            described.push(descriptor("layer.v1.tar+gzip", layer));
        }
        let config = json!({
            "architecture": arch.to_string(),
            "os": "linux",
            "config": { "Entrypoint": ["/bin/base"] },
            "created": "1970-01-01T00:00:00Z",
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = config.to_string().into_bytes();
        digests.insert(0, self.keep(&config)?);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("config.v1+json", &config),
            "layers": described,
        });
        let manifest = manifest.to_string().into_bytes();
        digests.insert(0, self.keep(&manifest)?);
        let mut described = descriptor("manifest.v1+json", &manifest);
        described["platform"] = json!({ "architecture": arch.to_string(), "os": "linux" });
        Ok((described, digests))
    }

    fn keep(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        save(&self.directory.join("blobs/sha256").join(digest.hex()), bytes)?;
        Ok(digest)
    }

    fn write_index(&self) -> Result<()> {
        let manifests: Result<Vec<Value>> = self
            .images
            .values()
            .map(|image| {
                let path = self.directory.join("blobs/sha256").join(image.index.hex());
                let bytes = fs::read(&path).with_context(|| format!("Reading {}", path.display()))?;
                let mut described = descriptor("index.v1+json", &bytes);
                described["annotations"] = json!({ "org.opencontainers.image.ref.name": image.reference });
                Ok(described)
            })
            .collect();
        let index = json!({ "schemaVersion": 2, "manifests": manifests? });
        save(&self.directory.join("index.json"), index.to_string().as_bytes())
    }
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    let media_type = format!("application/vnd.oci.image.{kind}");
    json!({ "mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len() })
}

/// `skopeo`, without the rights and without the caches of the user that runs the tests.
///
/// `home` is a directory that belongs to the user 1000.
#[must_use]
pub fn skopeo(home: &Path) -> Command {
    let skopeo = Command::new("skopeo").arg("--insecure-policy").arg("--tmpdir").arg(home);
    let skopeo = skopeo
        .under("env", ["XDG_RUNTIME_DIR", "XDG_DATA_HOME", "HOME"].map(|name| format!("{name}={}", home.display())));
    skopeo.under("setpriv", ["--reuid=1000", "--regid=1000", "--clear-groups"])
}
