//! A filesystem as a new machine has it. One that others were deleted from a moment ago looks through what was theirs
//! for each file that it makes (ext4 hands an inode out again only after a minute, or five), which would count.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cks_tests::process::Command;
use cks_tests::scratch;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

/// Bytes that it may hold; its file takes what is used.
const SIZE: u64 = 12 << 30;
/// What is left for later would be written while the run is measured.
const MKFS: [&str; 6] = ["-q", "-F", "-m", "0", "-E", "nodiscard"];

/// An empty ext4, mounted for this process and its children, gone when dropped.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) path: PathBuf,
    _directory: TempDir,
}

/// Makes what is mounted from now on nobody's but this process' and its children's.
pub(crate) fn alone() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("Making a mount namespace; run as root")?;
    mount(None::<&Path>, "/", None::<&Path>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&Path>)
        .context("Making mounts private")
}

impl Fresh {
    /// Makes one on a loop device that goes past the page cache, as a disk does.
    pub(crate) fn new() -> Result<Self> {
        let directory = scratch("bench-disk")?;
        let (image, path) = (directory.path().join("ext4"), directory.path().join("mounted"));
        fs::create_dir(&path).with_context(|| format!("Making {}", path.display()))?;
        let file = File::create(&image).with_context(|| format!("Creating {}", image.display()))?;
        file.set_len(SIZE).with_context(|| format!("Making {} larger", image.display()))?;
        Command::new("mkfs.ext4").args(MKFS).arg(&image).ok()?;
        let device = Command::new("losetup").args(["--direct-io=on", "--find", "--show"]).arg(&image).ok()?;
        let device = device.trim();
        let mounted = mount(Some(device), &path, Some("ext4"), MsFlags::empty(), Some("noinit_itable"));
        // From now on the mount alone keeps it.
        let detached = Command::new("losetup").arg("--detach").arg(device).ok();
        mounted.with_context(|| format!("Mounting {device}"))?;
        let fresh = Self { path, _directory: directory };
        detached?;
        Ok(fresh)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // What was measured has ended; a directory that is left behind says so by itself.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}
