//! The bundle: what a CKS ISO holds, as its manifest `cks-bundle.json` tells it.
//!
//! [`Manifest`] is the value that the builder writes, that the agent verifies every byte against and
//! that the plan is made from. A stock ISO has none; [`legacy`] derives one from its listing.

pub mod autoindex;
mod check;
pub mod elf;
pub mod layout;
pub mod legacy;
mod node;
pub mod reference;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::node::Node;
use crate::digest::Digest;
use crate::failure::{Code, Failure};

/// The manifest's path on the ISO. It sorts before every directory of the stock layout, which the
/// stock `wget -r` needs (a top-level file has to come first in the index).
pub const MANIFEST_PATH: &str = "cks-bundle.json";

/// The volume identifier that nodes of CloudStack 4.20 and later look for (`blkid LABEL=CDROM`).
pub const VOLUME_ID: &str = "CDROM";

/// The manifest format that this code writes and reads.
pub const SCHEMA: u32 = 1;

/// A manifest larger than this is refused unread: a real one has a few hundred KiB.
pub const MANIFEST_MAX_BYTES: u64 = 16 << 20;

/// The whole content of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format of this document: [`SCHEMA`].
    pub schema: u32,
    /// The build's name, for people: `v1.33.1-calico`.
    pub name: String,
    /// The Kubernetes version with its `v`, where the bundle brings one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
    /// The machine architecture that every binary and image is for.
    pub arch: Arch,
    /// Versions of what is inside, for people and for status.
    #[serde(default)]
    pub components: Vec<Component>,
    /// Reference of the sandbox (pause) image that belongs to this Kubernetes version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox_image: Option<String>,
    /// What a node needs beside files and images, where the bundle says anything.
    #[serde(default, skip_serializing_if = "Node::is_empty")]
    pub node: Node,
    /// The files of the ISO, sorted by path, without the manifest itself.
    pub entries: Vec<Entry>,
    /// The container images, sorted by reference.
    #[serde(default)]
    pub images: Vec<Image>,
    /// The content of the images, each blob once, sorted by digest.
    #[serde(default)]
    pub blobs: Vec<Blob>,
}

/// A named version: `etcd 3.5.21`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// `kubernetes`, `cni-plugins`, `cri-tools`, `etcd`, …
    pub name: String,
    /// The version as upstream writes it.
    pub version: String,
}

/// One file of the ISO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Path on the ISO, relative, `/` between the parts.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Digest of the file. Absent only in a manifest derived from a stock ISO.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// What the file is for.
    pub kind: Kind,
    /// Which roles take it.
    pub roles: BTreeSet<Role>,
    /// For a tarball: the regular files in it. Empty for anything else, and for a stock ISO.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
}

/// One regular file inside a tarball entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Path inside the tarball, normalised: no leading `./`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Permission bits as in the archive.
    pub mode: u32,
    /// Digest of the content.
    pub sha256: Digest,
}

/// A container image of the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Full reference, normalised as Docker does: `registry.k8s.io/pause:3.10`.
    pub reference: String,
    /// Digest of the image manifest: a key into [`Manifest::blobs`].
    pub digest: Digest,
    /// The image config: a key into [`Manifest::blobs`].
    pub config: Digest,
    /// The layers from the bottom up: keys into [`Manifest::blobs`].
    pub layers: Vec<Digest>,
    /// Digests of the layers uncompressed, in the same order (`rootfs.diff_ids` of the config).
    pub diff_ids: Vec<Digest>,
    /// Which roles import it.
    pub roles: BTreeSet<Role>,
    /// Whether a node can't join its cluster or start pods without it: such images are imported first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub critical: bool,
}

/// A piece of image content and where it lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blob {
    /// Digest of the bytes.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// OCI or Docker media type.
    pub media_type: String,
    /// Bytes of a layer's tar, uncompressed; absent for what is no layer, and where nobody counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpacked: Option<u64>,
    /// Where the bytes are.
    pub at: Place,
}

/// Where a blob's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Place {
    /// A contiguous range of an entry of the bundle.
    Range {
        /// Path of the entry (an image archive).
        path: String,
        /// First byte inside the entry.
        offset: u64,
    },
    /// The bytes themselves: the image manifest that is made for a docker archive, which has none.
    Inline {
        /// UTF-8 text (JSON).
        text: String,
    },
}

/// What a node is in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs the API server and its companions.
    ControlPlane,
    /// Runs workloads only.
    Worker,
    /// A member of a dedicated etcd cluster (CloudStack 4.21 and later).
    Etcd,
}

/// A machine architecture in the spelling of OCI and Go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86_64.
    Amd64,
    /// aarch64.
    Arm64,
}

/// What a file of the ISO is for; it decides where the agent puts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `k8s/kubeadm`, `k8s/kubelet`, `k8s/kubectl`.
    Kubernetes,
    /// `cni/cni-plugins-*.tgz`.
    CniPlugins,
    /// `cri-tools/crictl-*.tar.gz`.
    CriTools,
    /// `etcd/etcd-linux-*.tar.gz`.
    Etcd,
    /// `docker/*`: an image archive.
    ImageArchive,
    /// `kubelet.service`.
    KubeletUnit,
    /// `10-kubeadm.conf`.
    KubeletDropIn,
    /// A top-level `*.yaml`.
    ClusterManifest,
    /// Anything else; carried, not installed.
    Other,
}

impl Kind {
    /// Whether members of it are installed, and not itself.
    #[must_use]
    pub fn is_tarball(self) -> bool {
        matches!(self, Self::CniPlugins | Self::CriTools | Self::Etcd)
    }
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::ControlPlane, Self::Worker, Self::Etcd];

    /// The spelling of the command line and of the manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Worker => "worker",
            Self::Etcd => "etcd",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Arch {
    /// The spelling of OCI and Go.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Reads OCI's, Go's, the kernel's and CloudStack's spellings.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "amd64" | "x86_64" => Some(Self::Amd64),
            "arm64" | "aarch64" => Some(Self::Arm64),
            _ => None,
        }
    }

    /// `e_machine` of an ELF file for this architecture (ELF specification).
    #[must_use]
    pub fn elf_machine(self) -> u16 {
        match self {
            Self::Amd64 => 62,
            Self::Arm64 => 183,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Manifest {
    /// Reads `cks-bundle.json` and checks that it is consistent in itself.
    ///
    /// # Errors
    /// `MANIFEST_INVALID` names the first rule that is broken; `MANIFEST_UNSUPPORTED` a newer schema.
    pub fn parse(json: &[u8]) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Header {
            schema: u32,
        }
        let unreadable =
            |e: serde_json::Error| Failure::new(Code::ManifestInvalid, format!("reading {MANIFEST_PATH}: {e}"));
        let header: Header = serde_json::from_slice(json).map_err(unreadable)?;
        if header.schema != SCHEMA {
            return Err(Failure::new(
                Code::ManifestUnsupported,
                format!("{MANIFEST_PATH} has schema {}, this agent reads {SCHEMA}", header.schema),
            ));
        }
        let manifest: Self = serde_json::from_slice(json).map_err(unreadable)?;
        manifest.check()?;
        manifest.check_digests()?;
        Ok(manifest)
    }

    /// The text of `cks-bundle.json`: stable field order, two spaces, a final newline.
    ///
    /// # Errors
    /// Never for a manifest made of these types; the error of the JSON writer is handed on.
    pub fn to_json(&self) -> Result<String, Failure> {
        serde_json::to_string_pretty(self)
            .map(|text| text + "\n")
            .map_err(|e| Failure::new(Code::ManifestInvalid, format!("writing {MANIFEST_PATH}: {e}")))
    }

    /// The entry at `path`.
    #[must_use]
    pub fn entry(&self, path: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.path == path)
    }

    /// The blob with `digest`.
    #[must_use]
    pub fn blob(&self, digest: &Digest) -> Option<&Blob> {
        match self.blobs.binary_search_by_key(digest, |blob| blob.digest) {
            Ok(at) => self.blobs.get(at),
            Err(_) => None,
        }
    }

    /// The entries that `role` takes.
    pub fn entries_for(&self, role: Role) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.roles.contains(&role))
    }

    /// The images that `role` imports.
    pub fn images_for(&self, role: Role) -> impl Iterator<Item = &Image> {
        self.images.iter().filter(move |image| image.roles.contains(&role))
    }
}

#[cfg(test)]
mod tests;
