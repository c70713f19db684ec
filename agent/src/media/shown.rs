//! The sources as `cks-agent sources --json` tells them (`docs/schema/sources.schema.json`).

use serde::{Deserialize, Serialize};

/// The format of this document.
pub const SCHEMA: u32 = 1;
/// Where a run keeps it, below the root.
pub const SOURCES_PATH: &str = "/run/cks-agent/sources.json";

/// All sources, best first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Format: [`SCHEMA`].
    pub schema: u32,
    /// Whether a bootstrap is at work: then it tells what that one sees, else what was found by looking now.
    pub running: bool,
    /// The bundle that is used, or would be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Held>,
    /// The source that the next bytes come from, or would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The sources.
    pub sources: Vec<Shown>,
    /// When this was so (RFC 3339, UTC).
    pub updated: String,
}

/// A source and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// As it stands in the settings: `disc`.
    pub entry: String,
    /// What was opened: `/dev/sr0`; the entry itself where it has nothing to open for now.
    pub source: String,
    /// `in-use`, `standby`, `other-bundle`, `probing`, or the code that refused it.
    pub verdict: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Held>,
    /// The volume identifier of a disc or image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Milliseconds until its last answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// How often it was asked.
    pub tries: u32,
    /// When it is asked again (RFC 3339, UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_try: Option<String>,
    /// Bytes that came from it in this run, or in the last one.
    pub bytes: u64,
}

/// A bundle in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its digest.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Kubernetes version, where it brings one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
}
