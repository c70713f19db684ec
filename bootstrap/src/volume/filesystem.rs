//! Filesystems that volumes may have, and how they are made.

use std::fmt;

use super::refusal::{Class, Refusal};

/// A filesystem that is made, mounted and grown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// ext3.
    Ext3,
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ext3, Self::Ext4, Self::Xfs, Self::Btrfs];

    /// As the kernel and StorageClasses call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// The kind of this name, to the letter.
    ///
    /// # Errors
    /// `FILESYSTEM_UNSUPPORTED` names those that there are.
    pub fn parse(name: &str) -> Result<Self, Refusal> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let all = Self::ALL.map(Self::name).join(", ");
            let what = format!("there is no filesystem {:?} for volumes; there are {all}", crate::text::plain(name));
            Refusal::new(Class::FilesystemUnsupported, what)
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The arguments of `mkfs.KIND` for a new filesystem on the whole device. None of them makes it write over something that it
/// finds there; but mkfs.ext4 asks for leave only at a terminal, and elsewhere writes over anything: it is for the caller to
/// prove that the disk is blank.
#[must_use]
pub fn mkfs(kind: Kind, device: &str, uuid: &str, options: &[String]) -> Vec<String> {
    let uuid_of_xfs = format!("uuid={uuid}");
    // Blocks that are free already need not be told: the disk is blank, and telling takes minutes on some storage.
    let fixed: &[&str] = match kind {
        // A volume has no use for blocks that only root may fill.
        Kind::Ext3 | Kind::Ext4 => &["-q", "-m", "0", "-E", "nodiscard", "-U", uuid],
        Kind::Xfs => &["-q", "-K", "-m", &uuid_of_xfs],
        Kind::Btrfs => &["-q", "-K", "-U", uuid],
    };
    let words = fixed.iter().map(|word| (*word).to_owned()).chain(options.iter().cloned());
    words.chain([device.to_owned()]).collect()
}

/// Flags that take a value and write to nothing but the device.
fn allowed(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Ext3 | Kind::Ext4 => &["-b", "-C", "-g", "-G", "-i", "-I", "-J", "-m", "-N", "-O", "-T", "-E"],
        Kind::Xfs => &["-b", "-d", "-i", "-l", "-m", "-n", "-s"],
        Kind::Btrfs => &["-n", "-s", "-O", "-m", "-d"],
    }
}

/// Parts of values that lead to another device or file, or to another place on this one, or are set already.
const ELSEWHERE: [&str; 12] = [
    "device=",
    "file",
    "name=",
    "logdev",
    "rtdev",
    "offset=",
    "uuid=",
    "root_owner",
    "size=",
    "agcount=0",
    "internal=0",
    "external",
];

/// The further arguments of mkfs that a StorageClass asks for, as words.
///
/// # Errors
/// `REQUEST_INVALID` names what may not be.
pub fn mkfs_options(kind: Kind, asked: &str) -> Result<Vec<String>, Refusal> {
    let refuse = |word: &str, why: &str| {
        let what = format!("mkfs-options: {:?} {why} (mkfs.{kind})", crate::text::plain(word));
        Refusal::new(Class::RequestInvalid, what)
    };
    let words: Vec<&str> = asked.split_ascii_whitespace().collect();
    let mut options = Vec::with_capacity(words.len());
    for pair in words.chunks(2) {
        let [flag, value] = pair else {
            return Err(refuse(pair.first().copied().unwrap_or_default(), "has no value; each flag takes one"));
        };
        if !allowed(kind).contains(flag) {
            return Err(refuse(flag, &format!("may not be; there may be {}", allowed(kind).join(" "))));
        }
        let plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"=,._:^-".contains(&byte));
        if !plain || value.starts_with('-') {
            return Err(refuse(value, "is no plain value"));
        }
        // The size of a block, an inode, a sector or a journal is no other place; that of the data is another filesystem.
        let of_data = *flag == "-d";
        if let Some(part) = ELSEWHERE.iter().find(|part| value.contains(**part) && (of_data || **part != "size=")) {
            return Err(refuse(value, &format!("may not have {part}")));
        }
        options.extend([(*flag).to_owned(), (*value).to_owned()]);
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kernels_to_the_letter() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.name()), Ok(kind));
        }
        for name in ["", "EXT4", "ext2", "ntfs", "ext4 ", "../mkfs.ext4", "ext4\n"] {
            let refusal = Kind::parse(name).unwrap_err();
            assert_eq!(refusal.class, Class::FilesystemUnsupported, "{name:?}");
            assert!(refusal.what.contains("ext3, ext4, xfs, btrfs"));
        }
    }

    #[test]
    fn no_mkfs_is_told_to_overwrite() {
        for kind in Kind::ALL {
            let words = mkfs(kind, "/dev/vdb", "u-u-i-d", &["-b".to_owned(), "4096".to_owned()]);
            assert_eq!(words.last().map(String::as_str), Some("/dev/vdb"));
            assert!(words.iter().all(|word| word != "-F" && word != "-f"), "{words:?}");
            assert!(
                words.iter().any(|word| word.contains("u-u-i-d")) && words.contains(&"4096".to_owned()),
                "{words:?}"
            );
        }
    }

    #[test]
    fn a_storage_class_may_ask_for_a_shape_and_for_nothing_else() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let good = mkfs_options(Kind::Ext4, " -b 4096  -O ^has_journal,metadata_csum -J size=64 ").unwrap();
        assert_eq!(good, words(&["-b", "4096", "-O", "^has_journal,metadata_csum", "-J", "size=64"]));
        assert_eq!(mkfs_options(Kind::Xfs, "-m reflink=0").unwrap(), words(&["-m", "reflink=0"]));
        let sizes = ["-b", "size=4096", "-i", "size=512", "-l", "size=64m"];
        assert_eq!(mkfs_options(Kind::Xfs, &sizes.join(" ")).unwrap(), words(&sizes));
        assert_eq!(mkfs_options(Kind::Btrfs, "").unwrap(), words(&[]));
        for (kind, asked, named) in [
            (Kind::Ext4, "-F", "-F"),
            (Kind::Ext4, "-F -b", "-F"),
            (Kind::Ext4, "-b", "-b"),
            (Kind::Ext4, "-J device=/dev/vda", "/dev/vda"),
            (Kind::Ext4, "-J device=x", "device="),
            (Kind::Ext4, "-E offset=4096", "offset="),
            (Kind::Ext4, "-U 0", "-U"),
            (Kind::Ext4, "-b -F", "-F"),
            (Kind::Ext4, "4096 -b", "4096"),
            (Kind::Ext4, "-b $(reboot)", "reboot"),
            (Kind::Xfs, "-f -b", "-f"),
            (Kind::Xfs, "-d file,name=x", "file"),
            (Kind::Xfs, "-l logdev=x", "logdev"),
            (Kind::Xfs, "-r rtdev=x", "-r"),
            (Kind::Xfs, "-m uuid=x", "uuid="),
            (Kind::Xfs, "-d size=1", "size="),
            (Kind::Btrfs, "-r /etc", "-r"),
        ] {
            let refusal = mkfs_options(kind, asked).unwrap_err();
            assert!(refusal.class == Class::RequestInvalid && refusal.what.contains(named), "{asked}: {refusal}");
        }
    }
}
