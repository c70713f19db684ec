//! `/proc/PID/mountinfo` (proc(5)): every mount of a mount namespace.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The number of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// Of its driver; 0 for what is no device.
    pub major: u32,
    /// Among those of its driver.
    pub minor: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl FromStr for Device {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.split_once(':').ok_or(())?;
        Ok(Self { major: major.parse().map_err(|_| ())?, minor: minor.parse().map_err(|_| ())? })
    }
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The number of its filesystem's device; of a filesystem without one, or with several (btrfs), a number of no device.
    pub device: Device,
    /// What of the filesystem is mounted.
    pub root: PathBuf,
    /// Where.
    pub path: PathBuf,
    /// Options of this mount: `rw,relatime`.
    pub options: String,
    /// The filesystem's type.
    pub kind: String,
    /// What was mounted: a device's node, or a name.
    pub source: String,
    /// Options of the filesystem: `rw,data=ordered`.
    pub super_options: String,
}

impl Mount {
    /// Whether nothing can be written through it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.has("ro") || self.super_options.split(',').any(|option| option == "ro")
    }

    /// Whether the mount has this option.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|there| there == option)
    }
}

/// All mounts, in the order in which they were made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountTable(Vec<Mount>);

impl MountTable {
    /// Reads the table.
    ///
    /// # Errors
    /// In words: a line that can't be read, or no line. Whoever unmounts has to know all mounts.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mounts = lines.map(|line| mount(line).ok_or_else(|| format!("line {:?}", String::from_utf8_lossy(line))));
        let mounts = mounts.collect::<Result<Vec<_>, _>>()?;
        if mounts.is_empty() { Err("it tells no mount".to_owned()) } else { Ok(Self(mounts)) }
    }

    /// Every mount.
    pub fn iter(&self) -> std::slice::Iter<'_, Mount> {
        self.0.iter()
    }

    /// What one finds at `path`, where that is a mount point: the last that was mounted there.
    #[must_use]
    pub fn top_at(&self, path: &Path) -> Option<&Mount> {
        self.0.iter().rev().find(|mount| mount.path == path)
    }

    /// The mounts below the directory.
    pub fn below<'a>(&'a self, directory: &'a Path) -> impl Iterator<Item = &'a Mount> {
        self.0.iter().filter(move |mount| mount.path != directory && mount.path.starts_with(directory))
    }
}

fn mount(line: &[u8]) -> Option<Mount> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(unescaped(bytes)));
    // Optional fields lie in between.
    let end = words.iter().skip(6).position(|word| *word == b"-")? + 6;
    Some(Mount {
        device: std::str::from_utf8(words.get(2)?).ok()?.parse().ok()?,
        root: path(words.get(3)?),
        path: path(words.get(4)?),
        options: text(words.get(5)?),
        kind: text(words.get(end + 1)?),
        // Anything may be given for a source, even nothing.
        source: text(&unescaped(words.get(end + 2).copied().unwrap_or_default())),
        super_options: text(words.get(end + 3).copied().unwrap_or_default()),
    })
}

/// The kernel writes space, tab, newline and backslash as octal numbers.
pub(crate) fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        // A sign would be read, too.
        let octal = |digits: &&[u8]| *first == b'\\' && digits.iter().all(u8::is_ascii_digit);
        let digits = after.get(..3).filter(octal).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "20 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro\n\
        30 20 254:16 / /var/lib/kubelet/plugins/a\\040b/globalmount rw,noatime shared:9 master:2 - xfs /dev/vdb rw,nouuid\n\
        31 20 254:16 / /var/lib/kubelet/pods/u/mount ro,relatime - xfs /dev/vdb rw,nouuid\n\
        32 20 0:5 /vdc /var/lib/kubelet/devices/u rw - devtmpfs none\n\
        33 20 0:50 /@ /b rw - btrfs /dev/vdd ro\n";

    #[test]
    fn each_field_is_read() {
        let table = MountTable::parse(TABLE.as_bytes()).unwrap();
        let staged = table.top_at(Path::new("/var/lib/kubelet/plugins/a b/globalmount")).unwrap();
        assert_eq!(staged.device, Device { major: 254, minor: 16 });
        assert_eq!((staged.kind.as_str(), staged.source.as_str()), ("xfs", "/dev/vdb"));
        assert_eq!((staged.options.as_str(), staged.super_options.as_str()), ("rw,noatime", "rw,nouuid"));
        assert!(staged.has("noatime") && !staged.has("atime") && !staged.is_read_only());
        let node = table.top_at(Path::new("/var/lib/kubelet/devices/u")).unwrap();
        assert_eq!((node.root.as_path(), node.super_options.as_str()), (Path::new("/vdc"), ""));
        assert!(table.top_at(Path::new("/var/lib/kubelet/pods/u/mount")).unwrap().is_read_only());
        assert!(table.top_at(Path::new("/b")).unwrap().is_read_only());
        assert_eq!(table.below(Path::new("/var/lib/kubelet")).count(), 3);
        assert_eq!(table.below(Path::new("/var/lib/kube")).count(), 0);
    }

    #[test]
    fn the_last_mount_lies_on_top() {
        let table = format!("{TABLE}40 20 7:0 / /b rw - ext4 /dev/loop0 rw\n");
        assert_eq!(MountTable::parse(table.as_bytes()).unwrap().top_at(Path::new("/b")).unwrap().kind, "ext4");
    }

    #[test]
    fn no_line_is_left_out() {
        for bad in ["", "\n", "20 1 254:1 / /\n", "20 1 x:1 / / rw - ext4 a rw\n", "20 1 254 / / rw - ext4 a rw\n"] {
            assert!(MountTable::parse(bad.as_bytes()).is_err(), "{bad:?}");
            assert!(MountTable::parse(format!("{TABLE}{bad}x").as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn escapes_that_are_none_stay() {
        for (text, plain) in [
            (r"a\040b", "a b"),
            (r"a\134", "a\\"),
            (r"a\9", r"a\9"),
            (r"\04", r"\04"),
            (r"\777", r"\777"),
            (r"\+12", r"\+12"),
        ] {
            assert_eq!(unescaped(text.as_bytes()), plain.as_bytes(), "{text}");
        }
    }
}
