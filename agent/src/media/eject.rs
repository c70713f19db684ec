//! Opens an optical drive's tray. `unsafe`, because the request is an ioctl, which no safe
//! interface has, and the program `eject` is not on every image.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use bootstrap::failure::{Code, Failure};
use rustix::ioctl::{IntegerSetter, NoArg, Opcode, ioctl};

use super::discs;

/// `linux/cdrom.h`: `CDROMEJECT`.
const CDROMEJECT: Opcode = 0x5309;

/// `linux/cdrom.h`: `CDROM_LOCKDOOR`; 0 unlocks.
const CDROM_LOCKDOOR: Opcode = 0x5329;
/// The major number of SCSI and virtual optical drives (`Documentation/admin-guide/devices.txt`).
const OPTICAL_MAJOR: u64 = 11;

/// Ejects the disc of the optical drive `device`, unless it is mounted.
///
/// # Errors
/// `CONFIG_INVALID` when it is no optical drive or mounted somewhere; `IO` when the drive refuses.
pub fn eject(device: &Path, mounts: &str) -> Result<(), Failure> {
    let named = |why: String| format!("{}: not ejected: {why}", device.display());
    let meta = fs::metadata(device).map_err(|e| Failure::new(Code::Io, named(e.to_string())))?;
    let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    if !meta.file_type().is_block_device() || u64::from(major) != OPTICAL_MAJOR {
        return Err(Failure::new(Code::ConfigInvalid, named("is no optical drive".to_owned())));
    }
    if let Some(place) = mounted_at(mounts, major, minor) {
        return Err(Failure::new(Code::ConfigInvalid, named(format!("is mounted at {place}")))
            .with_remedy(format!("umount {place}, then eject it")));
    }
    let drive = discs::open(device).map_err(|e| Failure::new(Code::Io, named(e.to_string())))?;
    request(&drive).map_err(|e| Failure::new(Code::Io, named(e.to_string())))
}

/// udev locks the door of a drive as soon as a disc is in it (`cdrom_id --lock-media`), to hear of its button: a locked drive
/// refuses to open. Drives that have no lock say so, which changes nothing.
#[allow(
    unsafe_code,
    reason = "an ioctl is only asked for by its number; these take a number or nothing, and give no memory"
)]
fn request(drive: &fs::File) -> rustix::io::Result<()> {
    // SAFETY: CDROM_LOCKDOOR takes a number and CDROMEJECT nothing: the kernel reads and writes none of our memory, whatever
    // the file is.
    unsafe {
        let _unlocked = ioctl(drive, IntegerSetter::<CDROM_LOCKDOOR>::new_usize(0));
        ioctl(drive, NoArg::<CDROMEJECT>::new())
    }
}

/// Where a device is mounted, by the text of `/proc/self/mountinfo` (proc(5): the third field is MAJOR:MINOR, the
/// fifth the place).
fn mounted_at(mounts: &str, major: u32, minor: u32) -> Option<&str> {
    let device = format!("{major}:{minor}");
    let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    lines.find(|fields| fields.get(2) == Some(&device.as_str()))?.get(4).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_optical_drive_is_ejected() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [file.path(), Path::new("/dev/null"), Path::new("/dev/loop0"), Path::new("/nowhere")] {
            let failure = eject(path, "").unwrap_err();
            assert!(failure.what.contains("not ejected"), "{}", failure.what);
        }
    }

    #[test]
    fn a_mounted_disc_is_seen() {
        let mounts =
            "36 35 98:0 / /mnt rw - ext3 /dev/root rw\n37 35 11:0 / /mnt/k8sdisk ro shared:5 - iso9660 /dev/sr0 ro\n";
        assert_eq!(mounted_at(mounts, 11, 0), Some("/mnt/k8sdisk"));
        assert_eq!(mounted_at(mounts, 11, 1), None);
    }
}
