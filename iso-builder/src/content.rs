//! A file of the ISO before it is written: a list of segments, each a few bytes in memory or a range
//! of a file on this machine. Gigabytes are hashed and written from where they lie.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use flate2::Crc;
use nix::fcntl::OFlag;

use crate::lane::{Chunks, Lane};
use crate::progress::Bar;

/// An open file that segments lie in.
#[derive(Debug)]
pub struct Source {
    file: File,
    path: PathBuf,
    length: u64,
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
        self.file.metadata().map(|meta| meta.is_file()).map_err(|e| failed("Reading", &self.path, e))
    }

    /// Takes an open file; `path` is what messages call it.
    ///
    /// # Errors
    /// `IO` when its length can't be told.
    pub fn of(file: File, path: &Path) -> Result<Arc<Self>, Failure> {
        let length = (&file).seek(SeekFrom::End(0)).map_err(|e| failed("Reading", path, e))?;
        Ok(Arc::new(Self { file, path: path.to_owned(), length }))
    }
}

/// A piece of a file.
#[derive(Debug, Clone)]
enum Segment {
    Inline(Arc<[u8]>),
    Range { source: Arc<Source>, offset: u64, length: u64, digest: Option<Digest> },
}

impl Segment {
    fn length(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Range { length, .. } => *length,
        }
    }

    /// Reads from byte `at` of the segment, which has more bytes than that.
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        let take = usize::try_from(self.length() - at).unwrap_or(usize::MAX).min(buf.len());
        let buf = &mut buf[..take];
        match self {
            Self::Inline(bytes) => {
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                buf.copy_from_slice(&bytes[at..at + take]);
            }
            Self::Range { source, offset, .. } => source.file.read_exact_at(buf, offset + at)?,
        }
        Ok(take)
    }
}

/// The bytes of one file, as segments.
#[derive(Debug, Clone, Default)]
pub struct Content {
    segments: Vec<Segment>,
    /// Where each segment begins.
    starts: Vec<u64>,
    length: u64,
    /// The CRC-32 that the digest pass found.
    seen: Arc<OnceLock<u32>>,
}

impl Content {
    /// Bytes held in memory.
    #[must_use]
    pub fn bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        let mut content = Self::default();
        content.push_bytes(bytes);
        content
    }

    /// All of `source`.
    #[must_use]
    pub fn whole(source: &Arc<Source>) -> Self {
        let mut content = Self::default();
        content.push_range(source, 0, source.length, None);
        content
    }

    /// Adds bytes held in memory.
    pub fn push_bytes(&mut self, bytes: impl Into<Arc<[u8]>>) {
        self.push(Segment::Inline(bytes.into()));
    }

    /// Adds `length` bytes of `source` from `offset`; [`Content::digest`] checks them against `digest`.
    pub fn push_range(&mut self, source: &Arc<Source>, offset: u64, length: u64, digest: Option<Digest>) {
        self.push(Segment::Range { source: Arc::clone(source), offset, length, digest });
    }

    fn push(&mut self, segment: Segment) {
        if segment.length() > 0 {
            self.starts.push(self.length);
            self.length += segment.length();
            self.seen = Arc::default();
            self.segments.push(segment);
        }
    }

    /// Bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads from byte `at`; 0 bytes at the end.
    ///
    /// # Errors
    /// The file below can't be read, or has become shorter.
    pub fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<usize> {
        let next = self.starts.partition_point(|start| *start <= at);
        match next.checked_sub(1) {
            Some(index) if at < self.length => self.segments[index].read_at(at - self.starts[index], buf),
            _ => Ok(0),
        }
    }

    /// The first bytes, at most `count`.
    ///
    /// # Errors
    /// `IO` names the file below.
    pub fn head(&self, count: usize) -> Result<Vec<u8>, Failure> {
        self.all_of(count as u64)
    }

    /// Everything, where it is at most `limit` bytes; else `CONTENT_INVALID`.
    ///
    /// # Errors
    /// `IO` names the file below.
    pub fn small(&self, limit: u64) -> Result<Vec<u8>, Failure> {
        if self.length > limit {
            let what =
                format!("{} has {} bytes, more than the {limit} allowed here", self.origin().display(), self.length);
            return Err(Failure::new(Code::ContentInvalid, what));
        }
        self.all_of(limit)
    }

    fn all_of(&self, count: u64) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        self.reader().take(count).read_to_end(&mut bytes).map_err(|e| failed("Reading", &self.origin(), e))?;
        Ok(bytes)
    }

    /// `length` bytes from byte `offset`, as a content of its own.
    #[must_use]
    pub fn slice(&self, offset: u64, length: u64) -> Self {
        let mut slice = Self::default();
        let end = offset.saturating_add(length);
        for (start, segment) in self.starts.iter().zip(&self.segments) {
            let (from, to) = (offset.max(*start), end.min(start + segment.length()));
            if from >= to {
                continue;
            }
            match segment {
                Segment::Inline(bytes) => slice.push_bytes(&bytes[(from - start) as usize..(to - start) as usize]),
                Segment::Range { source, offset, .. } => {
                    slice.push_range(source, offset + from - start, to - from, None);
                }
            }
        }
        slice
    }

    /// A reader from the first byte.
    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        Reader { content: self, at: 0 }
    }

    /// The digest of everything, in one pass that also checks every range against the digest it was
    /// added with.
    ///
    /// # Errors
    /// `DIGEST_MISMATCH` names the file of the wrong range; `IO` a file that can't be read.
    pub fn digest(&self, bar: &Bar) -> Result<Digest, Failure> {
        let (mut lane, mut crc, mut chunks) = (Lane::start(self.length), Crc::new(), Chunks::default());
        for segment in &self.segments {
            let Segment::Range { source, digest, .. } = segment else {
                if let Segment::Inline(bytes) = segment {
                    lane.update(&Arc::new(bytes.to_vec()));
                    crc.update(bytes);
                    bar.add(bytes.len() as u64);
                }
                continue;
            };
            let mut own = digest.map(|_| Lane::start(segment.length()));
            let mut at = 0;
            while at < segment.length() {
                let mut buf = chunks.take();
                let count = segment.read_at(at, &mut buf).map_err(|e| failed("Reading", &source.path, e))?;
                buf.truncate(count);
                let chunk = chunks.share(buf);
                lane.update(&chunk);
                if let Some(own) = &mut own {
                    own.update(&chunk);
                }
                crc.update(&chunk);
                bar.add(count as u64);
                at += count as u64;
            }
            match (own.map(Lane::finish), digest) {
                (Some(found), Some(want)) if found != *want => {
                    let what = format!("{}: the blob {want} has the digest {found}", source.path.display());
                    return Err(Failure::new(Code::DigestMismatch, what)
                        .with_remedy("export or download the archive again: its content was damaged"));
                }
                _ => {}
            }
        }
        // Of two passes over the same content the first one counts.
        self.seen.get_or_init(|| crc.sum());
        Ok(lane.finish())
    }

    /// The CRC-32 that [`Content::digest`] found, once that has run.
    #[must_use]
    pub fn checksum(&self) -> Option<u32> {
        self.seen.get().copied()
    }

    /// The file that the first range lies in, for messages.
    #[must_use]
    pub fn origin(&self) -> PathBuf {
        let path = self.segments.iter().find_map(|segment| match segment {
            Segment::Range { source, .. } => Some(source.path.clone()),
            Segment::Inline(_) => None,
        });
        path.unwrap_or_default()
    }
}

/// Reads a [`Content`].
#[derive(Debug)]
pub struct Reader<'a> {
    content: &'a Content,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read_at(self.at, buf)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Reader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.content.length.checked_add_signed(by),
        };
        self.at = to.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// The failure of an operation on a file of this machine: `Opening /x: No such file or directory`.
#[must_use]
pub fn failed(doing: &str, path: &Path, error: io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::NoSpace,
        _ => Code::Io,
    };
    Failure::new(code, format!("{doing} {}", path.display())).with_source(error)
}

/// As [`failed`], but where `path` leads to nothing, whoever named it has to correct it.
#[must_use]
pub fn misnamed(doing: &str, path: &Path, error: io::Error) -> Failure {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    let wrong = matches!(error.kind(), NotFound | NotADirectory | IsADirectory);
    let failure = failed(doing, path, error);
    if wrong { Failure { code: Code::ConfigInvalid, ..failure }.with_remedy("correct the path") } else { failure }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Content {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"0123456789").unwrap();
        let source = Source::of(file, Path::new("sample")).unwrap();
        let mut content = Content::bytes(*b"ab");
        content.push_range(&source, 2, 5, Some(Digest::of(b"23456")));
        content.push_bytes(*b"");
        content.push_bytes(*b"z");
        content
    }

    #[test]
    fn segments_read_as_one_file() {
        let content = sample();
        assert_eq!(content.length(), 8);
        assert_eq!(content.head(100).unwrap(), b"ab23456z");
        assert_eq!(content.slice(1, 4).head(100).unwrap(), b"b234");
        assert_eq!(content.slice(6, 99).head(100).unwrap(), b"6z");
        let mut reader = content.reader();
        reader.seek(SeekFrom::End(-2)).unwrap();
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "6z");
        assert_eq!(content.read_at(8, &mut [0; 4]).unwrap(), 0);
        assert!(content.small(7).is_err());
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

    #[test]
    fn the_digest_pass_checks_the_ranges() {
        let mut content = sample();
        assert_eq!(content.digest(&Bar::none()).unwrap(), Digest::of(b"ab23456z"));
        let wrong = Source::of(tempfile::tempfile().unwrap(), Path::new("wrong")).unwrap();
        wrong.file.write_all_at(b"xx", 0).unwrap();
        content.push_range(&wrong, 0, 2, Some(Digest::of(b"yy")));
        let failure = content.digest(&Bar::none()).unwrap_err();
        assert_eq!(failure.code, Code::DigestMismatch);
        assert!(failure.what.contains("wrong"), "{failure}");
    }
}
