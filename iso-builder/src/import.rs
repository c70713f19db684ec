//! Stock ISO → our ISO: the same files and images, every byte checked as a build checks it, each blob
//! once, and a manifest over it. A file that is not what its name says stops it.

mod stock;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bootstrap::bundle::{Arch, MANIFEST_PATH, Manifest};
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use serde::Serialize;

use crate::bundle::{self, File};
use crate::iso::{Image, Labels};
use crate::opened::Opened;
use crate::partial::{Partial, hidden};
use crate::progress::Progress;
use crate::register;

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
    /// Where progress is shown.
    pub progress: Progress,
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
    /// The call that registers the ISO with CloudStack.
    pub register: Option<String>,
    /// What was carried unknown or left behind, one line each.
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
    check_output(options)?;
    let iso = Opened::open(&options.stock)?;
    if iso.file(MANIFEST_PATH).is_some() {
        let what = format!("{} is no stock ISO: it has a {MANIFEST_PATH}", options.stock.display());
        return Err(Failure::new(Code::ConfigInvalid, what).with_remedy("use it as it is: cks-iso verify proves it"));
    }
    let partial = Partial::begin(&options.output)?;
    let stock::Read { label, contents, merged, warnings } = stock::read(&iso, options)?;
    let (manifest, files) = bundle::pack(&label, contents, merged, options.progress).map_err(stock::at_fault)?;
    bundle::check_layout(&files).map_err(stock::at_fault)?;
    // Whatever stands beside the manifest, a signature of it, joins `files` here.
    let written = write(&files, &partial, options)?;
    partial.finish()?;
    let register = register::call(&manifest, &options.output, written.sha256);
    let Manifest { name, arch, kubernetes, images, .. } = manifest;
    Ok(Imported {
        path: options.output.clone(),
        size: written.size,
        stock_size: iso.size(),
        sha256: written.sha256,
        manifest_sha256: manifest_digest(&files),
        name,
        kubernetes: kubernetes.unwrap_or_default(),
        arch,
        files: files.len(),
        images: images.len(),
        register,
        warnings,
    })
}

/// The manifest is the first of the files.
fn manifest_digest(files: &[File]) -> Digest {
    files.first().map_or_else(|| Digest::of(b""), |file| file.digest)
}

fn write(files: &[File], partial: &Partial, options: &Options) -> Result<crate::iso::Written, Failure> {
    let labels = Labels { epoch: options.epoch, manifest: manifest_digest(files) };
    let image = Image::plan(files, labels).map_err(stock::at_fault)?;
    let bar = options.progress.start("Writing", image.size());
    let written = image.write(partial.file(), &bar)?;
    bar.finish();
    Ok(written)
}

/// Refuses an output that can't become a file, or that is the stock ISO.
fn check_output(options: &Options) -> Result<(), Failure> {
    let output = &options.output;
    let refuse = |why: String| {
        Err(Failure::new(Code::ConfigInvalid, format!("{} {why}", output.display()))
            .with_remedy("name the ISO to be made with -o OUT.iso"))
    };
    if output.file_name().is_none() || output.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return refuse("is no file name".to_owned());
    }
    if fs::symlink_metadata(output).is_ok_and(|meta| !meta.is_file()) {
        return refuse("exists and is no regular file".to_owned());
    }
    let identity = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    let stock = identity(&options.stock);
    if stock.is_some() && [identity(output), identity(&hidden(output))].contains(&stock) {
        return refuse(format!("is the same file as {}, which is imported", options.stock.display()));
    }
    Ok(())
}
