//! A bundle behind a URL: an ISO, or a directory as CloudStack's virtual router serves it. Everything is
//! downloaded into one nameless temporary file; no other host is asked, and nothing above the prefix.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use bootstrap::bundle::autoindex::{self, percent_encode_path};
use bootstrap::bundle::{MANIFEST_MAX_BYTES, MANIFEST_PATH, Manifest, legacy};
use bootstrap::failure::{Code, Failure};
use bootstrap::signature::SIGNATURE_PATH;
use nix::sys::statvfs::fstatvfs;
use reqwest::{Client, Response, StatusCode, Url, redirect};

use super::{BundleFile, Medium, Opened};
use crate::access::Access;
use crate::content::{Content, Source, failed};
use crate::fetch::web::Web;
use crate::progress::{Bar, Progress};
use crate::text::without_users;

/// Listings read at most, and how deep: the stock layout has seven directories, one below the other.
const MAX_PAGES: usize = 64;
const MAX_DEPTH: usize = 3;
const MAX_PAGE_BYTES: u64 = 4 << 20;
/// Files at most: the stock ISO has some fifty.
const MAX_FILES: usize = 4096;
/// Bytes of the temporary directory that are left to others.
const RESERVE: u64 = 64 << 20;
/// Opens the bundle behind `url`.
pub(super) fn open(url: &str, access: &Access, progress: Progress) -> Result<Opened, Failure> {
    let refuse = |e: &dyn std::fmt::Display| {
        Failure::new(Code::ConfigInvalid, format!("{}: {e}", without_users(url))).with_remedy("correct the URL")
    };
    let mut base = Url::parse(url).map_err(|e| refuse(&e))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| refuse(&e))?;
    let is_image = base.path().to_ascii_lowercase().ends_with(".iso");
    if !is_image && !base.path().ends_with('/') {
        base.set_path(&format!("{}/", base.path()));
    }
    let client = Web::new(access).build(None, &|| policy(&base, is_image))?;
    let site = Site { client, name: without_users(base.as_str()), base };
    match is_image {
        true => runtime.block_on(site.image(progress)),
        false => runtime.block_on(site.directory(progress)),
    }
}

/// A server, and the prefix that nothing is asked above of.
struct Site {
    client: Client,
    base: Url,
    name: String,
}

impl Site {
    async fn image(&self, progress: Progress) -> Result<Opened, Failure> {
        let response = self.get("").await?.ok_or_else(|| self.missing(""))?;
        let bar = progress.start("Downloading", response.content_length().unwrap_or(0));
        let mut store = Store::new()?;
        store.take(response, &self.name, &bar).await?;
        bar.finish();
        Opened::image(&store.source(&self.name)?, self.name.clone(), true)
    }

    /// The manifest first; then what it lists and what the server lists.
    async fn directory(&self, progress: Progress) -> Result<Opened, Failure> {
        let json = match self.get(MANIFEST_PATH).await? {
            Some(response) => Some(self.small(MANIFEST_PATH, response, MANIFEST_MAX_BYTES).await?),
            None => None,
        };
        let mut paths = self.listing().await?;
        if json.is_none() && !legacy::is_bundle(paths.iter().map(String::as_str)) {
            let code = if paths.is_empty() { Code::MediaNotFound } else { Code::MediaNotABundle };
            let what =
                format!("{}: no {MANIFEST_PATH}, and {} listed files, none of a CKS ISO", self.name, paths.len());
            return Err(
                Failure::new(code, what).with_remedy("name the URL of an .iso, or of a directory like /cks-iso/")
            );
        }
        // One that can't be used is a finding, not the end.
        let manifest = json.as_ref().and_then(|json| Manifest::parse(json).ok());
        let entries = manifest.iter().flat_map(|manifest| &manifest.entries);
        let total = entries.clone().map(|entry| entry.size).sum();
        paths.extend(entries.map(|entry| entry.path.clone()));
        paths.extend(json.iter().map(|_| SIGNATURE_PATH.to_owned()));
        paths.remove(MANIFEST_PATH);
        let bar = progress.start("Downloading", total);
        let (mut store, mut ranges) = (Store::new()?, Vec::new());
        for path in paths {
            // What the manifest lists and the server has not is told by verify.
            if let Some(response) = self.get(&path).await? {
                let what = format!("{}{path}", self.name);
                ranges.push((path, store.take(response, &what, &bar).await?));
            }
        }
        bar.finish();
        self.opened(&store, ranges, json)
    }

    fn opened(
        &self,
        store: &Store,
        ranges: Vec<(String, (u64, u64))>,
        json: Option<Vec<u8>>,
    ) -> Result<Opened, Failure> {
        let source = store.source(&self.name)?;
        let file = |(path, (offset, length))| {
            let mut content = Content::default();
            content.push_range(&source, offset, length, None);
            BundleFile { path, mode: 0o444, content }
        };
        let mut files: Vec<_> = ranges.into_iter().map(file).collect();
        files.extend(json.map(|json| BundleFile {
            path: MANIFEST_PATH.to_owned(),
            mode: 0o444,
            content: Content::bytes(json),
        }));
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Opened { name: self.name.clone(), medium: Medium::Url, files, others: Vec::new(), volume: None })
    }

    /// The files that the server lists; none where it lists nothing.
    async fn listing(&self) -> Result<BTreeSet<String>, Failure> {
        let many = |what: &str| Failure::new(Code::SourceInvalid, format!("{}: lists too many {what}", self.name));
        let (mut files, mut read) = (BTreeSet::new(), 0);
        let mut pages = vec![(String::new(), 0)];
        while let Some((directory, depth)) = pages.pop() {
            read += 1;
            if read > MAX_PAGES {
                return Err(many("directories"));
            }
            let Some(page) = self.get(&directory).await? else { continue };
            let html = self.small(&directory, page, MAX_PAGE_BYTES).await?;
            for link in autoindex::parse(&String::from_utf8_lossy(&html)) {
                let path = format!("{directory}{}", link.name);
                match link.directory {
                    true if depth < MAX_DEPTH => pages.push((path + "/", depth + 1)),
                    true => {}
                    false => {
                        files.insert(path);
                    }
                }
            }
            if files.len() > MAX_FILES {
                return Err(many("files"));
            }
        }
        Ok(files)
    }

    /// The answer for `path`; none where the server has no such file, or shows it to nobody.
    async fn get(&self, path: &str) -> Result<Option<Response>, Failure> {
        let url = match path {
            "" => Ok(self.base.clone()),
            _ => self.base.join(&format!("./{}", percent_encode_path(path))),
        };
        let what = format!("{}{path}", self.name);
        let refuse = |code, why: &dyn std::fmt::Display| Failure::new(code, format!("{what}: {why}"));
        let url = url.map_err(|e| refuse(Code::SourceInvalid, &e))?;
        if !below(&self.base, &url) {
            return Err(refuse(Code::SourceInvalid, &"is not below the URL given"));
        }
        let response = self.client.get(url).send().await.map_err(|e| broken(&what, &e))?;
        match response.status() {
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::GONE => Ok(None),
            status if status.is_success() => Ok(Some(response)),
            status => {
                let again = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
                let code = if again { Code::SourceUnreachable } else { Code::SourceInvalid };
                Err(refuse(code, &format_args!("HTTP {status}")))
            }
        }
    }

    fn missing(&self, path: &str) -> Failure {
        Failure::new(Code::SourceFileMissing, format!("{}{path}: the server has no such file", self.name))
            .with_remedy("correct the URL")
    }

    async fn small(&self, path: &str, response: Response, limit: u64) -> Result<Vec<u8>, Failure> {
        let what = format!("{}{path}", self.name);
        let (mut bytes, mut response) = (Vec::new(), response);
        while let Some(chunk) = response.chunk().await.map_err(|e| broken(&what, &e))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > limit {
                return Err(Failure::new(Code::SourceInvalid, format!("{what}: is larger than {limit} bytes")));
            }
        }
        Ok(bytes)
    }
}

/// The nameless file that downloads go into, one behind the other.
struct Store {
    file: File,
    length: u64,
    /// Bytes that may still be written.
    left: u64,
}

impl Store {
    fn new() -> Result<Self, Failure> {
        let directory = std::env::temp_dir();
        let file = tempfile::tempfile_in(&directory).map_err(|e| failed("Making a file in", &directory, e))?;
        let room = fstatvfs(&file).map_err(|e| failed("Looking at", &directory, e.into()))?;
        let left = room.blocks_available().saturating_mul(room.fragment_size()).saturating_sub(RESERVE);
        Ok(Self { file, length: 0, left })
    }

    /// Appends the body of `response`; returns where its bytes lie.
    async fn take(&mut self, response: Response, what: &str, bar: &Bar) -> Result<(u64, u64), Failure> {
        let full = || {
            let directory = std::env::temp_dir();
            Failure::new(Code::NoSpace, format!("{what}: {} has too little room for it", directory.display()))
                .with_remedy("free space there, or name a larger directory in TMPDIR")
        };
        if response.content_length().is_some_and(|length| length > self.left) {
            return Err(full());
        }
        let (begin, mut response) = (self.length, response);
        while let Some(chunk) = response.chunk().await.map_err(|e| broken(what, &e))? {
            self.left = self.left.checked_sub(chunk.len() as u64).ok_or_else(full)?;
            self.file.write_all(&chunk).map_err(|e| failed("Downloading", Path::new(what), e))?;
            self.length += chunk.len() as u64;
            bar.add(chunk.len() as u64);
        }
        Ok((begin, self.length - begin))
    }

    fn source(&self, name: &str) -> Result<Arc<Source>, Failure> {
        let file = self.file.try_clone().map_err(|e| failed("Reading", Path::new(name), e))?;
        Source::of(file, Path::new(name))
    }
}

/// No redirect to another host; none out of the prefix of a directory.
fn policy(base: &Url, is_image: bool) -> redirect::Policy {
    let prefix = base.clone();
    redirect::Policy::custom(move |attempt| {
        let stays = if is_image { prefix.origin() == attempt.url().origin() } else { below(&prefix, attempt.url()) };
        if attempt.previous().len() > 3 || !stays {
            let target = without_users(attempt.url().as_str());
            return attempt.error(format!("redirects to {target}, which is elsewhere"));
        }
        attempt.follow()
    })
}

fn below(base: &Url, url: &Url) -> bool {
    base.origin() == url.origin() && url.path().starts_with(base.path())
}

fn broken(what: &str, error: &reqwest::Error) -> Failure {
    let code = if error.is_redirect() || error.is_builder() { Code::SourceInvalid } else { Code::SourceUnreachable };
    // reqwest's own text repeats the URL, with its password; the cause below it is what tells something.
    let mut cause: &dyn Error = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    let why = if error.source().is_none() { "the answer can't be read".to_owned() } else { cause.to_string() };
    Failure::new(code, format!("{what}: {why}"))
}
