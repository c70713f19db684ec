//! Why something is not done with a volume: a class that is stable, what it is about, what to do.

use std::fmt;

/// The class of a refusal. The spelling of [`Class::as_str`] is part of the interface: messages, metrics, `docs/errors.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A field of the request is missing, or makes no sense.
    RequestInvalid,
    /// The request makes sense, and this plugin does not have what it asks for.
    CapabilityUnsupported,
    /// There is no such volume, or it is not at that path.
    VolumeNotFound,
    /// No disk of the machine is the volume's.
    VolumeNotAttached,
    /// Several disks say that they are the volume's.
    VolumeAmbiguous,
    /// Another operation works on it.
    VolumeBusy,
    /// Something still uses it.
    VolumeInUse,
    /// It is staged or published already, in another way.
    VolumeIncompatible,
    /// It is not staged where it is said to be.
    VolumeNotStaged,
    /// The disk holds something that is no filesystem.
    DiskNotBlank,
    /// The disk can't be read.
    DiskUnreadable,
    /// It is not the disk any more that it was a moment ago.
    DiskChanged,
    /// The disk has another filesystem than the one that is asked for.
    FilesystemMismatch,
    /// There is no such filesystem here.
    FilesystemUnsupported,
    /// The filesystem has errors that can't be repaired without a decision.
    FilesystemDamaged,
    /// The disk is smaller than what is required.
    DeviceTooSmall,
    /// The filesystem can't be made.
    MkfsFailed,
    /// The filesystem can't be mounted.
    MountFailed,
    /// The filesystem can't be grown.
    GrowFailed,
    /// The passphrase does not open the volume.
    EncryptionKeyRefused,
    /// The node lacks what decrypts volumes.
    EncryptionUnavailable,
    /// cryptsetup fails.
    EncryptionFailed,
    /// Somebody did not answer in time.
    TimedOut,
    /// The node lacks something without which no volume can be served.
    NodeNotReady,
    /// Too much is at work.
    Overloaded,
    /// The operating system refuses.
    Io,
}

/// Spelling, remedy.
type Row = (&'static str, &'static str);

impl Class {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::RequestInvalid,
        Self::CapabilityUnsupported,
        Self::VolumeNotFound,
        Self::VolumeNotAttached,
        Self::VolumeAmbiguous,
        Self::VolumeBusy,
        Self::VolumeInUse,
        Self::VolumeIncompatible,
        Self::VolumeNotStaged,
        Self::DiskNotBlank,
        Self::DiskUnreadable,
        Self::DiskChanged,
        Self::FilesystemMismatch,
        Self::FilesystemUnsupported,
        Self::FilesystemDamaged,
        Self::DeviceTooSmall,
        Self::MkfsFailed,
        Self::MountFailed,
        Self::GrowFailed,
        Self::EncryptionKeyRefused,
        Self::EncryptionUnavailable,
        Self::EncryptionFailed,
        Self::TimedOut,
        Self::NodeNotReady,
        Self::Overloaded,
        Self::Io,
    ];

    /// Its spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// What to do.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> Row {
        match self {
            Self::RequestInvalid => ("REQUEST_INVALID", "correct the named field: the StorageClass, or the caller"),
            Self::CapabilityUnsupported => ("CAPABILITY_UNSUPPORTED", "ask for what docs/csi.md lists"),
            Self::VolumeNotFound => ("VOLUME_NOT_FOUND", "see where it is: cks-agent volumes"),
            Self::VolumeNotAttached => {
                ("VOLUME_NOT_ATTACHED", "see whether CloudStack has attached it to this instance")
            }
            Self::VolumeAmbiguous => ("VOLUME_AMBIGUOUS", "detach the disk that is not the volume's"),
            Self::VolumeBusy => ("VOLUME_BUSY", "nothing; the caller tries again"),
            Self::VolumeInUse => ("VOLUME_IN_USE", "end what is named, then the caller's next try succeeds"),
            Self::VolumeIncompatible => ("VOLUME_INCOMPATIBLE", "see what is there: cks-agent volumes; drain the pod"),
            Self::VolumeNotStaged => ("VOLUME_NOT_STAGED", "nothing where kubelet calls; else stage it first"),
            Self::DiskNotBlank => ("DISK_NOT_BLANK", "look at what it holds; to give it up: wipefs --all, blkdiscard"),
            Self::DiskUnreadable => ("DISK_UNREADABLE", "look at the disk's storage; the kernel's log tells more"),
            Self::DiskChanged => ("DISK_CHANGED", "nothing; the caller tries again"),
            Self::FilesystemMismatch => ("FILESYSTEM_MISMATCH", "ask for the filesystem that the volume has"),
            Self::FilesystemUnsupported => ("FILESYSTEM_UNSUPPORTED", "ask for ext4, ext3, xfs or btrfs"),
            Self::FilesystemDamaged => {
                ("FILESYSTEM_DAMAGED", "take a snapshot of the volume, then run the check by hand")
            }
            Self::DeviceTooSmall => ("DEVICE_TOO_SMALL", "see whether CloudStack has resized the volume"),
            Self::MkfsFailed => ("MKFS_FAILED", "look at what mkfs said; check the StorageClass' mkfs-options"),
            Self::MountFailed => ("MOUNT_FAILED", "check the mount options; the kernel's log tells more"),
            Self::GrowFailed => {
                ("GROW_FAILED", "look at what the program said; what is staged stays usable in its old size")
            }
            Self::EncryptionKeyRefused => {
                ("ENCRYPTION_KEY_REFUSED", "see which secret the StorageClass names, and that it is the volume's")
            }
            Self::EncryptionUnavailable => (
                "ENCRYPTION_UNAVAILABLE",
                "install cryptsetup (cryptsetup-bin on Debian) on the node, and load dm_crypt: modprobe dm_crypt",
            ),
            Self::EncryptionFailed => {
                ("ENCRYPTION_FAILED", "look at what cryptsetup said; the kernel's log tells more")
            }
            Self::TimedOut => ("TIMED_OUT", "look at the volume's storage; the kernel's log tells more"),
            Self::NodeNotReady => ("NODE_NOT_READY", "add what is named to the node"),
            Self::Overloaded => ("OVERLOADED", "nothing; the caller tries again"),
            Self::Io => ("IO", "look at what the operating system said"),
        }
    }
}

/// Something that is not done, and nothing is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its class.
    pub class: Class,
    /// What it is about.
    pub what: String,
    /// What caused it.
    pub cause: Option<String>,
}

impl Refusal {
    /// A refusal of `class`, about `what`.
    #[must_use]
    pub fn new(class: Class, what: impl Into<String>) -> Self {
        Self { class, what: what.into(), cause: None }
    }

    /// The same, caused by `source`.
    #[must_use]
    pub fn with_source(mut self, source: impl fmt::Display) -> Self {
        self.cause = Some(source.to_string());
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { class, what, cause } = self;
        let text = cause.as_ref().map_or_else(|| what.clone(), |cause| format!("{what}: {cause}"));
        write!(f, "{}: {}; remedy: {}", class.as_str(), crate::text::plain(&text), class.remedy())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_catalogue_has_every_class_and_no_other() {
        let catalogue = include_str!("../../../docs/errors.md");
        let (_, volumes) = catalogue.split_once("## Volumes").unwrap();
        let named = volumes.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name));
        let named: BTreeSet<&str> = named.collect();
        assert_eq!(named, Class::ALL.iter().map(|class| class.as_str()).collect());
        assert_eq!(named.len(), Class::ALL.len());
    }

    #[test]
    fn a_refusal_is_one_line() {
        let refusal = Refusal::new(Class::VolumeInUse, "x is in use").with_source("a\nb");
        let shown = refusal.to_string();
        assert!(shown.starts_with("VOLUME_IN_USE: x is in use: a") && !shown.contains('\n'), "{shown}");
    }
}
