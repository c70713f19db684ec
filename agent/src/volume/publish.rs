//! Publish and unpublish: a staged volume at a pod's target path.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use bootstrap::mountinfo::{Device, Mount, MountTable};
use bootstrap::volume::encryption::PARAMETER;
use bootstrap::volume::luks::DONE;
use bootstrap::volume::options::MountOptions;
use bootstrap::volume::refusal::{Class, Refusal};
use bootstrap::volume::superblock::Content;
use nix::sys::statvfs::{FsFlags, statvfs};

use super::devices::{self, Disk};
use super::intent::Intent;
use super::stage::not_encrypted;
use super::{Access, Mode, Publish, Volumes, Withdraw, format, mapping, mounts, serial};

impl Volumes {
    /// Mounts what is staged at the target path, too.
    ///
    /// # Errors
    /// `VOLUME_NOT_STAGED`, `VOLUME_INCOMPATIBLE`, `VOLUME_IN_USE` for a second target of a single writer, `MOUNT_FAILED`.
    pub fn publish(&self, asked: &Publish) -> Result<(), Refusal> {
        let real = |path: &Path| mounts::resolved(path);
        let asked = &Publish { target: real(&asked.target)?, staging: real(&asked.staging)?, ..asked.clone() };
        match &asked.access {
            Access::Filesystem { options, .. } => {
                let mut options = options.clone();
                options.read_only |= asked.read_only || asked.mode == Mode::ReaderOnly;
                self.publish_filesystem(asked, &options)
            }
            Access::Block => self.publish_block(asked),
        }
    }

    fn publish_filesystem(&self, asked: &Publish, options: &MountOptions) -> Result<(), Refusal> {
        let device = self.staged_device(asked)?;
        match mounts::device_at(&self.host, &asked.target)? {
            Some(there) if there == device => {
                return self.published_already(asked, |there| options.conflicts_of_mount(there));
            }
            Some(there) => return Err(another(&asked.target, &there.to_string())),
            None if mounts::is_mount_point(&asked.target) => return Err(another(&asked.target, "none")),
            None => {}
        }
        if !options.read_only && is_read_only(&asked.staging) {
            let what = format!("what is staged at {} is read-only, and is to be written to", asked.staging.display());
            return Err(Refusal::new(Class::VolumeIncompatible, what));
        }
        if asked.mode == Mode::SingleNodeSingleWriter {
            let table = mounts::table(&self.host)?;
            let other = |mount: &&Mount| mount.path != asked.staging && mount.path != asked.target;
            let of_device = |mount: &&Mount| mounts::device_of(&self.host, mount) == Some(device);
            only(table.iter().filter(other).find(of_device))?;
        }
        let empty = |there: &fs::Metadata| there.is_dir() && is_empty(&asked.target);
        make_place(&asked.target, |path| fs::create_dir(path), empty)?;
        let mounted = mounts::bind(&self.host, &asked.staging, &asked.target, options);
        self.prove(asked, mounted, |path| mounts::device_at(&self.host, path), device)
    }

    /// The device of the volume, as it is mounted at the staging target path.
    fn staged_device(&self, asked: &Publish) -> Result<Device, Refusal> {
        let at = asked.staging.display();
        let serial = serial(&asked.id)?;
        match mounts::device_at(&self.host, &asked.staging)? {
            Some(device) if devices::is_serial(&self.host, device, &serial) => {
                let encrypted = mapping::at(&self.host, device).is_some();
                if encrypted == asked.encrypted {
                    return Ok(device);
                }
                let is = if encrypted { "is" } else { "is not" };
                let what =
                    format!("what is staged at {at} {is} encrypted, and the request says otherwise ({PARAMETER})");
                Err(Refusal::new(Class::VolumeNotStaged, what))
            }
            Some(device) => {
                let shown = devices::evidence(&self.host, device.to_string(), device);
                let what = format!("at {at} is another disk than {serial}: {shown}");
                Err(Refusal::new(Class::VolumeNotStaged, what))
            }
            None => Err(Refusal::new(Class::VolumeNotStaged, format!("{} is not staged at {at}", asked.id))),
        }
    }

    fn published_already(&self, asked: &Publish, conflict: impl Fn(&Mount) -> Option<String>) -> Result<(), Refusal> {
        let table = mounts::table(&self.host)?;
        match table.top_at(&asked.target).and_then(conflict) {
            Some(why) => {
                let what = format!("{} is published otherwise: {why}", asked.target.display());
                Err(Refusal::new(Class::VolumeIncompatible, what))
            }
            None => Ok(()),
        }
    }

    /// A block volume's node is mounted upon a file. Whether a pod may write to it, kubelet tells the container's device
    /// rules: a read-only mount of a node keeps nobody from writing to its device.
    fn publish_block(&self, asked: &Publish) -> Result<(), Refusal> {
        let serial = serial(&asked.id)?;
        let disk = self.device(asked, devices::find(&self.host, &serial)?)?;
        // From now on a pod writes to it: what is on it is no filesystem of ours that was broken off.
        Intent::of(&self.host, &serial).end()?;
        let read_only = asked.read_only || asked.mode == Mode::ReaderOnly;
        let options = MountOptions { read_only, ..MountOptions::default() };
        match mounts::node_at(&asked.target)? {
            Some(there) if there == disk.device => {
                // The rest of its options are those of /dev, which distributions mount with nosuid, and some with noexec.
                let shown = if read_only { "for writing" } else { "read-only" };
                let conflict = |there: &Mount| (there.is_read_only() != read_only).then(|| shown.to_owned());
                return self.published_already(asked, conflict);
            }
            Some(there) => return Err(another(&asked.target, &there.to_string())),
            None => {}
        }
        let table = mounts::table(&self.host)?;
        // Whoever writes to the device writes over what is mounted.
        if let Some(mounted) = super::stage::of_disk(&self.host, &table, &disk).next() {
            let what = format!("the filesystem of {} is mounted at {}", disk.name, mounted.path.display());
            return Err(Refusal::new(Class::VolumeInUse, what));
        }
        if asked.mode == Mode::SingleNodeSingleWriter {
            only(of_node(&table, &disk).find(|mount| mount.path != asked.target))?;
        }
        let create = |path: &Path| fs::File::create_new(path).map(drop);
        make_place(&asked.target, create, |there| there.is_file() && there.len() == 0)?;
        disk.check_node()?;
        let mounted = mounts::bind(&self.host, &disk.node, &asked.target, &options);
        self.prove(asked, mounted, mounts::node_at, disk.device)
    }

    /// What a pod gets of a block volume: its disk; of an encrypted one never that, but what it is decrypted as.
    fn device(&self, asked: &Publish, disk: Disk) -> Result<Disk, Refusal> {
        let open = mapping::held(&self.host, &asked.id, &disk)?;
        if !asked.encrypted {
            return not_encrypted(&self.host, &asked.id, &disk, open.as_ref()).map(|()| disk);
        }
        // The label says whether staging came to its end.
        let handed_out = match format::content_of(&self.host, &disk)? {
            Content::Luks(header) => header.label == DONE,
            _ => false,
        };
        open.filter(|_| handed_out).ok_or_else(|| {
            let what = format!("{} is encrypted, and not open as {}", asked.id, asked.id.mapping_name());
            Refusal::new(Class::VolumeNotStaged, what)
        })
    }

    /// That the target path is what it was to become; else nothing stays of it.
    fn prove(
        &self,
        asked: &Publish,
        mounted: Result<(), Refusal>,
        look: impl Fn(&Path) -> Result<Option<Device>, Refusal>,
        device: Device,
    ) -> Result<(), Refusal> {
        let proven = mounted.and_then(|()| match look(&asked.target)? {
            Some(there) if there == device => Ok(()),
            there => {
                let what = format!("{} became {there:?} instead of {device}", asked.target.display());
                Err(Refusal::new(Class::DiskChanged, what))
            }
        });
        proven.inspect_err(|_| {
            // What can't be undone is found by the unpublish that follows.
            let _ = mounts::unmount(&self.host, &asked.target).and_then(|_| remove(&asked.target));
        })
    }

    /// Unmounts and removes the target path.
    ///
    /// # Errors
    /// `VOLUME_IN_USE` names who holds it; `IO`, when what is left there is not ours to remove.
    pub fn unpublish(&self, asked: &Withdraw) -> Result<(), Refusal> {
        mounts::unmount_volume(&self.host, &asked.path)?;
        remove(&asked.path)
    }
}

/// The mounts of the disk's node upon files: their root is the node's name in the filesystem of `/dev`.
pub(super) fn of_node<'a>(table: &'a MountTable, disk: &Disk) -> impl Iterator<Item = &'a Mount> {
    let device = disk.device;
    let name = disk.name.replace('!', "/");
    let named = table.iter().filter(move |mount| mount.root.ends_with(&name));
    named.filter(move |mount| is_node(mount, device))
}

/// Whether the node of this device is mounted there.
pub(super) fn is_node(mount: &Mount, device: Device) -> bool {
    mounts::node_at(&mount.path).is_ok_and(|there| there == Some(device))
}

fn only(other: Option<&Mount>) -> Result<(), Refusal> {
    other.map_or(Ok(()), |other| {
        let what = format!("it is published at {} already, and only one may write", other.path.display());
        Err(Refusal::new(Class::VolumeInUse, what))
    })
}

fn another(target: &Path, device: &str) -> Refusal {
    let what = format!("another volume is published at {}: device {device}", target.display());
    Refusal::new(Class::VolumeIncompatible, what)
}

/// Makes the place for a mount; one that is there already, and empty, will do.
fn make_place(
    path: &Path,
    make: impl Fn(&Path) -> std::io::Result<()>,
    will_do: impl Fn(&fs::Metadata) -> bool,
) -> Result<(), Refusal> {
    match make(path) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(mounts::io("making", path, e)),
    }
    let there = fs::symlink_metadata(path).map_err(|e| mounts::io("looking at", path, e))?;
    if will_do(&there) {
        return Ok(());
    }
    let what = format!("target_path {} is something else already", path.display());
    Err(Refusal::new(Class::VolumeIncompatible, what))
}

/// By itself, or its filesystem: the kernel made it so when that had errors.
fn is_read_only(mount: &Path) -> bool {
    statvfs(mount).is_ok_and(|of| of.flags().contains(FsFlags::ST_RDONLY))
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

/// Removes an empty directory or file; what is not there is removed.
fn remove(path: &Path) -> Result<(), Refusal> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(e) if mounts::is_absent(&e) => return Ok(()),
        Err(e) => return Err(mounts::io("looking at", path, e)),
    };
    let kind = there.file_type();
    let removed = match () {
        () if kind.is_dir() => fs::remove_dir(path),
        () if kind.is_file() && there.len() == 0 => fs::remove_file(path),
        () => {
            let what = format!("{} is no mount, and holds what no volume left there", path.display());
            let shown = if kind.is_block_device() { "a device node" } else { "data" };
            return Err(Refusal::new(Class::Io, format!("{what}: {shown}")));
        }
    };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(mounts::io("removing", path, e)),
        _ => Ok(()),
    }
}
