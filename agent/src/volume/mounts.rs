//! Mounts: what is there, and making and ending them with the kernel's own calls.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use bootstrap::mountinfo::{Device, Mount, MountTable};
use bootstrap::volume::filesystem::Kind;
use bootstrap::volume::options::MountOptions;
use bootstrap::volume::refusal::{Class, Refusal};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use super::devices::device_of_number;
use crate::host::Host;

/// More mounts than that upon each other are not ours.
const DEEPEST: usize = 16;
/// Where a mount gets its attributes before anybody can see it. Nothing that happens there is told to other namespaces.
const WORKSHOP: &str = "/run/cks-agent/mounts";

/// All mounts that this process sees.
///
/// # Errors
/// `IO`.
pub fn table(host: &Host) -> Result<MountTable, Refusal> {
    let path = host.path("/proc/self/mountinfo");
    let text = fs::read(&path).map_err(|e| io("reading", &path, e))?;
    MountTable::parse(&text).map_err(|why| Refusal::new(Class::Io, format!("{}: {why}", path.display())))
}

/// The device whose filesystem is mounted with its root at `path`; none where `path` is no mount point.
///
/// # Errors
/// `IO`.
pub fn device_at(host: &Host, path: &Path) -> Result<Option<Device>, Refusal> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let there = match statx(CWD, path, flags, StatxFlags::TYPE) {
        Ok(there) => there,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        // An I/O error comes from what is mounted: the table tells what that is.
        Err(rustix::io::Errno::IO) => return Ok(table(host)?.top_at(path).and_then(|mount| device_of(host, mount))),
        Err(e) => return Err(io("looking at", path, e.into())),
    };
    if !there.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(None);
    }
    // btrfs gives its filesystems numbers of no device; the table names the device that was mounted.
    if there.stx_dev_major == 0 {
        return Ok(table(host)?.top_at(path).and_then(|mount| device_of(host, mount)));
    }
    Ok(Some(Device { major: there.stx_dev_major, minor: there.stx_dev_minor }))
}

/// The device of a mount: by its number, or by the node that it was mounted from.
#[must_use]
pub fn device_of(host: &Host, mount: &Mount) -> Option<Device> {
    if mount.device.major != 0 {
        return Some(mount.device);
    }
    let source = mount.source.strip_prefix("/")?;
    node_at(&host.root().join(source)).ok().flatten()
}

/// The device whose node is at `path`; none where there is another thing, or nothing.
///
/// # Errors
/// `IO`.
pub fn node_at(path: &Path) -> Result<Option<Device>, Refusal> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_block_device() => Ok(Some(device_of_number(there.rdev()))),
        Ok(_) => Ok(None),
        Err(e) if is_absent(&e) => Ok(None),
        Err(e) => Err(io("looking at", path, e)),
    }
}

/// Mounts the filesystem on the device of the node `source` at `target`.
///
/// # Errors
/// `MOUNT_FAILED`, with what it means.
pub fn filesystem(source: &Path, target: &Path, kind: Kind, options: &MountOptions) -> Result<(), Refusal> {
    let mut data = options.data.clone();
    // A restored copy has the UUID of its source, which may be mounted here.
    if kind == Kind::Xfs && !data.iter().any(|option| option == "nouuid") {
        data.push("nouuid".to_owned());
    }
    let data = data.join(",");
    let data = (!data.is_empty()).then_some(data.as_str());
    mount(Some(source), target, Some(kind.name()), flags(options), data).map_err(|errno| {
        let mut what = format!("mounting {} at {} as {}", source.display(), target.display(), kind.name());
        if let Some(data) = data {
            what = format!("{what} with {data}");
        }
        Refusal::new(Class::MountFailed, what).with_source(meaning(errno))
    })
}

/// Mounts what is at `from` at `target`, too, with these flags; all at once for who looks at `target`.
///
/// # Errors
/// `MOUNT_FAILED`, `IO`.
pub fn bind(host: &Host, from: &Path, target: &Path, options: &MountOptions) -> Result<(), Refusal> {
    let bound = MsFlags::MS_BIND;
    let failed = |errno: Errno| {
        let what = format!("mounting {} at {}", from.display(), target.display());
        Refusal::new(Class::MountFailed, what).with_source(errno.desc())
    };
    let wanted = flags(options) & per_mount();
    if wanted.is_empty() {
        return mount(Some(from), target, None::<&str>, bound, None::<&str>).map_err(failed);
    }
    let place = workshop(host, from.is_dir())?;
    let made = mount(Some(from), &place, None::<&str>, bound, None::<&str>)
        .and_then(|()| mount(None::<&str>, &place, None::<&str>, bound | MsFlags::MS_REMOUNT | wanted, None::<&str>))
        .and_then(|()| mount(Some(&place), target, None::<&str>, MsFlags::MS_MOVE, None::<&str>));
    if made.is_err() {
        // It may not have been mounted.
        let _ = umount2(&place, MntFlags::UMOUNT_NOFOLLOW);
    }
    let _ = if place.is_dir() { fs::remove_dir(&place) } else { fs::remove_file(&place) };
    made.map_err(failed)
}

/// The path as the mount table has it: without links on the way to it (kubelet's directory may be one). What it itself is, is
/// left open.
///
/// # Errors
/// `IO`.
pub fn resolved(path: &Path) -> Result<PathBuf, Refusal> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(path.to_owned()) };
    match parent.canonicalize() {
        Ok(parent) => Ok(parent.join(name)),
        // Then nothing is mounted there, either.
        Err(e) if is_absent(&e) => Ok(path.to_owned()),
        Err(e) => Err(io("looking at", parent, e)),
    }
}

/// Ends what a volume has mounted at `path`. What is mounted there and is no volume (a filesystem without a disk) is nobody's
/// to take away here. btrfs tells its disk by a path alone, which leads nowhere when the disk is gone: it had one all the same.
///
/// # Errors
/// `VOLUME_INCOMPATIBLE` for such a mount; as [`unmount`].
pub fn unmount_volume(host: &Host, path: &Path) -> Result<(), Refusal> {
    let names_a_disk = || Ok(table(host)?.top_at(path).is_some_and(|mount| mount.source.starts_with("/dev/")));
    if is_mount_point(path) && node_at(path)?.is_none() && device_at(host, path)?.is_none() && !names_a_disk()? {
        let what = format!("what is mounted at {} is no disk, and no volume", path.display());
        return Err(Refusal::new(Class::VolumeIncompatible, what));
    }
    unmount(host, path).map(drop)
}

/// Ends all mounts at `path`; tells whether there was one.
///
/// # Errors
/// `VOLUME_IN_USE` names who holds it; `IO`.
pub fn unmount(host: &Host, path: &Path) -> Result<bool, Refusal> {
    for depth in 0..DEEPEST {
        match umount2(path, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // No mount point, or nothing at all.
            Err(Errno::EINVAL | Errno::ENOENT | Errno::ENOTDIR) => return Ok(depth > 0),
            Err(Errno::EBUSY) => {
                let what = format!("{} is in use: {}", path.display(), crate::leave::holders(host, path));
                return Err(Refusal::new(Class::VolumeInUse, what));
            }
            Err(errno) => return Err(io("unmounting", path, errno.into())),
        }
    }
    Err(Refusal::new(Class::Io, format!("more than {DEEPEST} mounts lie upon each other at {}", path.display())))
}

/// Makes the workshop ready, without what a killed agent left in it half-made: a mount that is private, for only from such a
/// one a mount can be moved away. Called once, before anything else mounts.
///
/// # Errors
/// `IO`.
pub fn open_workshop(host: &Host) -> Result<(), Refusal> {
    let directory = host.path(WORKSHOP);
    fs::create_dir_all(&directory).map_err(|e| io("making", &directory, e))?;
    for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
        let path = entry.path();
        unmount(host, &path)?;
        let _ = if path.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) };
    }
    let failed = |errno: Errno| io("mounting", &directory, errno.into());
    if !is_mount_point(&directory) {
        mount(Some(&directory), &directory, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(failed)?;
    }
    mount(None::<&str>, &directory, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>).map_err(failed)
}

/// A new empty place in the workshop.
fn workshop(host: &Host, for_directory: bool) -> Result<PathBuf, Refusal> {
    let directory = host.path(WORKSHOP);
    tempfile_at(&directory, for_directory).map_err(|e| io("making a place in", &directory, e))
}

fn tempfile_at(directory: &Path, for_directory: bool) -> std::io::Result<PathBuf> {
    let path = directory.join(format!("{:016x}", rand::random::<u64>()));
    if for_directory {
        fs::create_dir(&path)?
    } else {
        drop(fs::File::create_new(&path)?)
    }
    Ok(path)
}

pub(super) fn is_mount_point(path: &Path) -> bool {
    let there = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE);
    there.is_ok_and(|there| there.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Flags that a mount has for itself, whatever its filesystem has.
fn per_mount() -> MsFlags {
    MsFlags::MS_RDONLY
        | MsFlags::MS_NOSUID
        | MsFlags::MS_NODEV
        | MsFlags::MS_NOEXEC
        | MsFlags::MS_NOATIME
        | MsFlags::MS_NODIRATIME
        | MsFlags::MS_RELATIME
        | MsFlags::MS_STRICTATIME
}

fn flags(options: &MountOptions) -> MsFlags {
    let table = [
        (options.read_only, MsFlags::MS_RDONLY),
        (options.nosuid, MsFlags::MS_NOSUID),
        (options.nodev, MsFlags::MS_NODEV),
        (options.noexec, MsFlags::MS_NOEXEC),
        (options.noatime, MsFlags::MS_NOATIME),
        (options.nodiratime, MsFlags::MS_NODIRATIME),
        (options.relatime, MsFlags::MS_RELATIME),
        (options.strictatime, MsFlags::MS_STRICTATIME),
        (options.lazytime, MsFlags::MS_LAZYTIME),
        (options.sync, MsFlags::MS_SYNCHRONOUS),
        (options.dirsync, MsFlags::MS_DIRSYNC),
    ];
    table.into_iter().filter(|(set, _)| *set).fold(MsFlags::empty(), |flags, (_, flag)| flags | flag)
}

/// What the kernel means; it says more in its log.
fn meaning(errno: Errno) -> String {
    let means = match errno {
        Errno::EINVAL => "an option that this filesystem does not know, or a superblock that it can't read",
        Errno::ENODEV => "this kernel has no such filesystem",
        Errno::EUCLEAN => "the filesystem is damaged",
        Errno::EBUSY => "the device is in use",
        Errno::EROFS => "the device is read-only, and the filesystem has to be repaired first",
        _ => return errno.desc().to_owned(),
    };
    format!("{} ({means}; the kernel's log tells more: dmesg)", errno.desc())
}

/// Whether nothing is at a path: not it, or a directory on the way to it is none.
pub(super) fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// A refusal of the filesystem.
pub(super) fn io(doing: &str, path: &Path, error: std::io::Error) -> Refusal {
    Refusal::new(Class::Io, format!("{doing} {}", path.display())).with_source(error)
}
