//! Block devices that may be discs, and files that are told apart from what they were before.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::host::Host;

/// Where an ISO 9660 volume says so: `CD001` behind the type of its first descriptor (ECMA-119 §8.1).
const MAGIC_AT: u64 = 32_769;
const MAGIC: &[u8; 5] = b"CD001";
/// Devices that hold no disc, or that take seconds to say so (floppy drives).
const NEVER: [&str; 5] = ["ram", "zram", "fd", "mtdblock", "nbd"];

/// A block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Where its node is.
    pub node: PathBuf,
    /// Whether it is an optical drive, by its name.
    pub optical: bool,
}

/// What tells a file or a device from another one that takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Print {
    inode: (u64, u64, u64),
    bytes: u64,
    changed: (i64, i64),
    /// What the kernel counts up when a device gets another medium (`diskseq`, Linux 5.15), and its sectors.
    medium: (String, String),
}

/// The block devices of the host that have or may get a medium: optical drives first, then by name.
#[must_use]
pub fn list(host: &Host) -> Vec<Device> {
    let directory = host.path("/sys/class/block");
    let names = fs::read_dir(&directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !NEVER.iter().any(|never| is_numbered(name, never)));
    names.retain(|name| is_optical(name) || attribute(&directory.join(name), "size") != "0");
    names.sort_by_key(|name| (!is_optical(name), name.len(), name.clone()));
    let device = |name: String| Device {
        // A slash in a device's name is written so by the kernel.
        node: host.path("/dev").join(name.replace('!', "/")),
        optical: is_optical(&name),
    };
    names.into_iter().map(device).collect()
}

/// Opens a device or an image for reading. Without `O_NONBLOCK`, opening an empty optical drive closes its
/// tray, also the one that was just ejected.
///
/// # Errors
/// As the kernel has them.
pub fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).custom_flags((OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits()).open(path)
}

/// Whether a device holds an ISO 9660 volume.
///
/// # Errors
/// As the kernel has them: no medium, no such device.
pub fn is_iso(path: &Path) -> std::io::Result<bool> {
    let mut magic = [0; MAGIC.len()];
    match open(path)?.read_exact_at(&mut magic, MAGIC_AT) {
        Ok(()) => Ok(&magic == MAGIC),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// The print of the file or device at `path`, whose attributes the kernel shows below the host's `/sys`.
#[must_use]
pub fn print(host: &Host, path: &Path) -> Option<Print> {
    let meta = fs::metadata(path).ok()?;
    let name = path.file_name()?.to_string_lossy().into_owned();
    let attributes = host.path("/sys/class/block").join(name);
    let medium = match path.starts_with(host.path("/dev")) {
        true => (attribute(&attributes, "diskseq"), attribute(&attributes, "size")),
        false => Default::default(),
    };
    // A node's own times change whenever it is written to or its owner is set.
    let changed = if meta.file_type().is_file() { (meta.mtime(), meta.mtime_nsec()) } else { (0, 0) };
    Some(Print { inode: (meta.dev(), meta.ino(), meta.rdev()), bytes: meta.len(), changed, medium })
}

/// Whether a device is an optical drive, by its name.
#[must_use]
pub fn is_optical(name: &str) -> bool {
    is_numbered(name, "sr")
}

fn is_numbered(name: &str, kind: &str) -> bool {
    name.strip_prefix(kind).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn attribute(device: &Path, name: &str) -> String {
    let mut text = String::new();
    if let Ok(file) = File::open(device.join(name)) {
        // What can't be read is not known; these are a few digits.
        let _ = file.take(64).read_to_string(&mut text);
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_by_name_and_size() {
        let root = tempfile::tempdir().unwrap();
        for (name, size) in [
            ("vda", "100"),
            ("sr1", "0"),
            ("sr0", "0"),
            ("loop3", "0"),
            ("loop10", "8"),
            ("loop9", "8"),
            ("zram0", "9"),
            ("fd0", "9"),
        ] {
            let device = root.path().join("sys/class/block").join(name);
            fs::create_dir_all(&device).unwrap();
            fs::write(device.join("size"), format!("{size}\n")).unwrap();
        }
        let host = Host::new(root.path()).unwrap();
        let names: Vec<_> = list(&host).into_iter().map(|device| (device.node, device.optical)).collect();
        let dev = |name: &str| host.path("/dev").join(name);
        let expected = [("sr0", true), ("sr1", true), ("vda", false), ("loop9", false), ("loop10", false)]
            .map(|(n, o)| (dev(n), o));
        assert_eq!(names, expected);
    }

    #[test]
    fn a_volume_is_told_by_its_content() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x");
        let mut bytes = vec![0; 40_000];
        fs::write(&path, &bytes).unwrap();
        assert!(!is_iso(&path).unwrap());
        bytes[32_769..32_774].copy_from_slice(MAGIC);
        fs::write(&path, &bytes).unwrap();
        assert!(is_iso(&path).unwrap());
        fs::write(&path, "short").unwrap();
        assert!(!is_iso(&path).unwrap());
        assert!(is_iso(&root.path().join("none")).is_err());
    }
}
