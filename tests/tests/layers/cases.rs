//! The corpus: what layers hold, what some of them hold, and what only somebody with bad intentions would write.

mod bytes;
mod chains;
mod files;

use std::io::Write as _;

use crate::making::{Entry, dir, file, hard, soft, tar};

const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const DOCKER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
/// `cap_net_bind_service=ep` as the kernel keeps it.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// How we refuse what containerd unpacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Differs {
    /// As hostile: no honest layer has it, though containerd keeps it inside of the root.
    Hostile,
    /// Left to containerd: it is rare, and its own code is the best that can be had for it.
    Left,
}

/// What has to come of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    Same,
    Refused,
    /// By how the snapshotter has whiteouts.
    SameOrRefused,
    Only(Differs),
}

/// Layers on top of each other.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) layers: Vec<(&'static str, Vec<u8>)>,
    pub(crate) expect: Expect,
}

fn case(name: &str, expect: Expect, layers: &[&[Entry]]) -> Case {
    let layers = layers.iter().map(|entries| (PLAIN, tar(entries))).collect();
    Case { name: name.to_owned(), layers, expect }
}

fn same(name: &str, layers: &[&[Entry]]) -> Case {
    case(name, Expect::Same, layers)
}

fn raw(name: &str, expect: Expect, media_type: &'static str, layer: Vec<u8>) -> Case {
    Case { name: name.to_owned(), layers: vec![(media_type, layer)], expect }
}

/// A whiteout of `name` in `directory`.
fn gone(path: &str) -> Entry {
    let (directory, name) = path.rsplit_once('/').map_or(("", path), |(directory, name)| (directory, name));
    file(format!("{directory}{}.wh.{name}", if directory.is_empty() { "" } else { "/" }), "").owner(5, 6)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn base() -> Vec<Entry> {
    vec![
        dir("usr/").mode(0o711).owner(3, 4).mtime(1000),
        dir("usr/lib/").mode(0o2775).owner(7, 8).mtime(2000).xattr("user.kept", "yes"),
        file("usr/lib/a", "from below").mode(0o4755).owner(1, 2),
        dir("usr/lib/deep/").mtime(3000),
        file("usr/lib/deep/b", "b"),
        soft("lib", "usr/lib"),
        soft("absolute", "/usr/lib"),
        hard("usr/lib/a2", "usr/lib/a").mode(0o4755).owner(1, 2),
    ]
}

/// All cases.
pub(crate) fn all() -> Vec<Case> {
    [
        files::ordinary(),
        files::times_and_attributes(),
        files::long_names(),
        files::names(),
        files::hard_links(),
        files::links(),
        chains::upon_each_other(),
        chains::whiteouts(),
        chains::hostile(),
        bytes::headers(),
        bytes::damaged_headers(),
        bytes::ends(),
        bytes::packing(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
