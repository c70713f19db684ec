//! Blobs into the content store: a range of the bundle, resumed at the byte, visible by its digest only.

use std::collections::{BTreeSet, HashMap};

use bootstrap::bundle::{Blob, Place};
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::{
    AbortRequest, DeleteContentRequest, Info, InfoRequest, ReadContentRequest, UpdateRequest, WriteAction,
    WriteContentRequest, WriteContentResponse,
};
use prost_types::FieldMask;
use tokio::sync::mpsc;
use tonic::{Code as Grpc, Status, Streaming};

use super::Containerd;
use crate::install::Site;
use crate::media::Turn;

/// How a try to bring a blob ended.
enum Written {
    /// It is in the store.
    Whole,
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
    /// Which of `digests` the store holds whole: to be read up to the last byte, and not only recorded. A
    /// power cut can keep the record of a blob and lose its file (containerd issue 10457).
    ///
    /// # Errors
    /// `CONTAINERD_…`.
    pub async fn held(&self, digests: impl IntoIterator<Item = Digest>) -> Result<BTreeSet<Digest>, Failure> {
        let mut held = BTreeSet::new();
        for digest in digests {
            match self.last_byte(&digest).await {
                Ok(true) => {
                    held.insert(digest);
                }
                Ok(false) => {}
                Err(status) if status.code() == Grpc::NotFound => {}
                Err(status) => return Err(self.refused(&format!("looking for blob {digest}"), &status)),
            }
        }
        Ok(held)
    }

    async fn last_byte(&self, digest: &Digest) -> Result<bool, Status> {
        let mut client = ContentClient::new(self.channel.clone());
        let info = client.info(self.request(InfoRequest { digest: digest.to_string() })).await?.into_inner().info;
        let size = info.map_or(0, |info| info.size);
        let request = ReadContentRequest { digest: digest.to_string(), offset: (size - 1).max(0), size: size.min(1) };
        Ok(client.read(self.request(request)).await?.into_inner().message().await?.is_some() || size == 0)
    }

    /// Brings `blob` into the store, from the first source that gives the right bytes. `object` is
    /// whose progress it is.
    ///
    /// # Errors
    /// `DIGEST_MISMATCH` when no source has the right bytes; `SOURCE_…`; `CONTAINERD_…`; `NO_SPACE`.
    pub async fn bring(&self, site: &Site, blob: &Blob, object: &str) -> Result<(), Failure> {
        let (mut turn, mut lost) = (site.media.preferred(), false);
        loop {
            match self.write(site, blob, object, turn).await? {
                Written::Whole => return Ok(()),
                Written::Lost if !lost => lost = true,
                Written::Lost => {
                    let what = format!("containerd at {} can't read blob {}", self.address.display(), blob.digest);
                    return Err(Failure::new(Code::ContainerdRefused, what));
                }
                Written::Other { resumed: true, .. } => {}
                Written::Other { why, resumed: false } => {
                    turn = turn.next(&site.media).ok_or_else(|| mismatch(site, blob, object, &why))?;
                }
            }
        }
    }

    async fn write(&self, site: &Site, blob: &Blob, object: &str, turn: Turn) -> Result<Written, Failure> {
        let doing = format!("writing blob {}", blob.digest);
        let refused = |status: Status| self.refused(&doing, &status);
        let mut writer = match Writer::open(self, blob).await {
            Ok(writer) => writer,
            Err(status) if status.code() == Grpc::AlreadyExists => return self.recorded(blob).await,
            Err(status) => return Err(refused(status)),
        };
        let resumed = writer.offset > 0;
        match &blob.at {
            Place::Inline { text } => {
                let rest = text.as_bytes().get(writer.offset as usize..).unwrap_or_default().to_vec();
                writer.send(rest).await.map_err(refused)?;
            }
            Place::Range { path, offset } => {
                let size = site.bundle.manifest.entry(path).map_or(0, |entry| entry.size);
                let done = writer.offset.min(blob.size);
                site.board.advance(object, done);
                let mut stream = site.media.stream(turn, path, size, offset + done, blob.size - done);
                while let Some(piece) = stream.next().await? {
                    let count = piece.len() as u64;
                    writer.send(piece).await.map_err(refused)?;
                    site.board.advance(object, count);
                }
            }
        }
        match writer.commit(blob).await {
            Ok(()) => Ok(Written::Whole),
            Err(status) if status.code() == Grpc::AlreadyExists => Ok(Written::Whole),
            Err(status) if are_other_bytes(&status) => {
                let mut client = ContentClient::new(self.channel.clone());
                // Or the next try would go on behind the wrong bytes.
                let aborted = client.abort(self.request(AbortRequest { r#ref: ingest_ref(blob) })).await;
                match aborted {
                    Err(status) if status.code() != Grpc::NotFound => Err(refused(status)),
                    _ => Ok(Written::Other { why: status.message().to_owned(), resumed }),
                }
            }
            Err(status) => Err(refused(status)),
        }
    }

    /// What a blob is worth that containerd has a record of.
    async fn recorded(&self, blob: &Blob) -> Result<Written, Failure> {
        if !self.held([blob.digest]).await?.is_empty() {
            return Ok(Written::Whole);
        }
        let request = self.request(DeleteContentRequest { digest: blob.digest.to_string() });
        match ContentClient::new(self.channel.clone()).delete(request).await {
            Err(status) if status.code() != Grpc::NotFound => {
                Err(self.refused(&format!("removing the record of blob {}", blob.digest), &status))
            }
            _ => Ok(Written::Lost),
        }
    }

    /// Adds labels to a blob; those that are there stay.
    ///
    /// # Errors
    /// `CONTAINERD_…`.
    pub async fn label_blob(&self, digest: &Digest, labels: HashMap<String, String>) -> Result<(), Failure> {
        let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
        let info = Info { digest: digest.to_string(), labels, ..Info::default() };
        let request = UpdateRequest { info: Some(info), update_mask: Some(FieldMask { paths }) };
        let updated = ContentClient::new(self.channel.clone()).update(self.request(request)).await;
        updated.map(drop).map_err(|status| self.refused(&format!("labelling blob {digest}"), &status))
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

/// The name under which a blob's bytes gather; the same in every run, so that the next goes on.
fn ingest_ref(blob: &Blob) -> String {
    format!("cks-{}", blob.digest.hex())
}

/// An open ingest.
struct Writer {
    requests: mpsc::Sender<WriteContentRequest>,
    responses: Streaming<WriteContentResponse>,
    offset: u64,
}

impl Writer {
    /// Opens the ingest of `blob` and learns how far an earlier one got. One that a killed client left
    /// locked is free as soon as containerd notices; it is waited for shortly.
    async fn open(containerd: &Containerd, blob: &Blob) -> Result<Self, Status> {
        let mut tries = 0;
        loop {
            match Self::try_open(containerd, blob).await {
                Err(status)
                    if status.code() == Grpc::Unavailable && status.message().contains("locked") && tries < 50 =>
                {
                    tries += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_open(containerd: &Containerd, blob: &Blob) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(1);
        let stream = futures::stream::unfold(receiver, async |mut receiver| {
            let request = receiver.recv().await?;
            Some((request, receiver))
        });
        let first = WriteContentRequest {
            action: WriteAction::Stat.into(),
            r#ref: ingest_ref(blob),
            total: blob.size as i64,
            expected: blob.digest.to_string(),
            ..WriteContentRequest::default()
        };
        // Queued before the call: containerd answers the call only with its answer to the first message.
        let queued = requests.send(first).await;
        queued.map_err(|_| Status::unavailable("the request stream is closed"))?;
        let request = containerd.request(Box::pin(stream));
        let mut responses = ContentClient::new(containerd.channel.clone()).write(request).await?.into_inner();
        let offset = answer(&mut responses).await?.offset;
        Ok(Self { requests, responses, offset: offset as u64 })
    }

    async fn send(&mut self, data: Vec<u8>) -> Result<(), Status> {
        let count = data.len() as u64;
        let request = WriteContentRequest {
            action: WriteAction::Write.into(),
            offset: self.offset as i64,
            data,
            ..WriteContentRequest::default()
        };
        self.call(request).await?;
        self.offset += count;
        Ok(())
    }

    async fn commit(&mut self, blob: &Blob) -> Result<(), Status> {
        let request = WriteContentRequest {
            action: WriteAction::Commit.into(),
            total: blob.size as i64,
            expected: blob.digest.to_string(),
            offset: self.offset as i64,
            ..WriteContentRequest::default()
        };
        self.call(request).await
    }

    async fn call(&mut self, request: WriteContentRequest) -> Result<(), Status> {
        if self.requests.send(request).await.is_err() {
            // The call is over; its last answer says why.
            return Err(match answer(&mut self.responses).await {
                Ok(_) => Status::unavailable("containerd closed the stream"),
                Err(status) => status,
            });
        }
        answer(&mut self.responses).await.map(drop)
    }
}

async fn answer(responses: &mut Streaming<WriteContentResponse>) -> Result<WriteContentResponse, Status> {
    responses.message().await?.ok_or_else(|| Status::unavailable("containerd closed the stream"))
}
