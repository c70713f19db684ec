//! Downloads into the [cache](Cache): several at once, each resumed at its byte, tried again where that
//! may help, and checked. What is in the cache is what was asked for.

pub(crate) mod answer;
pub(crate) mod download;
mod remembered;
pub(crate) mod transfer;
pub(crate) mod web;

use std::path::PathBuf;

use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use futures::{StreamExt, TryStreamExt};
use url::Url;

use self::download::{Job, Lacking};
use self::web::{Plain, Web, block_on, load};
use crate::access::Access;
use crate::cache::Cache;
use crate::progress::{Group, Progress};
use crate::text::is_html;

/// A file to be downloaded.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where it is; a mirror of the [`Access`] may stand in.
    pub url: Url,
    /// Its digest, where it is known: what has another is refused.
    pub sha256: Option<Digest>,
    /// Its size in bytes, where it is known.
    pub size: Option<u64>,
    /// What messages and bars call it.
    pub name: String,
}

/// A file in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// Its digest.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
}

/// Gets all `wanted` into `cache`, in their order. Nothing that is there is asked for again; a file
/// without a digest is asked for whether it changed.
///
/// # Errors
/// Of the first that fails, naming it and the URL: `SOURCE_UNREACHABLE` (after all retries),
/// `SOURCE_FILE_MISSING` (HTTP 404, 410), `SOURCE_INVALID` (other refusals), `SOURCE_TRUNCATED`,
/// `CONTENT_INVALID` (an HTML page), `DIGEST_MISMATCH`, `NOT_CACHED` (offline), `NO_SPACE`, `IO`,
/// `CONFIG_INVALID`. What came of others stays in the cache.
pub fn fetch_all(
    wanted: &[Wanted],
    access: &Access,
    cache: &Cache,
    progress: Progress,
) -> Result<Vec<Fetched>, Failure> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let group = progress.group("Downloading", wanted.len());
    let web = Web::new(access);
    let mut lacking = Lacking::default();
    if access.is_offline() {
        for wanted in wanted {
            lacking.check(&Job::of(wanted, access), cache)?;
        }
    }
    lacking.refuse()?;
    let one = |(at, wanted)| {
        let (web, group) = (&web, &group);
        async move { fetch_one(wanted, web, cache, group).await.map(|fetched| (at, fetched)) }
    };
    let all = futures::stream::iter(wanted.iter().enumerate().map(one)).buffer_unordered(access.patience().parallel);
    let mut fetched: Vec<(usize, Fetched)> = block_on(all.try_collect())??;
    fetched.sort_by_key(|(at, _)| *at);
    group.finish();
    Ok(fetched.into_iter().map(|(_, fetched)| fetched).collect())
}

async fn fetch_one(wanted: &Wanted, web: &Web<'_>, cache: &Cache, group: &Group) -> Result<Fetched, Failure> {
    let job = Job::of(wanted, web.access());
    let fetched = match job.cached(cache, web.access().is_offline())? {
        Some(fetched) => {
            group.passed();
            Ok(fetched)
        }
        None => match Plain::new(&job, web) {
            Ok(plain) => download::download(&plain, &job, cache, web.access().patience(), group).await,
            Err(failure) => Err(failure),
        },
    };
    fetched.map_err(|failure| crate::bundle::named(&wanted.name, failure))
}

/// The file with `digest`, from `cache` or else from `url`.
///
/// # Errors
/// As [`fetch_all`].
pub fn fetch(
    url: &Url,
    digest: Digest,
    access: &Access,
    cache: &Cache,
    progress: Progress,
) -> Result<PathBuf, Failure> {
    let name = url.path_segments().and_then(Iterator::last).unwrap_or_default().to_owned();
    let wanted = Wanted { url: url.clone(), sha256: Some(digest), size: None, name: name.clone() };
    let fetched = fetch_all(&[wanted], access, cache, progress).map_err(|failure| {
        // The caller has a better name for it.
        let what = failure.what.strip_prefix(&format!("{name}: ")).map(str::to_owned);
        Failure { what: what.unwrap_or_else(|| failure.what.clone()), ..failure }
    })?;
    fetched.into_iter().next().map(|file| file.path).ok_or_else(|| Failure::new(Code::Io, "nothing was fetched"))
}

/// The text at `url`, of at most `limit` bytes: checksums, small sources. It is not cached.
///
/// # Errors
/// As [`fetch_all`]; `CONTENT_INVALID` also for what is no UTF-8 or too long.
pub fn text(url: &Url, limit: u64, access: &Access) -> Result<String, Failure> {
    let (mirrored, shown) = (access.mirrored(url), web::shown(url, access));
    let job = Job { url: mirrored, shown, name: String::new(), sha256: None, size: None };
    if access.is_offline() {
        let what = format!("{}: is not kept in the cache, and the network is not to be used", job.shown);
        return Err(Failure::new(Code::NotCached, what).with_remedy("run without --offline"));
    }
    let web = Web::new(access);
    let plain = Plain::new(&job, &web)?;
    let bytes = block_on(load(&plain, limit, access.patience()))??.bytes;
    let refuse = |why: &str| Err(answer::no_content(&job.shown, why));
    if is_html(&bytes) && !answer::may_be_html(&job.url) {
        return refuse("is an HTML page");
    }
    String::from_utf8(bytes).or_else(|_| refuse("is no text"))
}
