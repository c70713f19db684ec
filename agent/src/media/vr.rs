//! The bundle served over HTTP as a directory: CloudStack's virtual router at `http://<VR>/cks-iso/`
//! (4.21 and later), or any web server with the ISO's content.
//!
//! The manifest is asked for first. Without one the server's directory listings are read, and never
//! anything above or beside the given prefix (the router opens its whole web root while it serves).

use std::time::Duration;

use bootstrap::bundle::autoindex::{self, percent_encode_path};
use bootstrap::bundle::legacy::{self, Listed};
use bootstrap::bundle::{MANIFEST_MAX_BYTES, MANIFEST_PATH};
use bootstrap::failure::{Code, Failure};
use bootstrap::signature::{SIGNATURE_MAX_BYTES, SIGNATURE_PATH};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode, Url, redirect};

use super::tree::{check_size, signature_too_large};
use super::{Opened, PIECE_BYTES};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest that a connection may bring nothing; there is no limit on the whole transfer.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// What has come is handed on after this time, however little it is: a kill may cost no more of a slow
/// transfer, and who reads sees how long nothing came.
const LINGER: Duration = Duration::from_secs(1);
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
    client: Client,
    base: Url,
}

/// The body of an answer, in pieces.
#[derive(Debug)]
pub struct Body {
    response: Option<Response>,
    /// Bytes that come first and were not asked for.
    skip: u64,
    left: u64,
    what: String,
}

impl Vr {
    /// Opens the HTTP directory `name`.
    ///
    /// # Errors
    /// `CONFIG_INVALID` for what is no URL; `SOURCE_UNREACHABLE`; `MEDIA_NOT_FOUND` when the directory
    /// is not served; `MEDIA_NOT_A_BUNDLE` when nothing in it belongs on a CKS ISO; `MANIFEST_…`.
    pub async fn open(name: &str, stall: Duration) -> Result<(Self, Opened), Failure> {
        let refuse = |e: &dyn std::fmt::Display| Failure::new(Code::ConfigInvalid, format!("source {name}: {e}"));
        let mut base = Url::parse(name).map_err(|e| refuse(&e))?;
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let vr = Self { client: client(&base, stall).map_err(|e| refuse(&e))?, base };
        let manifest = vr.get(MANIFEST_PATH).await?;
        if manifest.status().is_success() {
            let bytes = vr.small(MANIFEST_PATH, manifest, MANIFEST_MAX_BYTES).await?;
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
        let url = self.url(path)?;
        let what = url.to_string();
        if length == 0 {
            // HTTP has no empty range, and an empty file needs no request.
            return Ok(Body { response: None, skip: 0, left: 0, what });
        }
        let range = format!("bytes={offset}-{}", offset + length - 1);
        let response = self.client.get(url).header(RANGE, range).send().await.map_err(|e| broken(&what, &e))?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let (first, total) = content_range(&response).ok_or_else(|| {
                    Failure::new(Code::SourceInvalid, format!("{what}: answers a range without Content-Range"))
                })?;
                check_size(&what, total, size)?;
                if first != offset {
                    let why = format!("{what}: answers from byte {first}, asked from {offset}");
                    return Err(Failure::new(Code::SourceInvalid, why));
                }
            }
            StatusCode::OK if offset == 0 && length == size => {
                check_size(&what, response.content_length().unwrap_or(size), size)?;
            }
            // A server without ranges: what was fetched before is read again and passed over.
            StatusCode::OK if offset + length == size => {
                check_size(&what, response.content_length().unwrap_or(size), size)?;
                return Ok(Body { response: Some(response), skip: offset, left: length, what });
            }
            StatusCode::OK => {
                let why = format!("{what}: the server ignores byte ranges");
                return Err(Failure::new(Code::SourceInvalid, why));
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let why = format!("{what}: ends before byte {}, should have {size}", offset + length);
                return Err(Failure::new(Code::SourceTruncated, why));
            }
            status => return Err(refused(&what, status)),
        }
        Ok(Body { response: Some(response), skip: 0, left: length, what })
    }

    async fn signature(&self) -> Result<Option<Vec<u8>>, Failure> {
        let answer = self.get(SIGNATURE_PATH).await?;
        if !answer.status().is_success() {
            return Ok(None);
        }
        match answer.content_length() {
            Some(size) if size > SIGNATURE_MAX_BYTES => {
                Err(signature_too_large(&format!("{}{SIGNATURE_PATH}", self.base), size))
            }
            _ => self.small(SIGNATURE_PATH, answer, SIGNATURE_MAX_BYTES).await.map(Some),
        }
    }

    async fn get(&self, path: &str) -> Result<Response, Failure> {
        let url = self.url(path)?;
        let what = url.to_string();
        let response = self.client.get(url).send().await.map_err(|e| broken(&what, &e))?;
        match response.status() {
            // Not there, or not there yet: the router opens its web root while it mounts the disc.
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => Ok(response),
            status if status.is_success() => Ok(response),
            status => Err(refused(&what, status)),
        }
    }

    async fn small(&self, path: &str, response: Response, limit: u64) -> Result<Vec<u8>, Failure> {
        let what = format!("{}{path}", self.base);
        let mut bytes = Vec::new();
        let mut response = response;
        while let Some(chunk) = response.chunk().await.map_err(|e| broken(&what, &e))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > limit {
                return Err(Failure::new(Code::SourceInvalid, format!("{what}: is larger than {limit} bytes")));
            }
        }
        Ok(bytes)
    }

    /// Walks the listings below the prefix and asks for the size of every file.
    async fn list(&self) -> Result<Vec<Listed>, Failure> {
        let mut pages = vec![(String::new(), 0)];
        let (mut files, mut read) = (Vec::new(), 0);
        while let Some((directory, depth)) = pages.pop() {
            read += 1;
            if read > MAX_PAGES {
                return Err(Failure::new(Code::SourceInvalid, format!("{}: lists too many directories", self.base)));
            }
            let page = self.get(&directory).await?;
            if !page.status().is_success() {
                let status = page.status();
                let what = format!("{}{directory}: neither {MANIFEST_PATH} nor a listing (HTTP {status})", self.base);
                return Err(Failure::new(Code::MediaNotFound, what));
            }
            let html = self.small(&directory, page, MAX_PAGE_BYTES).await?;
            for link in autoindex::parse(&String::from_utf8_lossy(&html)) {
                let path = format!("{directory}{}", link.name);
                match (link.directory, depth < MAX_DEPTH) {
                    (true, true) => pages.push((format!("{path}/"), depth + 1)),
                    (true, false) => {}
                    (false, _) => files.push(path),
                }
            }
            if files.len() > MAX_FILES {
                return Err(Failure::new(Code::SourceInvalid, format!("{}: lists too many files", self.base)));
            }
        }
        if files.is_empty() {
            return Err(Failure::new(Code::MediaNotFound, format!("{}: lists no files", self.base)));
        }
        if !legacy::is_bundle(files.iter().map(String::as_str)) {
            let what = format!("{}: lists {} files, none of a CKS ISO", self.base, files.len());
            return Err(Failure::new(Code::MediaNotABundle, what));
        }
        let mut listing = Vec::new();
        for path in files {
            listing.push(Listed { size: self.size(&path).await?, path });
        }
        Ok(listing)
    }

    async fn size(&self, path: &str) -> Result<u64, Failure> {
        let url = self.url(path)?;
        let what = url.to_string();
        let response = self.client.head(url).send().await.map_err(|e| broken(&what, &e))?;
        if !response.status().is_success() {
            return Err(refused(&what, response.status()));
        }
        // Not `content_length()`: that is the length of a HEAD's body, which is none.
        let length = response.headers().get(CONTENT_LENGTH);
        match length.and_then(|value| value.to_str().ok()?.parse().ok()) {
            Some(length) => Ok(length),
            // Apache 2.4 leaves it out for an empty file.
            None => {
                let response = self.get(path).await?;
                Ok(self.small(path, response, MAX_UNSIZED_BYTES).await?.len() as u64)
            }
        }
    }

    fn url(&self, path: &str) -> Result<Url, Failure> {
        let url = self.base.join(&format!("./{}", percent_encode_path(path)));
        let url = url.map_err(|e| Failure::new(Code::SourceInvalid, format!("{}{path}: {e}", self.base)))?;
        if below(&self.base, &url) {
            Ok(url)
        } else {
            Err(Failure::new(Code::SourceInvalid, format!("{url} is not below {}", self.base)))
        }
    }
}

impl Body {
    /// The next piece, of up to [`PIECE_BYTES`]; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let want = self.left.min(PIECE_BYTES as u64) as usize;
        let Some(response) = self.response.as_mut().filter(|_| want > 0) else { return Ok(None) };
        let mut piece: Vec<u8> = Vec::with_capacity(want);
        // The connection's chunks are small and uneven; what is handed on is not.
        while piece.len() + (16 << 10) < want || piece.is_empty() {
            let chunk = match piece.is_empty() {
                true => response.chunk().await,
                false => match tokio::time::timeout(LINGER, response.chunk()).await {
                    Ok(chunk) => chunk,
                    Err(_) => break,
                },
            };
            match chunk {
                Ok(Some(chunk)) => {
                    let passed = self.skip.min(chunk.len() as u64);
                    self.skip -= passed;
                    piece.extend_from_slice(&chunk[passed as usize..]);
                }
                Ok(None) => break,
                // What has come is whole and kept; the error comes again with the next call.
                Err(_) if !piece.is_empty() => break,
                Err(e) => return Err(broken(&self.what, &e)),
            }
        }
        if piece.is_empty() {
            let what = format!("{}: ended {} bytes early", self.what, self.left);
            return Err(Failure::new(Code::SourceUnreachable, what));
        }
        if piece.len() as u64 > self.left {
            let what = format!("{}: sends more than was asked for", self.what);
            return Err(Failure::new(Code::SourceInvalid, what));
        }
        self.left -= piece.len() as u64;
        Ok(Some(piece))
    }
}

/// No proxy, or an operator's `http_proxy` would be asked for the router on this very link; no
/// redirect out of the prefix.
fn client(base: &Url, stall: Duration) -> reqwest::Result<Client> {
    let prefix = base.clone();
    let policy = redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > 3 || !below(&prefix, attempt.url()) {
            let target = attempt.url().to_string();
            return attempt.error(format!("redirects to {target}, which is not below the source"));
        }
        attempt.follow()
    });
    Client::builder()
        .user_agent(concat!("cks-agent/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(stall.clamp(CONNECT_TIMEOUT, STALL_TIMEOUT))
        .redirect(policy)
        .no_proxy()
        .build()
}

fn below(base: &Url, url: &Url) -> bool {
    base.origin() == url.origin() && url.path().starts_with(base.path())
}

/// `Content-Range: bytes 5-9/100` → `(5, 100)` (RFC 9110 §14.4).
fn content_range(response: &Response) -> Option<(u64, u64)> {
    let value = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()?))
}

fn refused(what: &str, status: StatusCode) -> Failure {
    let code = match status {
        StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN => Code::SourceFileMissing,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Code::SourceUnreachable,
        status if status.is_server_error() => Code::SourceUnreachable,
        _ => Code::SourceInvalid,
    };
    Failure::new(code, format!("{what}: HTTP {status}"))
}

fn broken(what: &str, error: &reqwest::Error) -> Failure {
    let code = if error.is_redirect() || error.is_builder() { Code::SourceInvalid } else { Code::SourceUnreachable };
    // reqwest's own text repeats the URL; the cause below it is what tells something.
    let mut cause: &dyn std::error::Error = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    Failure::new(code, format!("{what}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vr(base: &str) -> Vr {
        let base = Url::parse(base).unwrap();
        Vr { client: client(&base, STALL_TIMEOUT).unwrap(), base }
    }

    #[test]
    fn entries_lie_below_the_prefix() {
        let vr = vr("http://10.1.1.1/cks-iso/");
        let url = |path| vr.url(path).map(|url| url.to_string());
        assert_eq!(url("docker/pause:3.10.tar").unwrap(), "http://10.1.1.1/cks-iso/docker/pause%3A3.10.tar");
        assert_eq!(url("a:b").unwrap(), "http://10.1.1.1/cks-iso/a%3Ab");
        for path in ["../metadata/x", "a/../../x", "%2e%2e/../../x"] {
            match url(path) {
                Err(failure) => assert_eq!(failure.code, Code::SourceInvalid),
                Ok(url) => assert!(url.starts_with("http://10.1.1.1/cks-iso/"), "{url}"),
            }
        }
    }

    #[test]
    fn codes_follow_the_status() {
        for (status, code) in
            [(404, Code::SourceFileMissing), (503, Code::SourceUnreachable), (400, Code::SourceInvalid)]
        {
            assert_eq!(refused("x", StatusCode::from_u16(status).unwrap()).code, code);
        }
    }
}
