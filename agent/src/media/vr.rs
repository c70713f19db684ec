//! The bundle served over HTTP as a directory: CloudStack's virtual router at `http://<VR>/cks-iso/`
//! (4.21 and later), or any web server with the ISO's content.
//!
//! The manifest is asked for first. Without one the server's directory listings are read, and never
//! anything above or beside the given prefix (the router opens its whole web root while it serves).

use bootstrap::bundle::autoindex;
use bootstrap::bundle::legacy::{self, Listed};
use bootstrap::bundle::{MANIFEST_MAX_BYTES, MANIFEST_PATH};
use bootstrap::failure::{Code, Failure};
use bootstrap::signature::{SIGNATURE_MAX_BYTES, SIGNATURE_PATH};
use url::Url;

use super::Opened;
use super::http::place::Place;
use super::http::{Body, Server, Told};
use super::tree::signature_too_large;
use crate::config;

/// Listings read at most, and how deep: the stock layout has seven directories, one below the other.
const MAX_PAGES: usize = 64;
const MAX_DEPTH: usize = 3;
const MAX_PAGE_BYTES: u64 = 4 << 20;
/// Files of a listing at most: the stock ISO has some fifty.
const MAX_FILES: usize = 4096;
/// A file whose size no header tells is read to its end up to here.
const MAX_UNSIZED_BYTES: u64 = 1 << 20;

/// An HTTP directory.
#[derive(Debug)]
pub struct Vr {
    server: Server,
}

impl Vr {
    /// Opens the HTTP directory `name`; `direct`: by no proxy.
    ///
    /// # Errors
    /// `CONFIG_INVALID` for what is no URL; `SOURCE_UNREACHABLE`; `MEDIA_NOT_FOUND` when the directory
    /// is not served; `MEDIA_NOT_A_BUNDLE` when nothing in it belongs on a CKS ISO; `MANIFEST_…`.
    pub async fn open(name: &str, http: &config::Http, direct: bool) -> Result<(Self, Opened), Failure> {
        let vr = Self { server: Server::new(Place::directory(name)?, http, direct)? };
        let url = vr.server.place.entry(MANIFEST_PATH)?;
        if let Ok(bytes) = vr.server.small(&url, MANIFEST_MAX_BYTES).await? {
            let signature = vr.signature().await?;
            return Ok((vr, Opened::Manifest { bytes, signature }));
        }
        let listing = vr.list().await?;
        Ok((vr, Opened::Listing(listing)))
    }

    /// Asks for a range of an entry.
    ///
    /// # Errors
    /// `SOURCE_FILE_MISSING`, `SOURCE_TRUNCATED`, `SOURCE_INVALID`, `SOURCE_UNREACHABLE` name the URL.
    pub async fn read(&self, path: &str, size: u64, offset: u64, length: u64) -> Result<Body, Failure> {
        self.server.range(&self.server.place.entry(path)?, size, offset, length).await
    }

    /// Which version of an entry is served, in words of the server: known from the listing or the first answer.
    pub fn validator(&self, path: &str) -> Option<String> {
        self.server.validator(&self.server.place.entry(path).ok()?)
    }

    /// How often an entry was another one when it was asked for its rest.
    pub fn changes(&self, path: &str) -> u64 {
        self.server.place.entry(path).map_or(0, |url| self.server.changes(&url))
    }

    async fn signature(&self) -> Result<Option<Vec<u8>>, Failure> {
        let url = self.server.place.entry(SIGNATURE_PATH)?;
        // Read beyond what a signature has, so that one that is none is told from a server that is at fault.
        match self.server.small(&url, MAX_PAGE_BYTES).await?.ok() {
            Some(bytes) if bytes.len() as u64 > SIGNATURE_MAX_BYTES => {
                Err(signature_too_large(url.as_str(), bytes.len() as u64))
            }
            signature => Ok(signature),
        }
    }

    fn base(&self) -> &Url {
        &self.server.place.url
    }

    /// Walks the listings below the prefix and asks for the size of every file.
    async fn list(&self) -> Result<Vec<Listed>, Failure> {
        let base = self.base();
        let mut pages = vec![(String::new(), 0)];
        let (mut files, mut read) = (Vec::new(), 0);
        while let Some((directory, depth)) = pages.pop() {
            read += 1;
            if read > MAX_PAGES {
                return Err(Failure::new(Code::SourceInvalid, format!("{base}: lists too many directories")));
            }
            let html = match self.server.small(&self.server.place.entry(&directory)?, MAX_PAGE_BYTES).await? {
                Ok(html) => html,
                Err(status) => {
                    let what = format!("{base}{directory}: neither {MANIFEST_PATH} nor a listing (HTTP {status})");
                    return Err(Failure::new(Code::MediaNotFound, what));
                }
            };
            for link in autoindex::parse(&String::from_utf8_lossy(&html)) {
                let path = format!("{directory}{}", link.name);
                match (link.directory, depth < MAX_DEPTH) {
                    (true, true) => pages.push((format!("{path}/"), depth + 1)),
                    (true, false) => {}
                    (false, _) => files.push(path),
                }
            }
            if files.len() > MAX_FILES || pages.len() > MAX_PAGES {
                let what = format!("{base}: lists too many files and directories");
                return Err(Failure::new(Code::SourceInvalid, what));
            }
        }
        if files.is_empty() {
            return Err(Failure::new(Code::MediaNotFound, format!("{base}: lists no files")));
        }
        if !legacy::is_bundle(files.iter().map(String::as_str)) {
            let what = format!("{base}: lists {} files, none of a CKS ISO", files.len());
            return Err(Failure::new(Code::MediaNotABundle, what));
        }
        let mut listing = Vec::new();
        for path in files {
            listing.push(Listed { size: self.size(&path).await?, path });
        }
        Ok(listing)
    }

    async fn size(&self, path: &str) -> Result<u64, Failure> {
        let url = self.server.place.entry(path)?;
        match self.server.look(&url).await? {
            Told::Size(size) => Ok(size),
            Told::Unsized => match self.server.small(&url, MAX_UNSIZED_BYTES).await? {
                Ok(bytes) => Ok(bytes.len() as u64),
                Err(status) => Err(Failure::new(Code::SourceFileMissing, format!("{url}: HTTP {status}"))),
            },
        }
    }
}
