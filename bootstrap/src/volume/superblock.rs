//! What is on a disk, as its first bytes tell: which filesystem, how large, whether it was left in order; and whether both
//! ends of it are blank.

use std::fmt;

use super::filesystem::Kind;
use super::luks;

/// What the first bytes of a disk tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A filesystem that volumes may have.
    Filesystem(Filesystem),
    /// A filesystem whose making was broken off.
    Unfinished(Kind),
    /// An encrypted container.
    Luks(luks::Header),
    /// Something else that is known by its signature.
    Other(&'static str),
    /// Something without a signature that is known.
    Data,
    /// Nothing but zeroes.
    Zeroes,
}

/// A filesystem, as its superblock tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    /// Which one.
    pub kind: Kind,
    /// How many bytes of the disk it uses.
    pub size: u64,
    /// Whether it has to be checked before it is mounted for writing.
    pub needs_check: bool,
}

impl Content {
    /// The filesystem's kind, where there is one.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Filesystem(found) => Some(found.kind),
            _ => None,
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filesystem(found) => write!(f, "{}", found.kind),
            Self::Unfinished(kind) => write!(f, "{kind} that was never finished"),
            Self::Luks(header) => write!(f, "{header}"),
            Self::Other(name) => f.write_str(name),
            Self::Data => f.write_str("data of an unknown kind"),
            Self::Zeroes => f.write_str("zeroes"),
        }
    }
}

/// Where other things have their signatures. Of some the place depends on their size: a disk is only formatted when libblkid,
/// too, finds nothing.
const SIGNATURES: &[(&str, usize, &[u8])] = &[
    ("an LVM physical volume", 512, b"LABELONE"),
    ("an LVM physical volume", 0, b"LABELONE"),
    ("a member of an md array", 4096, b"\xfc\x4e\x2b\xa9"),
    ("a member of an md array", 0, b"\xfc\x4e\x2b\xa9"),
    ("a GPT partition table", 512, b"EFI PART"),
    ("a GPT partition table", 4096, b"EFI PART"),
    ("swap space", 4086, b"SWAPSPACE2"),
    ("swap space", 4086, b"SWAP-SPACE"),
    ("NTFS", 3, b"NTFS    "),
    ("exFAT", 3, b"EXFAT   "),
    ("FAT", 54, b"FAT1"),
    ("FAT", 82, b"FAT32"),
    ("an ISO 9660 image", 32_769, b"CD001"),
    ("UDF", 32_769, b"BEA01"),
    ("squashfs", 0, b"hsqs"),
    ("f2fs", 1024, b"\x10\x20\xf5\xf2"),
    ("bcache", 4120, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca"),
    ("bluestore", 0, b"bluestore block device"),
    ("ReiserFS", 65_588, b"ReIsEr"),
    ("JFS", 32_768, b"JFS1"),
    ("NILFS2", 1030, b"\x34\x34"),
    ("OCFS2", 8192, b"OCFSV2"),
    ("GFS2", 65_536, b"\x01\x16\x19\x70"),
    ("EROFS", 1024, b"\xe2\xe1\xf5\xe0"),
    ("a DRBD device", 4096, b"\x83\x74\x02\x6b"),
    ("a QCOW image", 0, b"QFI\xfb"),
    ("VMFS", 0x10_0000, b"\x0d\xd0\x01\xc0"),
    ("a partition table", 510, b"\x55\xaa"),
];

/// Who uses a disk as a part of something larger: mounted by itself, that would be damaged.
const OWNERS: [&str; 3] = ["LVM", "md array", "bcache"];

/// What the disk holds whose first bytes these are; 128 KiB of them are enough for everything that can be mounted.
#[must_use]
pub fn content(head: &[u8]) -> Content {
    if head.iter().all(|byte| *byte == 0) {
        return Content::Zeroes;
    }
    let header = luks::header(head);
    if let Some(header) = header.as_ref().filter(|_| luks::begins(head)) {
        return Content::Luks(header.clone());
    }
    let filesystem = ext(head).or_else(|| xfs(head)).or_else(|| btrfs(head));
    let is_there = |at: usize, bytes: &[u8]| head.get(at..).is_some_and(|there| there.starts_with(bytes));
    let mut others = SIGNATURES.iter().filter(|(_, at, bytes)| is_there(*at, bytes)).map(|(name, ..)| *name);
    match filesystem {
        // A filesystem that was made over something else may leave its signature; what owns disks as a whole is believed.
        Some(found) => {
            let unfinished = found.kind == Kind::Xfs && head.get(XFS_IN_PROGRESS).is_some_and(|set| *set != 0);
            let itself = if unfinished { Content::Unfinished(found.kind) } else { Content::Filesystem(found) };
            others.find(|name| OWNERS.iter().any(|owner| name.contains(owner))).map_or(itself, Content::Other)
        }
        // The first copy of the header was destroyed; a filesystem that was made over it leaves the second one.
        None if header.is_some() => header.map_or(Content::Data, Content::Luks),
        None => others.next().or_else(|| unsupported(head)).map_or(Content::Data, Content::Other),
    }
}

/// ext2 has the superblock of ext3 and ext4, without a journal; ext4's own journal may lie on another device.
fn unsupported(head: &[u8]) -> Option<&'static str> {
    (le16(head, EXT + 56)? == EXT_MAGIC).then_some("ext2, or a journal of ext4")
}

const EXT: usize = 1024;
const EXT_MAGIC: u16 = 0xef53;
/// `s_state`: it was unmounted in order; it has errors.
const VALID: u16 = 1;
const ERRORS: u16 = 2;

/// ext3 and ext4 (`Documentation/filesystems/ext4/super.rst`).
fn ext(head: &[u8]) -> Option<Filesystem> {
    if le16(head, EXT + 56)? != EXT_MAGIC {
        return None;
    }
    let (compatible, incompatible) = (le32(head, EXT + 92)?, le32(head, EXT + 96)?);
    let read_only = le32(head, EXT + 100)?;
    // A device that is nothing but a journal.
    if incompatible & 0x8 != 0 {
        return None;
    }
    let has_journal = compatible & 0x4 != 0;
    // What ext3 does not know: everything but filetype, recover and meta_bg; everything but sparse_super, large_file, btree_dir.
    let of_ext4 = incompatible & !(0x2 | 0x4 | 0x10) != 0 || read_only & !(0x1 | 0x2 | 0x4) != 0;
    let kind = match (of_ext4, has_journal) {
        (true, _) => Kind::Ext4,
        (false, true) => Kind::Ext3,
        (false, false) => return None,
    };
    let high = if incompatible & 0x80 != 0 { u64::from(le32(head, EXT + 0x150)?) } else { 0 };
    let blocks = high << 32 | u64::from(le32(head, EXT + 4)?);
    let block = 1024_u64.checked_shl(le32(head, EXT + 24)?).filter(|block| *block <= 65_536)?;
    let state = le16(head, EXT + 58)?;
    let recovers = incompatible & 0x4 != 0;
    let needs_check = state & ERRORS != 0 || (state & VALID == 0 && !(has_journal || recovers));
    Some(Filesystem { kind, size: blocks.saturating_mul(block), needs_check })
}

/// `sb_inprogress`: mkfs.xfs clears it at its very end, and the kernel mounts nothing that has it.
const XFS_IN_PROGRESS: usize = 126;

/// XFS (`fs/xfs/libxfs/xfs_format.h`). Its log is replayed by the kernel, and nothing else may write to it.
fn xfs(head: &[u8]) -> Option<Filesystem> {
    if !head.starts_with(b"XFSB") {
        return None;
    }
    let (block, blocks) = (u64::from(be32(head, 4)?), u64::from(be32(head, 8)?) << 32 | u64::from(be32(head, 12)?));
    Some(Filesystem { kind: Kind::Xfs, size: blocks.saturating_mul(block), needs_check: false })
}

/// Btrfs (`include/uapi/linux/btrfs_tree.h`): `total_bytes` of the superblock's device item.
fn btrfs(head: &[u8]) -> Option<Filesystem> {
    const SUPER: usize = 64 << 10;
    if !head.get(SUPER + 64..)?.starts_with(b"_BHRfS_M") {
        return None;
    }
    let low = u64::from(le32(head, SUPER + 0xc9 + 8)?);
    let size = u64::from(le32(head, SUPER + 0xc9 + 12)?) << 32 | low;
    Some(Filesystem { kind: Kind::Btrfs, size, needs_check: false })
}

/// A whole superblock of an md array at the disk's end, whose last bytes these are: there versions 0.90 and 1.0 have theirs,
/// and what is in the array begins at the disk's first byte, as if it were the disk's own (`md_p.h`). `filesystem` is how
/// many bytes the one that was found there uses. One that goes on over this place is not in the array: it holds an old
/// superblock, or a file that looks like one.
#[must_use]
pub fn in_array(last: &[u8], size: u64, filesystem: u64) -> bool {
    const MAGIC: u32 = 0xa92b_4efc;
    let Some(from) = size.checked_sub(last.len() as u64) else { return false };
    let number = |at: u64, more: usize| {
        let at = usize::try_from(at.checked_sub(from)?).ok()?.checked_add(more)?;
        Some((le32(last, at)?, be32(last, at)?))
    };
    // 0.90 is in the byte order of the machine that wrote it.
    let old = (size & !0xffff).checked_sub(0x1_0000).filter(|at| {
        number(*at, 0).is_some_and(|(little, big)| little == MAGIC || big == MAGIC) && number(*at, 4) == Some((0, 0))
    });
    let new = size.checked_sub(0x2000).map(|at| at & !0xfff).filter(|at| {
        number(*at, 0).is_some_and(|(magic, _)| magic == MAGIC)
            && number(*at, 4).is_some_and(|(version, _)| version == 1)
            && number(*at, 128)
                .zip(number(*at, 132))
                .is_some_and(|((low, _), (high, _))| u64::from(high) << 32 | u64::from(low) == *at / 512)
    });
    old.into_iter().chain(new).any(|at| filesystem <= at || filesystem > size)
}

/// That both ends of a disk of `size` bytes hold nothing but zeroes.
///
/// # Errors
/// In words: where something else is.
pub fn blank(first: &[u8], last: &[u8], size: u64) -> Result<(), String> {
    let other = |bytes: &[u8]| bytes.iter().position(|byte| *byte != 0).map(|at| at as u64);
    let from = size.saturating_sub(last.len() as u64);
    match other(first).or_else(|| other(last).map(|at| from + at)) {
        Some(at) => Err(format!("there is data at byte {at}")),
        None => Ok(()),
    }
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..)?.first_chunk().copied()
}

fn le16(from: &[u8], at: usize) -> Option<u16> {
    bytes(from, at).map(u16::from_le_bytes)
}

fn le32(from: &[u8], at: usize) -> Option<u32> {
    bytes(from, at).map(u32::from_le_bytes)
}

fn be32(from: &[u8], at: usize) -> Option<u32> {
    bytes(from, at).map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests;
