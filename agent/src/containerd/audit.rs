//! Blobs that are read again: whether the content store still has the bytes that their names say.

use std::collections::BTreeSet;

use bootstrap::digest::{Digest, Hasher};
use bootstrap::failure::Failure;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::{DeleteContentRequest, ReadContentRequest};
use tonic::{Code as Grpc, Status};

use super::Containerd;

impl Containerd {
    /// The digest of the bytes that are stored as `digest`; none where there are none. `advance` is told of
    /// the bytes as they come.
    ///
    /// # Errors
    /// `CONTAINERD_…`.
    pub async fn blob_digest(&self, digest: &Digest, advance: impl FnMut(u64)) -> Result<Option<Digest>, Failure> {
        match self.hash(digest, advance).await {
            Ok(is) => Ok(Some(is)),
            Err(status) if status.code() == Grpc::NotFound => Ok(None),
            Err(status) => Err(self.refused(&format!("reading blob {digest}"), &status)),
        }
    }

    async fn hash(&self, digest: &Digest, mut advance: impl FnMut(u64)) -> Result<Digest, Status> {
        let request = ReadContentRequest { digest: digest.to_string(), ..ReadContentRequest::default() };
        let mut answers = ContentClient::new(self.channel.clone()).read(self.request(request)).await?.into_inner();
        let mut hasher = Hasher::default();
        while let Some(answer) = answers.message().await? {
            hasher.update(&answer.data);
            advance(answer.data.len() as u64);
        }
        Ok(hasher.finish())
    }

    /// Those of `suspects` that the store does not have as they should be.
    ///
    /// # Errors
    /// `CONTAINERD_…`.
    pub async fn broken(&self, suspects: &BTreeSet<Digest>) -> Result<BTreeSet<Digest>, Failure> {
        let mut broken = BTreeSet::new();
        for digest in suspects {
            if self.blob_digest(digest, |_| {}).await? != Some(*digest) {
                broken.insert(*digest);
            }
        }
        Ok(broken)
    }

    /// Takes those of `suspects` out of the store that have other bytes than their names say: nothing can be
    /// written over them. What they alone kept is collected with them, and imported again.
    ///
    /// # Errors
    /// `CONTAINERD_…`.
    pub async fn drop_broken(&self, suspects: &BTreeSet<Digest>) -> Result<(), Failure> {
        let broken = self.broken(suspects).await?;
        for digest in &broken {
            let request = self.request(DeleteContentRequest { digest: digest.to_string() });
            match ContentClient::new(self.channel.clone()).delete(request).await {
                Err(status) if status.code() != Grpc::NotFound => {
                    return Err(self.refused(&format!("removing the damaged blob {digest}"), &status));
                }
                _ => tracing::warn!("blob {digest} is damaged in containerd's content store and fetched again"),
            }
        }
        if broken.is_empty() {
            return Ok(());
        }
        // The bytes stay until they are collected, and would be taken for the new ones.
        self.sweep().await
    }
}
