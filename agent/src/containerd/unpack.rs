//! Layers into snapshots. A layer is unpacked while it arrives, or from the store, into the directory that
//! containerd prepared; where that can't be, containerd's own diff service unpacks it.

use std::fs;
use std::io::{self, BufReader, Read};
use std::path::Path;

use bootstrap::bundle::Blob;
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use containerd_client::services::v1::ApplyRequest;
use containerd_client::services::v1::diff_client::DiffClient;
use containerd_client::types::{Descriptor, Mount};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Containerd;
use super::snapshots::Prepared;
use crate::layer::{self, Applied, Mounted, Refused, Target};

/// Pieces that wait for the thread that unpacks.
const PIECES_IN_FLIGHT: usize = 2;
const FILE_BUFFER: usize = 256 << 10;
/// Whose snapshots are directories that a layer can be unpacked into.
const SNAPSHOTTERS: [&str; 2] = ["overlayfs", "native"];

/// A layer of an image and where it goes.
#[derive(Debug)]
pub(super) struct Layer<'a> {
    pub(super) blob: &'a Blob,
    pub(super) diff_id: &'a Digest,
    pub(super) chain_id: &'a Digest,
    pub(super) parent: Option<&'a Digest>,
}

/// Whether a layer is in its snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unpacked {
    /// It is.
    Yes,
    /// It was not tried.
    No,
    /// It has something that only containerd's diff service shall unpack.
    Left,
}

/// A layer on its way into its snapshot, on a thread of its own.
pub(super) struct Pouring {
    prepared: Prepared,
    feed: Option<mpsc::Sender<Vec<u8>>>,
    done: JoinHandle<Result<Applied, Refused>>,
}

impl Pouring {
    /// Begins with what `compressed` gives; `feed` is its other end, where it has one.
    fn begin(
        place: (Prepared, Target),
        blob: &Blob,
        compressed: impl Read + Send + 'static,
        feed: Option<mpsc::Sender<Vec<u8>>>,
    ) -> Self {
        let (prepared, target) = place;
        let (media_type, limit) = (blob.media_type.clone(), blob.unpacked);
        let done = tokio::task::spawn_blocking(move || layer::apply(compressed, &media_type, &target, limit));
        Self { prepared, feed, done }
    }

    fn begin_piped(place: (Prepared, Target), blob: &Blob) -> Self {
        let (feed, pieces) = mpsc::channel(PIECES_IN_FLIGHT);
        let pipe = Pipe { pieces, piece: Vec::new(), used: 0, left: blob.size };
        Self::begin(place, blob, pipe, Some(feed))
    }

    /// Hands `piece` on. A thread that wants no more tells why in the end.
    pub(super) async fn take(&mut self, piece: Vec<u8>) {
        if let Some(feed) = &self.feed
            && feed.send(piece).await.is_err()
        {
            self.feed = None;
        }
    }

    async fn end(self) -> (Prepared, Result<Applied, Refused>) {
        drop(self.feed);
        let applied = self.done.await.unwrap_or_else(|e| {
            Err(Refused::Failed(Failure::new(Code::Io, "the thread that unpacks a layer ended").with_source(e)))
        });
        (self.prepared, applied)
    }
}

impl Containerd {
    /// Prepares the snapshot of `layer` and a thread that unpacks into it what it is handed; none where only
    /// containerd can.
    pub(super) async fn pour(&self, layer: &Layer<'_>) -> Result<Option<Pouring>, Failure> {
        Ok(self.place(layer).await?.map(|place| Pouring::begin_piped(place, layer.blob)))
    }

    /// A fresh snapshot for `layer` and where its files go; none where these directories are not to be seen from
    /// here, or are none.
    async fn place(&self, layer: &Layer<'_>) -> Result<Option<(Prepared, Target)>, Failure> {
        let seen = self.root.as_deref().is_none_or(Path::is_dir);
        if !seen || !SNAPSHOTTERS.contains(&self.snapshotter.as_str()) {
            return Ok(None);
        }
        let prepared = self.prepare(layer.chain_id, layer.parent).await?;
        match target(&prepared.mounts, layer.parent.is_none()) {
            Some(target) => Ok(Some((prepared, target))),
            None => Ok(None),
        }
    }

    /// Lets the thread end and removes what it made; on the way out of a failure, which is what is told.
    pub(super) async fn drop_pouring(&self, pouring: Option<Pouring>) {
        if let Some(pouring) = pouring {
            let (prepared, _) = pouring.end().await;
            self.drop_prepared(&prepared).await;
        }
    }

    /// Removes what was unpacked in vain. Where that fails the next run does it; what is told is why it was in
    /// vain.
    async fn drop_prepared(&self, prepared: &Prepared) {
        if let Err(failure) = self.remove_snapshot(&prepared.key).await {
            tracing::debug!("{failure}");
        }
    }

    /// Makes the snapshot of the whole blob that was poured.
    pub(super) async fn poured(
        &self,
        pouring: Option<Pouring>,
        layer: Option<&Layer<'_>>,
    ) -> Result<Unpacked, Failure> {
        let (Some(pouring), Some(layer)) = (pouring, layer) else { return Ok(Unpacked::No) };
        let (prepared, applied) = pouring.end().await;
        let outcome = match applied {
            Ok(applied) => self.name(&prepared, layer, &applied.diff_id).await.map(|()| Unpacked::Yes),
            Err(Refused::Unknown(what)) => {
                tracing::info!(layer = %layer.blob.digest, "left to containerd's diff service: {what}");
                Ok(Unpacked::Left)
            }
            Err(Refused::Hostile(failure) | Refused::Failed(failure)) => {
                Err(Failure { what: format!("layer {}: {}", layer.blob.digest, failure.what), ..failure })
            }
        };
        if !matches!(outcome, Ok(Unpacked::Yes)) {
            self.drop_prepared(&prepared).await;
        }
        outcome
    }

    /// Unpacks a layer whose blob is in the store; `before` is what came of it when it arrived.
    ///
    /// # Errors
    /// `DIGEST_MISMATCH` names the layer; `ARCHIVE_UNSAFE`; `CONTAINERD_…`; `NO_SPACE`.
    pub(super) async fn unpack(&self, layer: &Layer<'_>, before: Unpacked) -> Result<(), Failure> {
        if before == Unpacked::Yes {
            return Ok(());
        }
        if before == Unpacked::No
            && let Some(place) = self.place(layer).await?
        {
            let pouring = self.read_into(layer, place).await?;
            if self.poured(Some(pouring), Some(layer)).await? == Unpacked::Yes {
                return Ok(());
            }
        }
        self.unpack_there(layer).await
    }

    /// Reads the blob's file where that is to be seen from here, otherwise by containerd.
    async fn read_into(&self, layer: &Layer<'_>, place: (Prepared, Target)) -> Result<Pouring, Failure> {
        let blob = layer.blob;
        if let Some(file) = self.open_blob(blob) {
            return Ok(Pouring::begin(place, blob, BufReader::with_capacity(FILE_BUFFER, file), None));
        }
        let mut pouring = Pouring::begin_piped(place, blob);
        let read = async {
            let mut bytes = self.within(self.read(&blob.digest, 0, 0)).await?;
            while let Some(part) = self.within(bytes.message()).await? {
                pouring.take(part.data).await;
            }
            Ok(())
        };
        match read.await {
            Ok(()) => Ok(pouring),
            Err(status) => {
                self.drop_pouring(Some(pouring)).await;
                Err(self.refused(&format!("reading blob {}", blob.digest), &status))
            }
        }
    }

    /// Unpacks a layer by containerd's diff service.
    async fn unpack_there(&self, layer: &Layer<'_>) -> Result<(), Failure> {
        let prepared = self.prepare(layer.chain_id, layer.parent).await?;
        let diff = Descriptor {
            media_type: layer.blob.media_type.clone(),
            digest: layer.blob.digest.to_string(),
            size: layer.blob.size as i64,
            ..Descriptor::default()
        };
        let apply = ApplyRequest { diff: Some(diff), mounts: prepared.mounts.clone(), ..ApplyRequest::default() };
        let applied = self.within(DiffClient::new(self.channel.clone()).apply(self.request(apply))).await;
        let outcome = match applied {
            Ok(applied) => {
                let applied = applied.into_inner().applied.unwrap_or_default().digest;
                let invalid = |_| Failure::new(Code::ContainerdRefused, format!("containerd's diff id {applied:?}"));
                match applied.parse().map_err(invalid) {
                    Ok(diff_id) => self.name(&prepared, layer, &diff_id).await,
                    Err(failure) => Err(failure),
                }
            }
            Err(status) => Err(self.refused(&format!("unpacking layer {}", layer.blob.digest), &status)),
        };
        if outcome.is_err() {
            self.drop_prepared(&prepared).await;
        }
        outcome
    }

    /// Gives the snapshot its name if it is what the image says.
    async fn name(&self, prepared: &Prepared, layer: &Layer<'_>, diff_id: &Digest) -> Result<(), Failure> {
        if diff_id != layer.diff_id {
            let (digest, should) = (layer.blob.digest, layer.diff_id);
            let what = format!("layer {digest}: unpacks to {diff_id}, its image says {should}");
            return Err(Failure::new(Code::DigestMismatch, what));
        }
        self.commit(prepared, layer.chain_id).await
    }
}

/// Where a layer can be unpacked; none where containerd's directories are not to be seen from here, or are those
/// of another: a snapshot that was just prepared is empty, or has what its parents have (native).
fn target(mounts: &[Mount], is_base: bool) -> Option<Target> {
    let mounted: Vec<Mounted<'_>> = mounts
        .iter()
        .map(|mount| Mounted { kind: &mount.r#type, source: &mount.source, options: &mount.options })
        .collect();
    let target = Target::of(&mounted)?;
    let there = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    let seen = there(&target.directory) && target.parents.iter().all(|parent| there(parent));
    let empty = || fs::read_dir(&target.directory).is_ok_and(|mut entries| entries.next().is_none());
    let fresh = is_base || !target.parents.is_empty();
    (seen && (!fresh || empty())).then_some(target)
}

/// The pieces as a blocking reader has them.
struct Pipe {
    pieces: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    used: usize,
    left: u64,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.piece.len() {
            if self.left == 0 {
                return Ok(0);
            }
            let Some(piece) = self.pieces.blocking_recv() else {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the source ended"));
            };
            (self.piece, self.used) = (piece, 0);
        }
        let rest = &self.piece[self.used..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.used += count;
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }
}
