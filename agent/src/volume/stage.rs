//! Stage and unstage: a volume's filesystem at its staging target path.

use std::fs;
use std::path::Path;
use std::time::Instant;

use bootstrap::mountinfo::{Device, Mount, MountTable};
use bootstrap::volume::encryption::{Situation, decide};
use bootstrap::volume::options::MountOptions;
use bootstrap::volume::refusal::{Class, Refusal};
use bootstrap::volume::superblock::{Content, Filesystem};
use bootstrap::volume::{Serial, VolumeId};

use super::devices::{self, Disk};
use super::unlock::{self, Inside, Locked, Unlocked};
use super::{Access, Mode, Stage, Volumes, Withdraw, crypt, format, grow, mapping, mounts, serial};
use crate::host::Host;

/// A filesystem ends a little before its device; what is less than this is not worth a look.
const SLACK: u64 = 16 << 20;

impl Volumes {
    /// Mounts the volume's filesystem at the staging target path; makes it on a disk that is proven blank. A block volume
    /// has nothing to stage but that its disk is there, and open where it is encrypted.
    ///
    /// # Errors
    /// Those of the classes that CSI's `NodeStageVolume` has: see `docs/csi.md`.
    pub fn stage(&self, asked: &Stage, until: Instant) -> Result<(), Refusal> {
        let serial = serial(&asked.id)?;
        let Access::Filesystem { kind, options } = &asked.access else {
            return self.stage_block(asked, &serial, until);
        };
        is_directory(&asked.staging)?;
        let asked = &Stage { staging: mounts::resolved(&asked.staging)?, ..asked.clone() };
        let mut options = options.clone();
        options.read_only |= asked.mode == Mode::ReaderOnly;
        let disk = self.attached(&serial, until)?;
        let open = self.open(&asked.id, &disk)?;
        let table = mounts::table(&self.host)?;
        if let Some(there) = table.top_at(&asked.staging) {
            let volume = if asked.passphrase.is_some() { open.as_ref() } else { Some(&disk) };
            self.staged_already(&disk, volume, there, asked, &options)?;
            return asked.passphrase.as_ref().map_or(Ok(()), |key| crypt::test(&self.host, &disk, key));
        }
        for device in [Some(&disk), open.as_ref()].into_iter().flatten() {
            unused(&self.host, &table, device)?;
        }
        let Some(passphrase) = &asked.passphrase else {
            let found = format::content_of(&self.host, &disk)?;
            let (block, read_only, begun, open) = (false, options.read_only, false, open.is_some());
            let (id, disk) = (&asked.id, &disk);
            decide(&Situation { id, disk: &disk.name, asked: false, block, read_only, found: &found, begun, open })?;
            let kind = kind.or_else(|| found.kind()).unwrap_or(self.settings.filesystem);
            let wanted = format::Wanted { id, serial: &serial, kind, options: &asked.mkfs, read_only };
            let filesystem = format::ensure(&self.host, disk, found, &wanted)?;
            return self.mount(disk, &filesystem, asked, &options);
        };
        let inside = Inside { kind: *kind, default: self.settings.filesystem, options: &asked.mkfs };
        let (read_only, filesystem) = (options.read_only, Some(inside));
        let locked = Locked { id: &asked.id, serial: &serial, disk: &disk, passphrase, read_only, filesystem };
        let Unlocked { mapping, filesystem, opened } = locked.unlock(&self.host, open)?;
        let mounted = filesystem.map_or(Ok(()), |made| self.mount(&mapping, &made, asked, &options));
        drop(mapping);
        mounted.inspect_err(|_| {
            if opened {
                unlock::undo(&self.host, &asked.id);
            }
        })
    }

    /// What the disk is decrypted as, where it is open. What was left open of it when it was taken away is closed: it leads
    /// nowhere any more.
    fn open(&self, id: &VolumeId, disk: &Disk) -> Result<Option<Disk>, Refusal> {
        // Encrypted or not: it would write over what is made or handed out.
        crypt::alone(&self.host, id, Some(disk))?;
        if let Some((device, left)) = mapping::of_volume(&self.host, id)?
            && left.is_orphan()
            && mounted_from(&self.host, &mounts::table(&self.host)?, device).is_none()
        {
            tracing::warn!(volume_id = id.as_str(), "{left} is closed");
            crypt::close(&self.host, id)?;
        }
        mapping::held(&self.host, id, disk)
    }

    /// Mounts the filesystem on `volume`, which is its disk or what that is decrypted as.
    fn mount(
        &self,
        volume: &Disk,
        filesystem: &Filesystem,
        asked: &Stage,
        options: &MountOptions,
    ) -> Result<(), Refusal> {
        let (size, kind) = (volume.size(&self.host)?, filesystem.kind);
        if filesystem.size > size {
            // Neither a check nor the kernel is let at it: both would take what is missing for damage.
            let what = format!("{} has {size} bytes, and its {kind} {}: it was cut", volume.name, filesystem.size);
            return Err(Refusal::new(Class::DeviceTooSmall, what));
        }
        if !options.read_only {
            format::repair(&self.host, volume, filesystem)?;
        }
        volume.check_node()?;
        mounts::filesystem(&volume.node, &asked.staging, kind, options)?;
        let finish = || {
            if mounts::device_at(&self.host, &asked.staging)? != Some(volume.device) {
                let what = format!("what was mounted at {} is not {}", asked.staging.display(), volume.device);
                return Err(Refusal::new(Class::DiskChanged, what));
            }
            if options.read_only || volume.size(&self.host)? <= filesystem.size.saturating_add(SLACK) {
                return Ok(());
            }
            grow::grow(&self.host, kind, volume, &asked.staging)
        };
        finish().inspect_err(|_: &Refusal| {
            // A refusal says that nothing was done.
            let _ = mounts::unmount(&self.host, &asked.staging);
        })
    }

    /// A block volume. What is on its disk is a pod's; an encrypted one is opened.
    fn stage_block(&self, asked: &Stage, serial: &Serial, until: Instant) -> Result<(), Refusal> {
        let disk = self.attached(serial, until)?;
        let open = self.open(&asked.id, &disk)?;
        let Some(passphrase) = &asked.passphrase else {
            return not_encrypted(&self.host, &asked.id, &disk, open.as_ref());
        };
        let table = mounts::table(&self.host)?;
        unused(&self.host, &table, &disk)?;
        if let Some(mounted) = open.as_ref().and_then(|open| of_disk(&self.host, &table, open).next()) {
            return Err(mounted_already(&disk, mounted));
        }
        // A pod has it: it is staged.
        if let Some(open) = &open
            && super::publish::of_node(&table, open).next().is_some()
        {
            return crypt::test(&self.host, &disk, passphrase);
        }
        let read_only = asked.mode == Mode::ReaderOnly;
        let locked = Locked { id: &asked.id, serial, disk: &disk, passphrase, read_only, filesystem: None };
        locked.unlock(&self.host, open).map(drop)
    }

    /// Whether what is mounted at the staging target path is what is asked for.
    fn staged_already(
        &self,
        disk: &Disk,
        volume: Option<&Disk>,
        there: &Mount,
        asked: &Stage,
        options: &MountOptions,
    ) -> Result<(), Refusal> {
        let at = asked.staging.display();
        let other = |why: String| Err(Refusal::new(Class::VolumeIncompatible, format!("{at} {why}")));
        if volume.is_none_or(|volume| mounts::device_of(&self.host, there) != Some(volume.device)) {
            let shown = volume.map_or_else(|| format!("{}, encrypted,", disk.name), |volume| volume.name.clone());
            return other(format!("is a mount of {}, and {shown} is asked for", there.source));
        }
        if let Access::Filesystem { kind: Some(kind), .. } = &asked.access
            && there.kind != kind.name()
        {
            return other(format!("is mounted as {}, and {kind} is asked for", there.kind));
        }
        match options.conflicts(there) {
            Some(why) => other(format!("is mounted otherwise: {why}")),
            None => Ok(()),
        }
    }

    /// Unmounts what is at the staging target path, and closes what is open of an encrypted volume. The directory is the
    /// caller's.
    ///
    /// # Errors
    /// `VOLUME_IN_USE` when it is published still, or a program holds it; `IO`.
    pub fn unstage(&self, asked: &Withdraw) -> Result<(), Refusal> {
        let asked = &Withdraw { path: mounts::resolved(&asked.path)?, ..asked.clone() };
        let table = mounts::table(&self.host)?;
        match table.top_at(&asked.path) {
            Some(there) => self.unstage_mounted(asked, &table, there)?,
            None => self.unstage_absent(asked, &table)?,
        }
        self.close(asked)
    }

    fn unstage_mounted(&self, asked: &Withdraw, table: &MountTable, there: &Mount) -> Result<(), Refusal> {
        let device = mounts::device_of(&self.host, there);
        if let (Some(device), Some(serial)) = (device, asked.id.serial())
            && !devices::is_gone(&self.host, device)
            && !devices::is_serial(&self.host, device, &serial)
        {
            let shown = devices::evidence(&self.host, there.source.clone(), device);
            tracing::warn!(
                volume_id = asked.id.as_str(),
                "{} was a mount of another disk: {shown}",
                asked.path.display()
            );
        }
        let published = table.iter().filter(|mount| mount.path != asked.path);
        // The same filesystem has the same number, also where that is no disk's (btrfs), or the disk is gone.
        let of_device = |mount: &Mount| device.is_some() && mounts::device_of(&self.host, mount) == device;
        let mut published = published.filter(|mount| mount.device == there.device || of_device(mount));
        if let Some(published) = published.next() {
            return Err(still_published(&asked.path, &published.path));
        }
        mounts::unmount_volume(&self.host, &asked.path)
    }

    /// Nothing is mounted at the staging target path. A block volume has nothing there; of another one it may have been taken
    /// away by hand. Afterwards the disk is detached: where it is mounted still, that must not be.
    fn unstage_absent(&self, asked: &Withdraw, table: &MountTable) -> Result<(), Refusal> {
        let disk = asked.id.serial().and_then(|serial| devices::find(&self.host, &serial).ok());
        let Some(disk) = disk else { return Ok(()) };
        let mut there = super::publish::of_node(table, &disk).chain(of_disk(&self.host, table, &disk));
        there.next().map_or(Ok(()), |there| Err(still_published(&asked.path, &there.path)))
    }

    /// Closes the volume's mapping, unless it is in use: also one whose disk is gone, for its name and UUID say whose it is.
    fn close(&self, asked: &Withdraw) -> Result<(), Refusal> {
        if asked.id.serial().is_none() {
            return Ok(());
        }
        let Some((device, _)) = mapping::of_volume(&self.host, &asked.id)? else { return Ok(()) };
        if let Some(there) = mounted_from(&self.host, &mounts::table(&self.host)?, device) {
            return Err(still_published(&asked.path, &there.path));
        }
        crypt::alone(&self.host, &asked.id, None)?;
        crypt::close(&self.host, &asked.id)
    }
}

/// The mounts of the disk's filesystem.
pub(super) fn of_disk<'a>(host: &'a Host, table: &'a MountTable, disk: &'a Disk) -> impl Iterator<Item = &'a Mount> {
    table.iter().filter(|mount| mounts::device_of(host, mount) == Some(disk.device))
}

/// That nobody has the device mounted, or handed out.
fn unused(host: &Host, table: &MountTable, device: &Disk) -> Result<(), Refusal> {
    if let Some(elsewhere) = of_disk(host, table, device).next() {
        return Err(mounted_already(device, elsewhere));
    }
    super::publish::of_node(table, device).next().map_or(Ok(()), |node| {
        let what = format!("a pod may write to {} itself at {}", device.name, node.path.display());
        Err(Refusal::new(Class::VolumeInUse, what))
    })
}

/// A mount of the device's filesystem, or of its node.
fn mounted_from<'a>(host: &Host, table: &'a MountTable, device: Device) -> Option<&'a Mount> {
    let of = |mount: &&Mount| mounts::device_of(host, mount) == Some(device) || super::publish::is_node(mount, device);
    table.iter().find(of)
}

fn mounted_already(device: &Disk, there: &Mount) -> Refusal {
    let what = format!("{} is mounted at {} already", device.name, there.path.display());
    Refusal::new(Class::VolumeInUse, what)
}

/// That a block volume that nobody asks to be encrypted is not: its disk is handed out as it is. One that can't be read is for
/// the pod to find out.
pub(super) fn not_encrypted(host: &Host, id: &VolumeId, disk: &Disk, open: Option<&Disk>) -> Result<(), Refusal> {
    let found = format::content_of(host, disk).unwrap_or(Content::Data);
    let situation = Situation {
        id,
        disk: &disk.name,
        asked: false,
        block: true,
        read_only: false,
        found: &found,
        begun: false,
        open: open.is_some(),
    };
    decide(&situation).map(drop)
}

fn still_published(staging: &Path, target: &Path) -> Refusal {
    let what = format!("what is staged at {} is published at {} still", staging.display(), target.display());
    Refusal::new(Class::VolumeInUse, what)
}

fn is_directory(path: &Path) -> Result<(), Refusal> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => Ok(()),
        Err(e) if !mounts::is_absent(&e) => Err(mounts::io("looking at", path, e)),
        _ => {
            let what = format!("staging_target_path {} is no directory; the caller has to make it", path.display());
            Err(Refusal::new(Class::VolumeNotStaged, what))
        }
    }
}
