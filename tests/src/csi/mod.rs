//! The CSI bed: `cks-agent serve` as a machine's CSI node plugin, on real disks and real mounts, and nothing of it to be
//! seen from outside.
//!
//! The daemon's `/` is the machine's own, in a private mount namespace ([`Namespace`]) where the places of the agent and
//! of kubelet are empty, `/dev` holds the disks of the bed alone, and `/sys/block` and `/sys/dev/block` show these disks
//! with the serials that CloudStack gives them: a disk ([`Disk`]) is a loop device on a sparse file, and loop devices have
//! no serial. Everything else of them (size, queue, holders, events) is the kernel's.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use cks_tests::csi::{Bed, Options};
//! let bed = Bed::start(&Options::default())?;
//! let disk = bed.disk(1 << 30)?;
//! let client = bed.client()?;
//! client.stage(bed.stage(&disk)?)?;
//! client.publish(bed.publish(&disk, 1)?)?;
//! bed.sh(&format!("echo kept > {}/file && sync", bed.target(&disk, 1)?))?;
//! bed.kill()?;
//! bed.restart()?;
//! assert_eq!(bed.mounts_of(&disk)?.len(), 2);
//! # Ok(()) }
//! ```

mod bed;
mod client;
mod controller;
mod daemon;
pub(crate) mod disk;
mod mounts;
mod namespace;
pub(crate) mod place;
mod request;
mod volumes;

pub use agent::csi::proto::csi as proto;

pub use self::bed::{Bed, DRIVER, KUBELET, Options};
pub use self::client::Client;
pub use self::controller::Controller;
pub use self::disk::{Disk, serial_of};
pub use self::mounts::Mount;
pub use self::namespace::Namespace;
pub use self::request::{Kind, capability};
