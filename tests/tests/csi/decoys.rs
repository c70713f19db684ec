//! Disks that are not to be touched, and what tells whether they were.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use bootstrap::digest::{Digest, Hasher};
use cks_tests::process::Command;
use rand::Rng as _;
use rand::rngs::StdRng;
use rustix::fs::{SeekFrom, seek};

const MIB: u64 = 1 << 20;
const PAGE: usize = 4096;

/// What a disk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Blank,
    /// Data without a signature, near the beginning.
    Start,
    /// The same where nobody looks who looks at both ends.
    Middle,
    /// The same in the last sector.
    End,
    Ext4,
    Xfs,
    Btrfs,
    Lvm,
    Luks,
    /// A member of an array, whose superblock is near the beginning.
    Md,
    /// The same with its superblock near the end.
    MdAtEnd,
    /// The same, and what it mirrors is a filesystem, which is seen from the first bytes.
    MirroredExt4,
    Gpt,
    Mbr,
    Swap,
    /// Not one sector can be read.
    Unreadable,
    /// The second half can't.
    HalfUnreadable,
}

/// All of them.
pub(crate) const ALL: [Content; 17] = [
    Content::Blank,
    Content::Start,
    Content::Middle,
    Content::End,
    Content::Ext4,
    Content::Xfs,
    Content::Btrfs,
    Content::Lvm,
    Content::Luks,
    Content::Md,
    Content::MdAtEnd,
    Content::MirroredExt4,
    Content::Gpt,
    Content::Mbr,
    Content::Swap,
    Content::Unreadable,
    Content::HalfUnreadable,
];

/// How the agent has to answer when a disk of this content is the volume's, and `kind` is asked for: a class, or none.
pub(crate) fn refusal(content: Content, kind: &str) -> Option<&'static str> {
    let of = |there: &str| if there == kind { None } else { Some("FILESYSTEM_MISMATCH") };
    match content {
        // The rule is that both ends are zero and libblkid knows nothing.
        Content::Blank | Content::Middle => None,
        Content::Ext4 => of("ext4"),
        Content::Xfs => of("xfs"),
        Content::Btrfs => of("btrfs"),
        Content::Unreadable | Content::HalfUnreadable => Some("DISK_UNREADABLE"),
        _ => Some("DISK_NOT_BLANK"),
    }
}

/// How large a disk has to be that holds `content`, or is to get a filesystem of this kind.
pub(crate) fn size(chance: &mut StdRng, content: Content, kind: &str) -> u64 {
    let least = match (content, kind) {
        (Content::Xfs, _) | (_, "xfs") => 300,
        // The kernel grows none to less than 256 MiB.
        (Content::Btrfs, _) | (_, "btrfs") => 272,
        _ => chance.random_range(8..48),
    };
    // Not every disk ends with a whole page.
    least * MIB + 512 * chance.random_range(0..16)
}

/// Writes the content to the file of a disk that is not attached.
pub(crate) fn fill(file: &Path, content: Content) -> Result<()> {
    let disk = File::options().read(true).write(true).open(file)?;
    let size = disk.metadata()?.len();
    let put = |at: u64, bytes: &[u8]| disk.write_all_at(bytes, at).context("Filling a disk");
    let md = |at: u64| {
        // Version 1, which says where it stands itself.
        put(at, &[0xa92b_4efc_u32.to_le_bytes(), 1_u32.to_le_bytes()].concat())?;
        put(at + 128, &(at / 512).to_le_bytes())
    };
    // One partition of this type, from the first MiB on.
    let mbr = |kind: u8| {
        let sectors = u32::try_from(size / 512 - 2048).unwrap_or(u32::MAX).to_le_bytes();
        put(446, &[&[0, 0x20, 0x21, 0, kind, 0xfe, 0xff, 0xff, 0, 8, 0, 0], &sectors[..]].concat())?;
        put(510, b"\x55\xaa")
    };
    // As `super_1_load` of the kernel's md reckons: 8 KiB before the end, in whole pages.
    let near_end = (size / 512 - 16) / 8 * 8 * 512;
    match content {
        Content::Blank | Content::Unreadable | Content::HalfUnreadable => Ok(()),
        Content::Start => put(7 * 512, b"a database"),
        Content::Middle => put(size / 2, b"a database"),
        Content::End => put(size - 512, b"a database"),
        Content::Ext4 => make("mkfs.ext4", file),
        Content::Xfs => make("mkfs.xfs", file),
        Content::Btrfs => make("mkfs.btrfs", file),
        Content::Lvm => put(512, b"LABELONE\x01\0\0\0\0\0\0\0\0\0\0\0\x20\0\0\0LVM2 001"),
        Content::Luks => put(0, b"LUKS\xba\xbe\0\x02\0\0\0\0\0\0\x40\0"),
        Content::Md => md(PAGE as u64),
        Content::MdAtEnd => md(near_end),
        // The filesystem ends before the superblock.
        Content::MirroredExt4 => {
            let inner = File::options().write(true).open(file)?;
            inner.set_len(near_end - (64 << 10))?;
            make("mkfs.ext4", file)?;
            inner.set_len(size)?;
            md(near_end)
        }
        Content::Gpt => mbr(0xee).and_then(|()| put(512, b"EFI PART\0\0\x01\0\x5c\0\0\0")),
        Content::Mbr => mbr(0x83),
        Content::Swap => make("mkswap", file),
    }
}

/// What is done to a disk after it was attached.
pub(crate) fn spoil(file: &Path, content: Content) -> Result<()> {
    let left = match content {
        Content::Unreadable => 0,
        Content::HalfUnreadable => fs::metadata(file)?.len() / 2,
        _ => return Ok(()),
    };
    // The device stays as large as it was, and what is behind the file's end can't be read.
    File::options().write(true).open(file)?.set_len(left).context("Taking sectors away")
}

fn make(program: &str, file: &Path) -> Result<()> {
    let quiet: &[&str] = match program {
        "mkfs.ext4" => &["-q", "-E", "nodiscard"],
        "mkfs.xfs" | "mkfs.btrfs" => &["-q", "-K"],
        _ => &[],
    };
    Command::new(program).args(quiet).arg(file).ok().map(drop)
}

/// The digest of all bytes of a file, without reading its holes: of its length, and of each page that is not zero.
pub(crate) fn digest(path: &Path) -> Result<Digest> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut hasher = Hasher::default();
    hasher.update(&length.to_le_bytes());
    let mut page = [0; PAGE];
    let mut at = 0;
    while let Ok(data) = seek(&file, SeekFrom::Data(at)) {
        at = data / PAGE as u64 * PAGE as u64;
        let end = seek(&file, SeekFrom::Hole(data))?;
        while at < end {
            let read = file.read_at(&mut page, at)?;
            let bytes = page.get(..read).unwrap_or_default();
            if bytes.iter().any(|byte| *byte != 0) {
                hasher.update(&at.to_le_bytes());
                hasher.update(bytes);
            }
            at += PAGE as u64;
        }
    }
    Ok(hasher.finish())
}

#[test]
fn one_byte_anywhere_makes_another_digest() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let disk = file.as_file();
    disk.set_len(8 * MIB + 512).unwrap();
    let mut seen = vec![digest(file.path()).unwrap()];
    for at in [0, 4095, 4 * MIB + 1, 8 * MIB + 511] {
        disk.write_all_at(b"x", at).unwrap();
        seen.push(digest(file.path()).unwrap());
    }
    // Zeroes that are written are no change.
    disk.write_all_at(&[0; PAGE], 5 * MIB).unwrap();
    assert_eq!(digest(file.path()).unwrap(), seen[4]);
    disk.set_len(8 * MIB + 1024).unwrap();
    seen.push(digest(file.path()).unwrap());
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 6);
}
