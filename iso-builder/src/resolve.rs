//! Recipe → lock: finds out which bytes a spec stands for now. What an old lock says of the same thing
//! stays, unless it is asked for again.

pub mod checksum;
mod files;
pub mod kubeadm;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bootstrap::archive;
use bootstrap::bundle::{layout, reference};
use bootstrap::failure::{Code, Failure};

use self::files::Files;
use crate::access::Access;
use crate::bundle::named;
use crate::cache::Cache;
use crate::content::{Content, Source};
use crate::lock::{Lock, LockedBlob, LockedImage, LockedNode, VERSION};
use crate::manifests;
use crate::progress::Progress;
use crate::project::Project;
use crate::recipe::CONSTANTS;
use crate::references::{self, Named};
use crate::registry::{self, BlobInfo, Resolved};

/// What a lock is made with.
#[derive(Debug, Clone, Copy)]
pub struct Means<'a> {
    /// How this machine reaches what it looks up.
    pub access: &'a Access,
    /// Where it is kept.
    pub cache: &'a Cache,
    /// Where progress is shown.
    pub progress: Progress,
    /// The program that renders charts.
    pub helm: &'a Path,
}

/// What is looked up anew although an old lock says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// Nothing.
    Changed,
    /// Everything.
    All,
    /// These keys, manifests and references.
    Named(Vec<String>),
}

impl Update {
    /// Whether `key` or reference is to be looked up anew.
    fn takes(&self, key: &str) -> bool {
        let names = match self {
            Self::Changed => return false,
            Self::All => return true,
            Self::Named(names) => names,
        };
        names
            .iter()
            .any(|name| name == key || format!("manifests.{name:?}") == key || layout::normalise_reference(name) == key)
    }

    /// Refuses a name that neither the spec nor its images have.
    fn check(&self, lock: &Lock) -> Result<(), Failure> {
        let Self::Named(names) = self else { return Ok(()) };
        let keys: Vec<_> = lock.files.iter().map(|file| &file.key).collect();
        let known: Vec<_> = keys.into_iter().chain(lock.images.iter().map(|image| &image.reference)).collect();
        for name in names {
            let one = Self::Named(vec![name.clone()]);
            if !known.iter().any(|key| one.takes(key)) {
                let what = format!("--update {name}: the lock has no file and no image of that name");
                return Err(Failure::new(Code::ConfigInvalid, what)
                    .with_remedy("name a key or a reference as the lock spells it"));
            }
        }
        Ok(())
    }
}

/// Makes the lock of `project`; `epoch` dates everything, `old` is the lock of before.
///
/// # Errors
/// The failure names the key, the manifest's line or the reference; see [`crate::fetch`] and
/// [`crate::registry`].
pub fn lock(
    project: &Project,
    epoch: u64,
    old: Option<&Lock>,
    update: &Update,
    means: &Means<'_>,
) -> Result<Lock, Failure> {
    let recipe = &project.recipe;
    let making = Files { project, epoch, old, update, means };
    let files = making.all()?;
    let mut lock = Lock {
        version: VERSION,
        name: recipe.name.clone(),
        arch: recipe.arch,
        epoch,
        spec: project.digest,
        components: recipe.components.clone(),
        node: LockedNode {
            sysctl: recipe.node.sysctl.clone(),
            kubeadm_arguments: recipe.node.kubeadm_arguments.clone(),
        },
        files,
        images: Vec::new(),
    };
    let named = wanted_images(&making, &lock)?;
    lock.images = images(named, &making)?;
    update.check(&lock)?;
    Ok(lock)
}

/// The images that have to come from registries, and who names them.
fn wanted_images(making: &Files<'_>, lock: &Lock) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let recipe = &making.project.recipe;
    let mut all: Vec<Named> = Vec::new();
    let mut add = |reference: &str, by: &str| {
        all.push(Named { reference: layout::normalise_reference(reference), by: by.to_owned() });
    };
    recipe.references.iter().for_each(|(reference, by)| add(reference, by));
    if let (Some(kubernetes), Some(file)) = (&recipe.kubernetes_images, lock.file(CONSTANTS)) {
        let constants = making.text(file)?;
        kubeadm::images(&constants, kubernetes)?.iter().for_each(|reference| add(reference, "kubernetes"));
    }
    let mut archived = BTreeSet::new();
    for file in &lock.files {
        if let Some(name) = file.key.strip_prefix("manifests.") {
            let (name, text) = (name.trim_matches('"'), making.text(file)?);
            let inside = |failure| named(&file.key, failure);
            manifests::check_applyable(name, &text).map_err(inside)?;
            if recipe.manifest_images {
                all.extend(references::of_manifest(name, &text).map_err(inside)?);
            }
        } else if file.key.starts_with("images[") {
            let content = Content::whole(&Source::open(&making.path(file)?)?);
            archived
                .extend(archive::read(content.reader(), &file.key)?.images.into_iter().map(|image| image.reference));
        }
    }
    let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Named { reference, by } in all {
        if !reference::names(&reference).iter().all(|name| archived.contains(name)) {
            let names = wanted.entry(reference).or_default();
            if !names.contains(&by) {
                names.push(by);
            }
        }
    }
    Ok(wanted)
}

fn images(wanted: BTreeMap<String, Vec<String>>, making: &Files<'_>) -> Result<Vec<LockedImage>, Failure> {
    let Files { project, old, update, means, .. } = making;
    let same_arch = old.filter(|old| old.arch == project.recipe.arch);
    let mut images: Vec<LockedImage> = same_arch.map(|old| old.images.clone()).unwrap_or_default();
    images.retain(|image| wanted.contains_key(&image.reference) && !update.takes(&image.reference));
    let has = |reference: &String| images.iter().any(|image| image.reference == *reference);
    let open: Vec<String> = wanted.keys().filter(|reference| !has(reference)).cloned().collect();
    let resolved = registry::resolve(&open, project.recipe.arch, means.access, means.cache, means.progress);
    let resolved = resolved.map_err(|failure| naming(failure, &wanted))?;
    images.extend(resolved.into_iter().map(LockedImage::from));
    for image in &mut images {
        image.named_by = wanted.get(&image.reference).cloned().unwrap_or_default();
    }
    images.sort_by(|a, b| a.reference.cmp(&b.reference));
    Ok(images)
}

/// Says who names the image that `failure` is about: there it has to be corrected.
fn naming(failure: Failure, wanted: &BTreeMap<String, Vec<String>>) -> Failure {
    let who = wanted.iter().rev().find(|(reference, _)| failure.what.contains(reference.as_str()));
    let what = match who.and_then(|(_, by)| by.first()) {
        Some(by) => format!("{} (named by {by})", failure.what),
        None => failure.what.clone(),
    };
    Failure { what, ..failure }
}

impl From<Resolved> for LockedImage {
    fn from(resolved: Resolved) -> Self {
        let Resolved { reference, index, manifest, config, layers, diff_ids } = resolved;
        Self {
            reference,
            named_by: Vec::new(),
            index,
            manifest: manifest.into(),
            config: config.into(),
            layers: layers.into_iter().map(LockedBlob::from).collect(),
            diff_ids,
        }
    }
}

impl From<BlobInfo> for LockedBlob {
    fn from(BlobInfo { digest, size, media_type }: BlobInfo) -> Self {
        Self { digest, size, media_type }
    }
}

impl From<LockedBlob> for BlobInfo {
    fn from(LockedBlob { digest, size, media_type }: LockedBlob) -> Self {
        Self { digest, size, media_type }
    }
}

impl From<&LockedImage> for Resolved {
    fn from(locked: &LockedImage) -> Self {
        let LockedImage { reference, index, manifest, config, layers, diff_ids, .. } = locked.clone();
        Self {
            reference,
            index,
            manifest: manifest.into(),
            config: config.into(),
            layers: layers.into_iter().map(BlobInfo::from).collect(),
            diff_ids,
        }
    }
}
