//! Directories that a layer names only as parts of paths.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fstat, getxattr,
    listxattr, mkdirat, setxattr, utimensat,
};
use rustix::io::Errno;

use super::Refused;
use super::path::{join, shown};
use super::rooted::{Directory, Root, by_proc, child, judge};

/// Bytes of all names of attributes, and of one value, at most (Linux, `XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const ATTRIBUTES: usize = 64 << 10;

/// Lower directories, the uppermost first. A directory that is missing in the upper one gets owner, mode, times
/// and attributes from the first of them that has it: the overlay would show it so.
pub(super) struct Lower(Vec<Root>);

impl Lower {
    pub(super) fn open(directories: &[PathBuf]) -> Result<Self, Refused> {
        directories.iter().map(|directory| Root::open(directory)).collect::<Result<_, _>>().map(Self)
    }

    /// Opens the resolved `path` below `root`; what is missing on the way is made.
    pub(super) fn make(&self, root: &Root, path: &[u8]) -> Result<Directory, Refused> {
        let told = |errno| judge(format!("the directory {:?}", shown(path)), errno);
        let mut fd: OwnedFd = root.plain(b"").map_err(told)?.fd;
        let mut done = Vec::with_capacity(path.len());
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            done = join(&done, name);
            fd = match child(&fd, name) {
                Err(Errno::NOENT) => {
                    mkdirat(&fd, name, Mode::from_raw_mode(0o755)).map_err(told)?;
                    chmodat(&fd, name, Mode::from_raw_mode(0o755), AtFlags::empty()).map_err(told)?;
                    let made = child(&fd, name).map_err(told)?;
                    self.inherit(&done, made.as_fd()).map_err(|inherit| inherit.told(told))?;
                    made
                }
                opened => opened.map_err(told)?,
            };
        }
        Ok(Directory { path: done, fd })
    }

    fn inherit(&self, path: &[u8], made: BorrowedFd<'_>) -> Result<(), Inherit> {
        for lower in &self.0 {
            let found = lower.resolve(path).map_err(Inherit::Refused)?;
            let found = match lower.look(&found) {
                Err(Errno::NOENT) => continue,
                found => found?,
            };
            let there = fstat(&found)?;
            if FileType::from_raw_mode(there.st_mode) != FileType::Directory {
                return Ok(());
            }
            let itself = by_proc(made, b"");
            chownat(
                CWD,
                &itself[..],
                Some(Uid::from_raw(there.st_uid)),
                Some(Gid::from_raw(there.st_gid)),
                AtFlags::empty(),
            )?;
            chmodat(CWD, &itself[..], Mode::from_raw_mode(there.st_mode & 0o7777), AtFlags::empty())?;
            let time = |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as i64 };
            let times = Timestamps {
                last_access: time(there.st_atime, there.st_atime_nsec),
                last_modification: time(there.st_mtime, there.st_mtime_nsec),
            };
            utimensat(CWD, &itself[..], &times, AtFlags::empty())?;
            return Ok(copy_attributes(found.as_fd(), made)?);
        }
        Ok(())
    }
}

/// Why attributes could not be inherited.
enum Inherit {
    Refused(Refused),
    Errno(Errno),
}

impl Inherit {
    fn told(self, told: impl FnOnce(Errno) -> Refused) -> Refused {
        match self {
            Self::Refused(refused) => refused,
            Self::Errno(errno) => told(errno),
        }
    }
}

impl From<Errno> for Inherit {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// Copies all attributes but `trusted.` ones, which belong to the overlay; those that are there stay.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let (from, to) = (by_proc(from, b""), by_proc(to, b""));
    let mut names = vec![0; ATTRIBUTES];
    let length = match listxattr(&from[..], &mut names[..]) {
        Err(Errno::NOTSUP | Errno::NODATA) => return Ok(()),
        length => length?,
    };
    let mut value = vec![0; ATTRIBUTES];
    for name in names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.") {
            continue;
        }
        let length = match getxattr(&from[..], name, &mut value[..]) {
            Err(Errno::NOTSUP | Errno::NODATA) => continue,
            length => length?,
        };
        match setxattr(&to[..], name, &value[..length], XattrFlags::CREATE) {
            Ok(()) | Err(Errno::NOTSUP | Errno::NODATA | Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
