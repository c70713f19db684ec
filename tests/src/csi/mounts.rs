//! `/proc/PID/mountinfo`.

use anyhow::{Context as _, Result};

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its number.
    pub id: u32,
    /// The number of the mount it lies on.
    pub parent: u32,
    /// `MAJOR:MINOR` of the filesystem's device; see [`super::Disk::number`].
    pub device: String,
    /// What of the filesystem is mounted: `/` for all of it, the node's path for a device node.
    pub root: String,
    /// Where.
    pub target: String,
    /// The options of this mount: `rw,relatime`.
    pub options: String,
    /// Whether what is mounted below appears in its peers too.
    pub shared: bool,
    /// The filesystem's type: `ext4`.
    pub filesystem: String,
    /// The device as it was named.
    pub source: String,
    /// The options of the filesystem.
    pub super_options: String,
}

impl Mount {
    /// Whether `option` is one of the mount's own or of the filesystem's.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        [&self.options, &self.super_options].iter().any(|options| options.split(',').any(|one| one == option))
    }
}

pub(super) fn parse(table: &str) -> Result<Vec<Mount>> {
    table.lines().map(|line| read(line).with_context(|| format!("Reading '{line}' of a mount table"))).collect()
}

fn read(line: &str) -> Option<Mount> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut words = mount.split(' ');
    let (id, parent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let (device, root, target, options) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let shared = words.any(|word| word.starts_with("shared:"));
    let mut words = filesystem.split(' ');
    let (kind, source, super_options) = (words.next()?, words.next()?, words.next()?);
    let own = str::to_owned;
    Some(Mount {
        id,
        parent,
        device: own(device),
        root: plain(root),
        target: plain(target),
        options: own(options),
        shared,
        filesystem: own(kind),
        source: plain(source),
        super_options: own(super_options),
    })
}

/// The kernel writes space, tab, line feed and backslash in octal.
fn plain(word: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(word.to_owned(), |word, (escape, plain)| word.replace(escape, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whole() {
        let line = "36 35 7:3 /sub /mnt/a\\040b rw,noatime shared:2 master:1 - ext4 /dev/loop3 rw,errors=continue\n";
        let mounts = parse(line).unwrap();
        let [mount] = &mounts[..] else { panic!("{mounts:?}") };
        let read = (mount.id, mount.parent, &*mount.device, &*mount.root, &*mount.target, mount.shared, &*mount.source);
        assert_eq!(read, (36, 35, "7:3", "/sub", "/mnt/a b", true, "/dev/loop3"));
        assert!(mount.has("noatime") && mount.has("errors=continue") && !mount.has("ro"));
        assert!(parse("36 35 7:3 / /mnt rw\n").is_err());
    }
}
