//! Stage and unstage: a volume's filesystem at its staging target path.

use std::fs;
use std::path::Path;
use std::time::Instant;

use bootstrap::mountinfo::{Mount, MountTable};
use bootstrap::volume::options::MountOptions;
use bootstrap::volume::refusal::{Class, Refusal};

use super::devices::{self, Disk};
use super::{Access, Mode, Stage, Volumes, Withdraw, format, grow, mounts, serial};
use crate::host::Host;

/// A filesystem ends a little before its device; what is less than this is not worth a look.
const SLACK: u64 = 16 << 20;

impl Volumes {
    /// Mounts the volume's filesystem at the staging target path; makes it on a disk that is proven blank. A block volume
    /// has nothing to stage but that its disk is there.
    ///
    /// # Errors
    /// Those of the classes that CSI's `NodeStageVolume` has: see `docs/csi.md`.
    pub fn stage(&self, asked: &Stage, until: Instant) -> Result<(), Refusal> {
        let serial = serial(&asked.id)?;
        let Access::Filesystem { kind, options } = &asked.access else {
            return self.attached(&serial, until).map(drop);
        };
        is_directory(&asked.staging)?;
        let asked = &Stage { staging: mounts::resolved(&asked.staging)?, ..asked.clone() };
        let mut options = options.clone();
        options.read_only |= asked.mode == Mode::ReaderOnly;
        let disk = self.attached(&serial, until)?;
        let table = mounts::table(&self.host)?;
        if let Some(there) = table.top_at(&asked.staging) {
            return self.staged_already(&disk, there, asked, &options);
        }
        if let Some(elsewhere) = of_disk(&self.host, &table, &disk).next() {
            let what = format!("{} is mounted at {} already", disk.name, elsewhere.path.display());
            return Err(Refusal::new(Class::VolumeInUse, what));
        }
        if let Some(device) = super::publish::of_node(&table, &disk).next() {
            let what = format!("a pod may write to {} itself at {}", disk.name, device.path.display());
            return Err(Refusal::new(Class::VolumeInUse, what));
        }
        let found = format::content_of(&self.host, &disk)?;
        let kind = kind.or_else(|| found.kind()).unwrap_or(self.settings.filesystem);
        let wanted =
            format::Wanted { id: &asked.id, serial: &serial, kind, options: &asked.mkfs, read_only: options.read_only };
        let filesystem = format::ensure(&self.host, &disk, found, &wanted)?;
        let size = disk.size(&self.host)?;
        if filesystem.size > size {
            // Neither a check nor the kernel is let at it: both would take what is missing for damage.
            let what = format!("{} has {size} bytes, and its {kind} {}: it was cut", disk.name, filesystem.size);
            return Err(Refusal::new(Class::DeviceTooSmall, what));
        }
        if !options.read_only {
            format::repair(&self.host, &disk, &filesystem)?;
        }
        disk.check_node()?;
        mounts::filesystem(&disk.node, &asked.staging, kind, &options)?;
        let finish = || {
            if mounts::device_at(&self.host, &asked.staging)? != Some(disk.device) {
                let what = format!("what was mounted at {} is not {}", asked.staging.display(), disk.device);
                return Err(Refusal::new(Class::DiskChanged, what));
            }
            if options.read_only || disk.size(&self.host)? <= filesystem.size.saturating_add(SLACK) {
                return Ok(());
            }
            grow::grow(&self.host, kind, &disk, &asked.staging)
        };
        finish().inspect_err(|_: &Refusal| {
            // A refusal says that nothing was done.
            let _ = mounts::unmount(&self.host, &asked.staging);
        })
    }

    /// Whether what is mounted at the staging target path is what is asked for.
    fn staged_already(&self, disk: &Disk, there: &Mount, asked: &Stage, options: &MountOptions) -> Result<(), Refusal> {
        let at = asked.staging.display();
        let other = |why: String| Err(Refusal::new(Class::VolumeIncompatible, format!("{at} {why}")));
        if mounts::device_of(&self.host, there) != Some(disk.device) {
            return other(format!("is a mount of {}, and {} is asked for", there.source, disk.name));
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

    /// Unmounts what is at the staging target path. The directory is the caller's.
    ///
    /// # Errors
    /// `VOLUME_IN_USE` when it is published still, or a program holds it; `IO`.
    pub fn unstage(&self, asked: &Withdraw) -> Result<(), Refusal> {
        let asked = &Withdraw { path: mounts::resolved(&asked.path)?, ..asked.clone() };
        let table = mounts::table(&self.host)?;
        let Some(there) = table.top_at(&asked.path) else { return self.unstage_absent(asked, &table) };
        let device = mounts::device_of(&self.host, there);
        if let (Some(device), Some(serial)) = (device, asked.id.serial())
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
        let mut published =
            published.filter(|mount| device.is_some() && mounts::device_of(&self.host, mount) == device);
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
}

/// The mounts of the disk's filesystem.
pub(super) fn of_disk<'a>(host: &'a Host, table: &'a MountTable, disk: &'a Disk) -> impl Iterator<Item = &'a Mount> {
    table.iter().filter(|mount| mounts::device_of(host, mount) == Some(disk.device))
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
