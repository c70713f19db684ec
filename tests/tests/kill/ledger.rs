//! Which bytes were fetched, how often, and whether any was fetched that was there already.

use std::collections::{BTreeMap, BTreeSet};

use bootstrap::bundle::{Manifest, Place};
use bootstrap::digest::Digest;
use cks_tests::throttle::SOCKET_BYTES;
use cks_tests::vr::Request;

/// What the agent takes off a connection at once: `agent::media::PIECE_BYTES`.
const CHUNK_BYTES: u64 = 1 << 20;
/// What containerd may not have written yet of what it was sent: two messages, `agent::containerd::ingest::WINDOW`.
/// They may be of the chunk before, while the next is whole already.
const UNANSWERED_BYTES: u64 = 512 << 10;
/// What hyper reads ahead on a connection (its `DEFAULT_MAX_BUFFER_SIZE`, 8 KiB + 100 pages): in its buffer, in the
/// channel of the body and in the agent's hands together, since one read takes no more than a socket holds.
const CLIENT_BYTES: u64 = (8 << 10) + 100 * (4 << 10);
/// Apache's log counts the answer's header lines, too.
const HEADER_BYTES: u64 = 512;
/// What one kill may cost of one file in flight.
pub(crate) const LOST_BYTES: u64 = CHUNK_BYTES + UNANSWERED_BYTES + CLIENT_BYTES + SOCKET_BYTES + HEADER_BYTES;

/// Entries and blobs that the agent fetches side by side: `SIDE_BY_SIDE` of `agent::apply`.
const IN_FLIGHT: usize = 4;

/// A stretch of a file that is fetched as one thing, an entry or a blob: path on the ISO and last byte.
pub(crate) type Stretch = (String, u64);

/// All requests for content, run by run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    reached: BTreeMap<Stretch, Reached>,
    /// Bytes sent in all.
    pub(crate) sent: u64,
    /// The most that was fetched again of one stretch at once.
    pub(crate) worst: u64,
}

#[derive(Debug)]
struct Reached {
    first: u64,
    end: u64,
}

impl Ledger {
    /// Books the requests of one run. `there` is what the node held whole when the run began.
    pub(crate) fn book(&mut self, requests: &[Request], there: &BTreeSet<Stretch>) {
        let mut broken = BTreeSet::new();
        for request in requests.iter().filter(|request| !request.path.contains("/cks-bundle.json")) {
            let (path, from, to) = range(request);
            let body = request.bytes.min(to + 1 - from);
            let stretch = (path, to);
            self.sent += body;
            assert!(!there.contains(&stretch), "fetched although it is there: {request:?}");
            if from + body <= to {
                broken.insert(stretch.clone());
            }
            let reached = self.reached.entry(stretch).or_insert(Reached { first: from, end: from });
            assert!(reached.first <= from && from <= reached.end, "a gap before {request:?}, {reached:?}");
            let again = reached.end - from;
            self.worst = self.worst.max(again);
            assert!(again <= LOST_BYTES, "{again} bytes fetched again, at most {LOST_BYTES} may be: {request:?}");
            reached.end = reached.end.max(from + body);
        }
        assert!(broken.len() <= IN_FLIGHT, "{} files in flight at once: {broken:?}", broken.len());
    }

    /// Bytes that were sent more than once.
    pub(crate) fn again(&self) -> u64 {
        self.sent - self.reached.values().map(|reached| reached.end - reached.first).sum::<u64>()
    }
}

fn range(request: &Request) -> (String, u64, u64) {
    let path = request.path.strip_prefix("/cks-iso/");
    let range = request.range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let parsed = range.and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    match (path, parsed, request.status) {
        (Some(path), Some((from, to)), 206) => (path.to_owned(), from, to),
        _ => panic!("a request for something else than a range of the ISO: {request:?}"),
    }
}

/// The stretch that brings the entry `path` of the ISO.
pub(crate) fn entry(manifest: &Manifest, path: &str) -> Stretch {
    (path.to_owned(), manifest.entry(path).unwrap().size - 1)
}

/// The stretch that brings a blob.
pub(crate) fn blob(manifest: &Manifest, digest: &Digest) -> Stretch {
    let blob = manifest.blob(digest).unwrap();
    match &blob.at {
        Place::Range { path, offset } => (path.clone(), offset + blob.size - 1),
        Place::Inline { .. } => panic!("{digest} is inline"),
    }
}
