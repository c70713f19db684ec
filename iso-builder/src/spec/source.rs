//! Where the bytes of a part come from, as the spec writes it and as the builder takes it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use serde::{Deserialize, Serialize};

use super::invalid;
use crate::replace::{self, Replacement};

/// A file: here (`file`), or there (`url`); an image may be named by its reference instead, a Kubernetes
/// manifest rendered from a chart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// A local file, relative to the spec's directory.
    pub file: Option<PathBuf>,
    /// An http or https URL.
    pub url: Option<String>,
    /// The digest of the file.
    pub sha256: Option<Digest>,
    /// The URL of upstream's checksum of `url`.
    pub checksum: Option<String>,
    /// Of `[[images]]` only: an image of a registry.
    pub reference: Option<String>,
    /// Of `[manifests]` only: a Helm chart.
    pub chart: Option<Chart>,
    /// Of `[manifests]` only: texts that are replaced in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replace: Vec<Replacement>,
}

/// A Helm chart that becomes a Kubernetes manifest when the lock is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chart {
    /// A local chart archive, relative to the spec's directory.
    pub file: Option<PathBuf>,
    /// The URL of a chart archive (`.tgz`).
    pub url: Option<String>,
    /// The digest of the archive.
    pub sha256: Option<Digest>,
    /// The URL of upstream's checksum of `url`.
    pub checksum: Option<String>,
    /// The release's name: `cilium`.
    pub name: String,
    /// The namespace that it is rendered for.
    pub namespace: Option<String>,
    /// The chart's values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: Values,
}

/// Values of a chart, by key. TOML's dates have no place in them.
pub type Values = BTreeMap<String, serde_json::Value>;

/// A component that is a tarball: upstream's of a version, a ready one, or one packed from programs of
/// this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tarball {
    /// The version as upstream writes it.
    pub version: String,
    /// A local tarball (gzip), relative to the spec's directory.
    pub file: Option<PathBuf>,
    /// An http or https URL of a tarball.
    pub url: Option<String>,
    /// The digest of the tarball.
    pub sha256: Option<Digest>,
    /// The URL of upstream's checksum of `url`.
    pub checksum: Option<String>,
    /// Programs to pack.
    pub files: Option<Vec<PathBuf>>,
    /// A directory whose regular files are packed.
    pub directory: Option<PathBuf>,
}

/// Where bytes come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// A file of this machine, with its digest where the spec tells one.
    File(PathBuf, Option<Digest>),
    /// A download.
    Url(url::Url, Told),
    /// A tarball to be packed from these files.
    Files(Vec<PathBuf>),
    /// A tarball to be packed from the files of this directory.
    Directory(PathBuf),
    /// A text that the builder brings, by its name: `kubelet.service`.
    BuiltIn(&'static str),
    /// A rendered chart: where its archive comes from, and how it is rendered.
    Chart(Box<Self>, Chart),
}

/// What vouches for a download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The spec tells the digest.
    Sha256(Digest),
    /// Upstream publishes it here.
    Checksum(url::Url),
    /// Nobody: what came when the lock was made is what it is.
    Nothing,
}

impl Origin {
    /// Whether the spec alone does not say which bytes these are.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self {
            Self::Url(_, told) => !matches!(told, Told::Sha256(_)),
            Self::Chart(..) => true,
            Self::File(..) | Self::Files(_) | Self::Directory(_) | Self::BuiltIn(_) => false,
        }
    }
}

impl Input {
    /// A download whose checksum is published at `checksum`.
    #[must_use]
    pub fn published(url: String, checksum: String) -> Self {
        Self { url: Some(url), checksum: Some(checksum), ..Self::default() }
    }

    /// Where the bytes come from; `key` is what messages call this input. None for an image's reference.
    ///
    /// # Errors
    /// `SPEC_INVALID` names the key.
    pub fn origin(&self, key: &str) -> Result<Option<Origin>, Failure> {
        let far = Far::of(key, self.url.as_ref(), self.sha256, self.checksum.as_ref());
        if self.reference.is_some() && !key.starts_with("images[") {
            return Err(invalid(format!("{key}.reference: only for [[images]]")));
        }
        if self.chart.is_some() && !key.starts_with("manifests.") {
            return Err(invalid(format!("{key}.chart: only for [manifests]")));
        }
        if !self.replace.is_empty() && !key.starts_with("manifests.") {
            return Err(invalid(format!("{key}.replace: only for [manifests]")));
        }
        replace::check(&self.replace).map_err(|why| invalid(format!("{key}.{why}")))?;
        match (&self.reference, &self.chart) {
            (None, None) => far.origin("give either file or url", self.file.as_ref()).map(Some),
            (Some(_), None) if self.is_else_empty() => Ok(None),
            (None, Some(chart)) if self.is_else_empty() => chart.origin(key).map(Some),
            (Some(_), _) => Err(invalid(format!("{key}.reference: stands alone, without file and url"))),
            (None, Some(_)) => Err(invalid(format!("{key}.chart: stands alone, without file and url"))),
        }
    }

    fn is_else_empty(&self) -> bool {
        self.file.is_none() && self.url.is_none() && self.sha256.is_none() && self.checksum.is_none()
    }
}

impl Chart {
    fn origin(&self, key: &str) -> Result<Origin, Failure> {
        let key = format!("{key}.chart");
        let plain = |text: &str| {
            let dns = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            (1..=53).contains(&text.len()) && text.chars().all(dns) && !text.starts_with('-')
        };
        for (what, text) in [("name", Some(&self.name)), ("namespace", self.namespace.as_ref())] {
            if text.is_some_and(|text| !plain(text)) {
                return Err(invalid(format!("{key}.{what}: lower-case letters, digits and '-', at most 53")));
            }
        }
        let far = Far::of(&key, self.url.as_ref(), self.sha256, self.checksum.as_ref());
        let archive = far.origin("give either file or url", self.file.as_ref())?;
        Ok(Origin::Chart(Box::new(archive), self.clone()))
    }
}

impl Tarball {
    /// Where the tarball comes from; `key` is what messages call it. None where only the version is told:
    /// it is upstream's then.
    ///
    /// # Errors
    /// `SPEC_INVALID` names the key.
    pub fn origin(&self, key: &str) -> Result<Option<Origin>, Failure> {
        let want = "give one of file, url, files and directory, or the version alone";
        let ready = self.file.is_some() || self.url.is_some();
        let vouched = self.sha256.is_some() || self.checksum.is_some();
        match (ready, &self.files, &self.directory) {
            (true, None, None) => {
                let far = Far::of(key, self.url.as_ref(), self.sha256, self.checksum.as_ref());
                far.origin(want, self.file.as_ref()).map(Some)
            }
            (false, ..) if vouched => Err(invalid(format!("{key}.sha256 and checksum: only for file and url"))),
            (false, Some(files), None) if files.is_empty() => Err(invalid(format!("{key}.files: names no file"))),
            (false, Some(files), None) => Ok(Some(Origin::Files(files.clone()))),
            (false, None, Some(directory)) => Ok(Some(Origin::Directory(directory.clone()))),
            (false, None, None) => Ok(None),
            _ => Err(invalid(format!("{key}: {want}"))),
        }
    }

    /// The version without its `v`.
    #[must_use]
    pub fn bare_version(&self) -> &str {
        self.version.trim_start_matches('v')
    }
}

/// The keys of a download.
struct Far<'a> {
    key: &'a str,
    url: Option<&'a String>,
    sha256: Option<Digest>,
    checksum: Option<&'a String>,
}

impl<'a> Far<'a> {
    fn of(key: &'a str, url: Option<&'a String>, sha256: Option<Digest>, checksum: Option<&'a String>) -> Self {
        Self { key, url, sha256, checksum }
    }

    fn origin(&self, want: &str, file: Option<&PathBuf>) -> Result<Origin, Failure> {
        let key = self.key;
        let told = match (self.sha256, self.checksum) {
            (Some(_), Some(_)) => return Err(invalid(format!("{key}: give either sha256 or checksum"))),
            (Some(sha256), None) => Told::Sha256(sha256),
            (None, Some(checksum)) => Told::Checksum(web(&format!("{key}.checksum"), checksum)?),
            (None, None) => Told::Nothing,
        };
        match (file, self.url) {
            (Some(_), None) if self.checksum.is_some() => Err(invalid(format!("{key}.checksum: only for url"))),
            (Some(file), None) => Ok(Origin::File(file.clone(), self.sha256)),
            (None, Some(url)) => Ok(Origin::Url(web(&format!("{key}.url"), url)?, told)),
            _ => Err(invalid(format!("{key}: {want}"))),
        }
    }
}

fn web(key: &str, url: &str) -> Result<url::Url, Failure> {
    match url::Url::parse(url) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
        // The URL is not shown: it may hold a password.
        Ok(url) => Err(invalid(format!("{key}: {:?} is neither http nor https", url.scheme()))),
        Err(e) => Err(invalid(format!("{key}: {e}"))),
    }
}

/// The failure of a path that the spec names, not the command line: wrong ones are the spec's fault.
#[must_use]
pub fn in_spec(failure: Failure) -> Failure {
    match failure.code {
        Code::ConfigInvalid => {
            Failure { code: Code::SpecInvalid, ..failure }.with_remedy("correct the path in the spec")
        }
        _ => failure,
    }
}
