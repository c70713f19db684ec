//! A file that appears under its name when it is whole and on the disk; till then it is the hidden file
//! `.NAME.partial` beside it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bootstrap::failure::{Code, Failure};
use nix::fcntl::OFlag;

use crate::content::{failed, misnamed};

/// A file being written. Dropped unfinished, it goes away, or stays where it was begun to be
/// [resumed](Partial::resume); a killed program's one is taken over by the next that writes the same file.
#[derive(Debug)]
pub struct Partial {
    file: File,
    path: PathBuf,
    output: PathBuf,
    /// It has the output's name now; its old name may be another program's.
    done: bool,
    /// Dropped unfinished, it stays for the next that writes the same file, unless it is empty.
    kept: bool,
}

impl Partial {
    /// Begins `output`, empty.
    ///
    /// # Errors
    /// `ALREADY_RUNNING` when another program writes it, `CONFIG_INVALID` when its directory is missing,
    /// `IO` when the hidden file is no regular one or can't be made.
    pub fn begin(output: &Path) -> Result<Self, Failure> {
        let path = hidden(output);
        let file = open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(busy(output)),
            Err(TryLockError::Error(e)) => return Err(failed("Locking", &path, e)),
        }
        // The one that held the lock may have renamed this very file to the output meanwhile.
        if !is_named(&file, &path)? {
            return Err(busy(output));
        }
        Self::emptied(file, path, output)
    }

    /// Goes on with `output` at the end of what an interrupted program left of it; what this one leaves is
    /// kept too. None while another program writes it.
    ///
    /// # Errors
    /// As [`Partial::begin`], without `ALREADY_RUNNING`.
    pub fn resume(output: &Path) -> Result<Option<Self>, Failure> {
        let path = hidden(output);
        let file = open(&path)?;
        match file.try_lock() {
            Ok(()) if is_named(&file, &path)? => {
                (&file).seek(SeekFrom::End(0)).map_err(|e| failed("Reading", &path, e))?;
                Ok(Some(Self { file, path, output: output.to_owned(), done: false, kept: true }))
            }
            Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(failed("Locking", &path, e)),
        }
    }

    /// As [`Partial::begin`], but waits for another program that writes `output`.
    ///
    /// # Errors
    /// As [`Partial::begin`], without `ALREADY_RUNNING`.
    pub fn wait(output: &Path) -> Result<Self, Failure> {
        let path = hidden(output);
        loop {
            let file = open(&path)?;
            file.lock().map_err(|e| failed("Locking", &path, e))?;
            if is_named(&file, &path)? {
                return Self::emptied(file, path, output);
            }
        }
    }

    fn emptied(file: File, path: PathBuf, output: &Path) -> Result<Self, Failure> {
        let partial = Self { file, path, output: output.to_owned(), done: false, kept: false };
        partial.empty()?;
        Ok(partial)
    }

    /// Begins anew.
    ///
    /// # Errors
    /// `IO` names the file.
    pub fn empty(&self) -> Result<(), Failure> {
        let emptied = self.file.set_len(0).and_then(|()| (&self.file).rewind());
        emptied.map_err(|e| failed("Writing", &self.path, e))
    }

    /// Bytes that are there.
    ///
    /// # Errors
    /// `IO` names the file.
    pub fn length(&self) -> Result<u64, Failure> {
        self.file.metadata().map(|meta| meta.len()).map_err(|e| failed("Reading", &self.path, e))
    }

    /// The open file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Puts the file onto the disk and gives it its name.
    ///
    /// # Errors
    /// `NO_SPACE` or `IO` name the file.
    pub fn finish(self) -> Result<(), Failure> {
        let output = self.output.clone();
        self.finish_as(&output)
    }

    /// As [`Partial::finish`], under another name of the same filesystem.
    ///
    /// # Errors
    /// As [`Partial::finish`].
    pub fn finish_as(mut self, output: &Path) -> Result<(), Failure> {
        self.file.sync_all().map_err(|e| failed("Writing", &self.path, e))?;
        fs::rename(&self.path, output).map_err(|e| failed("Writing", output, e))?;
        self.done = true;
        let directory = directory_of(output);
        File::open(directory).and_then(|d| d.sync_all()).map_err(|e| failed("Syncing", directory, e))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.done || self.kept && self.length().is_ok_and(|length| length > 0) {
            return;
        }
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                let path = bootstrap::text::plain(&self.path.to_string_lossy());
                crate::report::say(&format!("warning: {path} can't be removed: {e}"));
            }
            _ => {}
        }
    }
}

/// The name that `output` has while it is written.
#[must_use]
pub fn hidden(output: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(output.file_name().unwrap_or_default());
    name.push(".partial");
    directory_of(output).join(name)
}

/// The directory that `path` lies in.
#[must_use]
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Opens what may be a foreign file, in a directory that others may write: no link is followed, and
/// a pipe without a reader does not hang.
fn open(path: &Path) -> Result<File, Failure> {
    let foreign = || {
        Failure::new(Code::Io, format!("{} is no file that a build left", path.display()))
            .with_remedy("find out who made it, and remove it")
    };
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).custom_flags(flags.bits()).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(_) if fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file()) => return Err(foreign()),
        Err(e) => return Err(misnamed("Making", path, e)),
    };
    match file.metadata() {
        Ok(meta) if meta.is_file() => Ok(file),
        _ => Err(foreign()),
    }
}

/// Whether `path` still leads to `file`.
fn is_named(file: &File, path: &Path) -> Result<bool, Failure> {
    let held = file.metadata().map_err(|e| failed("Locking", path, e))?;
    Ok(fs::symlink_metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino())))
}

fn busy(output: &Path) -> Failure {
    Failure::new(Code::AlreadyRunning, format!("another build writes {}", output.display()))
        .with_remedy("wait for it, then run again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_link_or_pipe_is_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let (output, victim) = (dir.path().join("out"), dir.path().join("victim"));
        fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, hidden(&output)).unwrap();
        for begin in [Partial::begin, Partial::wait] {
            let failure = begin(&output).unwrap_err();
            assert_eq!(failure.code, Code::Io, "{failure}");
            assert!(failure.what.contains("is no file that a build left"), "{failure}");
        }
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
        fs::remove_file(hidden(&output)).unwrap();
        nix::unistd::mkfifo(&hidden(&output), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(Partial::begin(&output).unwrap_err().code, Code::Io);
    }

    #[test]
    fn what_is_to_be_resumed_stays() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out");
        drop(Partial::resume(&output).unwrap().unwrap());
        assert!(!hidden(&output).exists(), "an empty part is of no use");
        let partial = Partial::resume(&output).unwrap().unwrap();
        io::Write::write_all(&mut partial.file(), b"ab").unwrap();
        assert!(Partial::resume(&output).unwrap().is_none(), "one at a time");
        drop(partial);
        let partial = Partial::resume(&output).unwrap().unwrap();
        assert_eq!(partial.length().unwrap(), 2);
        io::Write::write_all(&mut partial.file(), b"c").unwrap();
        let other = dir.path().join("other");
        partial.finish_as(&other).unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"abc");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_program_left_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out");
        fs::write(hidden(&output), "half").unwrap();
        let partial = Partial::begin(&output).unwrap();
        io::Write::write_all(&mut partial.file(), b"new").unwrap();
        assert_eq!(Partial::begin(&output).unwrap_err().code, Code::AlreadyRunning);
        partial.finish().unwrap();
        assert_eq!(fs::read(&output).unwrap(), b"new");
        drop(Partial::wait(&output).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
