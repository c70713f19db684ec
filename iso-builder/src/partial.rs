//! A file that appears under its name when it is whole and on the disk; till then it is the hidden file
//! `.NAME.partial` beside it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bootstrap::failure::{Code, Failure};
use nix::fcntl::OFlag;

use crate::content::{failed, misnamed};

/// A file being written. Dropped unfinished, it goes away; a killed program's one is taken over by the
/// next that writes the same file.
#[derive(Debug)]
pub struct Partial {
    file: File,
    path: PathBuf,
    output: PathBuf,
    /// It has the output's name now; its old name may be another program's.
    done: bool,
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
        Self::of(file, path, output)
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
                return Self::of(file, path, output);
            }
        }
    }

    fn of(file: File, path: PathBuf, output: &Path) -> Result<Self, Failure> {
        file.set_len(0).map_err(|e| failed("Writing", &path, e))?;
        Ok(Self { file, path, output: output.to_owned(), done: false })
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
    pub fn finish(mut self) -> Result<(), Failure> {
        self.file.sync_all().map_err(|e| failed("Writing", &self.path, e))?;
        fs::rename(&self.path, &self.output).map_err(|e| failed("Writing", &self.output, e))?;
        self.done = true;
        let directory = directory_of(&self.output);
        File::open(directory).and_then(|d| d.sync_all()).map_err(|e| failed("Syncing", directory, e))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                eprintln!("warning: {} can't be removed: {e}", bootstrap::text::plain(&self.path.to_string_lossy()));
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
    let opened = OpenOptions::new().write(true).create(true).truncate(false).custom_flags(flags.bits()).open(path);
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
