//! A disc or an .iso file, read in user space by byte ranges: no mount, no iso9660 kernel module, and
//! chosen by what it holds, not by its label.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use bootstrap::bundle::legacy::{self, Listed};
use bootstrap::bundle::{MANIFEST_MAX_BYTES, MANIFEST_PATH};
use bootstrap::disc::{self, DiscFile};
use bootstrap::failure::{Code, Failure};
use bootstrap::signature::{SIGNATURE_MAX_BYTES, SIGNATURE_PATH};

use super::Opened;
use super::pieces::FilePieces;
use super::tree::{check_size, read_ahead, signature_too_large};

/// An ISO 9660 image.
#[derive(Debug)]
pub struct Iso {
    name: String,
    file: File,
    files: BTreeMap<String, DiscFile>,
}

impl Iso {
    /// Opens the image file or block device `name`.
    ///
    /// # Errors
    /// `MEDIA_NOT_FOUND` when there is none, `MEDIA_NOT_A_BUNDLE` names the label of a foreign disc,
    /// `SOURCE_INVALID` and `SOURCE_TRUNCATED` when it is damaged.
    pub fn open(name: &str) -> Result<(Self, Opened), Failure> {
        let file = File::open(name).map_err(|e| Failure::new(Code::MediaNotFound, format!("{name}: {e}")))?;
        let named = |mut failure: Failure| {
            failure.what = format!("{name}: {}", failure.what);
            failure
        };
        let disc = disc::read(&file).map_err(named)?;
        let files: BTreeMap<String, DiscFile> = disc.files.into_iter().map(|file| (file.path.clone(), file)).collect();
        let iso = Self { name: name.to_owned(), file, files };
        if let Some(manifest) = iso.files.get(MANIFEST_PATH) {
            let bytes = iso.small(manifest)?;
            let signature = match iso.files.get(SIGNATURE_PATH) {
                Some(file) if file.size > SIGNATURE_MAX_BYTES => {
                    return Err(named(signature_too_large(SIGNATURE_PATH, file.size)));
                }
                file => file.map(|file| iso.small(file)).transpose()?,
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
        let file = self.file.try_clone().map_err(|e| Failure::new(Code::Io, what.clone()).with_source(e))?;
        Ok(read_ahead(file, ranges, what))
    }

    fn small(&self, entry: &DiscFile) -> Result<Vec<u8>, Failure> {
        let what = format!("{} on {}", entry.path, self.name);
        if entry.size > MANIFEST_MAX_BYTES {
            return Err(Failure::new(Code::ManifestInvalid, format!("{what}: {} bytes are too many", entry.size)));
        }
        let mut bytes = Vec::new();
        for range in entry.ranges(0, entry.size).unwrap_or_default() {
            let mut part = vec![0; range.length as usize];
            let read = self.file.read_exact_at(&mut part, range.offset);
            read.map_err(|e| Failure::new(Code::SourceTruncated, what.clone()).with_source(e))?;
            bytes.extend(part);
        }
        Ok(bytes)
    }
}
