//! A disc or an .iso file, read in user space by byte ranges: no mount, no iso9660 kernel module, and
//! chosen by what it holds, not by its label.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bootstrap::bundle::legacy::{self, Listed};
use bootstrap::bundle::{MANIFEST_MAX_BYTES, MANIFEST_PATH};
use bootstrap::disc::{self, Disc, DiscFile};
use bootstrap::failure::{Code, Failure};
use bootstrap::signature::{SIGNATURE_MAX_BYTES, SIGNATURE_PATH};

use super::Opened;
use super::discs;
use super::pieces::FilePieces;
use super::tree::{check_size, read_ahead, signature_too_large};

/// Where the volume descriptors begin, and how much of them tells one volume from another.
const HEAD_AT: u64 = 32_768;
const HEAD_BYTES: usize = 2048;

/// An ISO 9660 image.
#[derive(Debug)]
pub struct Iso {
    name: String,
    /// The sectors that tell the volume: another disc in the same drive has others.
    head: Vec<u8>,
    files: BTreeMap<String, DiscFile>,
}

impl Iso {
    /// Opens the image file or block device `name`.
    ///
    /// # Errors
    /// `MEDIA_NOT_FOUND` when there is none, `MEDIA_NOT_A_BUNDLE` names the label of a foreign disc,
    /// `SOURCE_INVALID` and `SOURCE_TRUNCATED` when it is damaged.
    pub fn open(name: &str) -> Result<(Self, Opened), Failure> {
        let not_there = |e: std::io::Error| Failure::new(Code::MediaNotFound, format!("{name}: {e}"));
        let mut file = discs::open(Path::new(name)).map_err(not_there)?;
        let named = |mut failure: Failure| {
            failure.what = format!("{name}: {}", failure.what);
            failure
        };
        let disc = disc::read(&file).map_err(named)?;
        let bytes = file.seek(SeekFrom::End(0)).map_err(not_there)?;
        check_whole(&disc, bytes).map_err(named)?;
        let head = head(&file).map_err(not_there)?;
        let files: BTreeMap<String, DiscFile> = disc.files.into_iter().map(|file| (file.path.clone(), file)).collect();
        let iso = Self { name: name.to_owned(), head, files };
        if let Some(manifest) = iso.files.get(MANIFEST_PATH) {
            let bytes = iso.small(&file, manifest)?;
            let signature = match iso.files.get(SIGNATURE_PATH) {
                Some(entry) if entry.size > SIGNATURE_MAX_BYTES => {
                    return Err(named(signature_too_large(SIGNATURE_PATH, entry.size)));
                }
                entry => entry.map(|entry| iso.small(&file, entry)).transpose()?,
            };
            return Ok((iso, Opened::Manifest { bytes, signature }));
        }
        if !legacy::is_bundle(iso.files.keys().map(String::as_str)) {
            let what = format!(
                "{name}: the disc is labelled {:?} and holds {} files, none of a CKS ISO",
                disc.volume_id,
                iso.files.len()
            );
            return Err(Failure::new(Code::MediaNotABundle, what));
        }
        let listing = iso.files.values().map(|file| Listed { path: file.path.clone(), size: file.size }).collect();
        Ok((iso, Opened::Listing(listing)))
    }

    /// Reads a range of an entry.
    ///
    /// # Errors
    /// `SOURCE_FILE_MISSING`, `SOURCE_TRUNCATED` name the disc and the entry.
    pub fn read(&self, path: &str, size: u64, offset: u64, length: u64) -> Result<FilePieces, Failure> {
        let what = format!("{path} on {}", self.name);
        let missing = || Failure::new(Code::SourceFileMissing, format!("{what}: is not on the disc"));
        let entry = self.files.get(path).ok_or_else(missing)?;
        check_size(&what, entry.size, size)?;
        let beyond = || Failure::new(Code::SourceTruncated, format!("{what}: ends before byte {}", offset + length));
        let ranges = entry.ranges(offset, length).ok_or_else(beyond)?;
        let ranges = ranges.into_iter().map(|range| (range.offset, range.length)).collect();
        let (name, known) = (self.name.clone(), self.head.clone());
        // Opened for this range only: a disc in use could not be ejected, and its drive would not tell of another.
        let open = move || {
            let lost = |why: String| Failure::new(Code::SourceUnreachable, format!("{name}: {why}"));
            let file = discs::open(Path::new(&name)).map_err(|e| lost(e.to_string()))?;
            match head(&file) {
                Ok(now) if now == known => Ok(file),
                Ok(_) => Err(lost("holds another disc now".to_owned())),
                Err(e) => Err(lost(e.to_string())),
            }
        };
        Ok(read_ahead(open, ranges, what))
    }

    fn small(&self, file: &File, entry: &DiscFile) -> Result<Vec<u8>, Failure> {
        let what = format!("{} on {}", entry.path, self.name);
        if entry.size > MANIFEST_MAX_BYTES {
            return Err(Failure::new(Code::ManifestInvalid, format!("{what}: {} bytes are too many", entry.size)));
        }
        let mut bytes = Vec::new();
        for range in entry.ranges(0, entry.size).unwrap_or_default() {
            let mut part = vec![0; range.length as usize];
            let read = file.read_exact_at(&mut part, range.offset);
            read.map_err(|e| Failure::new(Code::SourceTruncated, what.clone()).with_source(e))?;
            bytes.extend(part);
        }
        Ok(bytes)
    }
}

/// The volume's descriptors, where every ISO 9660 volume has them (ECMA-119 §8).
fn head(file: &File) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; HEAD_BYTES];
    file.read_exact_at(&mut bytes, HEAD_AT).map(|()| bytes)
}

/// A disc that ends before its last file is refused as a whole, or a node would be half installed from it.
fn check_whole(disc: &Disc, bytes: u64) -> Result<(), Failure> {
    let ends = |file: &DiscFile| file.extents.iter().map(|extent| extent.offset + extent.length).max().unwrap_or(0);
    match disc.files.iter().max_by_key(|file| ends(file)) {
        Some(last) if ends(last) > bytes => {
            let what = format!("ends after {bytes} bytes, its last file {} at byte {}", last.path, ends(last));
            Err(Failure::new(Code::SourceTruncated, what))
        }
        _ => Ok(()),
    }
}
