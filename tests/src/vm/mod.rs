//! Machines that boot: Debian's kernel, systemd, udev and cloud-init under QEMU, at a virtual router, with the hardware that
//! CloudStack gives its instances on KVM.
//!
//! | module | is |
//! |---|---|
//! | [`template`] | the sealed disk that instances start from |
//! | `kit` | its kernel and what that loads before the root |
//! | [`instance`] | a machine: power, discs, disks |
//! | [`guest`] | commands in it, by the guest agent |
//! | `monitor` | QEMU's own language |
//! | [`router`] | addresses, names and passwords, beside what the router serves over HTTP |
//! | [`config_drive`] | the disc that tells an instance about itself, where no router does |
//!
//! QEMU translates every instruction here (TCG): times are those of a machine that is some ten times slower.

pub mod config_drive;
pub mod guest;
pub mod instance;
mod kit;
mod monitor;
pub mod router;
pub mod template;

pub use self::config_drive::ConfigDrive;
pub use self::instance::{Disk, Instance};
pub use self::router::Router;
pub use self::template::Template;
