//! An .iso file on a web server, read by byte ranges: its directories first, then only the entries that are
//! needed. It is never fetched as a whole.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use bootstrap::bundle::legacy::{self, Listed};
use bootstrap::bundle::{MANIFEST_MAX_BYTES, MANIFEST_PATH};
use bootstrap::disc::{self, Disc, DiscFile, Extent};
use bootstrap::failure::{Code, Failure};
use bootstrap::signature::{SIGNATURE_MAX_BYTES, SIGNATURE_PATH};
use tokio::runtime::Handle;

use super::Opened;
use super::http::place::{Place, shown};
use super::http::{Body, Server};
use super::seek::sought;
use super::tree::{check_size, signature_too_large};
use crate::config;

/// Bytes of the ISO that are fetched and kept at once while its directories are read: they lie together.
const BLOCK: u64 = 64 << 10;
/// Blocks that are kept.
const MAX_BLOCKS: usize = 64;

/// Whether `name` is the URL of an .iso file.
#[must_use]
pub fn is_iso(name: &str) -> bool {
    let path = name.split(['?', '#']).next().unwrap_or_default();
    path.rsplit_once('.').is_some_and(|(stem, suffix)| !stem.is_empty() && suffix.eq_ignore_ascii_case("iso"))
}

/// An .iso file on a web server.
#[derive(Debug)]
pub struct Remote {
    server: Arc<Server>,
    /// Bytes of the ISO.
    size: u64,
    files: BTreeMap<String, DiscFile>,
}

/// A range of an entry: mostly one range of the ISO.
#[derive(Debug)]
pub struct Parts {
    remote: Arc<Remote>,
    body: Body,
    rest: VecDeque<Extent>,
}

impl Remote {
    /// Opens the .iso file at the URL `name`; `direct`: by no proxy.
    ///
    /// # Errors
    /// `CONFIG_INVALID` for what is no URL; `MEDIA_NOT_FOUND` where there is none; `MEDIA_NOT_A_BUNDLE` names the
    /// label of a foreign disc; `SOURCE_INVALID` when the server answers no byte ranges or the ISO is damaged;
    /// `SOURCE_UNREACHABLE`, `SOURCE_TRUNCATED`, `MANIFEST_…`.
    pub async fn open(name: &str, http: &config::Http, direct: bool) -> Result<(Arc<Self>, Opened), Failure> {
        let server = Arc::new(Server::new(Place::file(name)?, http, direct)?);
        let url = shown(&server.place.url);
        let (mut body, size) = server.beginning(&server.place.url, BLOCK).await.map_err(not_found)?;
        let first = collected(&mut body).await?;
        let mut blocks = Blocks {
            server: Arc::clone(&server),
            size,
            position: 0,
            kept: BTreeMap::from([(0, first)]),
            runtime: Handle::current(),
            failure: None,
        };
        let reading = tokio::task::spawn_blocking(move || {
            // A source that breaks off is not a disc that is broken.
            disc::read(&mut blocks).map_err(|damaged| blocks.failure.take().unwrap_or(damaged))
        });
        let disc = reading.await.map_err(|e| Failure::new(Code::Io, format!("Reading {url}")).with_source(e))?;
        let named = |mut failure: Failure| {
            if !failure.what.starts_with(&url) {
                failure.what = format!("{url}: {}", failure.what);
            }
            failure
        };
        let Disc { volume_id, files, .. } = disc.map_err(named)?;
        let files: BTreeMap<String, DiscFile> = files.into_iter().map(|file| (file.path.clone(), file)).collect();
        let remote = Arc::new(Self { server, size, files });
        if let Some(manifest) = remote.files.get(MANIFEST_PATH) {
            if manifest.size > MANIFEST_MAX_BYTES {
                let what = format!("{url}: {MANIFEST_PATH}: {} bytes are too many", manifest.size);
                return Err(Failure::new(Code::ManifestInvalid, what));
            }
            let bytes = Self::whole(&remote, MANIFEST_PATH, manifest.size).await?;
            let signature = match remote.files.get(SIGNATURE_PATH).map(|file| file.size) {
                Some(size) if size > SIGNATURE_MAX_BYTES => {
                    return Err(named(signature_too_large(SIGNATURE_PATH, size)));
                }
                Some(size) => Some(Self::whole(&remote, SIGNATURE_PATH, size).await?),
                None => None,
            };
            return Ok((remote, Opened::Manifest { bytes, signature }));
        }
        if !legacy::is_bundle(remote.files.keys().map(String::as_str)) {
            let count = remote.files.len();
            let what = format!("{url}: the disc is labelled {volume_id:?} and holds {count} files, none of a CKS ISO");
            return Err(Failure::new(Code::MediaNotABundle, what));
        }
        let listing = remote.files.values().map(|file| Listed { path: file.path.clone(), size: file.size }).collect();
        Ok((remote, Opened::Listing(listing)))
    }

    /// Asks for a range of an entry.
    ///
    /// # Errors
    /// `SOURCE_FILE_MISSING`, `SOURCE_TRUNCATED`, `SOURCE_INVALID`, `SOURCE_UNREACHABLE` name the URL and the entry.
    pub async fn read(remote: &Arc<Self>, path: &str, size: u64, offset: u64, length: u64) -> Result<Parts, Failure> {
        let what = format!("{path} on {}", shown(&remote.server.place.url));
        let missing = || Failure::new(Code::SourceFileMissing, format!("{what}: is not on the disc"));
        let entry = remote.files.get(path).ok_or_else(missing)?;
        check_size(&what, entry.size, size)?;
        let beyond = || Failure::new(Code::SourceTruncated, format!("{what}: ends before byte {}", offset + length));
        let mut rest = VecDeque::from(entry.ranges(offset, length).ok_or_else(beyond)?);
        let first = rest.pop_front().unwrap_or(Extent { offset: 0, length: 0 });
        Ok(Parts { body: remote.extent(first).await?, remote: Arc::clone(remote), rest })
    }

    async fn whole(remote: &Arc<Self>, path: &str, size: u64) -> Result<Vec<u8>, Failure> {
        let mut parts = Self::read(remote, path, size, 0, size).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = parts.next().await? {
            bytes.extend(piece);
        }
        Ok(bytes)
    }

    /// Which version of the ISO is served, in words of the server.
    pub fn validator(&self) -> Option<String> {
        self.server.validator(&self.server.place.url)
    }

    /// How often the ISO was another one when it was asked for more.
    pub fn changes(&self) -> u64 {
        self.server.changes(&self.server.place.url)
    }

    async fn extent(&self, extent: Extent) -> Result<Body, Failure> {
        self.server.range(&self.server.place.url, self.size, extent.offset, extent.length).await
    }
}

impl Parts {
    /// The next piece; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            if let Some(piece) = self.body.next().await? {
                return Ok(Some(piece));
            }
            let Some(extent) = self.rest.pop_front() else { return Ok(None) };
            self.body = self.remote.extent(extent).await?;
        }
    }
}

/// A name that nothing is behind (yet) may get something.
fn not_found(mut failure: Failure) -> Failure {
    if failure.code == Code::SourceFileMissing {
        failure.code = Code::MediaNotFound;
    }
    failure
}

async fn collected(body: &mut Body) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await? {
        bytes.extend(piece);
    }
    Ok(bytes)
}

/// The ISO as a seekable reader, for blocking threads.
struct Blocks {
    server: Arc<Server>,
    size: u64,
    position: u64,
    /// By their offset.
    kept: BTreeMap<u64, Vec<u8>>,
    runtime: Handle,
    /// The failure of the source behind the last I/O error.
    failure: Option<Failure>,
}

impl Blocks {
    fn block(&mut self, at: u64) -> Result<&[u8], Failure> {
        if !self.kept.contains_key(&at) {
            if self.kept.len() >= MAX_BLOCKS {
                self.kept.clear();
            }
            let (server, length) = (&self.server, BLOCK.min(self.size - at));
            let bytes = self.runtime.block_on(async {
                let mut body = server.range(&server.place.url, self.size, at, length).await?;
                collected(&mut body).await
            })?;
            self.kept.insert(at, bytes);
        }
        Ok(self.kept.get(&at).map_or(&[], Vec::as_slice))
    }
}

impl Read for Blocks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.size {
            return Ok(0);
        }
        let at = self.position - self.position % BLOCK;
        let skip = (self.position - at) as usize;
        let count = match self.block(at) {
            Ok(block) => {
                let rest = block.get(skip..).unwrap_or_default();
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                count
            }
            Err(failure) => {
                let error = io::Error::other(failure.what.clone());
                self.failure = Some(failure);
                return Err(error);
            }
        };
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Blocks {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = sought(self.position, self.size, to)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::is_iso;

    #[test]
    fn the_name_tells_a_file_from_a_directory() {
        for (name, iso) in [
            ("http://h/v1.34.iso", true),
            ("https://h/a/v1.34.ISO?token=x.tar", true),
            ("http://h/cks-iso/", false),
            ("http://h/cks-iso", false),
            ("http://h/x.iso/", false),
            ("http://h/?f=x.iso", false),
            (".iso", false),
        ] {
            assert_eq!(is_iso(name), iso, "{name}");
        }
    }
}
