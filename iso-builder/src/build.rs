//! Spec → ISO. The image appears under its name only when it is whole and on the disk.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bootstrap::bundle::Manifest;
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use serde::Serialize;

use crate::bundle::{self, Inputs, named};
use crate::content::{Content, Source, failed};
use crate::fetch;
use crate::iso::{Image, Labels};
use crate::progress::{Bar, Progress};
use crate::spec::{DEFAULT_EPOCH, Origin, Spec, Tarball, invalid};
use crate::tarball;

/// Where a build reads and writes.
#[derive(Debug, Clone)]
pub struct Options {
    /// The ISO to be made.
    pub output: PathBuf,
    /// The directory that the spec's relative paths start from.
    pub base: PathBuf,
    /// The cache of downloads.
    pub cache: PathBuf,
    /// The time that dates everything, in seconds since 1970, instead of the spec's.
    pub epoch: Option<u64>,
    /// Where progress is shown.
    pub progress: Progress,
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
}

/// Builds the ISO that `spec` describes.
///
/// # Errors
/// The failure names the key of the spec or the file; nothing appears at the output then.
pub fn build(spec: &Spec, options: &Options) -> Result<Built, Failure> {
    let epoch = options.epoch.or(spec.epoch).unwrap_or(DEFAULT_EPOCH);
    let partial = Partial::begin(&options.output)?;
    let inputs = open_inputs(spec, options, epoch)?;
    let (manifest, files) = bundle::assemble(spec, &inputs, epoch, options.progress)?;
    bundle::check_layout(&files)?;
    let manifest_sha256 = files.first().map(|file| file.digest).unwrap_or_else(|| Digest::of(b""));
    let image = Image::plan(&files, Labels { epoch, manifest: manifest_sha256 })?;
    let bar = options.progress.start("Writing", image.size());
    let written = image.write(&partial.file, &bar)?;
    partial.finish()?;
    bar.finish();
    let Manifest { name, images, .. } = manifest;
    let Options { output: path, .. } = options.clone();
    let (size, sha256) = (written.size, written.sha256);
    Ok(Built { path, size, sha256, manifest_sha256, name, files: files.len(), images: images.len() })
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
    for (key, tarball, top) in [
        ("cni-plugins", &spec.cni_plugins, "./".to_owned()),
        ("cri-tools", &spec.cri_tools, String::new()),
        ("etcd", &spec.etcd, spec.etcd.as_ref().map(etcd).unwrap_or_default()),
    ] {
        let Some(tarball) = tarball else { continue };
        let source = match tarball.origin(key)? {
            Origin::Files(files) => pack(key, &files, &top, options, epoch),
            Origin::Directory(directory) => tarball::files_of(&options.base.join(directory))
                .and_then(|files| pack(key, &files, &top, options, epoch)),
            origin => open(key, origin, options),
        };
        inputs.insert(key.to_owned(), source.map_err(|failure| named(key, failure))?);
    }
    Ok(inputs)
}

fn open(key: &str, origin: Origin, options: &Options) -> Result<Arc<Source>, Failure> {
    let (path, told) = match origin {
        Origin::File(path, told) => (options.base.join(path), told),
        Origin::Url(url, told) => (fetch::fetch(&url, told, &options.cache, options.progress)?, None),
        Origin::Files(_) | Origin::Directory(_) => return Err(invalid(format!("{key}: is one file"))),
    };
    if let Err(error) = fs::metadata(&path) {
        return Err(invalid(format!("{}: {error}", path.display())).with_remedy("correct the path in the spec"));
    }
    let source = Source::open(&path)?;
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
    let files: Vec<PathBuf> = files.iter().map(|file| options.base.join(file)).collect();
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

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The hidden file beside the output that the image is written to. Dropped unfinished, it goes away; a
/// killed build's one is taken over by the next build.
struct Partial {
    file: File,
    path: PathBuf,
    output: PathBuf,
    /// It has the output's name now; its old name may be another build's.
    done: bool,
}

fn busy(output: &Path) -> Failure {
    Failure::new(Code::AlreadyRunning, format!("another build writes {}", output.display()))
        .with_remedy("wait for it, then run again")
}

impl Partial {
    fn begin(output: &Path) -> Result<Self, Failure> {
        let name = output.file_name().ok_or_else(|| {
            Failure::new(Code::ConfigInvalid, format!("{}: is no file name", output.display()))
                .with_remedy("name the ISO to be made with -o OUT.iso")
        })?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".partial");
        let path = directory_of(output).join(hidden);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| failed("Making", &path, e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(busy(output)),
            Err(TryLockError::Error(e)) => return Err(failed("Locking", &path, e)),
        }
        // The build that held the lock may have renamed this very file to the output meanwhile.
        let held = file.metadata().map_err(|e| failed("Locking", &path, e))?;
        if !fs::metadata(&path).is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino())) {
            return Err(busy(output));
        }
        file.set_len(0).map_err(|e| failed("Writing", &path, e))?;
        Ok(Self { file, path, output: output.to_owned(), done: false })
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.file.sync_all().map_err(|e| failed("Writing", &self.path, e))?;
        fs::rename(&self.path, &self.output).map_err(|e| failed("Writing", &self.output, e))?;
        self.done = true;
        fetch::sync_directory(directory_of(&self.output))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                eprintln!("warning: {} can't be removed: {e}", self.path.display());
            }
            _ => {}
        }
    }
}
