//! What a machine is like now, in as far as a plan depends on it.

use std::collections::{BTreeMap, BTreeSet};

use crate::bundle::Arch;
use crate::digest::Digest;

/// What was seen on the machine. Paths are absolute as the node sees them, without any root prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The machine's architecture.
    pub arch: Arch,
    /// Regular files that a plan may want: path → content.
    pub files: BTreeMap<String, FileFact>,
    /// Symbolic links: path → target.
    pub links: BTreeMap<String, String>,
    /// Paths of wanted links where something else stands that works, while the link would lead nowhere until
    /// another version is current.
    pub until_switch: BTreeSet<String>,
    /// Links of ours that are not wanted and that would lead nowhere in the wanted version.
    pub stale_links: BTreeSet<String>,
    /// Small text files: path → text.
    pub texts: BTreeMap<String, String>,
    /// The filesystem of the version directories.
    pub filesystem: Option<Filesystem>,
    /// Bytes that an earlier run left on that filesystem and that this one goes on with.
    pub kept_bytes: u64,
    /// containerd, where it answers.
    pub containerd: Option<ContainerdFact>,
    /// The filesystem that containerd keeps its content on.
    pub content_filesystem: Option<Filesystem>,
    /// The filesystem that containerd's snapshotter keeps unpacked layers on.
    pub snapshot_filesystem: Option<Filesystem>,
    /// Images of the namespace `k8s.io`: reference → what is there.
    pub images: BTreeMap<String, ImageFact>,
    /// Blobs of the bundle that the content store holds whole; of an image that is unpacked, its manifest and
    /// its config only.
    pub blobs: BTreeSet<Digest>,
    /// Bytes of blobs that an earlier run began with in the content store and that this one goes on with.
    pub begun_bytes: u64,
}

impl Facts {
    /// An empty machine of this architecture.
    #[must_use]
    pub fn empty(arch: Arch) -> Self {
        Self {
            arch,
            files: BTreeMap::new(),
            links: BTreeMap::new(),
            until_switch: BTreeSet::new(),
            stale_links: BTreeSet::new(),
            texts: BTreeMap::new(),
            filesystem: None,
            kept_bytes: 0,
            containerd: None,
            content_filesystem: None,
            snapshot_filesystem: None,
            images: BTreeMap::new(),
            blobs: BTreeSet::new(),
            begun_bytes: 0,
        }
    }
}

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFact {
    /// Digest of the content.
    pub sha256: Digest,
    /// Permission bits.
    pub mode: u32,
}

/// A filesystem and the room on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    /// Where it is mounted, for messages.
    pub path: String,
    /// `st_dev`: two directories with the same number share their room.
    pub device: u64,
    /// Bytes that may still be written.
    pub free_bytes: u64,
}

/// A containerd that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerdFact {
    /// Its version: `1.6.20~ds1`.
    pub version: String,
}

/// An image that containerd has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFact {
    /// Digest of its manifest.
    pub digest: Digest,
    /// Labels of the image record.
    pub labels: BTreeMap<String, String>,
    /// Whether its manifest, its config and its top layer's snapshot are there. Layers themselves need not
    /// be: containerd may discard them once they are unpacked (`discard_unpacked_layers`).
    pub unpacked: bool,
}
