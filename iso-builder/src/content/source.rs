//! The open files that contents lie in.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bootstrap::failure::{Code, Failure};
use nix::fcntl::OFlag;

use super::{failed, misnamed};

/// An open file that segments lie in.
#[derive(Debug)]
pub struct Source {
    /// None: opened anew for every read.
    file: Option<Arc<File>>,
    path: PathBuf,
    /// Where it begins in the file: not at 0 for a part of another.
    begin: u64,
    length: u64,
    stamp: Stamp,
}

/// What tells a file from another and, as long as nobody sets clocks back, from what it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Device and inode.
    pub identity: (u64, u64),
    /// Bytes.
    pub size: u64,
    /// Last change of the content: seconds since 1970, and nanoseconds.
    pub modified: (i64, i64),
}

impl Stamp {
    /// The stamp in `meta`.
    #[must_use]
    pub fn of(meta: &Metadata) -> Self {
        Self { identity: (meta.dev(), meta.ino()), size: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) }
    }
}

impl Source {
    /// Opens the regular file or block device at `path`.
    ///
    /// # Errors
    /// `CONFIG_INVALID` when there is none, `IO` when it can't be read.
    pub fn open(path: &Path) -> Result<Arc<Self>, Failure> {
        let is_block = std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device());
        // Without the flag the open of a pipe would wait for a writer; with it, that of an optical drive
        // would not wait for its disc.
        let flags = if is_block { OFlag::empty() } else { OFlag::O_NONBLOCK };
        let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
        let file = opened.map_err(|e| misnamed("Opening", path, e))?;
        let kind = file.metadata().map_err(|e| failed("Reading", path, e))?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            let what = format!("{} is neither a regular file nor a block device", path.display());
            return Err(Failure::new(Code::ConfigInvalid, what).with_remedy("correct the path"));
        }
        Self::of(file, path)
    }

    /// Whether it is a file, which ends where its content ends, and no device.
    ///
    /// # Errors
    /// `IO` names the path.
    pub fn is_regular(&self) -> Result<bool, Failure> {
        self.metadata().map(|meta| meta.is_file()).map_err(|e| failed("Reading", &self.path, e))
    }

    /// Takes an open file; `path` is what messages call it.
    ///
    /// # Errors
    /// `IO` when its length can't be told.
    pub fn of(file: File, path: &Path) -> Result<Arc<Self>, Failure> {
        let reading = |e| failed("Reading", path, e);
        let stamp = Stamp::of(&file.metadata().map_err(reading)?);
        let length = (&file).seek(SeekFrom::End(0)).map_err(reading)?;
        Ok(Arc::new(Self { file: Some(Arc::new(file)), path: path.to_owned(), begin: 0, length, stamp }))
    }

    /// The file at `path`, which is open only while it is read: an ISO has hundreds of blobs, and a process
    /// may have few open files.
    ///
    /// # Errors
    /// `IO` when there is no such file.
    pub fn closed(path: &Path) -> Result<Arc<Self>, Failure> {
        let stamp = Stamp::of(&std::fs::metadata(path).map_err(|e| failed("Reading", path, e))?);
        Ok(Arc::new(Self { file: None, path: path.to_owned(), begin: 0, length: stamp.size, stamp }))
    }

    fn metadata(&self) -> io::Result<Metadata> {
        match &self.file {
            Some(file) => file.metadata(),
            None => std::fs::metadata(&self.path),
        }
    }

    /// The `length` bytes from `offset` as a source of their own, which messages call `name`.
    #[must_use]
    pub fn part(&self, name: &Path, offset: u64, length: u64) -> Arc<Self> {
        let file = self.file.clone();
        Arc::new(Self { file, path: name.to_owned(), begin: self.begin + offset, length, stamp: self.stamp })
    }

    /// The file's stamp when it was opened.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What messages call it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is still what it was when it was opened.
    ///
    /// # Errors
    /// The file can't be asked.
    pub fn is_unchanged(&self) -> io::Result<bool> {
        let meta = self.metadata()?;
        let now = Stamp::of(&meta);
        // udev touches a device's node at each of its events, whatever is in the device.
        Ok(if meta.file_type().is_block_device() { now.identity == self.stamp.identity } else { now == self.stamp })
    }

    pub(super) fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        match &self.file {
            Some(file) => file.read_exact_at(buf, self.begin + at),
            None => File::open(&self.path)?.read_exact_at(buf, self.begin + at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Content;

    #[test]
    fn a_part_is_a_source_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("whole");
        std::fs::write(&path, "0123456789").unwrap();
        let whole = Source::open(&path).unwrap();
        let part = whole.part(Path::new("whole:part"), 2, 6).part(Path::new("whole:part:part"), 1, 4);
        let content = Content::whole(&part);
        assert_eq!(content.head(100).unwrap(), b"3456");
        assert_eq!(content.origin(), Path::new("whole:part:part"));
        assert!(content.is_unchanged().unwrap());
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        std::fs::write(&path, "other").unwrap();
        assert!(content.is_unchanged().unwrap(), "another file took the name");
        std::fs::write(dir.path().join("old"), "01234567890").unwrap();
        assert!(!content.is_unchanged().unwrap());
    }

    #[test]
    fn what_has_no_end_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [&pipe, Path::new("/dev/zero"), dir.path(), &dir.path().join("absent"), Path::new("/etc/passwd/x")]
        {
            let failure = Source::open(path).unwrap_err();
            assert_eq!(failure.code, Code::ConfigInvalid, "{failure}");
            assert_eq!(failure.remedy(), "correct the path");
        }
    }
}
