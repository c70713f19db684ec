//! Downloads into a cache, by digest: `DIR/sha256/<hex>`. What is in the cache is what was asked for.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootstrap::digest::{Digest, Hasher};
use bootstrap::failure::{Code, Failure};
use futures::StreamExt;
use url::Url;

use crate::content::{Content, Source, failed};
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
    if path.exists() && Content::whole(&Source::open(&path)?).digest(&Bar::none())? == digest {
        return Ok(path);
    }
    fs::create_dir_all(&directory).map_err(|e| failed("Making", &directory, e))?;
    let mut temporary = tempfile::Builder::new()
        .prefix(".download-")
        .tempfile_in(&directory)
        .map_err(|e| failed("Making a temporary file in", &directory, e))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| failed("Downloading into", &directory, e))?;
    let found = runtime.block_on(download(url, temporary.as_file_mut(), &path, progress))?;
    if found != digest {
        let what = format!("{url}: the download has the digest {found}, the spec says {digest}");
        return Err(Failure::new(Code::DigestMismatch, what)
            .with_remedy("correct sha256 in the spec if the new file is the wanted one, else correct url"));
    }
    temporary.as_file().sync_all().map_err(|e| failed("Writing", &path, e))?;
    temporary.persist(&path).map_err(|e| failed("Writing", &path, e.error))?;
    sync_directory(&directory)?;
    Ok(path)
}

/// Makes a rename in `directory` durable.
///
/// # Errors
/// `IO` names the directory.
pub fn sync_directory(directory: &Path) -> Result<(), Failure> {
    File::open(directory).and_then(|d| d.sync_all()).map_err(|e| failed("Syncing", directory, e))
}

async fn download(url: &Url, out: &mut File, path: &Path, progress: Progress) -> Result<Digest, Failure> {
    let lost = |e: reqwest::Error| {
        Failure::new(Code::SourceUnreachable, format!("Downloading {url}")).with_source(e.without_url())
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
        return Err(Failure::new(code, format!("Downloading {url}: HTTP {status}"))
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
