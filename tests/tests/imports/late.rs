//! What containerd still carries out for a run that was killed, while the next one is on.

use agent::containerd::Containerd as Agent;
use bootstrap::digest::Digest;
use cks_tests::containerd::Containerd;
use cks_tests::images;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::{WriteAction, WriteContentRequest, WriteContentResponse};
use futures::channel::mpsc::{UnboundedSender, unbounded};
use tonic::{Request, Streaming};

use crate::{rows, stock};

const LEASE: &str = "cks-agent-v1.34.0-000000000000";
const INGEST: &str = "cks-late";

/// An ingest of a killed run, which containerd does not know yet to be dead.
struct Late {
    bytes: Vec<u8>,
    requests: UnboundedSender<WriteContentRequest>,
    answers: Streaming<WriteContentResponse>,
}

impl Late {
    /// Writes all of a blob under `lease`, but does not end it.
    async fn begin(containerd: &Containerd, lease: &str) -> Self {
        let channel = containerd_client::connect(&containerd.socket).await.unwrap();
        let (requests, receiver) = unbounded();
        let bytes = images::noise(1 << 20, 11);
        for action in [WriteAction::Stat, WriteAction::Write] {
            let data = if action == WriteAction::Write { bytes.clone() } else { Vec::new() };
            let total = bytes.len() as i64;
            let request = WriteContentRequest {
                action: action.into(),
                r#ref: INGEST.to_owned(),
                total,
                data,
                ..Default::default()
            };
            requests.unbounded_send(request).unwrap();
        }
        let mut request = Request::new(receiver);
        request.metadata_mut().insert("containerd-namespace", "k8s.io".parse().unwrap());
        request.metadata_mut().insert("containerd-lease", lease.parse().unwrap());
        let mut answers = ContentClient::new(channel).write(request).await.unwrap().into_inner();
        for _ in 0..2 {
            answers.message().await.unwrap().unwrap();
        }
        Self { bytes, requests, answers }
    }

    /// Ends it: containerd may, or may not.
    async fn commit(mut self) -> Result<String, tonic::Status> {
        let (total, expected) = (self.bytes.len() as i64, Digest::of(&self.bytes).to_string());
        let commit = WriteContentRequest {
            action: WriteAction::Commit.into(),
            total,
            offset: total,
            expected: expected.clone(),
            ..Default::default()
        };
        self.requests.unbounded_send(commit).unwrap();
        self.answers.message().await.map(|_| expected)
    }
}

async fn agent(containerd: &Containerd) -> Agent {
    Agent::try_connect(&containerd.socket, "overlayfs").await.unwrap()
}

fn leases(containerd: &Containerd) -> Vec<String> {
    let first = |row: String| row.split(' ').next().unwrap_or_default().to_owned();
    rows(containerd, &["leases", "ls"]).into_iter().map(first).collect()
}

/// Has containerd collect what nothing keeps.
fn collect(containerd: &Containerd) {
    containerd.ctr(["leases", "create", "--id", "own"]).ok().unwrap();
    containerd.ctr(["leases", "rm", "--sync", "own"]).ok().unwrap();
}

#[tokio::test]
async fn a_blob_that_is_committed_late_is_kept() {
    let containerd = stock();
    agent(&containerd).await.with_lease(LEASE).await.unwrap();
    let first = leases(&containerd);
    let late = Late::begin(&containerd, &first[0]).await;
    let next = agent(&containerd).await.with_lease(LEASE).await.unwrap();
    let digest = late.commit().await.unwrap();
    collect(&containerd);
    assert_eq!(leases(&containerd), first);
    assert!(rows(&containerd, &["content", "ls"])[0].starts_with(&digest));
    next.end_lease().await.unwrap();
    for left in [["leases", "ls"], ["content", "ls"], ["content", "active"]] {
        assert_eq!(rows(&containerd, &left), [""; 0]);
    }
}

#[tokio::test]
async fn what_a_lease_holds_that_ends_soon_goes_over_to_another() {
    let containerd = stock();
    let old = format!("{LEASE}.1");
    containerd.ctr(["leases", "create", "--id", &old, "--expires", "1h"]).ok().unwrap();
    let late = Late::begin(&containerd, &old).await;
    drop(late);
    let next = agent(&containerd).await.with_lease(LEASE).await.unwrap();
    let leases = leases(&containerd);
    assert!(leases.len() == 1 && leases[0] != old, "{leases:?}");
    collect(&containerd);
    assert!(rows(&containerd, &["content", "active"])[0].starts_with(INGEST));
    next.end_lease().await.unwrap();
    assert_eq!(rows(&containerd, &["content", "active"]), [""; 0]);
}
