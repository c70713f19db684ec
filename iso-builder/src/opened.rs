//! An ISO opened for reading: its listing, its manifest, its files as contents.

use std::path::Path;
use std::sync::Arc;

use bootstrap::bundle::{MANIFEST_MAX_BYTES, MANIFEST_PATH, Manifest};
use bootstrap::digest::Digest;
use bootstrap::disc::{self, Disc, DiscFile};
use bootstrap::failure::{Code, Failure};

use crate::bundle::named;
use crate::content::{Content, Source};

/// An ISO, read but for its files.
#[derive(Debug)]
pub struct Opened {
    /// The directories.
    pub disc: Disc,
    /// The volume identifier of the Joliet descriptor.
    pub joliet_volume_id: Option<String>,
    /// The application identifier: the manifest's digest on an ISO of `cks-iso`.
    pub application_id: String,
    whole: Content,
    source: Arc<Source>,
}

impl Opened {
    /// Opens the ISO, or the device with its disc, at `path`.
    ///
    /// # Errors
    /// `CONFIG_INVALID`, `IO`, `SOURCE_INVALID` or `SOURCE_TRUNCATED` name the path.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let source = Source::open(path)?;
        let whole = Content::whole(&source);
        let naming = |failure: Failure| {
            let remedy = match failure.code {
                Code::SourceInvalid => "name a CKS ISO, or a device with its disc",
                Code::SourceTruncated => "compare its size with the original's, and copy the original again",
                code => code.remedy(),
            };
            named(&path.display().to_string(), failure).with_remedy(remedy)
        };
        let disc = disc::read(whole.reader()).map_err(naming)?;
        let joliet_volume_id = disc::joliet_volume_id(whole.reader()).map_err(naming)?;
        let application_id = disc::application_id(whole.reader()).map_err(naming)?;
        Ok(Self { disc, joliet_volume_id, application_id, whole, source })
    }

    /// Bytes of the image.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.whole.length()
    }

    /// Bytes behind the end of the volume: of a file; a device may be larger than its disc.
    ///
    /// # Errors
    /// `IO` names the path.
    pub fn appended(&self) -> Result<u64, Failure> {
        let more = self.size().saturating_sub(self.disc.volume_bytes);
        Ok(if self.source.is_regular()? { more } else { 0 })
    }

    /// The open image.
    #[must_use]
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// The bytes of `file`.
    #[must_use]
    pub fn content(&self, file: &DiscFile) -> Content {
        let mut content = Content::default();
        for extent in &file.extents {
            content.push_range(&self.source, extent.offset, extent.length, None);
        }
        content
    }

    /// The manifest with its digest; none on a stock ISO.
    ///
    /// # Errors
    /// `MANIFEST_INVALID` or `MANIFEST_UNSUPPORTED` when it can't be used.
    pub fn manifest(&self) -> Result<Option<(Manifest, Digest)>, Failure> {
        let Some(file) = self.disc.file(MANIFEST_PATH) else {
            return Ok(None);
        };
        let json = self.content(file).small(MANIFEST_MAX_BYTES)?;
        Ok(Some((Manifest::parse(&json)?, Digest::of(&json))))
    }
}
