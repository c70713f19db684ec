//! A bundle opened for reading, wherever it lies: on an ISO or a disc, in a directory, behind a URL. What
//! is read is one value; where it came from matters for the rules of the volume alone.

mod remote;
mod tree;

use std::path::Path;
use std::sync::Arc;

use bootstrap::bundle::{MANIFEST_MAX_BYTES, MANIFEST_PATH, Manifest};
use bootstrap::digest::Digest;
use bootstrap::disc::{self, DiscFile};
use bootstrap::failure::{Code, Failure};

use crate::access::Access;
use crate::bundle::named;
use crate::content::{Content, Source};
use crate::progress::Progress;

/// A bundle, read but for its files.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The path, or the URL without user and password: for messages.
    pub name: String,
    /// What it is.
    pub medium: Medium,
    /// The regular files, sorted by path.
    pub files: Vec<BundleFile>,
    /// Paths of everything else, sorted: links, devices, pipes, and empty directories, which end in `/`.
    pub others: Vec<String>,
    /// The volume; none where it is no ISO.
    pub volume: Option<Volume>,
}

/// What a bundle was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Medium {
    /// An ISO 9660 image: a file, a device, a download.
    Iso,
    /// A directory of this machine.
    Directory,
    /// A directory behind a URL.
    Url,
}

/// One regular file of a bundle.
#[derive(Debug, Clone)]
pub struct BundleFile {
    /// Path from the root, without a leading `/`.
    pub path: String,
    /// Permission bits; 0o444 where nobody tells them.
    pub mode: u32,
    /// The bytes.
    pub content: Content,
}

/// The volume that the files lie on.
#[derive(Debug, Clone)]
pub struct Volume {
    /// The volume identifier of the primary descriptor.
    pub id: String,
    /// The volume identifier of the Joliet descriptor.
    pub joliet_id: Option<String>,
    /// The application identifier: the manifest's digest on an ISO of `cks-iso`.
    pub application_id: String,
    /// Bytes of the volume, as its descriptor tells.
    pub bytes: u64,
    /// Bytes behind the end of the volume; none on a device, which may be larger than its disc.
    pub appended: u64,
    /// The open image.
    pub source: Arc<Source>,
}

/// The URL that `name` is.
pub(crate) fn url(name: &Path) -> Option<&str> {
    name.to_str().filter(|name| name.starts_with("http://") || name.starts_with("https://"))
}

impl Opened {
    /// Opens the bundle that `name` names: an http(s) URL, a directory, else an ISO or a device with its disc.
    /// What is behind a URL is downloaded into a nameless temporary file, by the proxies, CAs and timeouts of
    /// `access`.
    ///
    /// # Errors
    /// As [`Opened::open`]; for a URL also `SOURCE_UNREACHABLE`, `SOURCE_FILE_MISSING`, `MEDIA_NOT_FOUND`,
    /// `MEDIA_NOT_A_BUNDLE` and `NO_SPACE`.
    pub fn at(name: &Path, access: &Access, progress: Progress) -> Result<Self, Failure> {
        match url(name) {
            Some(url) => remote::open(url, access, progress),
            None => Self::open(name),
        }
    }

    /// Opens the ISO, the device with its disc, or the directory at `path`.
    ///
    /// # Errors
    /// `CONFIG_INVALID`, `IO`, `SOURCE_INVALID` or `SOURCE_TRUNCATED` name the path.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        if path.is_dir() {
            return tree::open(path);
        }
        let source = Source::open(path)?;
        let is_regular = source.is_regular()?;
        Self::image(&source, path.display().to_string(), is_regular)
    }

    /// Reads the directories of an image; `ends` where the image ends with its file.
    fn image(source: &Arc<Source>, name: String, ends: bool) -> Result<Self, Failure> {
        let image = Content::whole(source);
        let naming = |failure: Failure| {
            let remedy = match failure.code {
                Code::SourceInvalid => "name a CKS ISO, or a device with its disc",
                Code::SourceTruncated => "compare its size with the original's, and copy the original again",
                code => code.remedy(),
            };
            named(&name, failure).with_remedy(remedy)
        };
        let disc = disc::read(image.reader()).map_err(naming)?;
        let joliet_id = disc::joliet_volume_id(image.reader()).map_err(naming)?;
        let application_id = disc::application_id(image.reader()).map_err(naming)?;
        let file = |file: DiscFile| {
            let mut content = Content::default();
            for extent in &file.extents {
                content.push_range(source, extent.offset, extent.length, None);
            }
            BundleFile { path: file.path, mode: file.mode, content }
        };
        let appended = if ends { image.length().saturating_sub(disc.volume_bytes) } else { 0 };
        let bytes = disc.volume_bytes;
        let volume =
            Volume { id: disc.volume_id, joliet_id, application_id, bytes, appended, source: Arc::clone(source) };
        let files = disc.files.into_iter().map(file).collect();
        Ok(Self { name, medium: Medium::Iso, files, others: disc.others, volume: Some(volume) })
    }

    /// The file at `path`.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&BundleFile> {
        let at = self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        self.files.get(at)
    }

    /// Bytes: of the image, or of all files where there is none.
    #[must_use]
    pub fn size(&self) -> u64 {
        let files = || self.files.iter().map(|file| file.content.length()).sum();
        self.volume.as_ref().map_or_else(files, |volume| volume.source.length())
    }

    /// The manifest with its digest; none on a stock ISO.
    ///
    /// # Errors
    /// `MANIFEST_INVALID` or `MANIFEST_UNSUPPORTED` when it can't be used.
    pub fn manifest(&self) -> Result<Option<(Manifest, Digest)>, Failure> {
        let Some(file) = self.file(MANIFEST_PATH) else {
            return Ok(None);
        };
        let json = file.content.small(MANIFEST_MAX_BYTES)?;
        Ok(Some((Manifest::parse(&json)?, Digest::of(&json))))
    }
}
