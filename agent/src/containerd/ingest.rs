//! A blob on its way into the content store: messages are sent while containerd still writes the earlier ones.

use std::time::{Duration, Instant};

use bootstrap::bundle::Blob;
use bootstrap::digest::Digest;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::{WriteAction, WriteContentRequest, WriteContentResponse};
use tokio::sync::mpsc;
use tonic::{Code as Grpc, Status, Streaming};

use super::Containerd;
use crate::board::Board;

/// What the names of all our ingests begin with.
pub(super) const INGEST_PREFIX: &str = "cks-";
/// Bytes of a message.
const MESSAGE_BYTES: usize = 256 << 10;
/// Messages that containerd may still be writing while the next is made: one that is written, and one on its way.
/// What is in them when the agent is killed is fetched again.
const WINDOW: usize = 2;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The name under which a blob's bytes gather; the same in every run, so that the next goes on.
pub(super) fn ingest_ref(digest: &Digest) -> String {
    format!("{INGEST_PREFIX}{}", digest.hex())
}

/// An open ingest.
pub(super) struct Writer<'c> {
    containerd: &'c Containerd,
    requests: mpsc::Sender<WriteContentRequest>,
    responses: Streaming<WriteContentResponse>,
    /// Messages that are not answered yet.
    in_flight: usize,
    /// Where the next message goes.
    pub(super) offset: u64,
}

impl<'c> Writer<'c> {
    /// Opens the ingest of `blob` and learns how far an earlier one got. One that another client holds (a
    /// killed one does until containerd notices) is waited for, `patience` at most.
    pub(super) async fn open(
        containerd: &'c Containerd,
        blob: &Blob,
        board: &Board,
        patience: Duration,
    ) -> Result<Self, Status> {
        let waits_for = format!("blob {}, which another client of containerd writes", blob.digest);
        let (since, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            let opened = containerd.within(Self::try_open(containerd, blob)).await;
            match opened {
                Err(status)
                    if status.code() == Grpc::Unavailable
                        && status.message().contains("locked")
                        && since.elapsed() < patience =>
                {
                    pause = pause.min(patience.saturating_sub(since.elapsed()));
                    board.wait(&waits_for, status.message(), since, pause, patience);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                outcome => {
                    board.stop_waiting(&waits_for);
                    return outcome;
                }
            }
        }
    }

    async fn try_open(containerd: &'c Containerd, blob: &Blob) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(1);
        let stream = futures::stream::unfold(receiver, async |mut receiver| {
            let request = receiver.recv().await?;
            Some((request, receiver))
        });
        let first = WriteContentRequest {
            action: WriteAction::Stat.into(),
            r#ref: ingest_ref(&blob.digest),
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
        Ok(Self { containerd, requests, responses, in_flight: 0, offset: offset as u64 })
    }

    /// Sends `bytes`; how far containerd got with them is learned later.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Status> {
        for data in bytes.chunks(MESSAGE_BYTES) {
            let request = WriteContentRequest {
                action: WriteAction::Write.into(),
                offset: self.offset as i64,
                data: data.to_vec(),
                ..WriteContentRequest::default()
            };
            self.drain(WINDOW - 1).await?;
            self.queue(request).await?;
            self.offset += data.len() as u64;
        }
        Ok(())
    }

    /// Makes a blob of it, which containerd does when size and digest are right.
    pub(super) async fn commit(&mut self, blob: &Blob) -> Result<(), Status> {
        let request = WriteContentRequest {
            action: WriteAction::Commit.into(),
            total: blob.size as i64,
            expected: blob.digest.to_string(),
            offset: self.offset as i64,
            ..WriteContentRequest::default()
        };
        self.queue(request).await?;
        self.drain(0).await
    }

    async fn queue(&mut self, request: WriteContentRequest) -> Result<(), Status> {
        let (containerd, requests, responses) = (self.containerd, &self.requests, &mut self.responses);
        let queued = async {
            if requests.send(request).await.is_ok() {
                return Ok(());
            }
            // The call is over; its last answer says why.
            loop {
                answer(responses).await?;
            }
        };
        containerd.within(queued).await?;
        self.in_flight += 1;
        Ok(())
    }

    /// Takes answers until no more than `left` are due.
    async fn drain(&mut self, left: usize) -> Result<(), Status> {
        while self.in_flight > left {
            self.containerd.within(answer(&mut self.responses)).await?;
            self.in_flight -= 1;
        }
        Ok(())
    }
}

async fn answer(responses: &mut Streaming<WriteContentResponse>) -> Result<WriteContentResponse, Status> {
    responses.message().await?.ok_or_else(|| Status::unavailable("containerd closed the stream"))
}
