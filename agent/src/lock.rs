//! A lock of the kernel on a file: one process has it, and whoever asks whether it is taken disturbs nobody.
//!
//! An open file description's lock, not `flock`: of a `flock` one only learns by taking it, and then a process that wants
//! it at that moment finds it taken.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// A lock that is held until this is dropped, or the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Takes the lock of `file`, which is open for writing; none where somebody has it.
    ///
    /// # Errors
    /// What the kernel refused.
    pub(crate) fn take(file: File) -> io::Result<Option<Self>> {
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole(libc::F_WRLCK))) {
            Ok(_) => Ok(Some(Self(file))),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether somebody has the lock of `file`. Nothing is taken.
    pub(crate) fn is_taken(file: &File) -> bool {
        let mut lock = whole(libc::F_WRLCK);
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).is_ok() && i32::from(lock.l_type) != libc::F_UNLCK
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Said, not only closed: a program that is being started shares the description until it has begun.
        let _ = fcntl(&self.0, FcntlArg::F_OFD_SETLK(&whole(libc::F_UNLCK)));
    }
}

/// All bytes of a file.
fn whole(kind: libc::c_int) -> libc::flock {
    // The three kinds are 0, 1 and 2.
    let l_type = libc::c_short::try_from(kind).unwrap_or_default();
    let l_whence = libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default();
    libc::flock { l_type, l_whence, l_start: 0, l_len: 0, l_pid: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_and_asking_takes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let writing = || File::options().write(true).create(true).truncate(false).open(&path).unwrap();
        let lock = Lock::take(writing()).unwrap().unwrap();
        let asking = File::open(&path).unwrap();
        assert!(Lock::is_taken(&asking));
        assert!(Lock::take(writing()).unwrap().is_none());
        drop(lock);
        assert!(!Lock::is_taken(&asking));
        let again = Lock::take(writing()).unwrap();
        assert!(again.is_some() && Lock::is_taken(&asking), "who asked holds nothing");
    }
}
