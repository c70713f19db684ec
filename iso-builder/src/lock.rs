//! The lock: which bytes a spec meant when it was made. TOML for people to read in a diff; a build with it
//! takes nothing else.

pub mod changes;
mod text;

use std::collections::BTreeSet;

use bootstrap::bundle::{Arch, Component, Node, layout};
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use serde::Deserialize;

use crate::replace::{self, Replacement};

/// The lock's format.
pub const VERSION: u32 = 1;

/// The lock's path on the ISO, and its name beside the spec.
pub const LOCK_PATH: &str = "cks-iso.lock";

/// How a file was checked that nobody publishes a checksum of.
pub const UNCHECKED: &str = "none: upstream publishes no checksum";

/// What a spec meant.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lock {
    /// The format: [`VERSION`].
    pub version: u32,
    /// The build's name.
    pub name: String,
    /// The machine architecture.
    pub arch: Arch,
    /// The time that dates everything, in seconds since 1970.
    pub epoch: u64,
    /// The digest of the spec that it was made from ([`crate::spec::Spec::digest`]).
    pub spec: Digest,
    /// Versions of what is inside.
    #[serde(default)]
    pub components: Vec<Component>,
    /// What every node gets beside files.
    #[serde(default)]
    pub node: LockedNode,
    /// The files, in the order of the recipe.
    #[serde(default)]
    pub files: Vec<LockedFile>,
    /// The images of registries, sorted by reference.
    #[serde(default)]
    pub images: Vec<LockedImage>,
}

/// What every node gets beside files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedNode {
    /// Kernel settings.
    #[serde(default)]
    pub sysctl: std::collections::BTreeMap<String, String>,
    /// Arguments for `kubeadm init`.
    #[serde(default)]
    pub kubeadm_arguments: Vec<String>,
}

/// One file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedFile {
    /// What it is called in the spec: `kubernetes.kubelet`.
    pub key: String,
    /// Its path on the ISO; none for an image archive, and for what is only read.
    pub path: Option<String>,
    /// Where it came from; without user and password.
    pub url: Option<String>,
    /// The local file, as the spec names it.
    pub file: Option<String>,
    /// The local files or the directory that it is packed from, as the spec names them.
    pub packed: Option<Vec<String>>,
    /// The builder's own text.
    pub built_in: Option<String>,
    /// The digest of the Helm chart that it was rendered from; `url` or `file` is the chart's.
    pub chart: Option<Digest>,
    /// Bytes.
    pub size: u64,
    /// Digest of what is there, before anything is replaced in it.
    pub sha256: Option<Digest>,
    /// What the digest was checked against.
    pub checked: Option<String>,
    /// Texts that occur in it and are replaced, each with what takes its place.
    #[serde(default)]
    pub replaced: Vec<Replacement>,
}

/// One image of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedImage {
    /// Normalised; tag and digest as they were named.
    pub reference: String,
    /// Who names it: `kubernetes`, `network.yaml:4410`.
    pub named_by: Vec<String>,
    /// The multi-architecture index that the manifest was taken from.
    pub index: Option<Digest>,
    /// The image manifest of the architecture.
    pub manifest: LockedBlob,
    /// The image's config.
    pub config: LockedBlob,
    /// The layers from the bottom up.
    pub layers: Vec<LockedBlob>,
    /// Digests of the layers uncompressed.
    pub diff_ids: Vec<Digest>,
}

/// One blob.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedBlob {
    /// Digest.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// OCI or Docker media type.
    pub media_type: String,
}

impl Lock {
    /// Reads a lock and checks that it is consistent in itself.
    ///
    /// # Errors
    /// `LOCK_STALE` says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Header {
            version: u32,
        }
        let unreadable = |e: toml::de::Error| invalid(&format!("can't be read: {}", e.to_string().trim_end()));
        let Header { version } = toml::from_str(text).map_err(unreadable)?;
        if version != VERSION {
            let why = format!("has version {version}, this program reads {VERSION}");
            return Err(invalid(&why).with_remedy("use the cks-iso that made it, or make it again with cks-iso lock"));
        }
        let lock: Self = toml::from_str(text).map_err(unreadable)?;
        lock.check().map_err(|why| invalid(&why))?;
        Ok(lock)
    }

    /// The lock as text: stable order, one value per line where lists grow.
    #[must_use]
    pub fn to_text(&self) -> String {
        text::of(self)
    }

    /// The file called `key`.
    #[must_use]
    pub fn file(&self, key: &str) -> Option<&LockedFile> {
        self.files.iter().find(|file| file.key == key)
    }

    /// What every node gets beside files.
    #[must_use]
    pub fn node(&self) -> Node {
        let LockedNode { sysctl, kubeadm_arguments } = self.node.clone();
        Node { sysctl, kubeadm_arguments }
    }

    fn check(&self) -> Result<(), String> {
        crate::spec::check_name(&self.name).map_err(|failure| failure.what)?;
        if self.epoch > crate::spec::MAX_EPOCH {
            return Err(format!("epoch: at most {}", crate::spec::MAX_EPOCH));
        }
        self.node().check()?;
        let (mut keys, mut paths) = (BTreeSet::new(), BTreeSet::new());
        for file in &self.files {
            file.check().map_err(|why| format!("{}: {why}", file.key))?;
            if !keys.insert(&file.key) {
                return Err(format!("{}: stands twice", file.key));
            }
            if file.path.as_ref().is_some_and(|path| !paths.insert(path)) {
                return Err(format!("{}: its path stands twice", file.key));
            }
        }
        let mut references = BTreeSet::new();
        for image in &self.images {
            image.check().map_err(|why| format!("image {:?}: {why}", image.reference))?;
            if !references.insert(&image.reference) {
                return Err(format!("image {:?}: stands twice", image.reference));
            }
        }
        Ok(())
    }
}

impl LockedFile {
    fn check(&self) -> Result<(), String> {
        let origins = [self.url.is_some(), self.file.is_some(), self.packed.is_some(), self.built_in.is_some()];
        if origins.iter().filter(|there| **there).count() != 1 {
            return Err("has to have one of url, file, packed and built-in".to_owned());
        }
        if self.sha256.is_none() {
            return Err("has no sha256".to_owned());
        }
        if self.chart.is_some() && self.url.is_none() && self.file.is_none() {
            return Err("has a chart without url and file".to_owned());
        }
        replace::check(&self.replaced).map_err(str::to_owned)?;
        if let Some(path) = &self.path {
            layout::check_path(path).map_err(|reason| format!("path {path:?} {reason}"))?;
        }
        match self.url.as_deref().map(url::Url::parse) {
            Some(Ok(url)) if !matches!(url.scheme(), "http" | "https") => Err("its url is no http".to_owned()),
            Some(Ok(url)) if !url.username().is_empty() || url.password().is_some() => {
                Err("its url has a user".to_owned())
            }
            Some(Err(e)) => Err(format!("its url: {e}")),
            _ => Ok(()),
        }
    }
}

impl LockedImage {
    fn check(&self) -> Result<(), String> {
        layout::check_reference(&self.reference).map_err(str::to_owned)?;
        if layout::normalise_reference(&self.reference) != self.reference {
            return Err("is not written out".to_owned());
        }
        if self.layers.len() != self.diff_ids.len() {
            return Err(format!("has {} layers and {} diff-ids", self.layers.len(), self.diff_ids.len()));
        }
        if let Some((_, digest)) = self.reference.split_once('@') {
            let held = [Some(self.manifest.digest), self.index].into_iter().flatten();
            if !held.into_iter().any(|held| held.to_string() == digest) {
                return Err("neither its index nor its manifest has the digest that it names".to_owned());
            }
        }
        Ok(())
    }
}

fn invalid(why: &str) -> Failure {
    Failure::new(Code::LockStale, format!("the lock {why}")).with_remedy("make it again: cks-iso lock SPEC")
}

#[cfg(test)]
mod tests;
