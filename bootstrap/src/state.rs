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
    /// The role that the node is given, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
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
    /// Bytes per second, of all artefacts, averaged over some seconds.
    #[serde(default)]
    pub rate: u64,
    /// Seconds until the plan's bytes are there, if the rate stays; absent while nothing comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// What is being fetched or imported right now.
    #[serde(default)]
    pub active: Vec<ActiveStep>,
    /// The artefacts that this run brought, in the order they were done.
    #[serde(default)]
    pub finished: Vec<FinishedStep>,
    /// The wait that ends first, of `waits`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    /// What is being waited for; the wait that ends first comes first.
    #[serde(default)]
    pub waits: Vec<Wait>,
    /// What happened how often in this run.
    #[serde(default)]
    pub counters: Counters,
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

impl NodeState {
    /// The role in words; `node` until it is known.
    #[must_use]
    pub fn role_name(&self) -> &'static str {
        self.role.map_or("node", Role::as_str)
    }
}

/// What is being done. A run goes from top to bottom; `failed` may follow any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Finds out what this machine is asked to become.
    Discover,
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
    /// Sets the host and the container runtime up.
    Configure,
    /// Starts the etcd member, or joins it to its cluster.
    Etcd,
    /// Begins the cluster.
    Init,
    /// Joins the cluster.
    Join,
    /// Applies what belongs to every cluster: pod network, dashboard, role bindings.
    Apply,
    /// Leaves what the management server looks for.
    HandOver,
    /// The node is a member of its cluster.
    Ready,
    /// Takes the node out of its cluster.
    Leave,
    /// The node is out of its cluster, and clean.
    Left,
    /// Nothing is asked of this machine, or somebody else does it.
    Idle,
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// How often it was asked again after it failed.
    #[serde(default)]
    pub retries: u64,
    /// Its last error.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_error: String,
    /// When it last brought something (RFC 3339, UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_byte_at: Option<String>,
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveStep {
    /// The entry or image.
    pub object: String,
    /// What is happening to it.
    #[serde(default)]
    pub doing: Activity,
    /// Its bytes.
    pub bytes: Progress,
    /// Bytes per second, averaged over some seconds.
    #[serde(default)]
    pub rate: u64,
    /// Seconds until its bytes are there, if the rate stays; absent while nothing comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// The source that it comes from, as it was named; empty before its first byte.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
}

/// What is happening to an artefact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// Its bytes arrive (and are hashed, kept and unpacked as they come).
    #[default]
    Fetching,
    /// All bytes are there; files or snapshots are made of them.
    Unpacking,
    /// containerd is told about it.
    Importing,
    /// Bytes that are on the node already are read again.
    Hashing,
    /// A unit, a link or another small file is written.
    Writing,
}

/// An artefact that was brought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinishedStep {
    /// The entry or image.
    pub object: String,
    /// Its bytes.
    pub bytes: u64,
    /// Seconds from its begin to its end.
    pub seconds: f64,
    /// The source that brought its last byte; empty where that is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
}

/// What happened how often in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Sources that were asked again after a failure.
    pub retries: u64,
    /// Bytes that came from sources.
    pub bytes_fetched: u64,
    /// Bytes of the plan that an earlier run had left behind.
    pub bytes_resumed: u64,
    /// Blobs and entries that went on with another source.
    pub blobs_moved: u64,
}

/// Something that is waited for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// What for: `containerd at /run/containerd/containerd.sock`.
    pub waits_for: String,
    /// Since when (RFC 3339, UTC).
    pub since: String,
    /// The last error.
    pub last_error: String,
    /// Its class, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// The next try (RFC 3339, UTC).
    pub next_try: String,
    /// When it is given up (RFC 3339, UTC).
    pub deadline: String,
    /// The artefacts that can't go on meanwhile, where that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
}

impl Wait {
    /// Why it is waited: the last error's class, where it has one, and its words.
    #[must_use]
    pub fn why(&self) -> String {
        self.code.map_or_else(|| self.last_error.clone(), |code| format!("{code}: {}", self.last_error))
    }
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

impl Activity {
    /// The spelling of the document.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetching => "fetching",
            Self::Unpacking => "unpacking",
            Self::Importing => "importing",
            Self::Hashing => "hashing",
            Self::Writing => "writing",
        }
    }
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 19] = [
        Self::Discover,
        Self::Locate,
        Self::Preflight,
        Self::Install,
        Self::Activate,
        Self::ImportRest,
        Self::Verify,
        Self::Installed,
        Self::Configure,
        Self::Etcd,
        Self::Init,
        Self::Join,
        Self::Apply,
        Self::HandOver,
        Self::Ready,
        Self::Leave,
        Self::Left,
        Self::Idle,
        Self::Failed,
    ];

    /// The spelling of the document.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Discover => "discover",
            Self::Locate => "locate",
            Self::Preflight => "preflight",
            Self::Install => "install",
            Self::Activate => "activate",
            Self::ImportRest => "import-rest",
            Self::Verify => "verify",
            Self::Installed => "installed",
            Self::Configure => "configure",
            Self::Etcd => "etcd",
            Self::Init => "init",
            Self::Join => "join",
            Self::Apply => "apply",
            Self::HandOver => "hand-over",
            Self::Ready => "ready",
            Self::Leave => "leave",
            Self::Left => "left",
            Self::Idle => "idle",
            Self::Failed => "failed",
        }
    }

    /// Whether the run is over.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Installed | Self::Ready | Self::Left | Self::Idle | Self::Failed)
    }
}
