//! Blobs into the content store: a range of the bundle, resumed at the byte, visible by its digest only. A layer
//! goes into its snapshot on the same way.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::PathBuf;

use bootstrap::bundle::{Blob, Place};
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::{
    AbortRequest, DeleteContentRequest, Info, InfoRequest, ReadContentRequest, ReadContentResponse, UpdateRequest,
};
use prost_types::FieldMask;
use tonic::{Code as Grpc, Status, Streaming};

use super::Containerd;
use super::ingest::{Writer, ingest_ref};
use super::unpack::{Layer, Pouring, Unpacked};
use crate::install::Site;
use crate::media::Turn;

/// How far a blob is.
struct Progress {
    /// Who brings it now.
    turn: Turn,
    /// Bytes that the board counts already: what has to come twice is progress once.
    shown: u64,
}

/// How a try to bring a blob ended.
enum Written {
    /// It is in the store.
    Whole {
        /// Whether its layer is in its snapshot, too.
        unpacked: Unpacked,
    },
    /// The bytes are others; nothing of them is kept.
    Other {
        /// What containerd says of them.
        why: String,
        /// Whether some of them were left by an earlier run, so that the source may be good.
        resumed: bool,
    },
    /// There was a record of it, and no file; the record is gone, too.
    Lost,
}

impl Containerd {
    /// Brings `blob` into the store, from the first source that gives the right bytes; and `layer`, which it is,
    /// into its snapshot, where that can be done on the way. `object` is whose progress it is.
    ///
    /// # Errors
    /// `DIGEST_MISMATCH` when no source has the right bytes; `ARCHIVE_UNSAFE`; `SOURCE_…`; `CONTAINERD_…`;
    /// `NO_SPACE`.
    pub(super) async fn bring(
        &self,
        site: &Site,
        blob: &Blob,
        object: &str,
        layer: Option<&Layer<'_>>,
    ) -> Result<Unpacked, Failure> {
        let (mut progress, mut lost) = (Progress { turn: site.media.preferred(), shown: 0 }, false);
        loop {
            match self.write(site, blob, object, &mut progress, layer).await? {
                Written::Whole { unpacked } => return Ok(unpacked),
                Written::Lost if !lost => lost = true,
                Written::Lost => {
                    let what = format!("containerd at {} can't read blob {}", self.address.display(), blob.digest);
                    return Err(Failure::new(Code::ContainerdRefused, what));
                }
                Written::Other { resumed: true, .. } => {}
                Written::Other { why, resumed: false } => {
                    let next = progress.turn.next(&site.media);
                    progress.turn = next.ok_or_else(|| mismatch(site, blob, object, &why))?;
                }
            }
        }
    }

    async fn write(
        &self,
        site: &Site,
        blob: &Blob,
        object: &str,
        progress: &mut Progress,
        layer: Option<&Layer<'_>>,
    ) -> Result<Written, Failure> {
        let doing = format!("writing blob {}", blob.digest);
        let refused = |status: Status| self.refused(&doing, &status);
        let mut writer = match Writer::open(self, blob, &site.board, site.media.patience()).await {
            Ok(writer) => writer,
            Err(status) if status.code() == Grpc::AlreadyExists => return self.recorded(blob).await,
            Err(status) => return Err(refused(status)),
        };
        let resumed = writer.offset > 0;
        // What an earlier run left can't be read back; such a layer is unpacked from the store.
        let mut pouring = match layer {
            Some(layer) if !resumed => self.pour(layer).await?,
            _ => None,
        };
        let sent = self.send(site, blob, object, progress, &mut writer, pouring.as_mut()).await;
        let committed = match sent {
            Ok(()) => writer.commit(blob).await,
            Err(failure) => {
                drop(writer);
                self.drop_pouring(pouring).await;
                if failure.code == Code::NoSpace {
                    // A disk with room is worth more than half of a blob.
                    self.abort(blob).await.unwrap_or_else(|failure| tracing::debug!("{failure}"));
                }
                return Err(failure);
            }
        };
        match committed {
            Err(status) if status.code() != Grpc::AlreadyExists => {
                self.drop_pouring(pouring).await;
                if !are_other_bytes(&status) {
                    return Err(refused(status));
                }
                // Or the next try would go on behind the wrong bytes.
                self.abort(blob).await?;
                Ok(Written::Other { why: status.message().to_owned(), resumed })
            }
            _ => Ok(Written::Whole { unpacked: self.poured(pouring, layer).await? }),
        }
    }

    /// The bytes of `blob` that the store lacks, to the store and to the layer's snapshot.
    async fn send(
        &self,
        site: &Site,
        blob: &Blob,
        object: &str,
        progress: &mut Progress,
        writer: &mut Writer<'_>,
        mut pouring: Option<&mut Pouring>,
    ) -> Result<(), Failure> {
        let refused = |status: Status| self.refused(&format!("writing blob {}", blob.digest), &status);
        match &blob.at {
            Place::Inline { text } => {
                let rest = text.as_bytes().get(writer.offset as usize..).unwrap_or_default();
                writer.send(rest).await.map_err(refused)
            }
            Place::Range { path, offset } => {
                let size = site.bundle.manifest.entry(path).map_or(0, |entry| entry.size);
                let mut done = writer.offset.min(blob.size);
                if let Some(more @ 1..) = done.checked_sub(progress.shown) {
                    site.board.resumed(object, more);
                    progress.shown = done;
                }
                let mut stream = site.media.stream(progress.turn, path, size, offset + done, blob.size - done);
                while let Some(piece) = stream.next().await? {
                    done += piece.len() as u64;
                    // Into the store first: what waits for the thread that unpacks is not lost by a kill.
                    writer.send(&piece).await.map_err(refused)?;
                    if let Some(more @ 1..) = done.checked_sub(progress.shown) {
                        site.board.advance(object, more);
                        progress.shown = done;
                    }
                    site.board.comes_from(object, stream.supplier());
                    if let Some(pouring) = &mut pouring {
                        pouring.take(piece).await;
                    }
                }
                Ok(())
            }
        }
    }

    async fn abort(&self, blob: &Blob) -> Result<(), Failure> {
        let request = self.request(AbortRequest { r#ref: ingest_ref(&blob.digest) });
        match self.within(ContentClient::new(self.channel.clone()).abort(request)).await {
            Err(status) if status.code() != Grpc::NotFound => {
                Err(self.refused(&format!("removing half of blob {}", blob.digest), &status))
            }
            _ => Ok(()),
        }
    }

    /// What a blob is worth that containerd has a record of.
    async fn recorded(&self, blob: &Blob) -> Result<Written, Failure> {
        let refused = |status| self.refused(&format!("looking for blob {}", blob.digest), &status);
        let mut client = ContentClient::new(self.channel.clone());
        let request = self.request(InfoRequest { digest: blob.digest.to_string() });
        match self.within(client.info(request)).await {
            Err(status) if status.code() == Grpc::NotFound => return Ok(Written::Lost),
            Err(status) => return Err(refused(status)),
            Ok(_) if self.is_readable(&blob.digest, blob.size).await? => {
                return Ok(Written::Whole { unpacked: Unpacked::No });
            }
            Ok(_) => {}
        }
        let request = self.request(DeleteContentRequest { digest: blob.digest.to_string() });
        match self.within(client.delete(request)).await {
            Err(status) if status.code() != Grpc::NotFound => Err(refused(status)),
            _ => Ok(Written::Lost),
        }
    }

    /// Whether the store has a blob of `size` bytes up to the last one: by its file where that is to be seen
    /// from here, otherwise by reading it.
    pub(super) async fn is_readable(&self, digest: &Digest, size: u64) -> Result<bool, Failure> {
        if size == 0 || self.blob_file(digest, size).is_some() {
            return Ok(true);
        }
        let last = async {
            let mut bytes = self.read(digest, size - 1, 1).await?;
            bytes.message().await
        };
        match self.within(last).await {
            Ok(last) => Ok(last.is_some()),
            Err(status) if status.code() == Grpc::NotFound => Ok(false),
            Err(status) => Err(self.refused(&format!("reading blob {digest}"), &status)),
        }
    }

    /// The file that the store keeps the blob in, where that is to be seen from here.
    pub(super) fn blob_file(&self, digest: &Digest, size: u64) -> Option<PathBuf> {
        let path = self.content_root.as_ref()?.join("blobs/sha256").join(digest.hex());
        let meta = fs::symlink_metadata(&path).ok()?;
        (meta.is_file() && meta.len() == size).then_some(path)
    }

    /// As [`Self::blob_file`], open.
    pub(super) fn open_blob(&self, blob: &Blob) -> Option<File> {
        File::open(self.blob_file(&blob.digest, blob.size)?).ok()
    }

    /// Bytes of a blob, by containerd.
    pub(super) async fn read(
        &self,
        digest: &Digest,
        offset: u64,
        size: u64,
    ) -> Result<Streaming<ReadContentResponse>, Status> {
        let (offset, size) = (offset as i64, size as i64);
        let request = self.request(ReadContentRequest { digest: digest.to_string(), offset, size });
        Ok(ContentClient::new(self.channel.clone()).read(request).await?.into_inner())
    }

    /// Adds labels to a blob; those that are there stay.
    ///
    /// # Errors
    /// `CONTAINERD_…`.
    pub(super) async fn label_blob(&self, digest: &str, labels: HashMap<String, String>) -> Result<(), Failure> {
        let updated = self.update_labels(digest, labels).await;
        updated.map_err(|status| self.refused(&format!("labelling blob {digest}"), &status))
    }

    async fn update_labels(&self, digest: &str, labels: HashMap<String, String>) -> Result<(), Status> {
        let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
        let info = Info { digest: digest.to_owned(), labels, ..Info::default() };
        let request = UpdateRequest { info: Some(info), update_mask: Some(FieldMask { paths }) };
        self.within(ContentClient::new(self.channel.clone()).update(self.request(request))).await.map(drop)
    }

    /// Removes the label `key` of a blob; one that is gone has none.
    ///
    /// # Errors
    /// `CONTAINERD_…`.
    pub(super) async fn unlabel_blob(&self, digest: &str, key: String) -> Result<(), Failure> {
        // An empty label is removed.
        match self.update_labels(digest, HashMap::from([(key, String::new())])).await {
            Err(status) if status.code() != Grpc::NotFound => {
                Err(self.refused(&format!("removing a label of blob {digest}"), &status))
            }
            _ => Ok(()),
        }
    }
}

fn mismatch(site: &Site, blob: &Blob, object: &str, why: &str) -> Failure {
    let names = site.media.names();
    let place = match &blob.at {
        Place::Range { path, offset } => format!("{path} at byte {offset}"),
        Place::Inline { .. } => "the manifest".to_owned(),
    };
    let what = format!("blob {} of {object}, in {place}, from {}: {why}", blob.digest, names.join(", "));
    Failure::new(Code::DigestMismatch, what)
}

/// Whether containerd refuses to commit for the bytes' digest or their number.
fn are_other_bytes(status: &Status) -> bool {
    let says = |part| status.message().contains(part);
    status.code() == Grpc::FailedPrecondition && (says("unexpected commit") || says("failed size validation"))
}
