//! The bytes of one download: asked for from the first that is missing, as often as it takes.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bootstrap::digest::{Digest, Hasher};
use bootstrap::failure::{Code, Failure};
use futures::StreamExt;
use reqwest::header::{ACCEPT_ENCODING, ETAG, HeaderMap, HeaderName, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Response, StatusCode};

use super::answer::{Tries, Trouble, content_range, lost, may_be_html, no_content, refused, truncated};
use super::download::Job;
use super::remembered::{Place, Remembered};
use super::web::Ask;
use crate::access::Patience;
use crate::cache::Cache;
use crate::content::failed;
use crate::partial::{Partial, hidden};
use crate::progress::Bar;
use crate::text::is_html;

/// A try that brought this many bytes more than any before it was worth it: the count begins anew.
const WORTHWHILE: u64 = 1 << 20;

/// How a download ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All of it is there.
    Whole,
    /// The server has no other version than the one in the cache.
    Unchanged,
}

/// A running download.
pub(super) struct Transfer<'a, A> {
    ask: &'a A,
    job: &'a Job,
    cache: &'a Cache,
    bar: &'a Bar,
    partial: Partial,
    path: PathBuf,
    hasher: Hasher,
    /// Bytes that are there.
    at: u64,
    /// Its bytes are from several answers.
    patched: bool,
    /// Without a digest, the version that the bytes are of.
    version: Option<Remembered>,
    place: Option<&'a Place>,
    conditions: HeaderMap,
}

impl<'a, A: Ask> Transfer<'a, A> {
    /// Goes on behind what is in `partial`.
    pub(super) fn begin(
        ask: &'a A,
        job: &'a Job,
        partial: Partial,
        cache: &'a Cache,
        bar: &'a Bar,
    ) -> Result<Self, Failure> {
        let at = partial.length()?;
        let path = hidden(&cache.path(job.sha256.unwrap_or_else(|| Digest::of(b""))));
        let (hasher, conditions) = (Hasher::default(), HeaderMap::new());
        let patched = at > 0;
        let mut transfer =
            Self { ask, job, cache, bar, partial, path, hasher, at, patched, version: None, place: None, conditions };
        if job.size.is_some_and(|size| at > size) {
            transfer.restart()?;
        } else {
            transfer.hasher = transfer.hashed()?;
            bar.set(at);
        }
        Ok(transfer)
    }

    /// Without a digest, only the version that is told in `place` may be gone on with; `whole` is in the
    /// cache, and needs not come again.
    pub(super) fn remember(&mut self, place: &'a Place, whole: Option<&Remembered>) -> Result<(), Failure> {
        self.place = Some(place);
        self.path = hidden(&place.output);
        self.version = place.part();
        self.conditions = whole.map(Remembered::conditions).unwrap_or_default();
        Ok(())
    }

    /// What tells the server which version the bytes are of.
    fn validator(&self) -> Option<HeaderValue> {
        self.version.as_ref().and_then(Remembered::range_validator)
    }

    fn hashed(&self) -> Result<Hasher, Failure> {
        let (mut hasher, mut at, mut buffer) = (Hasher::default(), 0, vec![0; 256 << 10]);
        loop {
            match self.partial.file().read_at(&mut buffer, at) {
                Ok(0) => return Ok(hasher),
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    at += count as u64;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed("Reading", &self.path, e)),
            }
        }
    }

    /// The digest of what is there.
    pub(super) fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    pub(super) fn version(&self) -> Option<Remembered> {
        self.version.clone()
    }

    pub(super) fn is_patched(&self) -> bool {
        self.patched
    }

    /// The first bytes.
    pub(super) fn head(&self) -> Result<Vec<u8>, Failure> {
        let mut head = vec![0; 512];
        let count = self.partial.file().read_at(&mut head, 0).map_err(|e| failed("Reading", &self.path, e))?;
        head.truncate(count);
        Ok(head)
    }

    /// Drops what is there.
    pub(super) fn restart(&mut self) -> Result<(), Failure> {
        self.partial.empty()?;
        (self.at, self.hasher, self.patched, self.version) = (0, Hasher::default(), false, None);
        self.bar.set(0);
        Ok(())
    }

    /// Puts the whole at `path`; returns its size.
    pub(super) fn finish(self, path: &Path) -> Result<u64, Failure> {
        self.partial.finish_as(path).map_err(|failure| match failure.code {
            Code::NoSpace => self.cache.unwritten(path, std::io::ErrorKind::StorageFull.into()),
            _ => failure,
        })?;
        Ok(self.at)
    }

    /// Gets all that is missing.
    pub(super) async fn run(&mut self, patience: Patience) -> Result<Outcome, Failure> {
        let (mut tries, mut best) = (Tries::new(patience), self.at);
        loop {
            match self.attempt().await {
                Ok(outcome) => return Ok(outcome),
                Err(trouble) => {
                    if self.at >= best + WORTHWHILE {
                        best = self.at;
                        tries.reset();
                    }
                    if let Err(failure) = tries.next(trouble).await {
                        // What is wrong is of no use to the next run.
                        if matches!(failure.code, Code::DigestMismatch | Code::ContentInvalid) {
                            self.restart()?;
                        }
                        return Err(failure);
                    }
                }
            }
        }
    }

    async fn attempt(&mut self) -> Result<Outcome, Trouble> {
        if self.place.is_some() && self.at > 0 && self.validator().is_none() {
            // Nothing would tell when the rest were of another version.
            self.restart()?;
        }
        let answer = self.ask.ask(self.headers()).await?;
        let total = match answer.status() {
            StatusCode::NOT_MODIFIED if self.at == 0 && !self.conditions.is_empty() => return Ok(Outcome::Unchanged),
            StatusCode::OK => {
                self.anew(answer.headers())?;
                answer.content_length()
            }
            StatusCode::PARTIAL_CONTENT if self.at > 0 => self.continued(answer.headers())?,
            StatusCode::RANGE_NOT_SATISFIABLE if self.at > 0 => return self.beyond(answer.headers()),
            status => return Err(refused(self.ask.shown(), status, answer.headers())),
        };
        if let Some(total) = total {
            self.bar.set_total(total);
        }
        self.take(answer, total).await?;
        Ok(Outcome::Whole)
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if self.at > 0 {
            // A number is always a header's value.
            headers.extend(HeaderValue::from_str(&format!("bytes={}-", self.at)).map(|range| (RANGE, range)));
            headers.extend(self.validator().map(|validator| (IF_RANGE, validator)));
        } else {
            headers.extend(self.conditions.clone());
        }
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers
    }

    /// The answer has the file from its first byte.
    fn anew(&mut self, headers: &HeaderMap) -> Result<(), Failure> {
        self.restart()?;
        if let Some(place) = self.place {
            // Before the version is written down, the bytes of another one are gone from the disk.
            self.partial.file().sync_all().map_err(|e| failed("Writing", &self.path, e))?;
            place.begin(headers)?;
            self.version = Some(Remembered::of(headers));
        }
        Ok(())
    }

    /// The answer goes on where asked to; returns how long the whole is.
    fn continued(&mut self, headers: &HeaderMap) -> Result<Option<u64>, Trouble> {
        let other = |name: HeaderName, of: fn(&Remembered) -> Option<&str>| {
            let now = headers.get(name).and_then(|value| value.to_str().ok());
            let then = self.version.as_ref().and_then(of);
            now.is_some() && then.is_some() && now != then
        };
        let changed = other(ETAG, Remembered::etag) || other(LAST_MODIFIED, Remembered::last_modified);
        match content_range(headers) {
            Some((Some(start), total)) if start == self.at && !changed => {
                self.patched = true;
                Ok(total)
            }
            _ => {
                self.restart()?;
                let what = format!("{}: answers with another range than asked for", self.ask.shown());
                Err(Trouble::Again(Failure::new(Code::SourceInvalid, what), None))
            }
        }
    }

    /// The server has nothing behind what is there.
    fn beyond(&mut self, headers: &HeaderMap) -> Result<Outcome, Trouble> {
        if content_range(headers).and_then(|(_, total)| total) == Some(self.at) {
            return Ok(Outcome::Whole);
        }
        self.restart()?;
        let what = format!("{}: has become shorter", self.ask.shown());
        Err(Trouble::Again(Failure::new(Code::SourceInvalid, what), None))
    }

    async fn take(&mut self, answer: Response, total: Option<u64>) -> Result<(), Trouble> {
        let (mut first, mut chunks) = (self.at == 0, answer.bytes_stream());
        let mut fits = self.job.size.is_none() || total.is_none();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|e| lost(self.ask.shown(), e))?;
            if std::mem::take(&mut first) {
                self.look(&chunk, total)?;
            }
            if !std::mem::replace(&mut fits, true) {
                self.check_total(total)?;
            }
            self.write(&chunk)?;
        }
        let want = self.job.size.or(total);
        match want {
            Some(want) if self.at < want => {
                let why = format!("ends after {} of {want} bytes", self.at);
                Err(Trouble::Again(truncated(self.ask.shown(), &why), None))
            }
            _ => Ok(()),
        }
    }

    /// Looks at the first bytes: without a digest, or with another size, a page is an error page.
    fn look(&mut self, chunk: &[u8], total: Option<u64>) -> Result<(), Trouble> {
        let other = self.job.sha256.is_none() || self.job.size.is_some_and(|size| total.is_some_and(|t| t != size));
        if other && is_html(chunk) && !may_be_html(&self.job.url) {
            return Err(no_content(self.ask.shown(), "is an HTML page").into());
        }
        Ok(())
    }

    fn check_total(&self, total: Option<u64>) -> Result<(), Trouble> {
        let (Some(total), Some(size)) = (total, self.job.size) else { return Ok(()) };
        match total {
            _ if total < size => {
                let why = format!("has {total} bytes, not {size}");
                Err(Trouble::Again(truncated(self.ask.shown(), &why), None))
            }
            _ if total > size => Err(self.too_long(&format!("has {total} bytes, not {size}")).into()),
            _ => Ok(()),
        }
    }

    fn too_long(&self, why: &str) -> Failure {
        Failure::new(Code::DigestMismatch, format!("{}: {why}", self.ask.shown()))
            .with_remedy("correct size and sha256 if the new file is the wanted one, else correct the URL")
    }

    fn write(&mut self, chunk: &[u8]) -> Result<(), Failure> {
        if let Some(size) = self.job.size.filter(|size| self.at + chunk.len() as u64 > *size) {
            return Err(self.too_long(&format!("is longer than {size} bytes")));
        }
        self.partial.file().write_all(chunk).map_err(|e| self.cache.unwritten(&self.path, e))?;
        self.hasher.update(chunk);
        self.at += chunk.len() as u64;
        self.bar.add(chunk.len() as u64);
        Ok(())
    }
}
