//! Expand: a filesystem that follows its disk.

use std::time::{Duration, Instant};

use bootstrap::volume::filesystem::Kind;
use bootstrap::volume::refusal::{Class, Refusal};

use super::{Expand, Volumes, crypt, devices, grow, mapping, mounts, serial};

/// The controller has resized the disk before; the hypervisor tells the kernel a moment later.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

impl Volumes {
    /// Grows what is staged or published at a path to the size of its disk, which it returns in bytes; of an encrypted volume
    /// first what its disk is decrypted as.
    ///
    /// # Errors
    /// `VOLUME_NOT_FOUND` when it is not there; `DEVICE_TOO_SMALL` while the disk is smaller than what is required;
    /// `GROW_FAILED`.
    pub fn expand(&self, asked: &Expand, until: Instant) -> Result<u64, Refusal> {
        let serial = serial(&asked.id)?;
        let asked = &Expand { path: mounts::resolved(&asked.path)?, ..asked.clone() };
        let not_there = |what: &str| {
            let what = format!("the volume {} is not at {}, which is {what}", asked.id, asked.path.display());
            Refusal::new(Class::VolumeNotFound, what)
        };
        let block = mounts::node_at(&asked.path)?;
        let mounted = if block.is_some() { None } else { mounts::device_at(&self.host, &asked.path)? };
        let device = block.or(mounted).ok_or_else(|| not_there("no mount point"))?;
        if !devices::is_serial(&self.host, device, &serial) {
            return Err(not_there(&devices::evidence(&self.host, device.to_string(), device).to_string()));
        }
        let encrypted = mapping::at(&self.host, device);
        let below = encrypted.as_ref().and_then(|mapping| mapping.disk()).map_or(device, |disk| disk.device);
        let size = self.grown(asked, below, until)?;
        if encrypted.is_some() {
            crypt::alone(&self.host, &asked.id, None)?;
            crypt::resize(&self.host, &asked.id)?;
        }
        if mounted.is_none() {
            return Ok(size);
        }
        let table = mounts::table(&self.host)?;
        let there = table.top_at(&asked.path).ok_or_else(|| not_there("no mount point"))?;
        let kind = Kind::parse(&there.kind)?;
        // Held, so that its number can't become another disk's.
        let mut disk = devices::find(&self.host, &serial)?;
        if encrypted.is_some() {
            disk = mapping::held(&self.host, &asked.id, &disk)?.ok_or_else(|| not_there("closed at this moment"))?;
        }
        if disk.device != device {
            let what = format!("{} is {serial} now, and the device {device} is mounted", disk.name);
            return Err(Refusal::new(Class::DiskChanged, what));
        }
        let of_device = |mount: &&bootstrap::mountinfo::Mount| mounts::device_of(&self.host, mount) == Some(device);
        // A pod may have it read-only, while it is staged for writing.
        let writable = table.iter().filter(of_device).find(|mount| !mount.is_read_only());
        match writable {
            Some(mount) => grow::grow(&self.host, kind, &disk, &mount.path)?,
            None => {
                let what = format!("{} is mounted read-only everywhere", disk.name);
                return Err(Refusal::new(Class::VolumeInUse, what));
            }
        }
        Ok(size)
    }

    /// The size of the disk, as soon as it is large enough.
    fn grown(&self, asked: &Expand, device: bootstrap::mountinfo::Device, until: Instant) -> Result<u64, Refusal> {
        let until = until.min(Instant::now() + PATIENCE);
        let mut asked_it = false;
        loop {
            let size = devices::size(&self.host, device)
                .ok_or_else(|| Refusal::new(Class::VolumeNotAttached, format!("the disk {device} is gone")))?;
            if size >= asked.required {
                return Ok(size);
            }
            if !asked_it {
                devices::rescan(&self.host, device);
                asked_it = true;
            }
            if Instant::now() >= until {
                let what = format!("the disk {device} has {size} bytes, and {} are required", asked.required);
                return Err(Refusal::new(Class::DeviceTooSmall, what));
            }
            std::thread::sleep(PAUSE);
        }
    }
}
