//! Volumes on this node: what stage, publish, expand and their opposites do, as blocking steps one after the other.
//!
//! Each first looks whether the world already is as it is asked to be, and what it looks at is the kernel: the disk's own
//! serial, the mount table, device-mapper. Nothing is remembered but that a filesystem or a LUKS header is being made
//! ([`intent`]).

mod crypt;
pub mod devices;
mod expand;
mod format;
mod grow;
mod intent;
mod listing;
pub mod locks;
pub mod mapping;
pub mod mounts;
mod publish;
mod stage;
mod stats;
mod unlock;
mod wait;

use std::path::PathBuf;
use std::time::Duration;

use bootstrap::secret::Secret;
use bootstrap::volume::filesystem::Kind;
use bootstrap::volume::options::MountOptions;
use bootstrap::volume::refusal::{Class, Refusal};
use bootstrap::volume::{Serial, VolumeId};

pub use self::listing::{Found, list};
pub use self::stats::{Condition, Usage};
use crate::host::Host;

/// How a volume is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// As a filesystem.
    Filesystem {
        /// Its kind; where nothing is said, the one that is there, or the settings' for a new one.
        kind: Option<Kind>,
        /// How it is mounted.
        options: MountOptions,
    },
    /// As a block device.
    Block,
}

/// By whom it is used at once, on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `SINGLE_NODE_WRITER`: Kubernetes' ReadWriteOnce before it knew the next two; any number of pods.
    SingleNodeWriter,
    /// `SINGLE_NODE_SINGLE_WRITER`: one target path.
    SingleNodeSingleWriter,
    /// `SINGLE_NODE_MULTI_WRITER`.
    SingleNodeMultiWriter,
    /// `SINGLE_NODE_READER_ONLY`, `MULTI_NODE_READER_ONLY`.
    ReaderOnly,
}

/// `NodeStageVolume`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The volume.
    pub id: VolumeId,
    /// Where its filesystem is to be mounted; the caller has made the directory.
    pub staging: PathBuf,
    /// What it is used as.
    pub access: Access,
    /// By whom.
    pub mode: Mode,
    /// Further arguments for mkfs, checked.
    pub mkfs: Vec<String>,
    /// What it is encrypted with; none for a volume that is not.
    pub passphrase: Option<Secret>,
}

/// `NodePublishVolume`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The volume.
    pub id: VolumeId,
    /// Where the pod finds it; is made.
    pub target: PathBuf,
    /// Where it is staged.
    pub staging: PathBuf,
    /// What it is used as.
    pub access: Access,
    /// By whom.
    pub mode: Mode,
    /// Whether this pod may only read.
    pub read_only: bool,
    /// Whether it is encrypted.
    pub encrypted: bool,
}

/// `NodeUnstageVolume` and `NodeUnpublishVolume`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdraw {
    /// The volume.
    pub id: VolumeId,
    /// Where it is to be no more.
    pub path: PathBuf,
}

/// `NodeGetVolumeStats`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// The volume.
    pub id: VolumeId,
    /// Where it is said to be.
    pub path: PathBuf,
}

/// `NodeExpandVolume`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expand {
    /// The volume.
    pub id: VolumeId,
    /// Where it is staged or published.
    pub path: PathBuf,
    /// How many bytes it has to have; 0 where nothing is said.
    pub required: u64,
}

/// What an operator settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long a disk may take to appear after it was attached.
    pub attach_wait: Duration,
    /// The kind of a new filesystem where nobody says one.
    pub filesystem: Kind,
}

/// The volumes of a machine.
#[derive(Debug, Clone)]
pub struct Volumes {
    host: Host,
    settings: Settings,
}

impl Volumes {
    /// Those of `host`. What a killed agent left half-made is removed.
    ///
    /// # Errors
    /// `IO`.
    pub fn of(host: Host, settings: Settings) -> Result<Self, Refusal> {
        mounts::open_workshop(&host)?;
        Ok(Self { host, settings })
    }

    /// The machine.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }
}

/// The serial of the volume's disk.
fn serial(id: &VolumeId) -> Result<Serial, Refusal> {
    id.serial().ok_or_else(|| {
        Refusal::new(
            Class::VolumeNotFound,
            format!("{id} is no UUID, as CloudStack's volumes have; there is no such volume"),
        )
    })
}
