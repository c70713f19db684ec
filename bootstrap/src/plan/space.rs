//! The room that a plan needs, filesystem by filesystem.

use std::collections::BTreeMap;

use super::{Bundle, Facts, Filesystem, Step};
use crate::bundle::Blob;
use crate::failure::{Code, Failure};

/// Room that is left on every filesystem besides what is written: units, links, journal, what others do.
pub(super) const SPARE_BYTES: u64 = 32 << 20;
/// A file takes whole blocks of this size on any usual filesystem.
const BLOCK_BYTES: u64 = 4096;
/// How much larger compressed layers become on disk, at most, in the images of a cluster: 1.79 GB of
/// 0.60 GB for a whole CKS ISO, rounded up. For layers whose size nobody counted.
const UNPACK_FACTOR: u64 = 4;
/// The same for tarballs of programs: 55 MB of 24 MB for etcd, rounded up.
const PROGRAMS_FACTOR: u64 = 3;

/// Bytes needed on the filesystem that they go to.
type Needed<'a> = BTreeMap<u64, (&'a Filesystem, u64)>;

/// Refuses `steps` that would not fit.
///
/// # Errors
/// `NO_SPACE` names every filesystem that is too small, with what is needed and what is free.
pub(super) fn check<'a>(steps: impl Iterator<Item = &'a Step>, bundle: &Bundle, facts: &Facts) -> Result<(), Failure> {
    let mut needed = Needed::new();
    let (mut files, mut fetched) = (0_u64, 0_u64);
    let (mut content, mut blobs) = (0_u64, 0_u64);
    for step in steps {
        match step {
            Step::InstallFile { size, .. } => {
                files = files.saturating_add(blocks(*size));
                fetched = fetched.saturating_add(*size);
            }
            // The tarball is kept until its last member is whole.
            Step::Unpack { size, members, .. } => {
                let unlisted = if members.is_empty() { size.saturating_mul(PROGRAMS_FACTOR) } else { 0 };
                let all = [blocks(*size), unlisted].into_iter().chain(members.iter().map(|member| blocks(member.size)));
                files = all.fold(files, u64::saturating_add);
                fetched = fetched.saturating_add(*size);
            }
            Step::ImportImage { missing, .. } => {
                let missing = || missing.iter().filter_map(|digest| bundle.manifest.blob(digest));
                content = content.saturating_add(sum(missing().map(|blob| blocks(blob.size))));
                blobs = blobs.saturating_add(sum(missing().map(|blob| blob.size)));
                add(&mut needed, facts.snapshot_filesystem.as_ref(), sum(missing().map(unpacked)));
            }
            Step::RecordBundle { .. }
            | Step::WriteFile { .. }
            | Step::RenderUnit { .. }
            | Step::Link { .. }
            | Step::Unlink { .. } => {}
        }
    }
    add(&mut needed, facts.filesystem.as_ref(), files.saturating_sub(facts.kept_bytes.min(fetched)));
    add(&mut needed, facts.content_filesystem.as_ref(), content.saturating_sub(facts.begun_bytes.min(blobs)));
    let short: Vec<_> = needed
        .values()
        .map(|(filesystem, bytes)| (*filesystem, *bytes, bytes.saturating_add(SPARE_BYTES)))
        .filter(|(filesystem, bytes, all)| *bytes > 0 && *all > filesystem.free_bytes)
        .collect();
    if short.is_empty() {
        return Ok(());
    }
    let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
    let what = short.iter().map(|(filesystem, _, all)| {
        let (path, free) = (&filesystem.path, filesystem.free_bytes >> 20);
        format!("{path} has {free} MiB free, this plan needs {} MiB", mebibytes(*all))
    });
    let remedy = short.iter().map(|(filesystem, _, all)| {
        format!("free {} MiB on {}", mebibytes(all - filesystem.free_bytes), filesystem.path)
    });
    let remedy = format!("{}, or give the machine a larger disk; nothing was written", join(remedy));
    Err(Failure::new(Code::NoSpace, join(what)).with_remedy(remedy))
}

fn join(texts: impl Iterator<Item = String>) -> String {
    texts.collect::<Vec<_>>().join("; ")
}

fn add<'a>(needed: &mut Needed<'a>, filesystem: Option<&'a Filesystem>, bytes: u64) {
    if let Some(filesystem) = filesystem {
        let (_, sum) = needed.entry(filesystem.device).or_insert((filesystem, 0));
        *sum = sum.saturating_add(bytes);
    }
}

fn sum(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.fold(0, u64::saturating_add)
}

fn blocks(bytes: u64) -> u64 {
    bytes.checked_next_multiple_of(BLOCK_BYTES).unwrap_or(u64::MAX)
}

/// What a layer becomes when it is unpacked; 0 for what is no layer. A tar rounds each file up to 512 bytes,
/// a filesystem to a block: one part in sixteen, for the many small files of a distribution.
fn unpacked(blob: &Blob) -> u64 {
    if let Some(bytes) = blob.unpacked {
        return blocks(bytes.saturating_add(bytes / 16));
    }
    let compressed = ["gzip", "zstd"].iter().any(|suffix| blob.media_type.contains(suffix));
    let layer = blob.media_type.contains("layer") || blob.media_type.contains("rootfs");
    match (layer, compressed) {
        (true, true) => blob.size.saturating_mul(UNPACK_FACTOR),
        (true, false) => blocks(blob.size),
        (false, _) => 0,
    }
}
