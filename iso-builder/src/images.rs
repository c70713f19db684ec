//! Image archives merged into one: an OCI layout that is a docker archive too, each blob once, every
//! blob's bytes and digest as upstream made them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bootstrap::archive::{self, Archive};
use bootstrap::bundle::{Arch, Blob, Image, Place, layout, reference};
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use serde::Serialize;
use tar::EntryType;

use crate::content::{Content, Source, failed};
use crate::layers::{self, Making};
use crate::lock::{LockedBlob, LockedImage};
use crate::spec::invalid;
use crate::tarball::header;

/// The merged archive's path on the ISO.
pub const ARCHIVE_PATH: &str = "docker/images.tar";

/// Bytes of a tar block (POSIX pax, "ustar Interchange Format").
const BLOCK: u64 = 512;

/// The merged archive.
#[derive(Debug, Clone)]
pub struct Merged {
    /// Its bytes.
    pub content: Content,
    /// The images, sorted by reference.
    pub images: Vec<Image>,
    /// Their blobs, sorted by digest, placed in [`ARCHIVE_PATH`].
    pub blobs: Vec<Blob>,
}

/// An archive of the spec: what messages call it, and the open file.
pub type Named = (String, Arc<Source>);

/// A blob and the archive that it lies in.
pub(crate) type Found = (Blob, Arc<Source>);

/// Images of registries, whose blobs are files of the cache.
#[derive(Debug, Default)]
pub struct Pulled<'a> {
    /// The images.
    pub images: &'a [LockedImage],
    /// The file of each blob.
    pub blobs: BTreeMap<Digest, Arc<Source>>,
}

/// Merges `archives` and what was `pulled`, with the layers that `making` wants; `epoch` dates the entries.
///
/// # Errors
/// `IMAGE_INVALID` for an archive that can't be understood, `ARCH_MISMATCH` for an image of another
/// architecture, `SPEC_INVALID` when two archives give one reference to different images.
pub fn merge(
    archives: &[Named],
    pulled: &Pulled<'_>,
    arch: Arch,
    epoch: u64,
    making: Making<'_>,
) -> Result<Merged, Failure> {
    let mut images: BTreeMap<String, (Image, &str)> = BTreeMap::new();
    let mut found: BTreeMap<Digest, Found> = BTreeMap::new();
    for (key, source) in archives {
        let archive = archive::read(Content::whole(source).reader(), key)?;
        check_arch(key, &archive, arch)?;
        for image in archive.images {
            take(&mut images, image, key)?;
        }
        for blob in archive.blobs {
            found.entry(blob.digest).or_insert_with(|| (blob, Arc::clone(source)));
        }
    }
    for locked in pulled.images {
        for image in named(locked) {
            take(&mut images, image, "a registry")?;
        }
        for blob in [&locked.manifest, &locked.config].into_iter().chain(&locked.layers) {
            let LockedBlob { digest, size, media_type } = blob.clone();
            if let Some(source) = pulled.blobs.get(&digest) {
                let at = Place::Range { path: String::new(), offset: 0 };
                found
                    .entry(digest)
                    .or_insert_with(|| (Blob { digest, size, media_type, unpacked: None, at }, Arc::clone(source)));
            }
        }
    }
    let mut images: Vec<Image> = images.into_values().map(|(image, _)| image).collect();
    layers::make(&mut images, &mut found, making)?;
    lay_out(images, &found, epoch)
}

fn take<'a>(images: &mut BTreeMap<String, (Image, &'a str)>, image: Image, key: &'a str) -> Result<(), Failure> {
    match images.get(&image.reference) {
        Some((other, other_key)) if other.digest != image.digest => Err(two_images(&image, key, other, other_key)),
        _ => {
            images.insert(image.reference.clone(), (image, key));
            Ok(())
        }
    }
}

/// An image of a registry, under every name by which a node looks for it.
fn named(locked: &LockedImage) -> Vec<Image> {
    let image = |reference: String| Image {
        roles: layout::roles_of_image(&reference),
        critical: layout::is_critical(&reference),
        reference,
        digest: locked.manifest.digest,
        config: locked.config.digest,
        layers: locked.layers.iter().map(|layer| layer.digest).collect(),
        diff_ids: locked.diff_ids.clone(),
    };
    reference::names(&locked.reference).into_iter().map(image).collect()
}

fn check_arch(key: &str, archive: &Archive, arch: Arch) -> Result<(), Failure> {
    for image in &archive.images {
        let found = archive.architectures.get(&image.config).map_or("", String::as_str);
        if Arch::parse(found) != Some(arch) {
            let found = if found.is_empty() { "no architecture" } else { found };
            let what = format!("{key}: image {} is for {found}, the bundle is for {arch}", image.reference);
            return Err(Failure::new(Code::ArchMismatch, what)
                .with_remedy(format!("export the image with --platform linux/{arch}, or correct arch in the spec")));
        }
    }
    Ok(())
}

fn two_images(image: &Image, key: &str, other: &Image, other_key: &str) -> Failure {
    invalid(format!(
        "{other_key} and {key} both hold {}, but not the same image: {} and {}",
        image.reference,
        other.digest.short(),
        image.digest.short()
    ))
    .with_remedy("leave the reference out of one archive: a node would get either")
}

/// The blobs in the order of the archive: image by image, each blob at its first use.
fn in_order<'a>(images: &[Image], found: &'a BTreeMap<Digest, Found>) -> Result<Vec<&'a Found>, Failure> {
    let mut seen = BTreeSet::new();
    let mut ordered = Vec::new();
    for image in images {
        for digest in [&image.digest, &image.config].into_iter().chain(&image.layers) {
            if seen.insert(*digest) {
                let missing = || Failure::new(Code::ImageInvalid, format!("{} lacks {digest}", image.reference));
                ordered.push(found.get(digest).ok_or_else(missing)?);
            }
        }
    }
    Ok(ordered)
}

fn lay_out(images: Vec<Image>, found: &BTreeMap<Digest, Found>, epoch: u64) -> Result<Merged, Failure> {
    let ordered = in_order(&images, found)?;
    let mut tar = Tar { content: Content::default(), epoch };
    tar.bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    tar.bytes("index.json", &json(&index(&images, found))?)?;
    tar.bytes("manifest.json", &json(&docker_list(&images))?)?;
    let mut blobs = Vec::new();
    for (blob, source) in ordered {
        let offset = tar.blob(blob, source)?;
        let at = Place::Range { path: ARCHIVE_PATH.to_owned(), offset };
        blobs.push(Blob { at, ..blob.clone() });
    }
    blobs.sort_by_key(|blob| blob.digest);
    // Two blocks of zeros end a tar.
    tar.content.push_bytes(vec![0; 2 * BLOCK as usize]);
    Ok(Merged { content: tar.content, images, blobs })
}

/// A tar made of segments.
struct Tar {
    content: Content,
    epoch: u64,
}

impl Tar {
    fn begin(&mut self, name: &str, size: u64) -> Result<(), Failure> {
        let header = header(name, EntryType::Regular, 0o644, self.epoch, size);
        let header = header.map_err(|e| failed("Packing", ARCHIVE_PATH.as_ref(), e))?;
        self.content.push_bytes(*header.as_bytes());
        Ok(())
    }

    fn end(&mut self) {
        let over = self.content.length() % BLOCK;
        self.content.push_bytes(vec![0; ((BLOCK - over) % BLOCK) as usize]);
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        self.begin(name, bytes.len() as u64)?;
        self.content.push_bytes(bytes);
        self.end();
        Ok(())
    }

    /// Adds a blob and returns where its bytes begin.
    fn blob(&mut self, blob: &Blob, source: &Arc<Source>) -> Result<u64, Failure> {
        self.begin(&blob_path(&blob.digest), blob.size)?;
        let at = self.content.length();
        match &blob.at {
            Place::Inline { text } => self.content.push_bytes(text.as_bytes()),
            Place::Range { offset, .. } => self.content.push_range(source, *offset, blob.size, Some(blob.digest)),
        }
        self.end();
        Ok(at)
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// `index.json` (OCI image spec 1.1, "Image Index").
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: &'a str,
    digest: Digest,
    size: u64,
    annotations: BTreeMap<&'static str, &'a str>,
}

fn index<'a>(images: &'a [Image], found: &'a BTreeMap<Digest, Found>) -> Index<'a> {
    let describe = |image: &'a Image| {
        let (blob, _) = found.get(&image.digest)?;
        // The two names that containerd writes and reads: the whole reference, and its tag.
        let mut annotations = BTreeMap::from([("io.containerd.image.name", image.reference.as_str())]);
        annotations.extend(layout::tag(&image.reference).map(|tag| ("org.opencontainers.image.ref.name", tag)));
        Some(Descriptor { media_type: &blob.media_type, digest: blob.digest, size: blob.size, annotations })
    };
    Index {
        schema_version: 2,
        media_type: "application/vnd.oci.image.index.v1+json",
        manifests: images.iter().filter_map(describe).collect(),
    }
}

/// One image of `manifest.json`, which `docker load` reads.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage<'a> {
    config: String,
    repo_tags: Vec<&'a str>,
    layers: Vec<String>,
}

fn docker_list(images: &[Image]) -> Vec<DockerImage<'_>> {
    let mut list: BTreeMap<Digest, DockerImage<'_>> = BTreeMap::new();
    for image in images {
        let docker = list.entry(image.digest).or_insert_with(|| DockerImage {
            config: blob_path(&image.config),
            repo_tags: Vec::new(),
            layers: image.layers.iter().map(blob_path).collect(),
        });
        if !image.reference.contains('@') {
            docker.repo_tags.push(&image.reference);
        }
    }
    list.into_values().collect()
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|e| Failure::new(Code::ImageInvalid, format!("writing {ARCHIVE_PATH}: {e}")))
}
