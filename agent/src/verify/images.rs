//! Images: their records and labels, their snapshots, their blobs.

use std::collections::BTreeSet;

use bootstrap::bundle::Image;
use bootstrap::digest::Digest;
use bootstrap::failure::Failure;
use bootstrap::plan::{Wanted, image_labels};

use super::Audit;
use crate::containerd::Containerd;
use crate::containerd::snapshots::chain_ids;
use crate::containerd::survey::Found;

const AGAIN: &str = "run cks-agent bootstrap: it is imported again";

/// The blobs of all images, each once.
pub(super) fn blobs_of(wanted: &Wanted) -> BTreeSet<Digest> {
    let blobs = |image: &Image| [image.digest, image.config].into_iter().chain(image.layers.clone());
    wanted.images.iter().flat_map(blobs).collect()
}

impl Audit<'_> {
    /// Looks at every image of the role.
    pub(super) async fn images(&mut self, containerd: &Containerd) -> Result<(), Failure> {
        // A blob or snapshot that two images share is told of the first.
        let mut seen = BTreeSet::new();
        let (wanted, survey) = (std::mem::take(&mut self.wanted.images), containerd.survey().await?);
        let found = containerd.find(&wanted, &BTreeSet::new()).await?;
        for image in wanted {
            self.checked += 1;
            let object = format!("image {}", image.reference);
            let Some(fact) = found.images.get(&image.reference) else {
                self.find(object, "missing", image.digest.to_string(), AGAIN);
                continue;
            };
            if fact.digest != image.digest {
                self.find(object, fact.digest.to_string(), image.digest.to_string(), AGAIN);
                continue;
            }
            for (label, value) in image_labels(&self.bundle) {
                let is = fact.labels.get(&label);
                if is != Some(&value) {
                    let is = is.map_or_else(|| format!("without label {label}"), |is| format!("labelled {label}={is}"));
                    self.find(&object, is, format!("labelled {label}={value}"), AGAIN);
                }
            }
            for chain_id in chain_ids(&image.diff_ids) {
                if seen.insert(chain_id) {
                    self.checked += 1;
                    if !survey.has_snapshot(&chain_id) {
                        self.find(format!("snapshot {chain_id} of {object}"), "missing", "unpacked", AGAIN);
                    }
                }
            }
            self.blobs(containerd, &image, &found, &mut seen).await?;
        }
        Ok(())
    }

    async fn blobs(
        &mut self,
        containerd: &Containerd,
        image: &Image,
        found: &Found,
        seen: &mut BTreeSet<Digest>,
    ) -> Result<(), Failure> {
        let object = format!("image {}", image.reference);
        // Layers may be gone: containerd needs them no more once they are unpacked.
        let (needed, quick) = ([image.digest, image.config], self.quick);
        for blob in needed.iter().chain(&image.layers).filter(|blob| !quick || needed.contains(blob)) {
            if !seen.insert(*blob) {
                continue;
            }
            self.checked += 1;
            let is = match quick {
                true => found.blobs.get(blob).copied(),
                false => containerd.blob_digest(blob, |count| self.meter.advance(&object, count)).await?,
            };
            let name = format!("blob {blob} of {object}");
            match is {
                Some(is) if is == *blob => {}
                Some(is) => {
                    self.damaged.push(*blob);
                    let remedy =
                        "run cks-agent bootstrap: it is fetched again; and look at the disk, or for who changed it";
                    self.find(name, format!("{is} in containerd's content store"), blob.to_string(), remedy);
                }
                None if needed.contains(blob) => self.find(name, "missing", "in containerd's content store", AGAIN),
                None => {}
            }
        }
        Ok(())
    }
}
