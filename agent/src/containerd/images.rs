//! Images: all their blobs, their snapshots, and at the very end their names.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bootstrap::bundle::Image;
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use bootstrap::plan::{ImageFact, image_labels};
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::{CreateImageRequest, GetImageRequest, Image as Record, UpdateImageRequest};
use containerd_client::types::Descriptor;
use prost_types::FieldMask;
use tokio::sync::OnceCell;
use tonic::Code as Grpc;

use super::Containerd;
use super::snapshots::chain_ids;
use crate::install::Site;

/// What images share: a blob or layer that two of them need is brought by the first that asks, while
/// the others wait for it.
#[derive(Debug, Default)]
pub struct Shared {
    cells: Mutex<HashMap<String, Arc<OnceCell<()>>>>,
}

impl Shared {
    fn cell(&self, key: String) -> Arc<OnceCell<()>> {
        // The map is whole whatever panicked while it was locked.
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cells.entry(key).or_default())
    }
}

impl Containerd {
    /// What containerd knows of the image `image`.
    ///
    /// # Errors
    /// `CONTAINERD_…`.
    pub async fn image(&self, image: &Image) -> Result<Option<ImageFact>, Failure> {
        let Some(record) = self.record(&image.reference).await? else { return Ok(None) };
        let Some(digest) = record.target.and_then(|target| target.digest.parse().ok()) else { return Ok(None) };
        let whole = self.held([image.digest, image.config]).await?.len() == 2;
        let unpacked = match chain_ids(&image.diff_ids).last() {
            Some(top) => whole && self.has_snapshot(top).await?,
            None => whole,
        };
        Ok(Some(ImageFact { digest, labels: record.labels.into_iter().collect(), unpacked }))
    }

    /// Imports `image`: every blob that the store lacks, every layer, then the records.
    ///
    /// # Errors
    /// `DIGEST_MISMATCH`, `SOURCE_…`, `CONTAINERD_…`, `NO_SPACE`; the image has then no name.
    pub async fn import(&self, site: &Site, image: &Image, shared: &Shared) -> Result<(), Failure> {
        let blob = |digest: &Digest| {
            let missing = || Failure::new(Code::ManifestInvalid, format!("{} lacks blob {digest}", image.reference));
            site.bundle.manifest.blob(digest).ok_or_else(missing)
        };
        let small = [image.digest, image.config];
        let held = self.held(small.into_iter().chain(image.layers.iter().copied())).await?;
        let bring = async |digest: &Digest| {
            if held.contains(digest) {
                return Ok(());
            }
            let blob = blob(digest)?;
            let cell = shared.cell(format!("blob {digest}"));
            cell.get_or_try_init(|| self.bring(site, blob, &image.reference)).await.map(drop)
        };
        bring(&image.config).await?;
        let chain = chain_ids(&image.diff_ids);
        let mut parent = None;
        for ((layer, diff_id), chain_id) in image.layers.iter().zip(&image.diff_ids).zip(&chain) {
            bring(layer).await?;
            let layer = blob(layer)?;
            let cell = shared.cell(format!("layer {chain_id}"));
            cell.get_or_try_init(|| self.unpack(layer, diff_id, chain_id, parent)).await?;
            parent = Some(chain_id);
        }
        bring(&image.digest).await?;
        self.tie(image, parent).await?;
        let labels = image_labels(&site.bundle);
        let manifest = blob(&image.digest)?;
        let target = Descriptor {
            media_type: manifest.media_type.clone(),
            digest: image.digest.to_string(),
            size: manifest.size as i64,
            ..Descriptor::default()
        };
        self.sync().await?;
        // The CRI plugin knows an image by the digest of its config, too, and expects a record for it.
        for name in [image.config.to_string(), image.reference.clone()] {
            self.put_record(&name, &target, &labels).await?;
        }
        Ok(())
    }

    /// Ties the content together for containerd's garbage collector: manifest → config and layers,
    /// config → top snapshot.
    async fn tie(&self, image: &Image, top: Option<&Digest>) -> Result<(), Failure> {
        let mut labels = HashMap::from([("containerd.io/gc.ref.content.config".to_owned(), image.config.to_string())]);
        for (at, layer) in image.layers.iter().enumerate() {
            labels.insert(format!("containerd.io/gc.ref.content.l.{at}"), layer.to_string());
        }
        self.label_blob(&image.digest, labels).await?;
        let Some(top) = top else { return Ok(()) };
        let key = format!("containerd.io/gc.ref.snapshot.{}", self.snapshotter);
        self.label_blob(&image.config, HashMap::from([(key, top.to_string())])).await
    }

    async fn record(&self, name: &str) -> Result<Option<Record>, Failure> {
        let request = self.request(GetImageRequest { name: name.to_owned() });
        match ImagesClient::new(self.channel.clone()).get(request).await {
            Ok(answer) => Ok(answer.into_inner().image),
            Err(status) if status.code() == Grpc::NotFound => Ok(None),
            Err(status) => Err(self.refused(&format!("looking for image {name}"), &status)),
        }
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
        match client.create(self.request(create)).await {
            Ok(_) => return Ok(()),
            Err(status) if status.code() == Grpc::AlreadyExists => {}
            Err(status) => return Err(self.refused(&doing, &status)),
        }
        let paths = labels.keys().map(|key| format!("labels.{key}")).chain(["target".to_owned()]).collect();
        let update =
            UpdateImageRequest { image: Some(record), update_mask: Some(FieldMask { paths }), ..Default::default() };
        client.update(self.request(update)).await.map(drop).map_err(|status| self.refused(&doing, &status))
    }
}
