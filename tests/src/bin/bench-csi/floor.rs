//! What the kernel's calls, and mkfs, take by themselves.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use bootstrap::volume::filesystem::{Kind, mkfs as arguments};
use cks_tests::csi::{Bed, Disk};
use cks_tests::process::Command;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};

use crate::samples::Samples;

const STAGING: &str = "/run/bench-csi/staging";
const TARGET: &str = "/run/bench-csi/target";

/// The calls that each RPC can't do without.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Floor {
    /// `mount(2)` of ext4.
    pub(crate) mount: Samples,
    /// `umount2` of it.
    pub(crate) unmount: Samples,
    /// `mkdir` and a bind mount.
    pub(crate) bind: Samples,
    /// `umount2` of it, and `rmdir`.
    pub(crate) unbind: Samples,
    /// `statvfs`.
    pub(crate) stat: Samples,
}

impl Floor {
    pub(crate) fn add(&mut self, more: Self) {
        self.mount.extend(&more.mount);
        self.unmount.extend(&more.unmount);
        self.bind.extend(&more.bind);
        self.unbind.extend(&more.unbind);
        self.stat.extend(&more.stat);
    }
}

/// The calls, on a disk with ext4, inside the bed.
pub(crate) fn run(bed: &Bed, disk: &Disk, rounds: u32) -> Result<Floor> {
    let command = itself()?.arg("floor").arg(disk.device()).arg(rounds.to_string());
    serde_json::from_str(&bed.enter(command).ok()?).context("Reading what was measured inside")
}

/// mkfs of a blank disk, with the agent's arguments, inside the bed: how long it took.
pub(crate) fn mkfs(bed: &Bed, disk: &Disk) -> Result<std::time::Duration> {
    let told = bed.enter(itself()?.arg("mkfs").arg(disk.device())).ok()?;
    Ok(std::time::Duration::from_nanos(told.trim().parse().context("Reading what was measured inside")?))
}

fn itself() -> Result<Command> {
    Ok(Command::new(std::env::current_exe().context("Finding this program")?))
}

/// Prints a [`Floor`].
pub(crate) fn inside(device: &Path, rounds: u32) -> Result<()> {
    const NONE: Option<&str> = None;
    let mut floor = Floor::default();
    fs::create_dir_all(STAGING).context("Making a directory")?;
    for _ in 0..rounds {
        floor.mount.time(|| Ok(mount(Some(device), STAGING, Some("ext4"), MsFlags::empty(), NONE)?))?;
        floor.bind.time(|| {
            fs::create_dir(TARGET)?;
            Ok(mount(Some(STAGING), TARGET, NONE, MsFlags::MS_BIND, NONE)?)
        })?;
        floor.stat.time(|| Ok(statvfs(TARGET)?))?;
        floor.unbind.time(|| {
            umount2(TARGET, MntFlags::UMOUNT_NOFOLLOW)?;
            Ok(fs::remove_dir(TARGET)?)
        })?;
        floor.unmount.time(|| Ok(umount2(STAGING, MntFlags::UMOUNT_NOFOLLOW)?))?;
    }
    println!("{}", serde_json::to_string(&floor)?);
    Ok(())
}

/// Prints how many nanoseconds mkfs took.
pub(crate) fn mkfs_inside(device: &Path) -> Result<()> {
    let arguments = arguments(Kind::Ext4, &device.to_string_lossy(), "0a1b2c3d-4e5f-8071-8293-a4b5c6d7e8f9", &[]);
    let command = Command::new("mkfs.ext4").args(arguments);
    let begun = std::time::Instant::now();
    command.ok()?;
    println!("{}", begun.elapsed().as_nanos());
    Ok(())
}
