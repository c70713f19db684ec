//! What a node decides about CSI volumes: who a disk is, what is on it, whether it may be formatted.

pub mod encryption;
pub mod filesystem;
pub mod id;
pub mod identity;
pub mod luks;
pub mod options;
pub mod refusal;
pub mod superblock;
pub mod vpd;

pub use self::id::{Serial, VolumeId};
