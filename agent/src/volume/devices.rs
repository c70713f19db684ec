//! The machine's disks: who they say they are, and one that is held so that it can become no other.
//!
//! Links below `/dev/disk/by-id` are not asked: they may be of a disk that is gone. What the kernel says of a device it
//! says of the device itself.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::RwLockReadGuard;

use bootstrap::mountinfo::Device;
use bootstrap::volume::identity::{self, Evidence};
use bootstrap::volume::refusal::{Class, Refusal};
use bootstrap::volume::{Serial, vpd};
use nix::libc;
use nix::sys::stat::{major, minor};

use super::mapping;
use crate::host::Host;
use crate::tool::start_none;

/// Where the kernel lists whole disks.
pub(super) const BLOCK: &str = "/sys/block";
/// Where it lists all block devices by their number.
const NUMBERS: &str = "/sys/dev/block";
/// Kinds of devices that no hypervisor attaches.
const NO_DISKS: [&str; 5] = ["ram", "zram", "dm-", "md", "fd"];
/// The kernel counts in these, whatever the disk's own sectors are (`Documentation/ABI/stable/sysfs-block`).
const SECTOR: u64 = 512;

/// A disk that is proven to be the volume's. It is held open: for so long the kernel gives its number and its name to no
/// other disk, even when it is unplugged.
#[derive(Debug)]
pub struct Disk {
    /// The kernel's name for it: `vdb`.
    pub name: String,
    /// Its node.
    pub node: PathBuf,
    /// Its number.
    pub device: Device,
    file: File,
}

/// A disk that is open for nobody else. Meanwhile no program is started.
#[derive(Debug)]
pub struct Exclusive {
    /// It is closed before programs are started again.
    pub file: File,
    _start_none: RwLockReadGuard<'static, ()>,
}

impl Disk {
    /// Opens the device of this name; who it says it is, is for the caller to ask again.
    ///
    /// # Errors
    /// `DISK_UNREADABLE`, `DISK_CHANGED`.
    pub(super) fn open(host: &Host, name: &str) -> Result<Self, Refusal> {
        let node = host.path(&format!("/dev/{}", name.replace('!', "/")));
        let flags = libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = File::options().read(true).custom_flags(flags).open(&node).map_err(|e| {
            Refusal::new(Class::DiskUnreadable, format!("{} can't be opened", node.display())).with_source(e)
        })?;
        let there = file.metadata().map_err(|e| {
            let what = format!("{}: it can't be asked what it is", node.display());
            Refusal::new(Class::DiskChanged, what).with_source(e)
        })?;
        if !there.file_type().is_block_device() {
            return Err(Refusal::new(Class::DiskChanged, format!("{}: is no block device", node.display())));
        }
        // From here on the number is this disk's alone, and what sysfs says of the number is about this disk.
        let device = device_of_number(there.rdev());
        Ok(Self { name: name.to_owned(), node, device, file })
    }

    /// A file in a disk's place, for programs that bear one.
    #[cfg(test)]
    pub(super) fn of_file(path: &std::path::Path) -> Self {
        let file = File::open(path).unwrap();
        let (name, node) = ("file".to_owned(), path.to_owned());
        Self { name, node, device: Device { major: 0, minor: 0 }, file }
    }

    /// How many bytes it has now.
    ///
    /// # Errors
    /// `VOLUME_NOT_ATTACHED` when it is gone.
    pub fn size(&self, host: &Host) -> Result<u64, Refusal> {
        size(host, self.device).ok_or_else(|| gone(&self.name))
    }

    /// Reads the `length` bytes at `offset`, or those that there are.
    ///
    /// # Errors
    /// `DISK_UNREADABLE`.
    pub fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, Refusal> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let what = format!("{} can't be read at byte {}", self.name, offset + filled as u64);
                    return Err(Refusal::new(Class::DiskUnreadable, what).with_source(e));
                }
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Where this very disk is opened again, by this process and by programs that it starts, whatever its node has become
    /// by then: mkfs.ext4 asks nobody before it writes over another disk.
    #[must_use]
    pub fn held(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Opens it for nobody else: not mounted, in no array, open exclusively nowhere.
    ///
    /// # Errors
    /// `VOLUME_IN_USE`, `DISK_UNREADABLE`.
    pub fn exclusively(&self, write: bool) -> Result<Exclusive, Refusal> {
        // A program that is being started has it open for some milliseconds longer, and mkfs finds the disk in use.
        let start_none = start_none();
        let flags = libc::O_EXCL | libc::O_CLOEXEC;
        let file = File::options().read(true).write(write).custom_flags(flags).open(self.held()).map_err(|e| {
            if e.raw_os_error() == Some(libc::EBUSY) {
                Refusal::new(Class::VolumeInUse, format!("{} is mounted, or held by another program", self.name))
            } else {
                Refusal::new(Class::DiskUnreadable, format!("{} can't be opened", self.name)).with_source(e)
            }
        })?;
        self.is_of(&file)?;
        Ok(Exclusive { file, _start_none: start_none })
    }

    /// That the node is still this disk's, for a mount, which is given its path.
    ///
    /// # Errors
    /// `DISK_CHANGED`.
    pub fn check_node(&self) -> Result<(), Refusal> {
        let there = fs::symlink_metadata(&self.node).map_err(|e| self.changed().with_source(e))?;
        let same = there.file_type().is_block_device() && device_of_number(there.rdev()) == self.device;
        if same { Ok(()) } else { Err(self.changed()) }
    }

    fn is_of(&self, file: &File) -> Result<(), Refusal> {
        let there = file.metadata().map_err(|e| self.changed().with_source(e))?;
        if device_of_number(there.rdev()) == self.device { Ok(()) } else { Err(self.changed()) }
    }

    fn changed(&self) -> Refusal {
        let what = format!("{} is no longer the disk {} that was looked at", self.node.display(), self.device);
        Refusal::new(Class::DiskChanged, what)
    }

    /// Which attachment of a disk this is: the kernel counts them since it started (`diskseq`, Linux 5.15).
    #[must_use]
    pub fn sequence(&self, host: &Host) -> Option<String> {
        attribute(host, &format!("{}/diskseq", directory(self.device)))
    }
}

/// The disk of `serial`, where exactly one is attached.
///
/// # Errors
/// `VOLUME_NOT_ATTACHED`, `VOLUME_AMBIGUOUS`, `DISK_CHANGED`.
pub fn find(host: &Host, serial: &Serial) -> Result<Disk, Refusal> {
    let seen = all(host);
    let at = identity::find(serial, &seen)?;
    let Some(found) = seen.get(at) else { return Err(gone(serial.as_str())) };
    hold(host, serial, &found.name)
}

/// Opens the disk of this name, and looks again at who it says it is.
fn hold(host: &Host, serial: &Serial, name: &str) -> Result<Disk, Refusal> {
    let disk = Disk::open(host, name)?;
    let again = evidence(host, name.to_owned(), disk.device);
    identity::find(serial, std::slice::from_ref(&again)).map_err(|_| {
        let what = format!("was the disk {serial} when it was looked for, and is {again} now that it is open");
        Refusal::new(Class::DiskChanged, format!("{}: {what}", disk.node.display()))
    })?;
    Ok(disk)
}

/// Every disk of the machine, as far as the kernel says something of it.
#[must_use]
pub fn all(host: &Host) -> Vec<Evidence> {
    let entries = fs::read_dir(host.path(BLOCK)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| !NO_DISKS.iter().any(|kind| name.starts_with(kind)));
    names.sort();
    let of = |name: String| {
        let device = attribute(host, &format!("{BLOCK}/{name}/dev"))?.parse().ok()?;
        Some(evidence(host, name, device))
    };
    names.into_iter().filter_map(of).collect()
}

/// Whether the device of this number says that it is the disk of `serial`; or is what that disk is decrypted as.
#[must_use]
pub fn is_serial(host: &Host, device: Device, serial: &Serial) -> bool {
    if let Some(mapping) = mapping::at(host, device) {
        return mapping.is_on(serial);
    }
    identity::find(serial, &[evidence(host, device.to_string(), device)]).is_ok()
}

/// What the kernel says of a device, by its number.
#[must_use]
pub fn evidence(host: &Host, name: String, device: Device) -> Evidence {
    let at = directory(device);
    let text = |file: &str| attribute(host, &format!("{at}/{file}"));
    let page = |file: &str| fs::read(host.path(&format!("{at}/device/{file}"))).ok();
    let mut serials: Vec<(&'static str, String)> = Vec::new();
    serials.extend(text("serial").map(|serial| ("serial", serial)));
    serials.extend(text("device/serial").map(|serial| ("nvme serial", serial)));
    serials.extend(page("vpd_pg80").and_then(|page| vpd::unit_serial(&page)).map(|serial| ("vpd 0x80", serial)));
    serials.extend(page("vpd_pg83").iter().flat_map(|page| vpd::designators(page)).map(|serial| ("vpd 0x83", serial)));
    Evidence { name, device, serials }
}

/// How many bytes the device of this number has.
#[must_use]
pub fn size(host: &Host, device: Device) -> Option<u64> {
    let sectors: u64 = attribute(host, &format!("{}/size", directory(device)))?.parse().ok()?;
    sectors.checked_mul(SECTOR).filter(|size| *size > 0)
}

/// Whether the kernel no longer has the device, which something that is mounted may still be on; or of an encrypted volume the
/// disk below it.
#[must_use]
pub fn is_gone(host: &Host, device: Device) -> bool {
    let orphaned =
        || mapping::at(host, device).is_some_and(|mapping| mapping.volume().is_some() && mapping.is_orphan());
    !host.path(&directory(device)).exists() || orphaned()
}

/// The kernel's name of the device.
#[must_use]
pub fn name(host: &Host, device: Device) -> Option<String> {
    let text = attribute(host, &format!("{}/uevent", directory(device)))?;
    text.lines().find_map(|line| line.strip_prefix("DEVNAME=").map(str::to_owned))
}

/// How many errors of the filesystem on this device the kernel has counted: ext4 tells.
#[must_use]
pub fn filesystem_errors(host: &Host, device: Device) -> u64 {
    let errors = name(host, device).and_then(|name| attribute(host, &format!("/sys/fs/ext4/{name}/errors_count")));
    errors.and_then(|errors| errors.parse().ok()).unwrap_or_default()
}

/// Asks a SCSI disk how large it is; others tell by themselves.
pub fn rescan(host: &Host, device: Device) {
    // It may have none, or be gone: then its size says so.
    let _ = fs::write(host.path(&format!("{}/device/rescan", directory(device))), "1");
}

/// Where sysfs speaks of the device.
pub(super) fn directory(device: Device) -> String {
    format!("{NUMBERS}/{device}")
}

pub(super) fn attribute(host: &Host, path: &str) -> Option<String> {
    let text = fs::read(host.path(path)).ok()?;
    let text = String::from_utf8_lossy(&text);
    Some(text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned()).filter(|text| !text.is_empty())
}

/// The number of a device, as a file's status tells it.
#[must_use]
pub fn device_of_number(number: u64) -> Device {
    // Both have at most 32 bits in what `stat` gives (`include/linux/kdev_t.h`).
    let part = |part: u64| u32::try_from(part).unwrap_or(u32::MAX);
    Device { major: part(major(number)), minor: part(minor(number)) }
}

fn gone(name: &str) -> Refusal {
    Refusal::new(Class::VolumeNotAttached, format!("the disk {name} is gone"))
}

#[cfg(test)]
mod tests;
