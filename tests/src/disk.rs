//! A small filesystem of its own: ext4 on a loop device, mounted in a private mount namespace, so that
//! mount and device are gone however the test ends.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::leash::Daemon;
use crate::process::Command;
use crate::scratch;

const MOUNT: &str = r#"mount -o loop "$1" "$2" && echo ready && exec sleep infinity"#;

/// A mounted filesystem, gone when dropped.
#[derive(Debug)]
pub struct Disk {
    /// Where it is mounted, inside [`Disk::namespace`].
    pub path: PathBuf,
    holder: Daemon,
    _directory: TempDir,
}

impl Disk {
    /// Makes one of `mebibytes` MiB.
    ///
    /// # Errors
    /// Without root, or without e2fsprogs.
    pub fn new(mebibytes: u64) -> Result<Self> {
        let directory = scratch("disk")?;
        let (image, path) = (directory.path().join("ext4"), directory.path().join("mounted"));
        fs::create_dir(&path).with_context(|| format!("Making {}", path.display()))?;
        let file = File::create(&image).with_context(|| format!("Creating {}", image.display()))?;
        file.set_len(mebibytes << 20).with_context(|| format!("Making {} larger", image.display()))?;
        // Without the 5 % that only root may fill: tests run as root.
        Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image).ok()?;
        let log = directory.path().join("log");
        let mount = Command::new("sh").args(["-c", MOUNT, "mount"]).arg(&image).arg(&path);
        let mut holder = mount.daemon(&log)?;
        let mounted = || fs::read_to_string(&log).is_ok_and(|said| said.contains("ready"));
        holder.ready(Duration::from_secs(20), mounted).context("Mounting a loop device")?;
        Ok(Self { path, holder, _directory: directory })
    }

    /// The path that stands for the mount namespace: `/proc/PID/ns/mnt`.
    #[must_use]
    pub fn namespace(&self) -> String {
        format!("/proc/{}/ns/mnt", self.holder.pid())
    }

    /// Where it is to be seen from outside of the mount namespace.
    #[must_use]
    pub fn here(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.holder.pid(), self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_its_own_room_and_leaves_nothing() {
        let disk = Disk::new(16).unwrap();
        let (here, image) = (disk.here(), disk.path.with_file_name("ext4"));
        let filled = Command::new("dd").args(["if=/dev/zero", "bs=1M"]).arg(format!("of={}/fill", here.display()));
        let output = filled.output().unwrap();
        assert!(output.stderr.contains("No space left on device"), "{output:?}");
        let loops = || Command::new("losetup").arg("-j").arg(&image).ok().unwrap();
        assert_ne!(loops(), "");
        assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&*disk.path.to_string_lossy()));
        drop(disk);
        assert_eq!(loops(), "");
        assert!(!image.exists());
    }
}
