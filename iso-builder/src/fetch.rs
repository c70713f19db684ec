//! Downloads into a cache, by digest: `DIR/sha256/<hex>`. What is in the cache is what was asked for.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootstrap::digest::{Digest, Hasher};
use bootstrap::failure::{Code, Failure};
use futures::StreamExt;
use url::Url;

use crate::content::{Content, Source, failed, misnamed};
use crate::partial::Partial;
use crate::progress::{Bar, Progress};

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// The file with `digest`, from the cache below `cache` or else from `url`.
///
/// # Errors
/// `SOURCE_UNREACHABLE`, `SOURCE_FILE_MISSING` (HTTP 404, 410) or `SOURCE_INVALID` (other refusals) name
/// the URL; `DIGEST_MISMATCH` when something else came; `NO_SPACE` or `IO` name the cache.
pub fn fetch(url: &Url, digest: Digest, cache: &Path, progress: Progress) -> Result<PathBuf, Failure> {
    let directory = cache.join("sha256");
    let path = directory.join(digest.hex());
    if is_cached(&path, digest)? {
        return Ok(path);
    }
    fs::create_dir_all(&directory).map_err(|e| misnamed("Making", &directory, e))?;
    let partial = Partial::wait(&path)?;
    // Another build may have had it downloaded meanwhile.
    if is_cached(&path, digest)? {
        return Ok(path);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| failed("Downloading into", &directory, e))?;
    let found = runtime.block_on(download(url, partial.file(), &path, progress))?;
    if found != digest {
        let what = format!("{}: the download has the digest {found}, the spec says {digest}", shown(url));
        return Err(Failure::new(Code::DigestMismatch, what)
            .with_remedy("correct sha256 in the spec if the new file is the wanted one, else correct url"));
    }
    partial.finish()?;
    Ok(path)
}

fn is_cached(path: &Path, digest: Digest) -> Result<bool, Failure> {
    Ok(path.exists() && Content::whole(&Source::open(path)?).digest(&Bar::none())? == digest)
}

/// `url` as it is shown: without user name and password.
fn shown(url: &Url) -> Url {
    let mut shown = url.clone();
    // Refused only where there is no host, and http always has one.
    let _ = shown.set_username("").and_then(|()| shown.set_password(None));
    shown
}

async fn download(url: &Url, mut out: &File, path: &Path, progress: Progress) -> Result<Digest, Failure> {
    let lost = |e: reqwest::Error| {
        Failure::new(Code::SourceUnreachable, format!("Downloading {}", shown(url))).with_source(e.without_url())
    };
    let client = reqwest::Client::builder().connect_timeout(SILENCE).read_timeout(SILENCE).build().map_err(lost)?;
    let response = client.get(url.clone()).send().await.map_err(lost)?;
    let status = response.status();
    if !status.is_success() {
        let code = match status.as_u16() {
            404 | 410 => Code::SourceFileMissing,
            500..=599 | 408 | 429 => Code::SourceUnreachable,
            _ => Code::SourceInvalid,
        };
        return Err(Failure::new(code, format!("Downloading {}: HTTP {status}", shown(url)))
            .with_remedy("correct the url in the spec, or try again later"));
    }
    let bar = progress.start("Downloading", response.content_length().unwrap_or(0));
    let mut hasher = Hasher::default();
    let mut body = response.bytes_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(lost)?;
        hasher.update(&chunk);
        out.write_all(&chunk).map_err(|e| failed("Writing", path, e))?;
        bar.add(chunk.len() as u64);
    }
    bar.finish();
    Ok(hasher.finish())
}
