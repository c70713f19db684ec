//! A file of the ISO before it is written: a list of segments, each a few bytes in memory or a range
//! of a file on this machine. Gigabytes are hashed and written from where they lie.

mod source;

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};

pub use self::source::{Source, Stamp};
use crate::pass;
use crate::progress::Bar;

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
            Self::Range { source, offset, .. } => source.read_exact_at(buf, offset + at)?,
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
        content.push_range(source, 0, source.length(), None);
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

    /// Whether the files below are still what they were when they were opened. One that was replaced by a
    /// rename is: it lives on as long as it is open.
    ///
    /// # Errors
    /// A file can't be asked.
    pub fn is_unchanged(&self) -> io::Result<bool> {
        for segment in &self.segments {
            if let Segment::Range { source, .. } = segment
                && !source.is_unchanged()?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The first bytes, at most `count`.
    ///
    /// # Errors
    /// `IO` names the file below.
    pub fn head(&self, count: usize) -> Result<Vec<u8>, Failure> {
        self.all_of(count as u64)
    }

    /// The content as a source that messages call `name`; none where it does not lie in one piece of a file.
    #[must_use]
    pub fn source(&self, name: &Path) -> Option<Arc<Source>> {
        match &self.segments[..] {
            [Segment::Range { source, offset, length, .. }] => Some(source.part(name, *offset, *length)),
            _ => None,
        }
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
        let told = self.starts.iter().zip(&self.segments).filter_map(|(start, segment)| match segment {
            Segment::Range { source, length, digest: Some(digest), .. } => Some((*start, *length, source, *digest)),
            _ => None,
        });
        let told: Vec<_> = told.collect();
        let ranges: Vec<_> = told.iter().map(|(start, length, ..)| (*start, *length)).collect();
        let (whole, found) = pass::digests(self, &ranges, bar)?;
        match told.iter().zip(found).find(|((.., want), found)| want != found) {
            None => Ok(whole),
            Some(((_, _, source, want), found)) => {
                let what = format!("{}: the blob {want} has the digest {found}", source.path().display());
                Err(Failure::new(Code::DigestMismatch, what)
                    .with_remedy("export or download the archive again: its content was damaged"))
            }
        }
    }

    /// The file that byte `at` lies in, for messages; empty for bytes in memory.
    #[must_use]
    pub fn path_at(&self, at: u64) -> PathBuf {
        let segment = self.starts.partition_point(|start| *start <= at).checked_sub(1);
        match segment.and_then(|index| self.segments.get(index)) {
            Some(Segment::Range { source, .. }) => source.path().to_owned(),
            _ => PathBuf::new(),
        }
    }

    /// The file that the first range lies in, for messages.
    #[must_use]
    pub fn origin(&self) -> PathBuf {
        let path = self.segments.iter().find_map(|segment| match segment {
            Segment::Range { source, .. } => Some(source.path().to_owned()),
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
    fn a_closed_file_is_open_only_while_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blob");
        std::fs::write(&path, "0123456789").unwrap();
        let content = Content::whole(&Source::closed(&path).unwrap());
        assert_eq!(content.head(100).unwrap(), b"0123456789");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(content.head(100).unwrap_err().code, Code::Io);
    }

    #[test]
    fn the_digest_pass_checks_the_ranges() {
        let mut content = sample();
        assert_eq!(content.digest(&Bar::none()).unwrap(), Digest::of(b"ab23456z"));
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"xx").unwrap();
        let wrong = Source::of(file, Path::new("wrong")).unwrap();
        content.push_range(&wrong, 0, 2, Some(Digest::of(b"yy")));
        let failure = content.digest(&Bar::none()).unwrap_err();
        assert_eq!(failure.code, Code::DigestMismatch);
        assert!(failure.what.contains("wrong"), "{failure}");
    }
}
