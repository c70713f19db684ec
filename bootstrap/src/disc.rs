//! ISO 9660 images in user space: which files there are and where their bytes lie.
//!
//! No mount and no kernel module: [`read`] walks the directories once and returns byte ranges of the
//! image, so that any range of any file is one positioned read. Rock Ridge names win over Joliet
//! names, Joliet names over plain ones; the rules are in `docs/iso-format.md`.

mod sectors;

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use hadris_fs::sync::FileSystem;
use hadris_fs::{CivilDate, CivilTime, DateTime, DirCursor, FileType, MountOptions, NodeId};
use hadris_iso::sync::IsoFs;
use hadris_iso::{Detail, Namespace};

use self::sectors::Sectors;
use crate::bundle::layout;
use crate::failure::{Code, Failure};

/// Where the volume descriptors begin, in bytes (ECMA-119 §7.2: logical sector 16).
const DESCRIPTORS_AT: u64 = 32_768;

/// Bytes of a logical sector and of a volume descriptor.
const SECTOR: usize = 2048;

/// Descriptors looked through for Joliet's before the disc counts as broken; real discs have 3 or 4.
const MAX_DESCRIPTORS: u64 = 64;

/// Files and directories on one disc: thirty times what the largest bundle has.
const MAX_ENTRIES: usize = 65_536;

/// Directories inside one another: four times what ECMA-119 allows.
const MAX_DEPTH: usize = 32;

/// What an ISO 9660 image holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disc {
    /// The volume identifier of the primary descriptor, without padding.
    pub volume_id: String,
    /// Bytes of the volume, as the primary descriptor tells; the image may have more.
    pub volume_bytes: u64,
    /// The regular files, sorted by path.
    pub files: Vec<DiscFile>,
    /// Paths of everything else, sorted: symbolic links, devices, pipes, and empty directories, which
    /// end in `/`.
    pub others: Vec<String>,
}

/// One regular file of a disc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscFile {
    /// Path from the root, without a leading `/`; checked by [`layout::check_path`].
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Permission bits; 0o444 where the disc records none.
    pub mode: u32,
    /// Where the bytes are, in the order of the file. Neighbours are joined, so there is mostly one.
    pub extents: Vec<Extent>,
}

/// A byte range of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First byte, from the start of the image.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

impl Disc {
    /// The file at `path`.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&DiscFile> {
        let at = self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        self.files.get(at)
    }
}

impl DiscFile {
    /// The ranges of the image that hold `length` bytes of this file from byte `offset`; none when
    /// that reaches beyond the end of the file.
    #[must_use]
    pub fn ranges(&self, offset: u64, length: u64) -> Option<Vec<Extent>> {
        if offset.checked_add(length)? > self.size {
            return None;
        }
        let (mut skip, mut left) = (offset, length);
        let mut ranges = Vec::new();
        for extent in &self.extents {
            if left == 0 {
                break;
            }
            if skip >= extent.length {
                skip -= extent.length;
                continue;
            }
            let take = left.min(extent.length - skip);
            ranges.push(Extent { offset: extent.offset + skip, length: take });
            left -= take;
            skip = 0;
        }
        (left == 0).then_some(ranges)
    }
}

/// The volume identifier, from the primary volume descriptor alone (2 KiB at byte 32768).
///
/// # Errors
/// `SOURCE_INVALID` when this is no ISO 9660 image, `IO` when it can't be read.
pub fn volume_id<R: Read + Seek>(reader: R) -> Result<String, Failure> {
    primary_text(reader, 40..72)
}

/// The application identifier of the primary volume descriptor. `cks-iso` writes the hex digits of the
/// sha256 of `cks-bundle.json` there.
///
/// # Errors
/// As [`volume_id`].
pub fn application_id<R: Read + Seek>(reader: R) -> Result<String, Failure> {
    primary_text(reader, 574..702)
}

/// When the volume was made, in seconds since 1970, as the primary volume descriptor tells (ECMA-119
/// §8.4.26.1); `cks-iso` dates every file so, too.
///
/// # Errors
/// As [`volume_id`]; `SOURCE_INVALID` also when the descriptor tells no time.
pub fn created<R: Read + Seek>(mut reader: R) -> Result<u64, Failure> {
    let sector = descriptor(&mut reader, 0)?;
    let text = String::from_utf8_lossy(&sector[813..829]);
    let number = |range: Range<usize>| text.get(range).and_then(|digits| digits.parse::<u16>().ok());
    let small = |from: usize| number(from..from + 2).and_then(|number| u8::try_from(number).ok());
    let time = || {
        let date = CivilDate::new(i32::from(number(0..4)?), small(4)?, small(6)?).ok()?;
        let time = CivilTime::new(small(8)?, small(10)?, small(12)?).ok()?;
        // Quarters of an hour from Greenwich.
        let offset = i16::from(sector[829].cast_signed()) * 15;
        let seconds = DateTime::from_civil(date, time, Some(offset)).ok()?.unix_seconds();
        u64::try_from(seconds).ok()
    };
    time().ok_or_else(|| invalid("the volume descriptor tells no time"))
}

/// The volume identifier of the Joliet descriptor, which `blkid` prefers; none without Joliet.
///
/// # Errors
/// As [`volume_id`].
pub fn joliet_volume_id<R: Read + Seek>(reader: R) -> Result<Option<String>, Failure> {
    let mut reader = reader;
    for index in 0..MAX_DESCRIPTORS {
        let sector = descriptor(&mut reader, index)?;
        match sector[0] {
            255 => return Ok(None),
            2 if matches!(&sector[88..91], b"%/@" | b"%/C" | b"%/E") => {
                let (pairs, _) = sector[40..72].as_chunks::<2>();
                let units: Vec<u16> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
                let text = String::from_utf16_lossy(&units);
                return Ok(Some(text.trim_end_matches([' ', '\0']).to_owned()));
            }
            _ => {}
        }
    }
    Err(invalid("the volume descriptors have no end"))
}

/// Reads the directories of an ISO 9660 image.
///
/// # Errors
/// `SOURCE_INVALID` when it is none, or breaks the format's rules; `SOURCE_TRUNCATED` when a directory
/// or file reaches beyond its end; `IO` when it can't be read.
pub fn read<R: Read + Seek>(reader: R) -> Result<Disc, Failure> {
    let mut reader = reader;
    let volume_id = volume_id(&mut reader)?;
    let blocks = descriptor(&mut reader, 0)?.as_chunks::<4>().0.get(20).copied().unwrap_or_default();
    let volume_bytes = u64::from(u32::from_le_bytes(blocks)) * SECTOR as u64;
    let length = reader.seek(SeekFrom::End(0)).map_err(|e| unreadable("its size", e))?;
    let iso = IsoFs::mount(Sectors::new(reader, length), MountOptions::new())
        .map_err(|error| failure("its root directory", error.into_error()))?;
    let plain = iso.namespace() == Namespace::Primary;
    let mut walk = Walk { plain, iso, length, files: Vec::new(), others: Vec::new() };
    walk.all()?;
    let Walk { mut files, mut others, .. } = walk;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    others.sort();
    if let Some(twice) = files.windows(2).find(|pair| pair[0].path == pair[1].path) {
        return Err(invalid(format!("{:?} stands twice in its directory", twice[0].path)));
    }
    Ok(Disc { volume_id, volume_bytes, files, others })
}

/// One pass over the directories.
struct Walk<R> {
    iso: IsoFs<Sectors<R>>,
    /// Names are plain ISO 9660 ones: upper case, a dot at the end where there is no extension.
    plain: bool,
    /// Bytes of the image.
    length: u64,
    files: Vec<DiscFile>,
    others: Vec<String>,
}

impl<R: Read + Seek> Walk<R> {
    fn all(&mut self) -> Result<(), Failure> {
        let root = self.iso.root();
        let (mut entries, mut seen) = (0, BTreeSet::from([root]));
        let mut pending = vec![(root, String::new(), 0)];
        while let Some((dir, path, depth)) = pending.pop() {
            if depth > MAX_DEPTH {
                return Err(invalid(format!("directory {path:?} lies more than {MAX_DEPTH} deep")));
            }
            let (mut cursor, mut is_empty) = (DirCursor::START, true);
            while let Some(entry) =
                self.iso.readdir(dir, cursor).map_err(|e| failure(&format!("directory {path:?}"), e))?
            {
                (entries, is_empty) = (entries + 1, false);
                if entries > MAX_ENTRIES {
                    return Err(invalid(format!("it has more than {MAX_ENTRIES} files and directories")));
                }
                cursor = entry.next_cursor();
                let path = join(&path, &self.shown(entry.name().as_bytes()));
                layout::check_path(&path).map_err(|reason| invalid(format!("path {path:?} {reason}")))?;
                match entry.file_type() {
                    FileType::File => {
                        let mode = entry.metadata().permissions().bits() & 0o7777;
                        self.file(entry.node(), path, mode)?;
                    }
                    FileType::Dir if seen.insert(entry.node()) => pending.push((entry.node(), path, depth + 1)),
                    FileType::Dir => return Err(invalid(format!("directory {path:?} lies in itself or stands twice"))),
                    _ => self.others.push(path),
                }
            }
            if is_empty && !path.is_empty() {
                self.others.push(path + "/");
            }
        }
        Ok(())
    }

    fn shown(&self, name: &[u8]) -> String {
        let name = String::from_utf8_lossy(name);
        if self.plain { name.trim_end_matches('.').to_lowercase() } else { name.into_owned() }
    }

    fn file(&mut self, node: NodeId, path: String, mode: u32) -> Result<(), Failure> {
        let mut extents: Vec<Extent> = Vec::new();
        let mut size = 0;
        loop {
            let mut found = [hadris_fs::Extent::new(0, 0); 64];
            let count = self.iso.extents(node, size, &mut found).map_err(|e| failure(&format!("file {path:?}"), e))?;
            for extent in &found[..count] {
                if extent.offset().checked_add(extent.len()).is_none_or(|end| end > self.length) {
                    let what = format!("file {path:?} reaches beyond the end of the image ({} bytes)", self.length);
                    return Err(Failure::new(Code::SourceTruncated, what));
                }
                size += extent.len();
                match extents.last_mut() {
                    Some(last) if last.offset + last.length == extent.offset() => last.length += extent.len(),
                    _ => extents.push(Extent { offset: extent.offset(), length: extent.len() }),
                }
            }
            if count < found.len() {
                break;
            }
        }
        self.files.push(DiscFile { path, size, mode, extents });
        Ok(())
    }
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

/// The text in `field` of the primary volume descriptor, without padding.
fn primary_text<R: Read + Seek>(reader: R, field: Range<usize>) -> Result<String, Failure> {
    let mut reader = reader;
    let sector = descriptor(&mut reader, 0)?;
    match sector[0] {
        1 => Ok(String::from_utf8_lossy(&sector[field]).trim_end_matches([' ', '\0']).to_owned()),
        other => Err(invalid(format!("not an ISO 9660 image: the first volume descriptor has type {other}"))),
    }
}

/// The volume descriptor number `index`.
fn descriptor<R: Read + Seek>(reader: &mut R, index: u64) -> Result<[u8; SECTOR], Failure> {
    let mut sector = [0; SECTOR];
    let at = DESCRIPTORS_AT + index * SECTOR as u64;
    reader.seek(SeekFrom::Start(at)).map_err(|e| unreadable("its volume descriptors", e))?;
    match reader.read_exact(&mut sector) {
        Ok(()) if &sector[1..6] == b"CD001" => Ok(sector),
        Ok(()) => Err(invalid(format!("not an ISO 9660 image: no volume descriptor at byte {at}"))),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(invalid(format!("not an ISO 9660 image: it ends before byte {}", at + SECTOR as u64)))
        }
        Err(e) => Err(unreadable("its volume descriptors", e)),
    }
}

fn invalid(what: impl Into<String>) -> Failure {
    Failure::new(Code::SourceInvalid, what)
}

fn unreadable(what: &str, error: std::io::Error) -> Failure {
    Failure::new(Code::Io, format!("reading {what}: {error}")).with_source(error)
}

/// The failure for what the ISO 9660 reader says about `object`.
fn failure(object: &str, error: hadris_fs::Error<std::io::Error>) -> Failure {
    let what = format!("{object}: {error}");
    match (Detail::of(&error), error.device_error()) {
        (_, Some(_)) => Failure::new(Code::Io, format!("reading {what}")).with_source(error),
        (Some(Detail::OutsideImage), None) => {
            Failure::new(Code::SourceTruncated, format!("{object} lies beyond the end of the image"))
        }
        (_, None) => invalid(what),
    }
}

#[cfg(test)]
mod tests;
