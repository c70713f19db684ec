//! Everything that containerd has in our namespace, by three calls: what is looked up is looked up here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bootstrap::bundle::Image;
use bootstrap::digest::Digest;
use bootstrap::failure::Failure;
use bootstrap::plan::{ImageFact, OWNER_LABEL};
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{Info as SnapshotInfo, ListSnapshotsRequest};
use containerd_client::services::v1::{Image as Record, Info, ListContentRequest, ListImagesRequest};
use futures::{StreamExt as _, TryStreamExt as _};
use tonic::{Request, Status, Streaming};

use super::Containerd;
use super::ingest::ingest_ref;
use super::snapshots::{BOOT_LABEL, EXTRACT, chain_ids};

/// An answer of containerd's may be as large as it sends one.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// `Kind` of a snapshot that is a layer (containerd `snapshots.proto`).
const COMMITTED: i32 = 3;
/// Blobs that are looked at side by side.
const SIDE_BY_SIDE: usize = 16;

/// What containerd has, at one moment.
#[derive(Debug, Default)]
pub struct Survey {
    pub(super) images: HashMap<String, Record>,
    pub(super) content: HashMap<String, Info>,
    pub(super) snapshots: HashMap<String, SnapshotInfo>,
    /// Snapshots that a power cut may have left without their files.
    doubtful: BTreeSet<String>,
}

/// What of a bundle's images is there.
#[derive(Debug, Default)]
pub struct Found {
    /// Images that have a name: reference → what is there.
    pub images: BTreeMap<String, ImageFact>,
    /// Blobs of those that are not whole.
    pub blobs: BTreeSet<Digest>,
    /// Bytes of blobs of theirs that earlier runs began with, and that need no more room.
    pub begun_bytes: u64,
}

impl Containerd {
    /// Looks at everything.
    ///
    /// # Errors
    /// `CONTAINERD_…`.
    pub async fn survey(&self) -> Result<Survey, Failure> {
        let refused = |status| self.refused("listing images, blobs and snapshots", &status);
        let images = async {
            let mut client = ImagesClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
            Ok(client.list(self.request(ListImagesRequest::default())).await?.into_inner().images)
        };
        let content = async {
            let mut client = ContentClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
            all(client.list(self.request(ListContentRequest::default())).await?.into_inner(), |part| part.info).await
        };
        let snapshots = async {
            let mut client = SnapshotsClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
            let request: Request<_> =
                self.request(ListSnapshotsRequest { snapshotter: self.snapshotter.clone(), ..Default::default() });
            all(client.list(request).await?.into_inner(), |part| part.info).await
        };
        // Snapshots after the labels that name them: one that another client makes meanwhile must not look lost.
        let named = async { Ok((content.await?, snapshots.await?)) };
        let listed = self.within(async { futures::try_join!(images, named) }).await;
        let (images, (content, snapshots)) = listed.map_err(refused)?;
        let mut survey = Survey {
            images: images.into_iter().map(|record| (record.name.clone(), record)).collect(),
            content: content.into_iter().map(|info| (info.digest.clone(), info)).collect(),
            snapshots: snapshots.into_iter().map(|info| (info.name.clone(), info)).collect(),
            doubtful: BTreeSet::new(),
        };
        survey.doubtful = survey.of_other_boots(&self.boot, &self.snapshotter);
        Ok(survey)
    }

    /// What of the images `wanted` is there, where the blobs `broken` are not. Of an image that is whole, no layer's
    /// blob is looked at.
    ///
    /// # Errors
    /// `CONTAINERD_…`.
    pub async fn find(&self, wanted: &[Image], broken: &BTreeSet<Digest>) -> Result<Found, Failure> {
        let survey = self.survey().await?;
        let small = wanted.iter().flat_map(|image| [image.digest, image.config]);
        let mut held = self.held(&survey, small).await?;
        let (mut found, mut looked_for) = (Found::default(), BTreeSet::new());
        for image in wanted {
            let small = held.contains(&image.digest) && held.contains(&image.config);
            let top = chain_ids(&image.diff_ids).last().copied();
            let damaged = blobs_of(image).any(|blob| broken.contains(&blob));
            let unpacked = small && !damaged && top.is_none_or(|top| survey.has_snapshot(&top));
            let record = survey.images.get(&image.reference);
            let digest = record.and_then(|record| record.target.as_ref()?.digest.parse().ok());
            if let (Some(record), Some(digest)) = (record, digest) {
                let labels = record.labels.clone().into_iter().collect();
                found.images.insert(image.reference.clone(), ImageFact { digest, labels, unpacked });
            }
            if digest != Some(image.digest) || !unpacked {
                looked_for.extend(image.layers.iter().copied());
            }
        }
        held.extend(self.held(&survey, looked_for).await?);
        found.blobs = &held - broken;
        let refs: BTreeSet<String> = wanted.iter().flat_map(blobs_of).map(|digest| ingest_ref(&digest)).collect();
        let begun = self.ingests().await?.into_iter().filter(|status| refs.contains(&status.r#ref));
        found.begun_bytes = begun.map(|status| u64::try_from(status.offset).unwrap_or_default()).sum();
        Ok(found)
    }

    /// Which of `digests` the store holds whole: to be read up to the last byte, and not only recorded. A
    /// power cut can keep the record of a blob and lose its file (containerd issue 10457).
    async fn held(
        &self,
        survey: &Survey,
        digests: impl IntoIterator<Item = Digest>,
    ) -> Result<BTreeSet<Digest>, Failure> {
        let digests = digests.into_iter().collect::<BTreeSet<_>>().into_iter();
        let recorded = digests.filter_map(|digest| Some((digest, survey.content.get(&digest.to_string())?.size)));
        let looked_at = futures::stream::iter(recorded.collect::<Vec<_>>()).map(async |(digest, size)| {
            let held = self.is_readable(&digest, size as u64).await?;
            Ok(held.then_some(digest))
        });
        looked_at.buffer_unordered(SIDE_BY_SIDE).try_filter_map(|held| async move { Ok(held) }).try_collect().await
    }
}

impl Survey {
    /// Whether the snapshot is there, with all its files.
    #[must_use]
    pub fn has_snapshot(&self, name: &Digest) -> bool {
        let name = name.to_string();
        self.snapshots.contains_key(&name) && !self.doubtful.contains(&name)
    }

    /// Snapshots that may lack their files, those that stand on others first.
    pub(super) fn doubtful(&self) -> Vec<&str> {
        let mut doubtful: Vec<&str> = self.doubtful.iter().map(String::as_str).collect();
        doubtful.sort_by_key(|name| std::cmp::Reverse(self.below(name).count()));
        doubtful
    }

    /// A layer is synced before anything names it. So one that was unpacked in another boot, and that no
    /// image's config names, as itself or as what is below, may never have reached the disk.
    fn of_other_boots(&self, boot: &str, snapshotter: &str) -> BTreeSet<String> {
        let other = |info: &&SnapshotInfo| info.labels.get(BOOT_LABEL).is_some_and(|label| label != boot);
        let mut doubtful: BTreeSet<String> =
            self.snapshots.values().filter(other).map(|info| info.name.clone()).collect();
        if doubtful.is_empty() {
            return doubtful;
        }
        let key = format!("containerd.io/gc.ref.snapshot.{snapshotter}");
        for top in self.content.values().filter_map(|info| info.labels.get(&key)) {
            for name in self.below(top) {
                doubtful.remove(name);
            }
        }
        // What stands on a doubtful one was begun after it, and is no better, whoever made it.
        let stands_on = |name: &str| self.below(name).skip(1).any(|below| doubtful.contains(below));
        let layer = |info: &&SnapshotInfo| info.kind == COMMITTED || info.name.starts_with(EXTRACT);
        let above: Vec<String> = self
            .snapshots
            .values()
            .filter(layer)
            .filter(|info| stands_on(&info.name))
            .map(|info| info.name.clone())
            .collect();
        doubtful.extend(above);
        doubtful
    }

    /// Snapshots that a layer was to be unpacked into.
    pub(super) fn half_unpacked(&self) -> impl Iterator<Item = &str> {
        self.snapshots.keys().filter(|name| name.starts_with(EXTRACT)).map(String::as_str)
    }

    /// Configs that name a snapshot which is not there. Once it is unpacked again, they must not vouch for it.
    pub(super) fn dangling(&self, snapshotter: &str) -> impl Iterator<Item = (&str, String)> {
        let key = format!("containerd.io/gc.ref.snapshot.{snapshotter}");
        self.content.values().filter_map(move |info| {
            let top = info.labels.get(&key)?;
            (!self.snapshots.contains_key(top)).then(|| (info.digest.as_str(), key.clone()))
        })
    }

    /// A snapshot and those that it stands on.
    fn below<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        std::iter::successors(Some(name), |name| {
            self.snapshots.get(*name).map(|info| info.parent.as_str()).filter(|parent| !parent.is_empty())
        })
    }

    /// Records that carry the label of an owner, and whose.
    pub(super) fn owned(&self) -> impl Iterator<Item = (&Record, &str)> {
        self.images.values().filter_map(|record| Some((record, record.labels.get(OWNER_LABEL)?.as_str())))
    }
}

/// Manifest, config and layers.
fn blobs_of(image: &Image) -> impl Iterator<Item = Digest> {
    [image.digest, image.config].into_iter().chain(image.layers.iter().copied())
}

async fn all<P, T>(mut parts: Streaming<P>, take: impl Fn(P) -> Vec<T>) -> Result<Vec<T>, Status> {
    let mut all = Vec::new();
    while let Some(part) = parts.message().await? {
        all.extend(take(part));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(snapshots: &[(&str, &str, &str)], named: &str) -> Survey {
        let info = |(name, parent, boot): &(&str, &str, &str)| {
            let labels = HashMap::from([(BOOT_LABEL.to_owned(), (*boot).to_owned())]);
            let (name, parent) = ((*name).to_owned(), (*parent).to_owned());
            (name.clone(), SnapshotInfo { name, parent, kind: COMMITTED, labels, ..SnapshotInfo::default() })
        };
        let labels = HashMap::from([("containerd.io/gc.ref.snapshot.overlayfs".to_owned(), named.to_owned())]);
        Survey {
            snapshots: snapshots.iter().map(info).collect(),
            content: HashMap::from([("config".to_owned(), Info { labels, ..Info::default() })]),
            ..Survey::default()
        }
    }

    #[test]
    fn layers_of_another_boot_are_doubted_unless_an_image_has_them() {
        let snapshots = [("a", "", "old"), ("b", "a", "old"), ("c", "b", "old"), ("d", "c", "new"), ("e", "a", "new")];
        for (named, doubtful) in [("", "d c b a e"), ("b", "d c"), ("a", "d c b"), ("d", ""), ("gone", "d c b e a")] {
            let mut survey = survey(&snapshots, named);
            survey.doubtful = survey.of_other_boots("new", "overlayfs");
            let told: BTreeSet<&str> = survey.doubtful().into_iter().collect();
            assert_eq!(told, doubtful.split_whitespace().collect(), "{named}");
            let order: Vec<usize> = survey.doubtful().iter().map(|name| survey.below(name).count()).collect();
            assert!(order.is_sorted_by(|a, b| a >= b), "{named}");
        }
    }
}
