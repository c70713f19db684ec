//! Image archives: what `docker save`, `ctr image export` and skopeo write, as indexes into the tar.
//!
//! An archive is read by its headers and its few JSON files only; layers are told by offset and size,
//! so that a byte range of the tar can go straight into a content store. Both layouts are read: OCI
//! image layout (`index.json`, OCI image spec 1.1) and docker archive (`manifest.json` alone).

mod documents;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom};

use serde::Deserialize;

use self::documents::{Config, Descriptor, DockerImage, Index, OciManifest};
use crate::bounded::Bounded;
use crate::bundle::layout::{check_reference, is_critical, normalise_reference, roles_of_image};
use crate::bundle::{Blob, Image, Place};
use crate::digest::Digest;
use crate::failure::{Code, Failure};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// More entries than any real archive has; beyond it the file is refused instead of read for ever.
const MAX_ENTRIES: usize = 100_000;
/// Images of one archive, and layers of one image, at most: containerd and Docker stop at 127 layers.
const MAX_IMAGES: usize = 4096;
const MAX_LAYERS: usize = 512;
/// JSON documents larger than this are refused: containerd's own limit for manifests is 4 MiB.
const MAX_JSON: u64 = 4 << 20;
/// Bytes of JSON read from one archive, at most: a list may name one large document a hundred thousand times.
/// 4096 images with 32 KiB of documents each have as much.
const MAX_JSON_IN_ALL: u64 = 128 << 20;

/// The images of one archive, with places inside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Archive {
    /// The images, sorted by reference.
    pub images: Vec<Image>,
    /// Their blobs, each once, sorted by digest.
    pub blobs: Vec<Blob>,
    /// `architecture` of each image config, by the config's digest, in OCI's spelling.
    pub architectures: BTreeMap<Digest, String>,
}

/// Reads the image archive at `path` of a bundle.
///
/// # Errors
/// `IMAGE_INVALID` names the archive and what is wrong with it; `IO` a failing reader.
pub fn read<R: Read + Seek>(reader: R, path: &str) -> Result<Archive, Failure> {
    let mut tar = Tar::index(reader, path)?;
    let mut found = Found::default();
    if tar.files.contains_key("index.json") {
        read_oci(&mut tar, &mut found)?;
    } else if tar.files.contains_key("manifest.json") {
        read_docker(&mut tar, &mut found)?;
    } else {
        return Err(tar.refuse("is no image archive: it has neither index.json nor manifest.json"));
    }
    if found.images.is_empty() {
        return Err(tar.refuse("names no image: tag the image before it is exported"));
    }
    Ok(Archive {
        images: found.images.into_values().collect(),
        blobs: found.blobs.into_values().collect(),
        architectures: found.architectures,
    })
}

#[derive(Default)]
struct Found {
    images: BTreeMap<String, Image>,
    blobs: BTreeMap<Digest, Blob>,
    architectures: BTreeMap<Digest, String>,
}

impl Found {
    fn add_image(
        &mut self,
        reference: &str,
        digest: Digest,
        manifest: &OciManifest,
        diff_ids: &[Digest],
    ) -> Result<(), Failure> {
        let reference = normalise_reference(reference);
        if let Err(reason) = check_reference(&reference) {
            return Err(Failure::new(Code::ImageInvalid, format!("image name {reference:?} {reason}")));
        }
        if manifest.layers.len() > MAX_LAYERS || self.images.len() >= MAX_IMAGES {
            let why = format!("has more than {MAX_LAYERS} layers, or is one of more than {MAX_IMAGES} images");
            return Err(Failure::new(Code::ImageInvalid, format!("image {reference} {why}")));
        }
        if self.images.get(&reference).is_some_and(|other| other.digest != digest) {
            let why = "stands for two different images in one archive";
            return Err(Failure::new(Code::ImageInvalid, format!("image name {reference} {why}")));
        }
        let image = Image {
            roles: roles_of_image(&reference),
            critical: is_critical(&reference),
            reference: reference.clone(),
            digest,
            config: manifest.config.digest,
            layers: manifest.layers.iter().map(|layer| layer.digest).collect(),
            diff_ids: diff_ids.to_vec(),
        };
        self.images.insert(reference, image);
        Ok(())
    }

    fn add_blob(&mut self, descriptor: &Descriptor, at: Place) {
        let Descriptor { media_type, digest, size, .. } = descriptor.clone();
        let is_plain_layer = media_type.ends_with(".tar");
        self.blobs.insert(digest, Blob { digest, size, media_type, unpacked: is_plain_layer.then_some(size), at });
    }
}

/// The files of a tar: name → place, links followed.
struct Tar<'a, R> {
    reader: R,
    path: &'a str,
    files: BTreeMap<String, (u64, u64)>,
    /// Bytes of JSON read so far.
    json: u64,
}

impl<'a, R: Read + Seek> Tar<'a, R> {
    fn index(reader: R, path: &'a str) -> Result<Self, Failure> {
        let broken = |e: std::io::Error| refuse(path, &format!("can't be read as a tar: {e}"));
        let (mut files, mut links) = (BTreeMap::new(), Vec::new());
        let (reader, budget) = Bounded::new(reader);
        let mut archive = tar::Archive::new(reader);
        for (count, entry) in archive.entries_with_seek().map_err(broken)?.enumerate() {
            let entry = entry.map_err(broken)?;
            budget.renew();
            if count >= MAX_ENTRIES {
                return Err(refuse(path, "has more than 100 000 entries"));
            }
            let name = normal(&String::from_utf8_lossy(&entry.path_bytes()));
            let kind = entry.header().entry_type();
            if kind.is_file() {
                files.insert(name, (entry.raw_file_position(), entry.size()));
            } else if let (true, Some(target)) = (kind.is_symlink() || kind.is_hard_link(), entry.link_name_bytes()) {
                links.push((name, kind.is_symlink(), String::from_utf8_lossy(&target).into_owned()));
            }
        }
        for (name, symbolic, target) in links {
            let base = if symbolic { name.rsplit_once('/').map_or("", |(dir, _)| dir) } else { "" };
            if let Some(place) = files.get(&resolve(base, &target)).copied() {
                files.insert(name, place);
            }
        }
        Ok(Self { reader: archive.into_inner().into_inner(), path, files, json: 0 })
    }

    fn refuse(&self, why: &str) -> Failure {
        refuse(self.path, why)
    }

    fn place(&self, name: &str) -> Result<(u64, u64), Failure> {
        let missing = || self.refuse(&format!("lacks {name}, which its own list names"));
        self.files.get(&normal(name)).copied().ok_or_else(missing)
    }

    fn bytes(&mut self, name: &str) -> Result<Vec<u8>, Failure> {
        let (offset, size) = self.place(name)?;
        if size > MAX_JSON {
            return Err(self.refuse(&format!("has a {name} of {size} bytes")));
        }
        self.json += size;
        if self.json > MAX_JSON_IN_ALL {
            return Err(self.refuse("makes its reader read more than 128 MiB of JSON"));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        let read = self.reader.seek(SeekFrom::Start(offset)).and_then(|_| self.reader.read_exact(&mut bytes));
        read.map_err(|e| self.refuse(&format!("ends inside {name}: {e}")))?;
        Ok(bytes)
    }

    fn starts_with_gzip(&mut self, name: &str) -> Result<bool, Failure> {
        let (offset, size) = self.place(name)?;
        let mut magic = [0; 2];
        if size < 2 {
            return Ok(false);
        }
        let read = self.reader.seek(SeekFrom::Start(offset)).and_then(|_| self.reader.read_exact(&mut magic));
        read.map_err(|e| self.refuse(&format!("ends inside {name}: {e}")))?;
        Ok(magic == [0x1f, 0x8b])
    }

    fn json<T: for<'de> Deserialize<'de>>(&mut self, name: &str) -> Result<T, Failure> {
        let bytes = self.bytes(name)?;
        serde_json::from_slice(&bytes).map_err(|e| self.refuse(&format!("has a {name} that can't be read: {e}")))
    }

    fn range(&self, name: &str) -> Result<(u64, Place), Failure> {
        let (offset, size) = self.place(name)?;
        Ok((size, Place::Range { path: self.path.to_owned(), offset }))
    }

    /// Puts the blob that `descriptor` names into `found`; its size must be as told.
    fn take_blob(&self, descriptor: &Descriptor, found: &mut Found) -> Result<(), Failure> {
        let name = blob_name(&descriptor.digest);
        let (size, at) = self.range(&name)?;
        if size != descriptor.size {
            return Err(self.refuse(&format!("has {size} bytes in {name}, its list says {}", descriptor.size)));
        }
        found.add_blob(descriptor, at);
        Ok(())
    }
}

fn read_oci<R: Read + Seek>(tar: &mut Tar<'_, R>, found: &mut Found) -> Result<(), Failure> {
    let index: Index = tar.json("index.json")?;
    if index.manifests.len() > MAX_IMAGES {
        return Err(tar.refuse(&format!("lists more than {MAX_IMAGES} images")));
    }
    let mut tags = docker_tags(tar)?;
    // An image with several names is listed several times; it is read once.
    let mut names: BTreeMap<Digest, (Descriptor, BTreeSet<String>)> = BTreeMap::new();
    for descriptor in &index.manifests {
        let descriptor = one_platform(tar, descriptor)?;
        let name = name_of(&descriptor.annotations);
        names.entry(descriptor.digest).or_insert_with(|| (descriptor, BTreeSet::new())).1.extend(name);
    }
    for (digest, (descriptor, mut names)) in names {
        let manifest: OciManifest = tar.json(&blob_name(&digest))?;
        let config: Config = tar.json(&blob_name(&manifest.config.digest))?;
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(tar.refuse(&format!("has a manifest {digest} whose layers do not fit its config")));
        }
        for blob in [&descriptor, &manifest.config].into_iter().chain(&manifest.layers) {
            tar.take_blob(blob, found)?;
        }
        names.extend(tags.remove(&manifest.config.digest).unwrap_or_default());
        for name in names {
            found.add_image(&name, digest, &manifest, &config.rootfs.diff_ids)?;
        }
        found.architectures.insert(manifest.config.digest, config.architecture);
    }
    Ok(())
}

/// References by config digest, from the docker list that stands beside the index.
fn docker_tags<R: Read + Seek>(tar: &mut Tar<'_, R>) -> Result<BTreeMap<Digest, BTreeSet<String>>, Failure> {
    let mut tags: BTreeMap<Digest, BTreeSet<String>> = BTreeMap::new();
    if tar.files.contains_key("manifest.json") {
        for image in tar.json::<Vec<DockerImage>>("manifest.json")? {
            let hex = image.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
            if let Ok(digest) = hex.parse() {
                tags.entry(digest).or_default().extend(image.repo_tags.unwrap_or_default());
            }
        }
    }
    Ok(tags)
}

/// The image's name as containerd and Docker write it; a bare tag (`3.10`) names nothing.
fn name_of(annotations: &BTreeMap<String, String>) -> Option<String> {
    let full = annotations.get("io.containerd.image.name");
    let tag = || annotations.get("org.opencontainers.image.ref.name").filter(|name| name.contains([':', '/']));
    full.or_else(tag).cloned()
}

/// For an index of platforms: the one manifest that the archive really holds.
fn one_platform<R: Read + Seek>(tar: &mut Tar<'_, R>, descriptor: &Descriptor) -> Result<Descriptor, Failure> {
    let is_index = descriptor.media_type.contains("image.index") || descriptor.media_type.contains("manifest.list");
    if !is_index {
        return Ok(descriptor.clone());
    }
    let index: Index = tar.json(&blob_name(&descriptor.digest))?;
    let mut held = Vec::new();
    for mut manifest in index.manifests {
        if !manifest.is_attestation() && tar.files.contains_key(&blob_name(&manifest.digest)) {
            // The name stands on the index; the image is the manifest below it.
            manifest.annotations = descriptor.annotations.clone();
            held.push(manifest);
        }
    }
    match <[Descriptor; 1]>::try_from(held) {
        Ok([only]) => Ok(only),
        Err(held) => Err(tar.refuse(&format!(
            "holds {} platforms of {}: export one with --platform linux/amd64 or linux/arm64",
            held.len(),
            descriptor.digest
        ))),
    }
}

fn read_docker<R: Read + Seek>(tar: &mut Tar<'_, R>, found: &mut Found) -> Result<(), Failure> {
    for image in tar.json::<Vec<DockerImage>>("manifest.json")? {
        let bytes = tar.bytes(&image.config)?;
        let config: Config = serde_json::from_slice(&bytes)
            .map_err(|e| tar.refuse(&format!("has a config {} that can't be read: {e}", image.config)))?;
        if config.rootfs.diff_ids.len() != image.layers.len() {
            return Err(tar.refuse(&format!("has a config {} that does not fit its layers", image.config)));
        }
        let (size, at) = tar.range(&image.config)?;
        let descriptor = |media_type: &str, digest, size| Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            annotations: BTreeMap::new(),
            platform: None,
        };
        let config_descriptor = descriptor(OCI_CONFIG, Digest::of(&bytes), size);
        found.add_blob(&config_descriptor, at);
        let mut layers = Vec::new();
        for (name, diff_id) in image.layers.iter().zip(&config.rootfs.diff_ids) {
            if tar.starts_with_gzip(name)? {
                return Err(tar.refuse(&format!("has a compressed layer {name} but no index.json")));
            }
            // An uncompressed layer's digest is its diff id (OCI image spec, "Layer DiffID").
            let (size, at) = tar.range(name)?;
            let layer = descriptor(OCI_LAYER, *diff_id, size);
            found.add_blob(&layer, at);
            layers.push(layer);
        }
        let manifest =
            OciManifest { schema_version: 2, media_type: OCI_MANIFEST.to_owned(), config: config_descriptor, layers };
        let text = serde_json::to_string(&manifest).map_err(|e| tar.refuse(&e.to_string()))?;
        let digest = Digest::of(text.as_bytes());
        found.add_blob(&descriptor(OCI_MANIFEST, digest, text.len() as u64), Place::Inline { text });
        for name in image.repo_tags.unwrap_or_default() {
            found.add_image(&name, digest, &manifest, &config.rootfs.diff_ids)?;
        }
        found.architectures.insert(manifest.config.digest, config.architecture);
    }
    Ok(())
}

fn refuse(path: &str, why: &str) -> Failure {
    Failure::new(Code::ImageInvalid, format!("image archive {path} {why}"))
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A tar member's name in its shortest form: `./a//b` → `a/b`.
fn normal(name: &str) -> String {
    resolve("", name)
}

fn resolve(base: &str, target: &str) -> String {
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests;
