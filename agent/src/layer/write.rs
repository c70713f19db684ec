//! An entry of a layer becomes a file, with all that an entry says about it.

use std::os::fd::{AsFd as _, BorrowedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod, fchown,
    fsetxattr, fstat, futimens, linkat, lsetxattr, makedev, mkdirat, mknodat, openat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::entries::{Entries, Entry, Kind};
use super::header::Time;
use super::path::{clean, join, leads_out, shown, split};
use super::rooted::{Root, by_proc, judge, remove};
use super::stream::Supply;
use super::{Refused, hostile};
use crate::direct::{Buffer, Writing};

const EXCLUSIVE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Makes `entry` as `base` in `directory`. Whether something else had to go for it.
pub(super) fn make<S: Supply>(
    root: &Root,
    directory: BorrowedFd<'_>,
    base: &[u8],
    entry: &Entry,
    tar: &mut Entries<S>,
    buffer: &mut Buffer,
) -> Result<bool, Refused> {
    let told = |errno| judge(format!("the entry {:?}", shown(&entry.name)), errno);
    if entry.kind == Kind::File {
        return file(directory, base, entry, tar, buffer);
    }
    let made = match create(root, directory, base, entry)? {
        Err(Errno::EXIST) if entry.kind == Kind::Directory && is_directory(directory, base) => Ok(false),
        Err(Errno::EXIST) => {
            remove(directory, base)?;
            create(root, directory, base, entry)?.map(|()| true)
        }
        created => created.map(|()| false),
    };
    let replaced = made.map_err(told)?;
    describe(directory, base, entry).map_err(told)?;
    Ok(replaced)
}

/// Makes what is no file, if nothing is in the way.
fn create(root: &Root, directory: BorrowedFd<'_>, base: &[u8], entry: &Entry) -> Result<Result<(), Errno>, Refused> {
    let mode = Mode::from_raw_mode(entry.mode);
    let node = |kind, device| mknodat(directory, base, kind, mode, device);
    let (major, minor) = entry.device;
    Ok(match entry.kind {
        Kind::Directory => mkdirat(directory, base, mode),
        Kind::SymbolicLink => symlinkat(&entry.link[..], directory, base),
        Kind::Character => node(FileType::CharacterDevice, makedev(major, minor)),
        Kind::Block => node(FileType::BlockDevice, makedev(major, minor)),
        Kind::Fifo => node(FileType::Fifo, 0),
        Kind::HardLink => {
            let target = link_target(root, &entry.link)?;
            let (parent, name) = split(&target);
            match root.plain(parent) {
                // The root itself is a directory, and directories have no hard links.
                _ if name.is_empty() => Err(Errno::PERM),
                Ok(parent) => linkat(&parent.fd, name, directory, base, AtFlags::empty()),
                Err(errno) => Err(errno),
            }
        }
        // Files have data and are made by `file`.
        Kind::File => Err(Errno::INVAL),
    })
}

/// Where the hard link text `link` leads: its directory resolved, its last component not.
fn link_target(root: &Root, link: &[u8]) -> Result<Vec<u8>, Refused> {
    if leads_out(&clean(link)) {
        return Err(hostile(format!("a hard link to {:?}, outside of the layer", shown(link))));
    }
    let (directory, base) = split(link);
    let directory = root.resolve(directory)?;
    Ok(super::path::bare(&clean(&[b"/", &join(&directory, base)[..]].concat())).to_vec())
}

fn is_directory(directory: BorrowedFd<'_>, base: &[u8]) -> bool {
    statat(directory, base, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|there| FileType::from_raw_mode(there.st_mode) == FileType::Directory)
}

fn file<S: Supply>(
    directory: BorrowedFd<'_>,
    base: &[u8],
    entry: &Entry,
    tar: &mut Entries<S>,
    buffer: &mut Buffer,
) -> Result<bool, Refused> {
    let told = |errno| judge(format!("the entry {:?}", shown(&entry.name)), errno);
    let open = || openat(directory, base, EXCLUSIVE, Mode::from_raw_mode(entry.mode & 0o777));
    let (file, replaced) = match open() {
        Err(Errno::EXIST) => {
            remove(directory, base)?;
            (open().map_err(told)?, true)
        }
        opened => (opened.map_err(told)?, false),
    };
    let mut writing = Writing::new(file, entry.size, buffer);
    tar.data(|part| writing.put(part).map_err(told))?;
    let file = writing.finish().map_err(told)?;
    let there = fstat(&file).map_err(told)?;
    let owner = (there.st_uid, there.st_gid) != (entry.uid, entry.gid);
    if owner {
        fchown(&file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid))).map_err(told)?;
    }
    attributes(entry, |name, value| fsetxattr(&file, name, value, XattrFlags::empty())).map_err(told)?;
    // A new owner takes the set-id bits away, as an attribute may (POSIX ACLs) change the others.
    if owner || !entry.attributes.is_empty() || there.st_mode & 0o7777 != entry.mode {
        fchmod(&file, Mode::from_raw_mode(entry.mode)).map_err(told)?;
    }
    futimens(&file, &times(entry)).map_err(told)?;
    Ok(replaced)
}

/// Owner, attributes, mode and times of what is no file.
fn describe(directory: BorrowedFd<'_>, base: &[u8], entry: &Entry) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    chownat(directory, base, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if !entry.attributes.is_empty() {
        let path = by_proc(directory, base);
        let there = statat(directory, base, AtFlags::SYMLINK_NOFOLLOW)?;
        let has_user = matches!(FileType::from_raw_mode(there.st_mode), FileType::Directory | FileType::RegularFile);
        attributes(entry, |name, value| match lsetxattr(&path[..], name, value, XattrFlags::empty()) {
            // The kernel keeps attributes of users for files and directories only.
            Err(Errno::PERM) if !has_user && name.starts_with(b"user.") => Ok(()),
            set => set,
        })?;
    }
    let is_link = match entry.kind {
        Kind::SymbolicLink => true,
        Kind::HardLink => {
            let there = statat(directory, base, AtFlags::SYMLINK_NOFOLLOW)?;
            FileType::from_raw_mode(there.st_mode) == FileType::Symlink
        }
        _ => false,
    };
    if !is_link {
        chmodat(directory, base, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
    }
    utimensat(directory, base, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
}

/// Sets each attribute, but for those that containerd leaves out: `trusted.` ones, and what the filesystem has not.
fn attributes(entry: &Entry, set: impl Fn(&[u8], &[u8]) -> Result<(), Errno>) -> Result<(), Errno> {
    for (name, value) in &entry.attributes {
        if name.starts_with(b"trusted.") {
            continue;
        }
        match set(name, value) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The times of an entry as a filesystem can have them.
pub(super) fn times(entry: &Entry) -> Timestamps {
    let accessed = entry.atime.map_or(entry.mtime, |atime| atime.max(entry.mtime));
    Timestamps { last_access: bounded(accessed), last_modification: bounded(entry.mtime) }
}

/// Times before 1970 or after 2262 become 1970.
fn bounded(time: Time) -> Timespec {
    let nanoseconds = i64::try_from(time).ok().filter(|time| *time >= 0).unwrap_or_default();
    Timespec { tv_sec: nanoseconds / 1_000_000_000, tv_nsec: nanoseconds % 1_000_000_000 }
}

/// Sets the times of what lies at `path`, resolved again as it may have been replaced.
pub(super) fn set_times(root: &Root, path: &[u8], times: &Timestamps) -> Result<(), Refused> {
    let told = |errno| judge(format!("the times of {:?}", shown(path)), errno);
    let resolved = root.resolve(path)?;
    let (directory, base) = split(&resolved);
    let directory = root.plain(directory).map_err(told)?;
    let base = if base.is_empty() { b"." } else { base };
    utimensat(directory.fd.as_fd(), base, times, AtFlags::SYMLINK_NOFOLLOW).map_err(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_bounded_as_containerd_bounds_them() {
        let table = [(0, (0, 0)), (1_500_000_001, (1, 500_000_001)), (-1, (0, 0)), (Time::MAX, (0, 0))];
        for (time, want) in table {
            let got = bounded(time);
            assert_eq!((got.tv_sec, got.tv_nsec), want);
        }
        assert_eq!(bounded(Time::from(i64::MAX)).tv_sec, 9_223_372_036);
        assert_eq!(bounded(Time::from(i64::MAX) + 1).tv_sec, 0);
    }
}
