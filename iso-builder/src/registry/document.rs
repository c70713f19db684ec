//! Manifests, indexes and configs (OCI image spec 1.1; Docker image manifest version 2, schema 2).

use std::fmt;

use bootstrap::bundle::Arch;
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use serde::Deserialize;

use super::BlobInfo;

/// Documents larger than this are refused: containerd's own limit for manifests is 4 MiB.
pub(super) const MAX_DOCUMENT: u64 = 4 << 20;

/// Layers of one image at most: containerd and Docker stop at 127.
const MAX_LAYERS: usize = 512;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What is asked for; a registry may have either.
pub(super) const ACCEPTED: [&str; 4] = [OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST];

const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

const LAYERS: [&str; 6] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
];

/// A document under a reference or digest.
#[derive(Debug)]
pub(super) enum Document {
    /// One manifest per platform.
    Index(Vec<Descriptor>),
    /// One image.
    Image(Box<ImageManifest>),
}

/// The manifest of one image.
#[derive(Debug)]
pub(super) struct ImageManifest {
    pub(super) media_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// Where a manifest or blob is (OCI image spec, "Content Descriptors").
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    pub(super) platform: Option<Platform>,
    #[serde(default)]
    urls: Option<Vec<String>>,
}

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u64,
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(flatten)]
    platform: Platform,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

fn invalid(why: impl Into<String>) -> Failure {
    Failure::new(Code::ImageInvalid, why).with_remedy("choose another tag, or ask who publishes the image")
}

fn no_json(what: &str, error: &serde_json::Error) -> Failure {
    invalid(format!("its {what} can't be read: line {}, column {}", error.line(), error.column()))
}

impl Document {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Versioned {
            #[serde(rename = "schemaVersion")]
            schema_version: u64,
        }
        // Schema 1 has layers of another shape.
        if serde_json::from_slice::<Versioned>(bytes).is_ok_and(|found| found.schema_version == 1) {
            return Err(invalid("its manifest is of Docker's schema 1, which containerd does not take")
                .with_remedy("push the image anew with a current docker, or choose another tag"));
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(|e| no_json("manifest", &e))?;
        let media_type = raw.media_type.unwrap_or_default();
        let other = || invalid(format!("its manifest is of the type {media_type:?}, which is no image's"));
        if raw.schema_version != 2 {
            return Err(invalid(format!("its manifest has the schema version {}", raw.schema_version)));
        }
        match (raw.manifests, raw.config, raw.layers) {
            (Some(entries), None, None) => match media_type.as_str() {
                "" | OCI_INDEX | DOCKER_INDEX => Ok(Self::Index(entries)),
                _ => Err(other()),
            },
            (None, Some(config), Some(layers)) => match media_type.as_str() {
                "" | OCI_MANIFEST | DOCKER_MANIFEST => {
                    let media_type = if media_type.is_empty() { OCI_MANIFEST.to_owned() } else { media_type };
                    Ok(Self::Image(Box::new(ImageManifest { media_type, config, layers })))
                }
                _ => Err(other()),
            },
            _ => Err(other()),
        }
    }
}

impl ImageManifest {
    pub(super) fn config(&self) -> Result<BlobInfo, Failure> {
        let config = &self.config;
        if !CONFIGS.contains(&config.media_type.as_str()) {
            return Err(invalid(format!("is no container image: its config is of the type {:?}", config.media_type)));
        }
        if config.size > MAX_DOCUMENT {
            return Err(invalid(format!("its config has {} bytes, more than {MAX_DOCUMENT}", config.size)));
        }
        config.blob()
    }

    pub(super) fn layers(&self) -> Result<Vec<BlobInfo>, Failure> {
        if self.layers.len() > MAX_LAYERS {
            return Err(invalid(format!("has more than {MAX_LAYERS} layers")));
        }
        self.layers.iter().map(Descriptor::layer).collect()
    }
}

impl Descriptor {
    pub(super) fn digest(&self) -> Result<Digest, Failure> {
        // A digest of another algorithm has another length, or is none.
        let sha256 = self.digest.starts_with("sha256:").then(|| self.digest.parse().ok()).flatten();
        sha256.ok_or_else(|| invalid(format!("names content by {:?}, which is no sha256 digest", self.digest)))
    }

    fn blob(&self) -> Result<BlobInfo, Failure> {
        Ok(BlobInfo { digest: self.digest()?, size: self.size, media_type: self.media_type.clone() })
    }

    fn layer(&self) -> Result<BlobInfo, Failure> {
        let foreign = self.media_type.contains("foreign") || self.media_type.contains("nondistributable");
        if foreign || self.urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
            let why = format!("its layer {} is a foreign one, which no registry has", self.digest);
            return Err(invalid(why).with_remedy("choose an image whose layers may be distributed"));
        }
        if !LAYERS.contains(&self.media_type.as_str()) {
            return Err(invalid(format!("its layer {} is of the type {:?}", self.digest, self.media_type)));
        }
        self.blob()
    }

    fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), OCI_INDEX | DOCKER_INDEX)
    }

    /// The platform, but not that of attestations (`unknown/unknown`).
    pub(super) fn platform_shown(&self) -> Option<String> {
        let platform = self.platform.as_ref()?;
        (platform.os != "unknown").then(|| platform.to_string())
    }
}

impl Platform {
    /// Whether it is `linux/arch`, in the variant that every machine of `arch` runs.
    pub(super) fn is(&self, arch: Arch) -> bool {
        let variant = self.variant.as_deref().unwrap_or_default();
        let runs = match arch {
            Arch::Amd64 => matches!(variant, "" | "v1"),
            Arch::Arm64 => matches!(variant, "" | "v8"),
        };
        self.os == "linux" && Arch::parse(&self.architecture) == Some(arch) && runs
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |text: &str| bootstrap::text::plain(if text.is_empty() { "?" } else { text });
        write!(f, "{}/{}", or(&self.os), or(&self.architecture))?;
        match &self.variant {
            Some(variant) if !variant.is_empty() => write!(f, "/{}", or(variant)),
            _ => Ok(()),
        }
    }
}

/// The entries of an index that may lead to `arch`, the best last: those that tell so, then indexes and
/// manifests that tell no platform. Among equals the first of the index is the best.
pub(super) fn candidates(entries: Vec<Descriptor>, arch: Arch) -> Vec<Descriptor> {
    let rank = |entry: &Descriptor| match &entry.platform {
        Some(platform) if platform.is(arch) => Some(2),
        Some(_) => None,
        None if entry.is_index() => Some(1),
        None => Some(0),
    };
    let mut ranked: Vec<_> = entries.into_iter().filter_map(|entry| Some((rank(&entry)?, entry))).collect();
    ranked.reverse();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, entry)| entry).collect()
}

/// What a config tells: the platform, and the digests of `layers` uncompressed layers.
pub(super) fn config(bytes: &[u8], layers: usize) -> Result<(Platform, Vec<Digest>), Failure> {
    let Config { platform, rootfs } = serde_json::from_slice(bytes).map_err(|e| no_json("config", &e))?;
    if rootfs.diff_ids.len() != layers {
        let count = rootfs.diff_ids.len();
        return Err(invalid(format!("its config tells of {count} layers, its manifest of {layers}")));
    }
    Ok((platform, rootfs.diff_ids))
}

#[cfg(test)]
mod tests;
