//! What is remembered about a URL whose digest nobody told: `DIR/url/<sha256 of the URL>.json` of a whole
//! download, `….part.json` of a part that lies beside it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use bootstrap::digest::Digest;
use bootstrap::failure::Failure;
use reqwest::header::{DATE, ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::cache::Cache;
use crate::content::failed;
use crate::partial::Partial;

/// How a server told one version of a file from others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Remembered {
    etag: Option<String>,
    last_modified: Option<String>,
    /// Of a whole download.
    pub(super) sha256: Option<Digest>,
    /// Of a part: after a power cut its bytes may be zeros, and no digest would tell.
    boot: Option<String>,
}

/// Where a download without a digest lies.
#[derive(Debug)]
pub(super) struct Place {
    /// The part lies hidden beside it.
    pub(super) output: PathBuf,
    whole: PathBuf,
    part: PathBuf,
}

impl Place {
    pub(super) fn of(url: &Url, cache: &Cache) -> Self {
        let mut anonymous = url.clone();
        let _ = anonymous.set_username("").and_then(|()| anonymous.set_password(None));
        let output = cache.urls().join(Digest::of(anonymous.as_str().as_bytes()).hex());
        Self { whole: output.with_extension("json"), part: output.with_extension("part.json"), output }
    }

    /// What is remembered about the whole.
    pub(super) fn whole(&self) -> Option<Remembered> {
        read(&self.whole)
    }

    /// What is remembered about the part, unless the machine was started anew since.
    pub(super) fn part(&self) -> Option<Remembered> {
        read(&self.part).filter(|part| part.boot.is_some() && part.boot == boot())
    }

    /// Remembers what the server says about the version that now begins. The part has to be empty.
    pub(super) fn begin(&self, headers: &HeaderMap) -> Result<(), Failure> {
        write(&self.part, &Remembered { boot: boot(), ..Remembered::of(headers) })
    }

    /// Remembers the whole.
    pub(super) fn finish(&self, version: Remembered, sha256: Digest) -> Result<(), Failure> {
        write(&self.whole, &Remembered { sha256: Some(sha256), boot: None, ..version })?;
        match fs::remove_file(&self.part) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed("Removing", &self.part, e)),
            _ => Ok(()),
        }
    }
}

impl Remembered {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::to_owned);
        // Another version may have come within the same second: then the date tells nothing (RFC 9110, 8.8.2.2).
        let last_modified = text(LAST_MODIFIED).filter(|modified| text(DATE).as_ref() != Some(modified));
        Self { etag: text(ETAG), last_modified, sha256: None, boot: None }
    }

    pub(super) fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    pub(super) fn last_modified(&self) -> Option<&str> {
        self.last_modified.as_deref()
    }

    /// What `If-Range` may say: no weak entity tag (RFC 9110, 13.1.5).
    pub(super) fn range_validator(&self) -> Option<HeaderValue> {
        let strong = self.etag.as_deref().filter(|etag| !etag.starts_with("W/"));
        strong.or(self.last_modified.as_deref()).and_then(|text| HeaderValue::from_str(text).ok())
    }

    /// Asks for the file only if it is another by now.
    pub(super) fn conditions(&self) -> HeaderMap {
        let told = [(IF_NONE_MATCH, &self.etag), (IF_MODIFIED_SINCE, &self.last_modified)];
        let values =
            told.into_iter().filter_map(|(name, text)| Some((name, HeaderValue::from_str(text.as_deref()?).ok()?)));
        // A server takes the entity tag before the date.
        values.take(1).collect()
    }
}

fn read(path: &Path) -> Option<Remembered> {
    // A broken one is as none: the file is fetched anew.
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn write(path: &Path, remembered: &Remembered) -> Result<(), Failure> {
    let text = serde_json::to_vec(remembered).unwrap_or_default();
    let partial = Partial::wait(path)?;
    partial.file().write_all(&text).map_err(|e| failed("Writing", path, e))?;
    partial.finish()
}

/// Which start of this machine it is.
fn boot() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
}
