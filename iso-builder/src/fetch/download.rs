//! One download, from the part that an earlier run left to the whole under its digest.

use std::path::Path;
use std::time::Duration;

use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use url::Url;

use super::remembered::{Place, Remembered};
use super::transfer::{Outcome, Transfer};
use super::web::{self, Ask};
use super::{Fetched, Wanted, answer};
use crate::access::{Access, Patience};
use crate::cache::Cache;
use crate::partial::Partial;
use crate::progress::Group;
use crate::text::is_html;

/// How often it is looked whether another program is done with the same download.
const LOOK: Duration = Duration::from_millis(100);

/// What is to be downloaded.
#[derive(Debug)]
pub(crate) struct Job {
    /// Where it is asked for.
    pub(crate) url: Url,
    /// What messages call that.
    pub(crate) shown: String,
    /// What bars call it.
    pub(crate) name: String,
    pub(crate) sha256: Option<Digest>,
    pub(crate) size: Option<u64>,
}

impl Job {
    pub(crate) fn of(wanted: &Wanted, access: &Access) -> Self {
        let Wanted { url, sha256, size, name } = wanted.clone();
        Self { url: access.mirrored(&url), shown: web::shown(&url, access), name, sha256, size }
    }

    /// What the cache has of it; without a digest only `offline`, for else the server is asked.
    pub(crate) fn cached(&self, cache: &Cache, offline: bool) -> Result<Option<Fetched>, Failure> {
        let remembered = || Place::of(&self.url, cache).whole()?.sha256;
        match self.sha256.or_else(|| remembered().filter(|_| offline)) {
            Some(digest) => found(cache, digest),
            None => Ok(None),
        }
    }
}

fn found(cache: &Cache, sha256: Digest) -> Result<Option<Fetched>, Failure> {
    Ok(cache.whole(sha256)?.map(|size| Fetched { path: cache.path(sha256), sha256, size }))
}

/// What the cache lacks while the network is not to be used.
#[derive(Debug, Default)]
pub(crate) struct Lacking {
    names: Vec<String>,
}

impl Lacking {
    /// Looks for `job`.
    pub(crate) fn check(&mut self, job: &Job, cache: &Cache) -> Result<(), Failure> {
        if job.cached(cache, true)?.is_none() {
            self.add(format!("{} ({})", job.name, job.shown));
        }
        Ok(())
    }

    /// Takes the name of something that is missing.
    pub(crate) fn add(&mut self, name: String) {
        self.names.push(name);
    }

    /// # Errors
    /// `NOT_CACHED` names all that is missing.
    pub(crate) fn refuse(self) -> Result<(), Failure> {
        if self.names.is_empty() {
            return Ok(());
        }
        Err(Failure::new(Code::NotCached, format!("the cache lacks {}", self.names.join(", "))))
    }
}

/// Downloads `job` by `ask`, unless another program does so meanwhile.
pub(crate) async fn download(
    ask: &impl Ask,
    job: &Job,
    cache: &Cache,
    patience: Patience,
    group: &Group,
) -> Result<Fetched, Failure> {
    cache.prepare()?;
    match job.sha256 {
        Some(digest) => known(ask, job, digest, cache, patience, group).await,
        None => unknown(ask, job, cache, patience, group).await,
    }
}

async fn known(
    ask: &impl Ask,
    job: &Job,
    digest: Digest,
    cache: &Cache,
    patience: Patience,
    group: &Group,
) -> Result<Fetched, Failure> {
    let path = cache.path(digest);
    let partial = locked(&path).await?;
    if let Some(fetched) = found(cache, digest)? {
        group.passed();
        return Ok(fetched);
    }
    let bar = group.item(&job.name, job.size);
    let mut transfer = Transfer::begin(ask, job, partial, cache, &bar)?;
    if transfer.digest() != digest {
        transfer.run(patience).await?;
    }
    if transfer.digest() != digest && transfer.is_patched() {
        // Whose bytes are wrong, nobody knows: all of them come once more.
        transfer.restart()?;
        transfer.run(patience).await?;
    }
    let found = transfer.digest();
    if found != digest {
        let failure = mismatch(job, found, digest, &transfer.head()?);
        transfer.restart()?;
        return Err(failure);
    }
    let size = transfer.finish(&path)?;
    group.done(bar);
    Ok(Fetched { path, sha256: digest, size })
}

fn mismatch(job: &Job, found: Digest, wanted: Digest, head: &[u8]) -> Failure {
    if is_html(head) && !answer::may_be_html(&job.url) {
        return answer::no_content(&job.shown, "is an HTML page");
    }
    let what = format!("{}: the download has the digest {found}, not {wanted}", job.shown);
    Failure::new(Code::DigestMismatch, what)
        .with_remedy("correct sha256 if the new file is the wanted one, else correct the URL")
}

async fn unknown(
    ask: &impl Ask,
    job: &Job,
    cache: &Cache,
    patience: Patience,
    group: &Group,
) -> Result<Fetched, Failure> {
    let place = Place::of(&job.url, cache);
    let partial = locked(&place.output).await?;
    let bar = group.item(&job.name, job.size);
    let mut transfer = Transfer::begin(ask, job, partial, cache, &bar)?;
    let before = match place.whole().and_then(|whole| Some((whole.sha256?, whole))) {
        Some((digest, whole)) => found(cache, digest)?.map(|fetched| (fetched, whole)),
        None => None,
    };
    transfer.remember(&place, before.as_ref().map(|(_, whole)| whole))?;
    let outcome = transfer.run(patience).await?;
    if let (Outcome::Unchanged, Some((fetched, _))) = (outcome, before) {
        group.done(bar);
        return Ok(fetched);
    }
    let (sha256, version) = (transfer.digest(), transfer.version());
    let path = cache.path(sha256);
    let size = transfer.finish(&path)?;
    place.finish(version.unwrap_or_else(Remembered::default), sha256)?;
    group.done(bar);
    Ok(Fetched { path, sha256, size })
}

/// The part of `output`, once no other program writes it. A thread that waited would keep the other
/// downloads of this program waiting too, and two programs could wait for each other.
async fn locked(output: &Path) -> Result<Partial, Failure> {
    loop {
        match Partial::resume(output)? {
            Some(partial) => return Ok(partial),
            None => tokio::time::sleep(LOOK).await,
        }
    }
}
