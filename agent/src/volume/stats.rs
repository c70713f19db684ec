//! How full a volume is, and whether it is well.

use bootstrap::mountinfo::Device;
use bootstrap::volume::Serial;
use bootstrap::volume::refusal::{Class, Refusal};
use rustix::fs::statvfs;

use super::{Stats, Volumes, devices, mounts, serial};

/// How full a volume is, in bytes and inodes: total, used, available to a pod that is not root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Usage {
    /// A filesystem.
    Filesystem {
        /// Bytes: total, used, available.
        bytes: [u64; 3],
        /// Inodes: total, used, available; none where the filesystem has no such limit.
        inodes: Option<[u64; 3]>,
    },
    /// A block device of so many bytes.
    Block(u64),
}

/// Whether a volume is well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// What is wrong with it.
    pub wrong: Option<String>,
}

impl Volumes {
    /// How full the volume is that is staged or published at a path, and whether it is well.
    ///
    /// # Errors
    /// `VOLUME_NOT_FOUND` when it is not there; `IO`.
    pub fn stats(&self, asked: &Stats) -> Result<(Usage, Condition), Refusal> {
        let serial = serial(&asked.id)?;
        let asked = &Stats { path: mounts::resolved(&asked.path)?, ..asked.clone() };
        if let Some(device) = mounts::node_at(&asked.path)? {
            self.is_it(asked, device, &serial)?;
            let size = devices::size(&self.host, device);
            let wrong = size.is_none().then(|| "its disk is gone".to_owned());
            return Ok((Usage::Block(size.unwrap_or_default()), Condition { wrong }));
        }
        let device = mounts::device_at(&self.host, &asked.path)?.ok_or_else(|| not_there(asked, "no mount point"))?;
        self.is_it(asked, device, &serial)?;
        let full = statvfs(&asked.path).map_err(|errno| mounts::io("asking", &asked.path, errno.into()))?;
        let blocks = [full.f_blocks, full.f_blocks.saturating_sub(full.f_bfree), full.f_bavail];
        let bytes = blocks.map(|count| count.saturating_mul(full.f_frsize));
        let files = full.f_files;
        let inodes = (files > 0).then(|| [files, files.saturating_sub(full.f_ffree), full.f_favail]);
        Ok((Usage::Filesystem { bytes, inodes }, self.condition(device)))
    }

    fn is_it(&self, asked: &Stats, device: Device, serial: &Serial) -> Result<(), Refusal> {
        // A disk that was taken away while it was mounted says nothing any more; what is mounted is still the volume.
        if devices::is_gone(&self.host, device) || devices::is_serial(&self.host, device, serial) {
            return Ok(());
        }
        Err(not_there(asked, &devices::evidence(&self.host, device.to_string(), device).to_string()))
    }

    /// What the kernel says of the filesystem on a device.
    fn condition(&self, device: Device) -> Condition {
        if devices::is_gone(&self.host, device) {
            return Condition { wrong: Some("its disk was taken away while it was mounted".to_owned()) };
        }
        let errors = devices::filesystem_errors(&self.host, device);
        let wrong = (errors > 0).then(|| format!("the kernel has counted {errors} errors of its filesystem"));
        Condition { wrong }
    }
}

fn not_there(asked: &Stats, what: &str) -> Refusal {
    let what = format!("the volume {} is not at {}, which is {what}", asked.id, asked.path.display());
    Refusal::new(Class::VolumeNotFound, what)
}
