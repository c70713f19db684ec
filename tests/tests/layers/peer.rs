//! A real containerd, asked by gRPC to unpack layers itself or to prepare a directory for us.

use std::collections::HashMap;
use std::path::Path;

use agent::layer::{Mounted, Target};
use bootstrap::digest::Digest;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::diff_client::DiffClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{CommitSnapshotRequest, PrepareSnapshotRequest};
use containerd_client::services::v1::{ApplyRequest, CreateRequest, WriteAction, WriteContentRequest};
use containerd_client::types::{Descriptor, Mount};
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tonic::{Code, Request};

const LEASE: &str = "layers";

/// A connection, for one snapshotter.
pub(crate) struct Peer {
    runtime: Runtime,
    channel: Channel,
    snapshotter: &'static str,
}

/// A snapshot that is being made.
pub(crate) struct Prepared {
    key: String,
    mounts: Vec<Mount>,
    /// What is made of its mounts.
    pub(crate) target: Target,
}

impl Peer {
    pub(crate) fn new(socket: &Path, snapshotter: &'static str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let channel = runtime.block_on(containerd_client::connect(socket)).unwrap();
        let peer = Self { runtime, channel, snapshotter };
        // Without a lease the garbage collector takes what no image names.
        let create = CreateRequest { id: LEASE.to_owned(), labels: HashMap::new() };
        match peer.runtime.block_on(LeasesClient::new(peer.channel.clone()).create(request(create))) {
            Err(status) if status.code() != Code::AlreadyExists => panic!("{status}"),
            _ => peer,
        }
    }

    pub(crate) fn prepare(&self, key: &str, parent: Option<&str>) -> Prepared {
        let prepare = PrepareSnapshotRequest {
            snapshotter: self.snapshotter.to_owned(),
            key: key.to_owned(),
            parent: parent.unwrap_or_default().to_owned(),
            ..PrepareSnapshotRequest::default()
        };
        let prepared = self.runtime.block_on(SnapshotsClient::new(self.channel.clone()).prepare(request(prepare)));
        let mounts = prepared.unwrap().into_inner().mounts;
        let shown: Vec<Mounted<'_>> = mounts
            .iter()
            .map(|mount| Mounted { kind: &mount.r#type, source: &mount.source, options: &mount.options })
            .collect();
        let target = Target::of(&shown).unwrap_or_else(|| panic!("{mounts:?} are not recognised"));
        Prepared { key: key.to_owned(), mounts, target }
    }

    pub(crate) fn commit(&self, prepared: &Prepared, name: &str) {
        let commit = CommitSnapshotRequest {
            snapshotter: self.snapshotter.to_owned(),
            name: name.to_owned(),
            key: prepared.key.clone(),
            ..CommitSnapshotRequest::default()
        };
        self.runtime.block_on(SnapshotsClient::new(self.channel.clone()).commit(request(commit))).unwrap();
    }

    /// containerd's own unpacking: digest and size of the uncompressed bytes, or why it refuses.
    pub(crate) fn apply(&self, layer: &[u8], media_type: &str, to: &Prepared) -> Result<(String, u64), String> {
        let digest = Digest::of(layer).to_string();
        self.store(layer, &digest);
        let diff =
            Descriptor { media_type: media_type.to_owned(), digest, size: layer.len() as i64, ..Descriptor::default() };
        let apply = ApplyRequest { diff: Some(diff), mounts: to.mounts.clone(), ..ApplyRequest::default() };
        let applied = self.runtime.block_on(DiffClient::new(self.channel.clone()).apply(request(apply)));
        let applied = applied.map_err(|status| status.message().to_owned())?.into_inner().applied.unwrap();
        Ok((applied.digest, applied.size as u64))
    }

    fn store(&self, layer: &[u8], digest: &str) {
        // A message holds 4 MiB at most.
        let mut messages = Vec::new();
        for (at, part) in layer.chunks(1 << 20).enumerate() {
            messages.push(WriteContentRequest {
                action: WriteAction::Write as i32,
                r#ref: digest.to_owned(),
                total: layer.len() as i64,
                expected: digest.to_owned(),
                offset: (at << 20) as i64,
                data: part.to_vec(),
                ..WriteContentRequest::default()
            });
        }
        messages.push(WriteContentRequest {
            action: WriteAction::Commit as i32,
            r#ref: digest.to_owned(),
            total: layer.len() as i64,
            expected: digest.to_owned(),
            offset: layer.len() as i64,
            ..WriteContentRequest::default()
        });
        self.runtime.block_on(async {
            let sent = ContentClient::new(self.channel.clone()).write(request(futures::stream::iter(messages))).await;
            let stored = match sent {
                Ok(answers) => {
                    let mut answers = answers.into_inner();
                    loop {
                        match answers.message().await {
                            Ok(Some(_)) => {}
                            Ok(None) => break Ok(()),
                            Err(status) => break Err(status),
                        }
                    }
                }
                Err(status) => Err(status),
            };
            match stored {
                Err(status) if status.code() != Code::AlreadyExists => panic!("storing a layer: {status}"),
                _ => {}
            }
        });
    }
}

fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", "layers".parse().unwrap());
    request.metadata_mut().insert("containerd-lease", LEASE.parse().unwrap());
    request
}
