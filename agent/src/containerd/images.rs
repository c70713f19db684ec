//! Images: all their blobs, their snapshots, and at the very end their names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bootstrap::bundle::{Blob, Image};
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use bootstrap::plan::image_labels;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::{CreateImageRequest, Image as Record, UpdateImageRequest};
use containerd_client::types::Descriptor;
use futures::{StreamExt as _, TryStreamExt as _};
use prost_types::FieldMask;
use tokio::sync::OnceCell;
use tonic::Code as Grpc;

use super::Containerd;
use super::snapshots::chain_ids;
use super::survey::Survey;
use super::unpack::{Layer, Unpacked};
use crate::install::Site;

/// Images that are named side by side.
const SIDE_BY_SIDE: usize = 4;

/// What the images of a wave share: a blob or layer that two of them need is brought by the first that asks,
/// while the others wait for it.
#[derive(Debug, Default)]
pub struct Shared {
    /// Blobs that `verify` found damaged: they were dropped, and come again even where no layer needs them.
    dropped: BTreeSet<Digest>,
    cells: Mutex<HashMap<String, Arc<OnceCell<()>>>>,
    survey: OnceCell<Survey>,
    /// References of the images that are whole and have no name yet.
    unnamed: Mutex<Vec<String>>,
}

impl Shared {
    /// With the blobs that were dropped because they are damaged.
    #[must_use]
    pub fn with_dropped(dropped: BTreeSet<Digest>) -> Self {
        Self { dropped, ..Self::default() }
    }

    fn cell(&self, key: String) -> Arc<OnceCell<()>> {
        // The map is whole whatever panicked while it was locked.
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cells.entry(key).or_default())
    }

    fn unnamed(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.unnamed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Containerd {
    /// Imports `image`: every blob that the store lacks, every layer. It has a name when [`Self::name_images`]
    /// was called.
    ///
    /// # Errors
    /// `DIGEST_MISMATCH`, `ARCHIVE_UNSAFE`, `SOURCE_…`, `CONTAINERD_…`, `NO_SPACE`; the image has then no name.
    pub async fn import(&self, site: &Site, image: &Image, shared: &Shared) -> Result<(), Failure> {
        self.bring_once(site, image, &image.config, shared).await?;
        let chain = chain_ids(&image.diff_ids);
        let survey = shared.survey.get_or_try_init(|| self.survey()).await?;
        let there = match chain.last() {
            Some(top) => survey.has_snapshot(top) && self.keep_snapshot(top).await?,
            None => true,
        };
        if !there {
            self.bring_layers(site, image, &chain, shared, survey).await?;
        }
        for layer in image.layers.iter().filter(|layer| shared.dropped.contains(layer)) {
            self.bring_once(site, image, layer, shared).await?;
        }
        self.bring_once(site, image, &image.digest, shared).await?;
        shared.unnamed().push(image.reference.clone());
        Ok(())
    }

    async fn bring_layers(
        &self,
        site: &Site,
        image: &Image,
        chain: &[Digest],
        shared: &Shared,
        survey: &Survey,
    ) -> Result<(), Failure> {
        let mut parent = None;
        for ((digest, diff_id), chain_id) in image.layers.iter().zip(&image.diff_ids).zip(chain) {
            let layer = Layer { blob: blob_of(site, image, digest)?, diff_id, chain_id, parent };
            let unpacking = shared.cell(format!("layer {chain_id}"));
            let unpack = async || {
                let there = survey.has_snapshot(chain_id) && self.keep_snapshot(chain_id).await?;
                let mut unpacked = if there { Unpacked::Yes } else { Unpacked::No };
                let blob = shared.cell(format!("blob {digest}"));
                let bring = async || {
                    let wanted = (!there).then_some(&layer);
                    let poured = self.bring(site, layer.blob, &image.reference, wanted).await?;
                    unpacked = if there { Unpacked::Yes } else { poured };
                    Ok::<_, Failure>(())
                };
                blob.get_or_try_init(bring).await?;
                self.unpack(&layer, unpacked).await
            };
            unpacking.get_or_try_init(unpack).await?;
            parent = Some(chain_id);
        }
        Ok(())
    }

    async fn bring_once(&self, site: &Site, image: &Image, digest: &Digest, shared: &Shared) -> Result<(), Failure> {
        let blob = blob_of(site, image, digest)?;
        let cell = shared.cell(format!("blob {digest}"));
        cell.get_or_try_init(async || self.bring(site, blob, &image.reference, None).await.map(drop)).await.map(drop)
    }

    /// Brings to the disk what was unpacked since the last call, by one sync for all of it, and names the images of
    /// `wave` (references) that are whole. Nothing refers to a layer before: neither a config nor a name.
    ///
    /// # Errors
    /// `CONTAINERD_…`, `IO`.
    pub async fn name_images(&self, site: &Site, shared: &Shared, wave: &BTreeSet<&str>) -> Result<(), Failure> {
        let unnamed: Vec<String> = shared.unnamed().extract_if(.., |image| wave.contains(image.as_str())).collect();
        if unnamed.is_empty() {
            return Ok(());
        }
        self.sync().await?;
        let images = site.bundle.manifest.images.iter().filter(|image| unnamed.contains(&image.reference));
        let naming = futures::stream::iter(images).map(|image| self.name_image(site, image));
        naming.buffer_unordered(SIDE_BY_SIDE).try_collect().await
    }

    async fn name_image(&self, site: &Site, image: &Image) -> Result<(), Failure> {
        self.tie(image).await?;
        let labels = image_labels(&site.bundle);
        let manifest = blob_of(site, image, &image.digest)?;
        let target = Descriptor {
            media_type: manifest.media_type.clone(),
            digest: image.digest.to_string(),
            size: manifest.size as i64,
            ..Descriptor::default()
        };
        // The CRI plugin knows an image by the digest of its config, too, and expects a record for it.
        for name in [image.config.to_string(), image.reference.clone()] {
            self.put_record(&name, &target, &labels).await?;
        }
        Ok(())
    }

    /// Ties the content together for containerd's garbage collector: manifest → config and layers,
    /// config → top snapshot.
    async fn tie(&self, image: &Image) -> Result<(), Failure> {
        let mut labels = HashMap::from([("containerd.io/gc.ref.content.config".to_owned(), image.config.to_string())]);
        for (at, layer) in image.layers.iter().enumerate() {
            labels.insert(format!("containerd.io/gc.ref.content.l.{at}"), layer.to_string());
        }
        self.label_blob(&image.digest.to_string(), labels).await?;
        let Some(top) = chain_ids(&image.diff_ids).last().copied() else { return Ok(()) };
        let key = format!("containerd.io/gc.ref.snapshot.{}", self.snapshotter);
        self.label_blob(&image.config.to_string(), HashMap::from([(key, top.to_string())])).await
    }

    /// Makes the record `name`, or points the one that is there to `target` and adds our labels.
    async fn put_record(
        &self,
        name: &str,
        target: &Descriptor,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        let doing = format!("naming image {name}");
        let record = Record {
            name: name.to_owned(),
            labels: labels.clone().into_iter().collect(),
            target: Some(target.clone()),
            ..Record::default()
        };
        let mut client = ImagesClient::new(self.channel.clone());
        let create = CreateImageRequest { image: Some(record.clone()), ..CreateImageRequest::default() };
        match self.within(client.create(self.request(create))).await {
            Ok(_) => return Ok(()),
            Err(status) if status.code() == Grpc::AlreadyExists => {}
            Err(status) => return Err(self.refused(&doing, &status)),
        }
        let paths = labels.keys().map(|key| format!("labels.{key}")).chain(["target".to_owned()]).collect();
        self.update_record(record, paths).await
    }

    /// Changes the fields `paths` of a record.
    pub(super) async fn update_record(&self, record: Record, paths: Vec<String>) -> Result<(), Failure> {
        let doing = format!("changing image {}", record.name);
        let update =
            UpdateImageRequest { image: Some(record), update_mask: Some(FieldMask { paths }), ..Default::default() };
        let updated = self.within(ImagesClient::new(self.channel.clone()).update(self.request(update))).await;
        match updated {
            Err(status) => Err(self.refused(&doing, &status)),
            Ok(_) => Ok(()),
        }
    }
}

fn blob_of<'a>(site: &'a Site, image: &Image, digest: &Digest) -> Result<&'a Blob, Failure> {
    let missing = || Failure::new(Code::ManifestInvalid, format!("{} lacks blob {digest}", image.reference));
    site.bundle.manifest.blob(digest).ok_or_else(missing)
}
