//! Layers unpacked into snapshots, by containerd's own diff service.

use bootstrap::bundle::Blob;
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use containerd_client::services::v1::ApplyRequest;
use containerd_client::services::v1::diff_client::DiffClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{
    CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest,
};
use containerd_client::types::Descriptor;
use tonic::Code as Grpc;

use super::Containerd;

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

impl Containerd {
    /// Whether the snapshot called `name` is there.
    ///
    /// # Errors
    /// `CONTAINERD_…`.
    pub async fn has_snapshot(&self, name: &Digest) -> Result<bool, Failure> {
        let request = StatSnapshotRequest { snapshotter: self.snapshotter.clone(), key: name.to_string() };
        match SnapshotsClient::new(self.channel.clone()).stat(self.request(request)).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Grpc::NotFound => Ok(false),
            Err(status) => Err(self.refused(&format!("looking for snapshot {name}"), &status)),
        }
    }

    /// Unpacks `layer` on top of the snapshot `parent`, as the snapshot `chain_id`; its uncompressed
    /// bytes must have the digest `diff_id`.
    ///
    /// # Errors
    /// `DIGEST_MISMATCH` names the layer; `CONTAINERD_…`; `NO_SPACE`.
    pub async fn unpack(
        &self,
        layer: &Blob,
        diff_id: &Digest,
        chain_id: &Digest,
        parent: Option<&Digest>,
    ) -> Result<(), Failure> {
        if self.has_snapshot(chain_id).await? {
            return Ok(());
        }
        let doing = format!("unpacking layer {}", layer.digest);
        let refused = |status| self.refused(&doing, &status);
        let mut snapshots = SnapshotsClient::new(self.channel.clone());
        let key = format!("cks-extract {chain_id}");
        // Half of a layer that a killed run left.
        self.remove_snapshot(&key).await?;
        let prepare = PrepareSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            key: key.clone(),
            parent: parent.map(ToString::to_string).unwrap_or_default(),
            ..PrepareSnapshotRequest::default()
        };
        let prepared = match snapshots.prepare(self.request(prepare.clone())).await {
            // A containerd that was killed in the middle left a directory that it has no record of. It
            // removes that while it refuses.
            Err(status) if status.message().contains("file exists") => snapshots.prepare(self.request(prepare)).await,
            prepared => prepared,
        };
        let mounts = prepared.map_err(refused)?.into_inner().mounts;
        let diff = Descriptor {
            media_type: layer.media_type.clone(),
            digest: layer.digest.to_string(),
            size: layer.size as i64,
            ..Descriptor::default()
        };
        let apply = ApplyRequest { diff: Some(diff), mounts, sync_fs: true, ..ApplyRequest::default() };
        let applied = DiffClient::new(self.channel.clone()).apply(self.request(apply)).await;
        let applied = match applied {
            Ok(applied) => applied.into_inner().applied.unwrap_or_default().digest,
            Err(status) => {
                self.remove_snapshot(&key).await?;
                return Err(refused(status));
            }
        };
        if applied != diff_id.to_string() {
            self.remove_snapshot(&key).await?;
            let what = format!("layer {}: unpacks to {applied}, its image says {diff_id}", layer.digest);
            return Err(Failure::new(Code::DigestMismatch, what));
        }
        self.sync().await?;
        let commit = CommitSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            name: chain_id.to_string(),
            key: key.clone(),
            ..CommitSnapshotRequest::default()
        };
        match snapshots.commit(self.request(commit)).await {
            Err(status) if status.code() == Grpc::AlreadyExists => self.remove_snapshot(&key).await,
            committed => committed.map(drop).map_err(refused),
        }
    }

    async fn remove_snapshot(&self, key: &str) -> Result<(), Failure> {
        let request = RemoveSnapshotRequest { snapshotter: self.snapshotter.clone(), key: key.to_owned() };
        match SnapshotsClient::new(self.channel.clone()).remove(self.request(request)).await {
            Err(status) if status.code() != Grpc::NotFound => {
                Err(self.refused("removing a half-made snapshot", &status))
            }
            _ => Ok(()),
        }
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
