//! Many nodes at one virtual router, as clients: the agent's own media, whose bytes are hashed and thrown
//! away. No disk and no containerd stand in the way of the network.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::board::Board;
use agent::config::Http;
use agent::host::Host;
use agent::media::Media;
use agent::media::locate::Search;
use agent::media::prober::Probing;
use agent::media::teller::Teller;
use anyhow::{Result, ensure};
use bootstrap::bundle::{Arch, Manifest, Place, Role};
use bootstrap::digest::{Digest, Hasher};
use bootstrap::trust::Rules;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};

/// As many artefacts as the agent fetches side by side.
const SIDE_BY_SIDE: usize = 4;
/// No node gives up: what is measured is how long it takes.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What became of one node.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Served {
    /// Seconds until its last byte.
    pub(crate) seconds: f64,
    /// Bytes of files and blobs.
    pub(crate) bytes: u64,
}

/// A range that a node fetches: path, size of the entry, offset, length, digest.
pub(crate) type Range = (String, u64, u64, u64, Digest);

/// Lets `nodes` workers fetch everything from `url` at once.
///
/// # Errors
/// The first failure of any node, and bytes that have the wrong digest.
pub(crate) async fn crowd(url: &str, nodes: usize, arch: Arch) -> Result<Vec<Served>> {
    let began = Instant::now();
    let all = (0..nodes).map(|_| tokio::spawn(node(url.to_owned(), arch, began)));
    let served = futures::future::join_all(all).await;
    served.into_iter().map(|node| node?).collect()
}

async fn node(url: String, arch: Arch, began: Instant) -> Result<Served> {
    let board = Board::new(Role::Worker);
    let rules = Arc::new(Rules::default());
    let search = Search { role: Some(Role::Worker), arch, rules, only: None, http: Http::default() };
    let teller = Teller::new(Some(board.clone()), None);
    let probing = Probing::start(&[url], search, &Host::new("/".as_ref())?, teller);
    let bundle = probing.bundle(&board, PATIENCE).await?;
    let media = Media::new(probing, PATIENCE, board);
    let ranges = ranges(&bundle.manifest);
    let bytes = ranges.iter().map(|range| range.3).sum();
    let fetches = futures::stream::iter(ranges).map(|range| fetch(&media, range));
    fetches.buffer_unordered(SIDE_BY_SIDE).try_collect::<()>().await?;
    Ok(Served { seconds: began.elapsed().as_secs_f64(), bytes })
}

async fn fetch(media: &Media, (path, size, offset, length, digest): Range) -> Result<()> {
    let mut stream = media.stream(media.preferred(), &path, size, offset, length);
    let mut hasher = Hasher::default();
    while let Some(piece) = stream.next().await? {
        hasher.update(&piece);
    }
    ensure!(hasher.finish() == digest, "{path} at byte {offset} has the wrong digest");
    Ok(())
}

/// What a worker fetches, each blob once.
#[must_use]
pub(crate) fn ranges(manifest: &Manifest) -> Vec<Range> {
    let wanted = manifest.entries_for(Role::Worker).filter(|entry| !entry.path.starts_with("docker/"));
    let mut ranges: Vec<Range> =
        wanted.filter_map(|entry| Some((entry.path.clone(), entry.size, 0, entry.size, entry.sha256?))).collect();
    let images = manifest.images_for(Role::Worker);
    let digests = images.flat_map(|image| [image.digest, image.config].into_iter().chain(image.layers.iter().copied()));
    let digests: std::collections::BTreeSet<Digest> = digests.collect();
    for blob in digests.iter().filter_map(|digest| manifest.blob(digest)) {
        if let Place::Range { path, offset } = &blob.at {
            let size = manifest.entry(path).map_or(0, |entry| entry.size);
            ranges.push((path.clone(), size, *offset, blob.size, blob.digest));
        }
    }
    ranges
}
