//! What a manifest must be before anybody acts on it.

use std::collections::BTreeSet;

use super::{Blob, Image, MANIFEST_PATH, Manifest, Place, layout};
use crate::digest::Digest;
use crate::failure::{Code, Failure};
use crate::signature::SIGNATURE_PATH;

/// The files of a bundle have fewer bytes in all than this; a real one has a few GiB.
const MAX_BYTES: u64 = 8 << 40;

impl Manifest {
    /// A manifest vouches for every byte, or it is none; one derived from a listing can't.
    pub(super) fn check_digests(&self) -> Result<(), Failure> {
        for entry in &self.entries {
            let tarball = entry.kind.is_tarball();
            let lacks = match (entry.sha256, entry.members.is_empty() && tarball) {
                (None, _) => "sha256",
                (_, true) => "list of members",
                _ => continue,
            };
            return Err(invalid(format!("entry {:?} has no {lacks}", entry.path)));
        }
        Ok(())
    }

    /// Whether the manifest is consistent in itself, and everything in it bounded.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let texts = self.components.iter().flat_map(|component| [&component.name, &component.version]);
        for text in texts.chain([&self.name]).chain(&self.kubernetes) {
            if text.contains(char::is_control) || text.len() > 256 {
                return Err(invalid(format!("{text:?} is no name or version")));
            }
        }
        self.node.check().map_err(invalid)?;
        let mut seen = BTreeSet::new();
        for entry in &self.entries {
            let members = entry.members.iter().map(|member| &member.path);
            for path in [&entry.path].into_iter().chain(members) {
                layout::check_path(path).map_err(|reason| invalid(format!("path {path:?} {reason}")))?;
            }
            if [MANIFEST_PATH, SIGNATURE_PATH].contains(&entry.path.as_str()) {
                return Err(invalid(format!("path {:?} can be no entry: it holds or signs the entries", entry.path)));
            }
            if !seen.insert(entry.path.as_str()) {
                return Err(invalid(format!("path {:?} stands twice", entry.path)));
            }
        }
        self.check_sizes()?;
        if !self.blobs.is_sorted_by(|a, b| a.digest < b.digest) {
            return Err(invalid("the blobs are not sorted by digest, each once".to_owned()));
        }
        for blob in &self.blobs {
            self.check_blob(blob)?;
        }
        let mut references = BTreeSet::new();
        for image in &self.images {
            self.check_image(image)?;
            if !references.insert(image.reference.as_str()) {
                return Err(invalid(format!("image {:?} stands twice", image.reference)));
            }
        }
        match &self.sandbox_image {
            Some(sandbox) if !references.contains(sandbox.as_str()) => {
                Err(invalid(format!("the sandbox image {sandbox:?} is no image of the bundle")))
            }
            _ => Ok(()),
        }
    }

    /// Every later sum of sizes fits its type when these do.
    fn check_sizes(&self) -> Result<(), Failure> {
        let members = self.entries.iter().flat_map(|entry| entry.members.iter().map(|member| member.size));
        let entries = self.entries.iter().map(|entry| entry.size);
        let blobs = self.blobs.iter().map(|blob| blob.size);
        let mut left = MAX_BYTES;
        for size in entries.chain(members).chain(blobs) {
            let beyond = || invalid(format!("its files have more than {} TiB", MAX_BYTES >> 40));
            left = left.checked_sub(size).ok_or_else(beyond)?;
        }
        Ok(())
    }

    fn check_blob(&self, blob: &Blob) -> Result<(), Failure> {
        let refuse = |why: &str| Err(invalid(format!("blob {} {why}", blob.digest)));
        match &blob.at {
            Place::Inline { text } if Digest::of(text.as_bytes()) != blob.digest => {
                refuse("does not match its inline text")
            }
            Place::Inline { text } if text.len() as u64 != blob.size => refuse("has another size than its text"),
            Place::Inline { .. } => Ok(()),
            Place::Range { path, offset } => match self.entry(path) {
                None => refuse(&format!("lies in {path:?}, which is no entry")),
                Some(entry) if offset.checked_add(blob.size).is_none_or(|end| end > entry.size) => {
                    refuse(&format!("reaches beyond the end of {path:?}"))
                }
                Some(_) => Ok(()),
            },
        }
    }

    fn check_image(&self, image: &Image) -> Result<(), Failure> {
        let refuse = |why: String| Err(invalid(format!("image {:?} {why}", image.reference)));
        if let Err(reason) = layout::check_reference(&image.reference) {
            return refuse(reason.to_owned());
        }
        for digest in [&image.digest, &image.config].into_iter().chain(&image.layers) {
            if self.blob(digest).is_none() {
                return refuse(format!("wants {digest}, which is no blob of the bundle"));
            }
        }
        if image.layers.len() != image.diff_ids.len() {
            return refuse(format!("has {} layers and {} diff ids", image.layers.len(), image.diff_ids.len()));
        }
        Ok(())
    }
}

fn invalid(what: String) -> Failure {
    Failure::new(Code::ManifestInvalid, format!("{MANIFEST_PATH}: {what}"))
}
