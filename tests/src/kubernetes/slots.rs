//! Where disks are plugged in to a machine of the bed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use tempfile::TempDir;

use super::Machine;
use crate::csi::disk::{as_it_is, uuid};
use crate::csi::place::{Place, freeing};
use crate::csi::{Disk, Kind};
use crate::leash::Heir;
use crate::scratch;

/// The machine sees as many loop devices as there may be: the kernel makes them when somebody wants one, and there is no
/// udev that would make their nodes.
const DEVICES: u32 = 256;

/// In a machine, the places of sysfs where disks are shown with their serials.
const SETUP: &str = "for place in /sys/block /sys/dev/block; do mount -t tmpfs -o mode=755 bed $place; done";

/// The slots of a machine, until it is switched off. Disks keep them.
#[derive(Debug)]
pub struct Slots {
    /// What no other machine's slots are called. Loop devices on files with this name in their path are freed with the
    /// slots: kubelet has one on each raw block volume.
    pub name: String,
    root: PathBuf,
    _devices: Heir,
    directory: TempDir,
}

impl Slots {
    /// Of a machine that runs. Loop devices are shown as they are as long as they are no disks.
    ///
    /// # Errors
    /// When the machine is switched off.
    pub fn of(machine: &Machine) -> Result<Arc<Self>> {
        let (name, root, directory) = (uuid()?, machine.path("")?, scratch("slots")?);
        let devices = freeing(directory.path(), &[&name])?;
        machine.sh(SETUP)?;
        let slots = Self { name, root, _devices: devices, directory };
        for number in 0..DEVICES {
            as_it_is(&slots, &format!("loop{number}"), &format!("7:{number}"))?;
        }
        Ok(Arc::new(slots))
    }

    /// Plugs in the blank disk of a new volume.
    ///
    /// # Errors
    /// When there is no loop device to be had.
    pub fn disk(self: &Arc<Self>, kind: Kind, size: u64) -> Result<Disk> {
        Disk::new(self, &uuid()?, kind, size)
    }
}

impl Place for Slots {
    fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.strip_prefix('/').unwrap_or(path))
    }

    fn shows_others(&self) -> bool {
        true
    }
}
