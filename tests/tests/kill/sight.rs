//! Moments that can be seen from outside: what a run has just done when it is killed.

use std::fs;
use std::path::PathBuf;

use cks_tests::containerd::Containerd;

use crate::node::Node;

/// Something that appears while a node is bootstrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sight {
    /// A file or link of the node.
    Path(String),
    /// A partial of at least so many bytes.
    Partial(u64),
    /// A member of a tarball, unpacked but not in its place.
    Staged,
    /// Content under way in containerd, of at least so many bytes.
    Ingest(u64),
    /// Content that is whole in containerd.
    Blob,
    /// A layer that is being unpacked, or is.
    Snapshot,
    /// An image that has its name.
    Image(String),
    /// A line of the journal with this in it.
    Journal(&'static str),
}

impl Sight {
    pub(crate) fn is_there(&self, node: &Node<'_>) -> bool {
        match self {
            Self::Path(path) => fs::symlink_metadata(node.path(path)).is_ok(),
            Self::Partial(bytes) => partials(node).iter().any(|path| size(path) >= *bytes),
            Self::Staged => partials(node).iter().any(|path| path.extension().is_some()),
            Self::Ingest(bytes) => ingests(node).iter().any(|path| size(path) >= *bytes),
            Self::Blob => !below(node, "content.v1.content/blobs/sha256").is_empty(),
            Self::Snapshot => !below(node, "snapshotter.v1.overlayfs/snapshots").is_empty(),
            Self::Image(reference) => {
                node.containerd.as_ref().is_some_and(|containerd| containerd.images().unwrap().contains(reference))
            }
            Self::Journal(part) => {
                fs::read_to_string(node.path("/var/lib/cks-agent/journal.jsonl")).is_ok_and(|text| text.contains(part))
            }
        }
    }
}

/// The bytes of entries that gather.
pub(crate) fn partials(node: &Node<'_>) -> Vec<PathBuf> {
    files(node.path("/opt/cks/.partial"))
}

/// The bytes of blobs that gather in containerd.
pub(crate) fn ingests(node: &Node<'_>) -> Vec<PathBuf> {
    let begun = below(node, "content.v1.content/ingest").into_iter().map(|ingest| ingest.join("data"));
    begun.filter(|data| data.exists()).collect()
}

fn below(node: &Node<'_>, directory: &str) -> Vec<PathBuf> {
    let data = node.containerd.as_ref().map(Containerd::data);
    data.map(|data| files(data.join(format!("io.containerd.{directory}")))).unwrap_or_default()
}

fn files(directory: PathBuf) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn size(path: &PathBuf) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}
