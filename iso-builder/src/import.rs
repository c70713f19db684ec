//! Stock ISO → our ISO: the same files and images, every byte checked as a build checks it, each blob
//! once, and a manifest over it. A file that is not what its name says stops it.

mod stock;

use std::path::PathBuf;
use std::sync::Arc;

use bootstrap::bundle::{Arch, MANIFEST_PATH, Manifest};
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use serde::Serialize;

use crate::bundle;
use crate::iso::{Digests, Image, Labels};
use crate::keys::SecretKey;
use crate::layers::{Layers, Making};
use crate::opened::Opened;
use crate::output;
use crate::partial::Partial;
use crate::progress::Progress;
use crate::register;
use crate::sign;
use crate::sums::{Companions, Release};
use crate::verify::stock::lacks;

/// What an import reads and writes.
#[derive(Debug, Clone)]
pub struct Options {
    /// The stock ISO, or a device with its disc.
    pub stock: PathBuf,
    /// The ISO to be made.
    pub output: PathBuf,
    /// The build's name, instead of the stock ISO's file name without `.iso`.
    pub name: Option<String>,
    /// The Kubernetes version, with or without `v`, instead of the one that the image tags tell.
    pub kubernetes: Option<String>,
    /// The time that dates everything, in seconds since 1970.
    pub epoch: u64,
    /// How the layers of images lie on the ISO.
    pub layers: Layers,
    /// Who signs the ISO.
    pub sign: Option<Arc<SecretKey>>,
    /// Where progress is shown.
    pub progress: Progress,
}

impl Options {
    fn making(&self) -> Making<'_> {
        Making { layers: self.layers, scratch: crate::partial::directory_of(&self.output), progress: self.progress }
    }
}

/// A finished import.
#[derive(Debug, Clone, Serialize)]
pub struct Imported {
    /// The ISO.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Bytes of the stock ISO.
    pub stock_size: u64,
    /// The digest of the ISO.
    pub sha256: Digest,
    /// The digest of its `cks-bundle.json`.
    pub manifest_sha256: Digest,
    /// The build's name.
    pub name: String,
    /// The Kubernetes version with its `v`.
    pub kubernetes: String,
    /// The architecture that the programs are for.
    pub arch: Arch,
    /// Files on the ISO.
    pub files: usize,
    /// Images on the ISO.
    pub images: usize,
    /// What stands beside the ISO.
    pub beside: Companions,
    /// The call that registers the ISO with CloudStack.
    pub register: Option<String>,
    /// What was carried unknown or left behind, and what stock nodes need and the ISO lacks, one line each.
    pub warnings: Vec<String>,
}

/// Makes `options.output` out of `options.stock`.
///
/// # Errors
/// The failure names the file on the stock ISO that is at fault; nothing appears at the output then.
/// `CONFIG_INVALID` for an output that can't become a file or is the stock ISO, and for an ISO that has a
/// manifest already; `MEDIA_NOT_A_BUNDLE`, `SOURCE_TRUNCATED`, `CONTENT_INVALID`, `ARCH_MISMATCH`,
/// `ARCHIVE_UNSAFE`, `IMAGE_INVALID` and `DIGEST_MISMATCH` for the stock ISO.
pub fn import(options: &Options) -> Result<Imported, Failure> {
    let mut read = vec![options.stock.clone()];
    read.extend(options.sign.iter().map(|key| key.path().to_owned()));
    output::check(&options.output, &read)?;
    let iso = Opened::open(&options.stock)?;
    if iso.file(MANIFEST_PATH).is_some() {
        let what = format!("{} is no stock ISO: it has a {MANIFEST_PATH}", options.stock.display());
        return Err(Failure::new(Code::ConfigInvalid, what).with_remedy("use it as it is: cks-iso verify proves it"));
    }
    let partial = Partial::begin(&options.output)?;
    let stock::Read { label, contents, merged, mut warnings } = stock::read(&iso, options)?;
    let (manifest, mut files) = bundle::pack(&label, contents, merged, options.progress).map_err(stock::at_fault)?;
    bundle::check_layout(&files).map_err(stock::at_fault)?;
    let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
    warnings.extend(lacks(&paths).into_iter().map(|finding| finding.what));
    // The manifest is the first of the files.
    let digest = files.first().map_or_else(|| Digest::of(b""), |file| file.digest);
    let (epoch, key) = (options.epoch, options.sign.as_deref());
    if let Some(key) = key {
        files.insert(1, sign::signature_file(manifest.to_json()?.as_bytes(), key, epoch)?);
    }
    let image =
        Image::plan(&files, Labels { epoch, manifest: digest, digests: Digests::Computed }).map_err(stock::at_fault)?;
    let release = Release { output: &options.output, manifest: &manifest, manifest_digest: digest, epoch, key };
    let written = release.write(&image, partial, options.progress)?;
    let beside = release.companions();
    let register = register::call(&manifest, &options.output, written.sha256);
    let Manifest { name, arch, kubernetes, images, .. } = manifest;
    Ok(Imported {
        path: options.output.clone(),
        size: written.size,
        stock_size: iso.size(),
        sha256: written.sha256,
        manifest_sha256: digest,
        name,
        kubernetes: kubernetes.unwrap_or_default(),
        arch,
        files: files.len(),
        images: images.len(),
        beside,
        register,
        warnings,
    })
}
