//! Images of bundles that are no longer used: first not kept any more, then gone.

use std::collections::HashSet;

use bootstrap::failure::Failure;
use bootstrap::plan::{Bundle, PINNED_LABEL};
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::{DeleteImageRequest, Image as Record, ListContainersRequest};
use tonic::Code as Grpc;

use super::Containerd;
use super::survey::Survey;

impl Containerd {
    /// Lets go of the images that other bundles brought and that `current` does not bring to this node: an image
    /// that both have is `current`'s by now. They are no longer pinned; those of bundles that are not
    /// among `kept` (names of version directories) lose their names when no container uses them, and
    /// containerd collects the rest.
    ///
    /// # Errors
    /// `CONTAINERD_…`.
    pub async fn collect(&self, current: &Bundle, kept: &[String]) -> Result<(), Failure> {
        let survey = self.survey().await?;
        let current = current.directory_name();
        let others: Vec<_> = survey.owned().filter(|(_, owner)| *owner != current).collect();
        if others.is_empty() {
            return Ok(());
        }
        let in_use = self.in_use(&survey).await?;
        let mut removed = false;
        for (record, owner) in others {
            let used = target(record).is_some_and(|digest| in_use.contains(digest));
            if !used && !kept.iter().any(|kept| kept == owner) {
                tracing::info!(image = record.name, bundle = owner, "removing an image of an old bundle");
                self.delete_record(&record.name).await?;
                removed = true;
            } else if record.labels.contains_key(PINNED_LABEL.0) {
                let unpinned = Record {
                    name: record.name.clone(),
                    labels: [(PINNED_LABEL.0.to_owned(), String::new())].into(),
                    target: record.target.clone(),
                    ..Record::default()
                };
                // An empty label is removed.
                self.update_record(unpinned, vec![format!("labels.{}", PINNED_LABEL.0)]).await?;
            }
        }
        // The end of a lease has it collected, too.
        if removed && !self.is_leased() { self.sweep().await } else { Ok(()) }
    }

    /// The names of the images that no container was made from.
    ///
    /// # Errors
    /// `CONTAINERD_…`.
    pub async fn unused_images(&self) -> Result<Vec<String>, Failure> {
        let survey = self.survey().await?;
        let in_use = self.in_use(&survey).await?;
        let unused = |record: &&Record| !target(record).is_some_and(|digest| in_use.contains(digest));
        Ok(survey.images.values().filter(unused).map(|record| record.name.clone()).collect())
    }

    /// Removes the images that no container was made from, whoever brought them; containerd collects the rest.
    ///
    /// # Errors
    /// `CONTAINERD_…`.
    pub async fn remove_unused_images(&self) -> Result<(), Failure> {
        let unused = self.unused_images().await?;
        for name in &unused {
            self.delete_record(name).await?;
        }
        if unused.is_empty() { Ok(()) } else { self.sweep().await }
    }

    /// Digests of the images that containers were made from, by whichever name.
    async fn in_use(&self, survey: &Survey) -> Result<HashSet<String>, Failure> {
        let mut client = ContainersClient::new(self.channel.clone()).max_decoding_message_size(16 << 20);
        let request = self.request(ListContainersRequest::default());
        let listed = self.within(client.list(request)).await;
        let containers = listed.map_err(|status| self.refused("listing containers", &status))?.into_inner().containers;
        let digest = |name: &str| survey.images.get(name).and_then(target).map(str::to_owned);
        Ok(containers.iter().filter_map(|container| digest(&container.image)).collect())
    }

    async fn delete_record(&self, name: &str) -> Result<(), Failure> {
        let request = self.request(DeleteImageRequest { name: name.to_owned(), ..DeleteImageRequest::default() });
        match self.within(ImagesClient::new(self.channel.clone()).delete(request)).await {
            Err(status) if status.code() != Grpc::NotFound => {
                Err(self.refused(&format!("removing image {name}"), &status))
            }
            _ => Ok(()),
        }
    }
}

fn target(record: &Record) -> Option<&str> {
    record.target.as_ref().map(|target| target.digest.as_str())
}
