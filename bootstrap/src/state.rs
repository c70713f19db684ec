//! Where a node stands: the document that `cks-agent status --json` prints (`docs/status.md`).

use serde::{Deserialize, Serialize};

use crate::bundle::Role;
use crate::failure::Code;

/// The format of this document.
pub const SCHEMA: u32 = 1;

/// The state of a node, written by the one that works on it and read by everybody else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeState {
    /// Format: [`SCHEMA`].
    pub schema: u32,
    /// Version of the agent that wrote it.
    pub agent: String,
    /// The role that the node is given.
    pub role: Role,
    /// What is being done.
    pub phase: Phase,
    /// The bundle, once one is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<BundleState>,
    /// Every source that was named, and what became of it.
    #[serde(default)]
    pub sources: Vec<SourceState>,
    /// Steps of the plan.
    pub steps: Progress,
    /// Bytes of the plan, fetched and in all.
    pub bytes: Progress,
    /// What is being fetched or imported right now.
    #[serde(default)]
    pub active: Vec<ActiveStep>,
    /// What is being waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// Why it stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureState>,
    /// What the operator should know.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The phases so far, with their seconds.
    #[serde(default)]
    pub timeline: Vec<PhaseTime>,
    /// When this run began (RFC 3339, UTC).
    pub started: String,
    /// When this document was written (RFC 3339, UTC).
    pub updated: String,
}

/// What is being done. A run goes from top to bottom; `failed` may follow any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Looks for a source that holds a bundle.
    Locate,
    /// Looks at the machine and makes the plan.
    Preflight,
    /// Fetches, verifies, installs and imports.
    Install,
    /// Writes units and switches the links.
    Activate,
    /// Imports the images that no node waits for.
    ImportRest,
    /// Looks at the machine again: nothing may be left to do.
    Verify,
    /// Everything that the role needs is installed.
    Installed,
    /// Stopped; `failure` says why.
    Failed,
}

/// The bundle in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleState {
    /// Its digest.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Kubernetes version, where it brings one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
    /// `signed` when trusted keys vouch for the manifest, `manifest` when only the manifest vouches for every
    /// byte, `legacy` when nothing does.
    pub trust: Trust,
    /// The ids of the trusted keys that signed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signed_by: Vec<String>,
    /// The version directory.
    pub directory: String,
}

/// What vouches for a bundle's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// As many trusted keys as the settings want signed the manifest that every byte is checked against.
    Signed,
    /// Every byte is checked against the bundle's manifest.
    Manifest,
    /// A stock ISO: nothing says what its bytes should be.
    Legacy,
}

/// A source and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    /// As it was named.
    pub source: String,
    /// `in-use`, `standby` or the code of the failure that refused it.
    pub verdict: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Bytes that came from it in this run.
    pub bytes: u64,
}

/// So many of so many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Done.
    pub done: u64,
    /// In all.
    pub total: u64,
}

/// A step at work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveStep {
    /// The entry or image.
    pub object: String,
    /// Its bytes.
    pub bytes: Progress,
}

/// Something that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// What for: `containerd at /run/containerd/containerd.sock`.
    pub waits_for: String,
    /// Since when (RFC 3339, UTC).
    pub since: String,
    /// The last error.
    pub last_error: String,
    /// The next try (RFC 3339, UTC).
    pub next_try: String,
    /// When it is given up (RFC 3339, UTC).
    pub deadline: String,
}

/// Why a run stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureState {
    /// The stable code.
    pub code: Code,
    /// Object and causes, one line.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

/// A phase and how long it took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// The phase.
    pub phase: Phase,
    /// Seconds; of the current phase, up to `updated`.
    pub seconds: f64,
}

impl Phase {
    /// The spelling of the document.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Locate => "locate",
            Self::Preflight => "preflight",
            Self::Install => "install",
            Self::Activate => "activate",
            Self::ImportRest => "import-rest",
            Self::Verify => "verify",
            Self::Installed => "installed",
            Self::Failed => "failed",
        }
    }

    /// Whether the run is over.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Installed | Self::Failed)
    }
}
