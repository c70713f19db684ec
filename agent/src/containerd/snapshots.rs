//! Snapshots: prepared and committed by containerd, and how they are called.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use containerd_client::services::v1::Resource;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{
    CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest,
};
use containerd_client::types::Mount;
use tonic::Code as Grpc;

use super::Containerd;

/// Label of a snapshot: the boot in which it was unpacked.
pub(super) const BOOT_LABEL: &str = "io.cks-node.boot";
/// What the names of snapshots that are being unpacked begin with.
pub(super) const EXTRACT: &str = "cks-extract ";

/// The chain ids of layers, from the bottom up (OCI image spec, "Layer ChainID").
#[must_use]
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chain.push(match chain.last() {
            None => *diff_id,
            Some(parent) => Digest::of(format!("{parent} {diff_id}").as_bytes()),
        });
    }
    chain
}

/// A snapshot that a layer is unpacked into.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Its name until it is committed.
    pub(super) key: String,
    /// Where its files go.
    pub(super) mounts: Vec<Mount>,
}

impl Containerd {
    /// Takes the snapshot called `name` under our lease; false where it is not there.
    pub(super) async fn keep_snapshot(&self, name: &Digest) -> Result<bool, Failure> {
        let kind = format!("snapshots/{}", self.snapshotter);
        self.hold(Resource { id: name.to_string(), r#type: kind }).await?;
        let request = StatSnapshotRequest { snapshotter: self.snapshotter.clone(), key: name.to_string() };
        match self.within(SnapshotsClient::new(self.channel.clone()).stat(self.request(request))).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Grpc::NotFound => Ok(false),
            Err(status) => Err(self.refused(&format!("looking for snapshot {name}"), &status)),
        }
    }

    /// A fresh snapshot on `parent`, for what will be called `chain_id`. Its name until then is this run's alone:
    /// what containerd still carries out for a killed one must not name a layer that is only half unpacked here.
    pub(super) async fn prepare(&self, chain_id: &Digest, parent: Option<&Digest>) -> Result<Prepared, Failure> {
        // Never the same twice: containerd may still carry out what was asked for a try that was given up.
        let key = format!("{EXTRACT}{}.{} {chain_id}", self.run, self.tries.fetch_add(1, Ordering::Relaxed));
        let prepare = PrepareSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            key: key.clone(),
            parent: parent.map(ToString::to_string).unwrap_or_default(),
            ..PrepareSnapshotRequest::default()
        };
        let mut client = SnapshotsClient::new(self.channel.clone());
        let prepared = match self.within(client.prepare(self.request(prepare.clone()))).await {
            // A containerd that was killed in the middle left a directory that it has no record of. It
            // removes that while it refuses.
            Err(status) if status.message().contains("file exists") => {
                self.within(client.prepare(self.request(prepare))).await
            }
            prepared => prepared,
        };
        let prepared = prepared.map_err(|status| self.refused(&format!("preparing snapshot {chain_id}"), &status))?;
        Ok(Prepared { key, mounts: prepared.into_inner().mounts })
    }

    /// Gives the prepared snapshot its name; a label tells in which boot it was unpacked, since its files
    /// may not have reached the disk yet.
    pub(super) async fn commit(&self, prepared: &Prepared, chain_id: &Digest) -> Result<(), Failure> {
        let commit = CommitSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            name: chain_id.to_string(),
            key: prepared.key.clone(),
            labels: HashMap::from([(BOOT_LABEL.to_owned(), self.boot.clone())]),
        };
        match self.within(SnapshotsClient::new(self.channel.clone()).commit(self.request(commit))).await {
            // Another client was faster.
            Err(status) if status.code() == Grpc::AlreadyExists => self.remove_snapshot(&prepared.key).await,
            Err(status) => Err(self.refused(&format!("committing snapshot {chain_id}"), &status)),
            Ok(_) => Ok(()),
        }
    }

    pub(super) async fn remove_snapshot(&self, key: &str) -> Result<(), Failure> {
        let request = RemoveSnapshotRequest { snapshotter: self.snapshotter.clone(), key: key.to_owned() };
        match self.within(SnapshotsClient::new(self.channel.clone()).remove(self.request(request))).await {
            Err(status) if status.code() != Grpc::NotFound => {
                Err(self.refused(&format!("removing snapshot {key}"), &status))
            }
            _ => Ok(()),
        }
    }

    /// Removes layers that an earlier run left half unpacked, and those that an earlier boot may not have brought
    /// to the disk: they are unpacked again, from the blobs that are there.
    ///
    /// # Errors
    /// `CONTAINERD_…`; a snapshot that is in use can't be removed.
    pub async fn remove_doubtful(&self) -> Result<(), Failure> {
        let survey = self.survey().await?;
        // They take room that this run's plan counts on.
        for key in survey.half_unpacked() {
            self.remove_snapshot(key).await?;
        }
        for (digest, key) in survey.dangling(&self.snapshotter) {
            self.unlabel_blob(digest, key).await?;
        }
        for name in survey.doubtful() {
            tracing::info!(snapshot = name, "removing a layer that may not have reached the disk before a power cut");
            self.remove_snapshot(name).await.map_err(|failure| match failure.code {
                Code::ContainerdRefused => failure.with_remedy("remove the containers that use it, then run again"),
                _ => failure,
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_are_those_of_the_specification() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let chain = chain_ids(&[a, b]);
        assert_eq!(chain[0], a);
        assert_eq!(chain[1], Digest::of(format!("{a} {b}").as_bytes()));
        assert!(chain_ids(&[]).is_empty());
    }
}
