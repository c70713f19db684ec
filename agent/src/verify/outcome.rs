//! What the last `verify` said, where metrics and the next bootstrap find it.

use std::collections::BTreeSet;

use bootstrap::digest::Digest;
use bootstrap::failure::Failure;
use serde::{Deserialize, Serialize};

use super::Report;
use crate::files;
use crate::host::Host;

/// Where it is, for as long as the machine is up.
const PATH: &str = "/run/cks-agent/verify.json";

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Objects that were looked at.
    pub checked: u64,
    /// How many of them were not as they should be.
    pub findings: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// When it ended (RFC 3339, UTC).
    pub at: String,
    /// Blobs of containerd's that had other bytes than their names say. The next bootstrap looks at them again.
    #[serde(default)]
    pub damaged: BTreeSet<Digest>,
}

impl Outcome {
    pub(super) fn of(report: &Report, damaged: Vec<Digest>) -> Self {
        Self {
            checked: report.checked,
            findings: report.findings.len() as u64,
            bytes: report.bytes,
            seconds: report.seconds,
            at: report.at.clone(),
            damaged: damaged.into_iter().collect(),
        }
    }

    /// What the last `verify` below `host` said.
    #[must_use]
    pub fn read(host: &Host) -> Option<Self> {
        files::read_json(&host.path(PATH)).ok()?
    }

    /// Blobs that are worth to be read again before they are believed in.
    #[must_use]
    pub fn suspects(host: &Host) -> BTreeSet<Digest> {
        Self::read(host).map(|outcome| outcome.damaged).unwrap_or_default()
    }

    /// Forgets the damaged blobs: a bootstrap has mended them.
    ///
    /// # Errors
    /// `IO` or `NO_SPACE` names the file.
    pub fn mended(host: &Host) -> Result<(), Failure> {
        match Self::read(host) {
            Some(outcome) if !outcome.damaged.is_empty() => Self { damaged: BTreeSet::new(), ..outcome }.write(host),
            _ => Ok(()),
        }
    }

    pub(super) fn write(&self, host: &Host) -> Result<(), Failure> {
        files::write_json(&host.prepare(PATH)?, self, 0o644)
    }
}
