//! Spec → ISO. The image appears under its name only when it is whole and on the disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bootstrap::bundle::Manifest;
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use serde::Serialize;

use crate::bundle::{self, Inputs, named};
use crate::content::{Content, Source};
use crate::fetch;
use crate::iso::{Image, Labels};
use crate::keys::SecretKey;
use crate::partial::{Partial, directory_of, hidden};
use crate::progress::{Bar, Progress};
use crate::spec::{DEFAULT_EPOCH, Origin, Spec, Tarball, in_spec, invalid};
use crate::sums::Release;
use crate::{sign, tarball};

/// Where a build reads and writes.
#[derive(Debug, Clone)]
pub struct Options {
    /// The ISO to be made.
    pub output: PathBuf,
    /// The spec's file; its relative paths start from its directory.
    pub spec: PathBuf,
    /// The cache of downloads.
    pub cache: PathBuf,
    /// The time that dates everything, in seconds since 1970, instead of the spec's.
    pub epoch: Option<u64>,
    /// Who signs the ISO.
    pub sign: Option<Arc<SecretKey>>,
    /// Where progress is shown.
    pub progress: Progress,
}

impl Options {
    /// A path of the spec.
    fn resolve(&self, path: &Path) -> PathBuf {
        self.spec.parent().unwrap_or(Path::new("")).join(path)
    }
}

/// A finished ISO.
#[derive(Debug, Clone, Serialize)]
pub struct Built {
    /// The ISO.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// The digest of the ISO.
    pub sha256: Digest,
    /// The digest of its `cks-bundle.json`.
    pub manifest_sha256: Digest,
    /// The build's name.
    pub name: String,
    /// Files on the ISO.
    pub files: usize,
    /// Images on the ISO.
    pub images: usize,
    /// What stock nodes need and the ISO lacks, one line each.
    pub warnings: Vec<String>,
}

/// Builds the ISO that `spec` describes.
///
/// # Errors
/// The failure names the key of the spec or the file; nothing appears at the output then.
pub fn build(spec: &Spec, options: &Options) -> Result<Built, Failure> {
    let epoch = options.epoch.or(spec.epoch).unwrap_or(DEFAULT_EPOCH);
    check_output(spec, options)?;
    let partial = Partial::begin(&options.output)?;
    let inputs = open_inputs(spec, options, epoch)?;
    let (manifest, mut files) = bundle::assemble(spec, &inputs, epoch, options.progress)?;
    bundle::check_layout(&files)?;
    let manifest_sha256 = files.first().map(|file| file.digest).unwrap_or_else(|| Digest::of(b""));
    let key = options.sign.as_deref();
    if let Some(key) = key {
        let signature = sign::signature_file(manifest.to_json()?.as_bytes(), key, epoch)?;
        files.insert(1, signature);
    }
    let image = Image::plan(&files, Labels { epoch, manifest: manifest_sha256 })?;
    let output = &options.output;
    let release = Release { output, manifest: &manifest, manifest_digest: manifest_sha256, epoch, key };
    let written = release.write(&image, partial, options.progress)?;
    let Manifest { name, images, .. } = manifest;
    let Options { output: path, .. } = options.clone();
    let (size, sha256) = (written.size, written.sha256);
    let (files, images, warnings) = (files.len(), images.len(), spec.lacks());
    Ok(Built { path, size, sha256, manifest_sha256, name, files, images, warnings })
}

/// Refuses an output that can't become a file, or that a build would read.
fn check_output(spec: &Spec, options: &Options) -> Result<(), Failure> {
    let output = &options.output;
    let refuse = |why: &str| {
        Err(Failure::new(Code::ConfigInvalid, format!("{} {why}", output.display()))
            .with_remedy("name the ISO to be made with -o OUT.iso"))
    };
    if output.file_name().is_none() || output.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return refuse("is no file name");
    }
    if fs::symlink_metadata(output).is_ok_and(|meta| !meta.is_file()) {
        return refuse("exists and is no regular file");
    }
    let identity = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    let written: Vec<_> = [output, &hidden(output)].into_iter().filter_map(|path| identity(path)).collect();
    let mut read = vec![options.spec.clone()];
    for (key, input) in spec.inputs() {
        if let Origin::File(path, _) = input.origin(&key)? {
            read.push(options.resolve(&path));
        }
    }
    for (key, tarball) in spec.tarballs() {
        match tarball.origin(key)? {
            Origin::File(path, _) => read.push(options.resolve(&path)),
            Origin::Files(files) => read.extend(files.iter().map(|file| options.resolve(file))),
            // One that can't be listed is told when it is packed.
            Origin::Directory(path) => {
                read.extend(tarball::files_of(&options.resolve(&path)).unwrap_or_default());
            }
            Origin::Url(..) => {}
        }
    }
    match read.iter().find(|path| identity(path).is_some_and(|found| written.contains(&found))) {
        Some(path) => refuse(&format!("is the same file as {}, which the build reads", path.display())),
        None => Ok(()),
    }
}

/// Opens every input: downloads what is far, packs what are loose files, checks the digests told.
fn open_inputs(spec: &Spec, options: &Options, epoch: u64) -> Result<Inputs, Failure> {
    let mut inputs = Inputs::new();
    for (key, input) in spec.inputs() {
        let source = open(&key, input.origin(&key)?, options).map_err(|failure| named(&key, failure))?;
        inputs.insert(key, source);
    }
    // Where upstream's own tarballs have their programs.
    let etcd = |tarball: &Tarball| format!("etcd-v{}-linux-{}/", tarball.bare_version(), spec.arch);
    for (key, tarball) in spec.tarballs() {
        let top = match key {
            "cni-plugins" => "./".to_owned(),
            "etcd" => etcd(tarball),
            _ => String::new(),
        };
        let source = match tarball.origin(key)? {
            Origin::Files(files) => pack(key, &files, &top, options, epoch),
            Origin::Directory(directory) => tarball::files_of(&options.resolve(&directory))
                .and_then(|files| pack(key, &files, &top, options, epoch)),
            origin => open(key, origin, options),
        };
        inputs.insert(key.to_owned(), source.map_err(|failure| named(key, failure))?);
    }
    Ok(inputs)
}

fn open(key: &str, origin: Origin, options: &Options) -> Result<Arc<Source>, Failure> {
    let (path, told) = match origin {
        Origin::File(path, told) => (options.resolve(&path), told),
        Origin::Url(url, told) => (fetch::fetch(&url, told, &options.cache, options.progress)?, None),
        Origin::Files(_) | Origin::Directory(_) => return Err(invalid(format!("{key}: is one file"))),
    };
    let source = Source::open(&path).map_err(in_spec)?;
    let found = told.map(|_| Content::whole(&source).digest(&Bar::none())).transpose()?;
    match (told, found) {
        (Some(told), Some(found)) if told != found => {
            let what = format!("{} has the digest {found}, the spec says {told}", path.display());
            Err(Failure::new(Code::DigestMismatch, what)
                .with_remedy("replace the file by the wanted one, or correct sha256 in the spec"))
        }
        _ => Ok(source),
    }
}

fn pack(key: &str, files: &[PathBuf], top: &str, options: &Options, epoch: u64) -> Result<Arc<Source>, Failure> {
    let files: Vec<PathBuf> = files.iter().map(|file| options.resolve(file)).collect();
    let mut total = 0;
    for file in &files {
        match fs::metadata(file) {
            Ok(meta) if meta.is_file() => total += meta.len(),
            _ => {
                let what = format!("{} is no file", file.display());
                return Err(invalid(what).with_remedy("correct the path in the spec"));
            }
        }
    }
    let bar = options.progress.start("Packing", total);
    let packed = tarball::pack(&files, top, epoch, directory_of(&options.output), &bar)?;
    bar.finish();
    Source::of(packed, Path::new(key))
}
