//! Spec → ISO. The image appears under its name only when it is whole and on the disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bootstrap::bundle::Manifest;
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use serde::Serialize;

use crate::access::Access;
use crate::bundle::{self, Assembled, Label};
use crate::cache::Cache;
use crate::inputs::{self, Sources};
use crate::iso::{Digests, Image, Labels};
use crate::keys::SecretKey;
use crate::layers::Making;
use crate::lock::Lock;
use crate::output;
use crate::partial::Partial;
use crate::progress::Progress;
use crate::project::Project;
use crate::register;
use crate::sign;
use crate::spec::Origin;
use crate::sums::{Companions, Release};
use crate::tarball;

/// Where a build reads and writes.
#[derive(Debug, Clone)]
pub struct Options {
    /// The ISO to be made.
    pub output: PathBuf,
    /// The cache of downloads.
    pub cache: Cache,
    /// How this machine reaches what has to be downloaded.
    pub access: Access,
    /// The time that dates everything, in seconds since 1970, instead of the spec's; a lock's goes before it.
    pub epoch: Option<u64>,
    /// Who signs the ISO.
    pub sign: Option<Arc<SecretKey>>,
    /// Where the lock is.
    pub lock: PathBuf,
    /// The program that renders charts.
    pub helm: PathBuf,
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
    /// What stands beside the ISO.
    pub beside: Companions,
    /// The call that registers the ISO with CloudStack, where it brings Kubernetes.
    pub register: Option<String>,
    /// What stock nodes need and the ISO lacks, one line each.
    pub warnings: Vec<String>,
}

/// Builds the ISO of `project`: with a `lock` exactly what the lock says.
///
/// # Errors
/// The failure names the key of the spec or the file; nothing appears at the output then.
pub fn build(project: &Project, lock: Option<&Lock>, options: &Options) -> Result<Built, Failure> {
    let recipe = &project.recipe;
    let epoch = lock.map_or_else(|| project.epoch(options.epoch), |lock| lock.epoch);
    check_output(project, options)?;
    let partial = Partial::begin(&options.output)?;
    let sources = Sources { project, lock, epoch, options };
    let inputs = sources.open()?;
    let label = Label {
        name: recipe.name.clone(),
        arch: recipe.arch,
        components: lock.map_or_else(|| recipe.components.clone(), |lock| lock.components.clone()),
        node: lock.map_or_else(|| recipe.node.clone(), Lock::node),
        epoch,
    };
    let scratch = crate::partial::directory_of(&options.output);
    let making = Making { layers: recipe.layers, scratch, progress: options.progress };
    let Assembled { manifest, mut files, missing, doubts } = bundle::assemble(&label, inputs, making)?;
    if let (Some(first), true, false) = (missing.first(), lock.is_some(), recipe.incomplete) {
        return Err(inputs::lacking(first, missing.len()));
    }
    bundle::check_layout(&files)?;
    let manifest_sha256 = files.first().map(|file| file.digest).unwrap_or_else(|| Digest::of(b""));
    let key = options.sign.as_deref();
    if let Some(key) = key {
        let signature = sign::signature_file(manifest.to_json()?.as_bytes(), key, epoch)?;
        files.insert(1, signature);
    }
    let image = Image::plan(&files, Labels { epoch, manifest: manifest_sha256, digests: Digests::Computed })?;
    let output = &options.output;
    let release = Release { output, manifest: &manifest, manifest_digest: manifest_sha256, epoch, key };
    let written = release.write(&image, partial, options.progress)?;
    let register = register::call(&manifest, &options.output, written.sha256);
    let beside = release.companions();
    let Manifest { name, images, .. } = manifest;
    let (path, size, sha256) = (options.output.clone(), written.size, written.sha256);
    let (files, images, mut warnings) = (files.len(), images.len(), recipe.lacks());
    warnings.extend(missing.into_iter().chain(doubts));
    Ok(Built { path, size, sha256, manifest_sha256, name, files, images, beside, register, warnings })
}

/// Refuses an output that can't become a file, or that a build would read.
fn check_output(project: &Project, options: &Options) -> Result<(), Failure> {
    let mut read = files_read(project);
    read.push(options.lock.clone());
    read.extend(options.sign.iter().map(|key| key.path().to_owned()));
    output::check(&options.output, &read)
}

/// Refuses a lock that would take the place of something that it is made from, or of a device.
///
/// # Errors
/// `CONFIG_INVALID` names the file.
pub fn check_lock_path(project: &Project, lock: &Path) -> Result<(), Failure> {
    let identity = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    if fs::metadata(lock).is_ok_and(|meta| !meta.is_file()) {
        return Err(Failure::new(Code::ConfigInvalid, format!("--lock {} is no regular file", lock.display()))
            .with_remedy("name another file with --lock"));
    }
    let Some(found) = identity(lock) else { return Ok(()) };
    match files_read(project).iter().find(|path| identity(path) == Some(found)) {
        Some(path) => {
            let what = format!("--lock {} is {}, which the lock is made from", lock.display(), path.display());
            Err(Failure::new(Code::ConfigInvalid, what).with_remedy("name another file with --lock"))
        }
        None => Ok(()),
    }
}

/// Every file of this machine that the spec is, or names.
fn files_read(project: &Project) -> Vec<PathBuf> {
    let parts = project.recipe.parts.iter().flat_map(|part| files_of(project, &part.from));
    [&project.path].into_iter().chain(&project.profiles).cloned().chain(parts).collect()
}

/// The files of this machine that are read for a part.
fn files_of(project: &Project, from: &Origin) -> Vec<PathBuf> {
    match from {
        Origin::File(path, _) => vec![project.resolve(path)],
        Origin::Files(files) => files.iter().map(|file| project.resolve(file)).collect(),
        // One that can't be listed is told when it is packed.
        Origin::Directory(path) => tarball::files_of(&project.resolve(path)).unwrap_or_default(),
        Origin::Chart(archive, _) => files_of(project, archive),
        Origin::Url(..) | Origin::BuiltIn(_) => Vec::new(),
    }
}
