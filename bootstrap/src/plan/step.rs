//! A plan and its steps.

use std::fmt;

use serde::Serialize;

use crate::bundle::Kind;
use crate::digest::Digest;

/// What will be done: what is fetched first, what makes the node live, what may come later and begins where there is
/// room for it ([`Wave`]).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// What the operator should know.
    pub warnings: Vec<Warning>,
    /// Whether its first steps teach what a stock ISO's tarballs hold: what makes the node live has to wait
    /// for a second plan, which knows all of it.
    #[serde(skip)]
    pub learns: bool,
}

/// Something that does not stop a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// A stable code.
    pub code: String,
    /// What it is and what to do.
    pub text: String,
}

/// One step. Each is safe to repeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// An entry of the bundle becomes a file.
    InstallFile {
        /// Path on the bundle.
        entry: String,
        /// Bytes to fetch.
        size: u64,
        /// Digest that the bytes must have; unknown for a stock ISO.
        sha256: Option<Digest>,
        /// Where it goes.
        path: String,
        /// Permission bits.
        mode: u32,
    },
    /// Members of a tarball become files.
    Unpack {
        /// Path on the bundle.
        entry: String,
        /// Bytes to fetch.
        size: u64,
        /// Digest that the tarball must have; unknown for a stock ISO.
        sha256: Option<Digest>,
        /// What the tarball is.
        kind: Kind,
        /// Where members go that nobody has listed yet.
        directory: String,
        /// The members that are missing; empty means all that [`super::install_name`] takes.
        members: Vec<UnpackMember>,
    },
    /// An image is imported into containerd.
    ImportImage {
        /// Its reference.
        reference: String,
        /// Digest of its manifest.
        digest: Digest,
        /// Whether pods can't start without it.
        sandbox: bool,
        /// Whether the node waits for it: imported before the node goes live, the others after it.
        critical: bool,
        /// Bytes to fetch.
        size: u64,
        /// Blobs that the content store lacks and no earlier step brings.
        missing: Vec<Digest>,
    },
    /// The bundle's manifest, and its signatures, are kept in its version directory.
    RecordBundle {
        /// Where.
        path: String,
    },
    /// A file gets this text.
    WriteFile {
        /// Where.
        path: String,
        /// The whole text; mode 0644.
        text: String,
    },
    /// A unit is made from a unit of the version directory.
    RenderUnit {
        /// The unit as the bundle brought it.
        source: String,
        /// Where it goes.
        path: String,
    },
    /// A symbolic link, replaced in one go.
    Link {
        /// Where.
        path: String,
        /// What it points to.
        target: String,
    },
    /// A link of ours to something that the bundle does not have goes away.
    Unlink {
        /// Where.
        path: String,
    },
}

/// When a step's turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wave {
    /// Fetched side by side before anything goes live.
    First,
    /// What makes the node live, one after the other.
    Live,
    /// Fetched side by side when the node is live.
    Rest,
}

/// One member to unpack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnpackMember {
    /// Path inside the tarball.
    pub member: String,
    /// Where it goes; mode 0755.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Digest that it must have.
    pub sha256: Option<Digest>,
}

impl Step {
    /// Bytes that the step fetches: its weight in progress.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::InstallFile { size, .. } | Self::Unpack { size, .. } | Self::ImportImage { size, .. } => *size,
            Self::RecordBundle { .. }
            | Self::WriteFile { .. }
            | Self::RenderUnit { .. }
            | Self::Link { .. }
            | Self::Unlink { .. } => 0,
        }
    }

    /// Whether the step reads from the bundle; such steps run side by side.
    #[must_use]
    pub fn fetches(&self) -> bool {
        matches!(self, Self::InstallFile { .. } | Self::Unpack { .. } | Self::ImportImage { .. })
    }

    /// When its turn is.
    #[must_use]
    pub fn wave(&self) -> Wave {
        match self {
            Self::ImportImage { critical: false, .. } => Wave::Rest,
            step if step.fetches() => Wave::First,
            _ => Wave::Live,
        }
    }

    /// The thing that it works on, for people: an entry, a reference or a path.
    #[must_use]
    pub fn object(&self) -> &str {
        match self {
            Self::InstallFile { entry, .. } | Self::Unpack { entry, .. } => entry,
            Self::ImportImage { reference, .. } => reference,
            Self::RecordBundle { path }
            | Self::WriteFile { path, .. }
            | Self::RenderUnit { path, .. }
            | Self::Link { path, .. }
            | Self::Unlink { path } => path,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InstallFile { entry, path, .. } => write!(f, "install {entry} as {path}"),
            Self::Unpack { entry, directory, members, .. } if members.is_empty() => {
                write!(f, "unpack {entry} into {directory}")
            }
            Self::Unpack { entry, directory, members, .. } => {
                write!(f, "unpack {} of {entry} into {directory}", files(members.len()))
            }
            Self::ImportImage { reference, missing, .. } => {
                write!(f, "import {reference} ({} blobs missing)", missing.len())
            }
            Self::RecordBundle { path } | Self::WriteFile { path, .. } => write!(f, "write {path}"),
            Self::RenderUnit { source, path } => write!(f, "write {path} from {source}"),
            Self::Link { path, target } => write!(f, "link {path} to {target}"),
            Self::Unlink { path } => write!(f, "remove link {path}"),
        }
    }
}

fn files(count: usize) -> String {
    format!("{count} file{}", if count == 1 { "" } else { "s" })
}

impl Plan {
    /// Bytes that the whole plan fetches.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.steps.iter().map(Step::bytes).sum()
    }

    /// Whether a container runtime gets images.
    #[must_use]
    pub fn imports(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::ImportImage { .. }))
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
