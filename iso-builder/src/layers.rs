//! The layers of images: counted and proven against their images' configs, and recompressed where the spec
//! wants it. A node spends most of its time in inflating layers, and zstd takes half of gzip's.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bootstrap::bundle::{Blob, Image, Place};
use bootstrap::digest::{Digest, Hasher};
use bootstrap::failure::{Code, Failure};
use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::content::{Content, Source, failed};
use crate::images::Found;
use crate::progress::{Bar, Progress};

/// OCI image spec 1.1, "zstd Media Types"; containerd reads it since 1.5.
const ZSTD_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Nodes read what one build wrote; each level above costs twice the time for one hundredth of the bytes.
const ZSTD_LEVEL: i32 = 9;
/// Bytes to look back, as a power of two. A node unpacks several layers at a time and keeps as much for each; a window
/// of 4 MiB, which the level would have, saves 4 % of the size.
const ZSTD_WINDOW: u32 = 20;
/// An image's manifest larger than this is none.
const MAX_MANIFEST: u64 = 4 << 20;
const CHUNK: usize = 128 << 10;

/// How layers lie on the ISO.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Layers {
    /// Upstream's bytes.
    #[default]
    Upstream,
    /// Compressed anew by zstd; images that a digest names keep upstream's bytes.
    Zstd,
}

impl Layers {
    /// Whether it is the default.
    #[must_use]
    pub fn is_upstream(&self) -> bool {
        *self == Self::Upstream
    }
}

/// How layers are made ready.
#[derive(Debug, Clone, Copy)]
pub struct Making<'a> {
    /// How they lie on the ISO.
    pub layers: Layers,
    /// Directory for temporary files, which have no names.
    pub scratch: &'a Path,
    /// Where progress is shown.
    pub progress: Progress,
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packed {
    Gzip,
    Zstd,
    Plain,
}

impl Packed {
    /// By the media types of OCI and Docker; none for what is no layer that anybody can unpack.
    fn of(media_type: &str) -> Option<Self> {
        let is_tar = media_type.contains(".tar") && (media_type.contains("layer") || media_type.contains("rootfs"));
        match media_type {
            _ if !is_tar => None,
            _ if media_type.ends_with("gzip") => Some(Self::Gzip),
            _ if media_type.ends_with("+zstd") => Some(Self::Zstd),
            _ if media_type.ends_with(".tar") => Some(Self::Plain),
            _ => None,
        }
    }
}

/// A layer that is read once.
struct Layer<'a> {
    found: &'a Found,
    packed: Packed,
    diff_id: Digest,
    reference: &'a str,
    again: bool,
}

/// What one reading of a layer brought.
struct Done {
    digest: Digest,
    unpacked: u64,
    /// The layer compressed anew, at its place in the thread's file.
    again: Option<Blob>,
}

/// What one thread read, and the file that its new layers lie in.
type Part = (Vec<Done>, Arc<Source>);

/// Counts every layer of `images`, checks it against the diff id of its image, and gives the images the
/// layers that `making` wants. `found` then holds the new blobs, too.
///
/// # Errors
/// `IMAGE_INVALID` for a layer that is not what its image says; `IO` and `NO_SPACE`.
pub(crate) fn make(
    images: &mut [Image],
    found: &mut BTreeMap<Digest, Found>,
    making: Making<'_>,
) -> Result<(), Failure> {
    let kept = match making.layers {
        Layers::Upstream => images.iter().map(|image| image.digest).collect(),
        Layers::Zstd => kept(images, found),
    };
    let done = {
        let layers = layers(images, found, &kept);
        let bar = making.progress.start("Layers", layers.values().map(|layer| layer.found.0.size).sum());
        let done = read_all(&layers, making.scratch, &bar)?;
        bar.finish();
        done
    };
    let mut changed = BTreeMap::new();
    for (done, file) in done {
        for Done { digest, unpacked, again } in done {
            if let Some((blob, _)) = found.get_mut(&digest) {
                blob.unpacked = Some(unpacked);
            }
            if let Some(blob) = again {
                changed.insert(digest, blob.clone());
                found.insert(blob.digest, (blob, Arc::clone(&file)));
            }
        }
    }
    for image in images.iter_mut().filter(|image| !kept.contains(&image.digest)) {
        rewrite(image, found, &changed)?;
    }
    Ok(())
}

/// The images that keep their bytes: a digest names them, or a layer of theirs is no tar.
fn kept(images: &[Image], found: &BTreeMap<Digest, Found>) -> BTreeSet<Digest> {
    let known = |digest: &Digest| found.get(digest).is_some_and(|(blob, _)| Packed::of(&blob.media_type).is_some());
    let keeps = |image: &&Image| image.reference.contains('@') || !image.layers.iter().all(known);
    images.iter().filter(keeps).map(|image| image.digest).collect()
}

/// Every layer once. One that a kept image and another share lies on the ISO in both forms.
fn layers<'a>(
    images: &'a [Image],
    found: &'a BTreeMap<Digest, Found>,
    kept: &BTreeSet<Digest>,
) -> BTreeMap<Digest, Layer<'a>> {
    let mut layers: BTreeMap<Digest, Layer<'a>> = BTreeMap::new();
    for image in images {
        for (digest, diff_id) in image.layers.iter().zip(&image.diff_ids) {
            let Some(found) = found.get(digest) else { continue };
            let Some(packed) = Packed::of(&found.0.media_type) else { continue };
            let again = !kept.contains(&image.digest) && packed != Packed::Zstd;
            let layer = layers.entry(*digest).or_insert_with(|| {
                let reference = image.reference.as_str();
                Layer { found, packed, diff_id: *diff_id, reference, again: false }
            });
            layer.again |= again;
        }
    }
    layers
}

/// Reads the layers on all cores.
fn read_all(layers: &BTreeMap<Digest, Layer<'_>>, scratch: &Path, bar: &Bar) -> Result<Vec<Part>, Failure> {
    let mut list: Vec<_> = layers.iter().collect();
    // The largest first: the last ones then end at about the same time.
    list.sort_by_key(|(_, layer)| std::cmp::Reverse(layer.found.0.size));
    let (next, cores) = (AtomicUsize::new(0), std::thread::available_parallelism().map_or(1, usize::from));
    let work = || {
        let file = tempfile::tempfile_in(scratch).map_err(|e| failed("Making a temporary file in", scratch, e))?;
        let (mut file, mut done) = (Hashed::new(file), Vec::new());
        while let Some((digest, layer)) = list.get(next.fetch_add(1, Ordering::Relaxed)) {
            let read = layer.read(**digest, &mut file, scratch);
            // The others need not go on.
            done.push(read.inspect_err(|_| next.store(list.len(), Ordering::Relaxed))?);
            bar.add(layer.found.0.size);
        }
        let file = file.file.into_inner().map_err(|e| failed("Writing to", scratch, e.into_error()))?;
        Ok((done, Source::of(file, Path::new("a layer that was compressed anew"))?))
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores.min(list.len())).map(|_| scope.spawn(work)).collect();
        let panicked = |_| Err(Failure::new(Code::Io, "reading the layers: a thread broke off"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    })
}

impl Layer<'_> {
    fn read(&self, digest: Digest, file: &mut Hashed, scratch: &Path) -> Result<Done, Failure> {
        let (blob, source) = self.found;
        let mut content = Content::default();
        match &blob.at {
            Place::Range { offset, .. } => content.push_range(source, *offset, blob.size, Some(blob.digest)),
            Place::Inline { text } => content.push_bytes(text.as_bytes()),
        }
        let reader = BufReader::with_capacity(CHUNK, content.reader());
        let broken = |e: io::Error| self.invalid(&format!("can't be unpacked: {e}"), &content);
        let mut inflated: Box<dyn Read + '_> = match self.packed {
            Packed::Gzip => Box::new(MultiGzDecoder::new(reader)),
            Packed::Zstd => Box::new(zstd::Decoder::with_buffer(reader).map_err(broken)?),
            Packed::Plain => Box::new(reader),
        };
        let writing = |e| failed("Compressing a layer into", scratch, e);
        let offset = file.begin();
        let mut packer = if self.again { Some(packer(file).map_err(writing)?) } else { None };
        let (mut hasher, mut unpacked, mut buffer) = (Hasher::default(), 0, vec![0; CHUNK]);
        loop {
            let count = inflated.read(&mut buffer).map_err(broken)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            unpacked += count as u64;
            if let Some(packer) = &mut packer {
                packer.write_all(&buffer[..count]).map_err(writing)?;
            }
        }
        let diff_id = hasher.finish();
        if diff_id != self.diff_id {
            let why = format!("unpacks to {diff_id}, the image's config says {}", self.diff_id);
            return Err(self.invalid(&why, &content));
        }
        let again = match packer {
            Some(packer) => Some(packer.finish().map_err(writing)?.blob(offset, unpacked)),
            None => None,
        };
        Ok(Done { digest, unpacked, again })
    }

    /// The failure of a layer: that it is damaged, or that it never was what its image says.
    fn invalid(&self, why: &str, content: &Content) -> Failure {
        let what = format!("image {}: layer {} {why}", self.reference, self.found.0.digest);
        content.digest(&Bar::none()).err().unwrap_or_else(|| Failure::new(Code::ImageInvalid, what))
    }
}

/// Compresses a layer to the end of `file`.
fn packer(file: &mut Hashed) -> io::Result<zstd::Encoder<'static, &mut Hashed>> {
    let mut packer = zstd::Encoder::new(file, ZSTD_LEVEL)?;
    packer.window_log(ZSTD_WINDOW)?;
    // Layers are checked by their digests; a second checksum inside costs every node time.
    packer.include_checksum(false)?;
    Ok(packer)
}

/// A file of layers one behind the other, each hashed on its way.
struct Hashed {
    file: io::BufWriter<std::fs::File>,
    hasher: Hasher,
    begin: u64,
    length: u64,
}

impl Hashed {
    fn new(file: std::fs::File) -> Self {
        Self { file: io::BufWriter::with_capacity(CHUNK, file), hasher: Hasher::default(), begin: 0, length: 0 }
    }

    /// Begins a layer and tells where.
    fn begin(&mut self) -> u64 {
        self.hasher = Hasher::default();
        self.begin = self.length;
        self.begin
    }

    /// The layer that ends here.
    fn blob(&mut self, offset: u64, unpacked: u64) -> Blob {
        Blob {
            digest: std::mem::take(&mut self.hasher).finish(),
            size: self.length - self.begin,
            media_type: ZSTD_LAYER.to_owned(),
            unpacked: Some(unpacked),
            at: Place::Range { path: String::new(), offset },
        }
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.length += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Gives `image` its new layers, and a manifest that names them. The config, by which a container engine
/// knows an image, stays: it tells digests of what is unpacked.
fn rewrite(
    image: &mut Image,
    found: &mut BTreeMap<Digest, Found>,
    changed: &BTreeMap<Digest, Blob>,
) -> Result<(), Failure> {
    let invalid = |why: &str| Failure::new(Code::ImageInvalid, format!("image {}: {why}", image.reference));
    let (blob, source) = found.get(&image.digest).ok_or_else(|| invalid("has no manifest"))?;
    let text = match &blob.at {
        Place::Inline { text } => text.clone().into_bytes(),
        Place::Range { offset, .. } => {
            let mut content = Content::default();
            content.push_range(source, *offset, blob.size, None);
            content.small(MAX_MANIFEST)?
        }
    };
    let mut manifest: Value = serde_json::from_slice(&text).map_err(|e| invalid(&format!("its manifest: {e}")))?;
    manifest["mediaType"] = json!(OCI_MANIFEST);
    manifest["config"]["mediaType"] = json!(OCI_CONFIG);
    let list = manifest["layers"].as_array_mut().filter(|list| list.len() == image.layers.len());
    let list = list.ok_or_else(|| invalid("its manifest has other layers"))?;
    for (descriptor, digest) in list.iter_mut().zip(&mut image.layers) {
        if let Some(blob) = changed.get(digest) {
            *descriptor = json!({ "mediaType": blob.media_type, "digest": blob.digest, "size": blob.size });
            *digest = blob.digest;
        }
    }
    let text = manifest.to_string();
    image.digest = Digest::of(text.as_bytes());
    let (size, media_type) = (text.len() as u64, OCI_MANIFEST.to_owned());
    let blob = Blob { digest: image.digest, size, media_type, unpacked: None, at: Place::Inline { text } };
    let source = Arc::clone(source);
    found.insert(image.digest, (blob, source));
    Ok(())
}
