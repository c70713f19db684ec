//! What a part is on this machine, where nothing has to be downloaded for it.

use std::fs;
use std::path::{Path, PathBuf};

use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};

use crate::content::{Content, Source, misnamed};
use crate::progress::Progress;
use crate::project::Project;
use crate::recipe::Part;
use crate::spec::{Origin, invalid, upstream};
use crate::tarball;

/// A text that the builder brings; empty for an unknown name.
#[must_use]
pub fn built_in(name: &str) -> &'static str {
    match name {
        "kubelet.service" => include_str!("../data/kubelet.service"),
        "10-kubeadm.conf" => include_str!("../data/10-kubeadm.conf"),
        _ => "",
    }
}

/// The paths that a tarball is packed from, as the spec names them.
#[must_use]
pub fn named_paths(origin: &Origin) -> Vec<String> {
    let shown = |path: &PathBuf| path.to_string_lossy().into_owned();
    match origin {
        Origin::Files(files) => files.iter().map(shown).collect(),
        Origin::Directory(directory) => vec![shown(directory)],
        _ => Vec::new(),
    }
}

/// Packs the files of `part` as upstream lays its tarball out; the temporary file is made in `scratch`.
///
/// # Errors
/// `SPEC_INVALID` names a path that is no file; those of [`tarball::pack`].
pub fn pack(
    project: &Project,
    part: &Part,
    epoch: u64,
    scratch: &Path,
    progress: Progress,
) -> Result<Content, Failure> {
    let files = match &part.from {
        Origin::Files(files) => files.iter().map(|file| project.resolve(file)).collect(),
        Origin::Directory(directory) => tarball::files_of(&project.resolve(directory))?,
        _ => return Err(invalid(format!("{}: is no list of files", part.key))),
    };
    let recipe = &project.recipe;
    let version = recipe.components.iter().find(|component| component.name == part.key);
    let version = version.map_or("", |component| upstream::bare(&component.version));
    // Where upstream's own tarballs have their programs.
    let top = match part.key.as_str() {
        "cni-plugins" => "./".to_owned(),
        "etcd" => format!("etcd-v{version}-linux-{}/", recipe.arch),
        _ => String::new(),
    };
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
    fs::create_dir_all(scratch).map_err(|e| misnamed("Making", scratch, e))?;
    let bar = progress.start("Packing", total);
    let packed = tarball::pack(&files, &top, epoch, scratch, &bar)?;
    bar.finish();
    Ok(Content::whole(&Source::of(packed, Path::new(&part.key))?))
}

/// Refuses a file with another digest than was told by `by`.
///
/// # Errors
/// `DIGEST_MISMATCH` names the file.
pub fn check_told(path: &Path, found: Digest, told: Option<Digest>, by: &str) -> Result<(), Failure> {
    match told {
        Some(told) if told != found => {
            let what = format!("{} has the digest {found}, {by} says {told}", path.display());
            let remedy = match by {
                "the lock" => "replace the file by the wanted one, or run cks-iso lock again".to_owned(),
                by => format!("replace the file by the wanted one, or correct sha256 in {by}"),
            };
            Err(Failure::new(Code::DigestMismatch, what).with_remedy(remedy))
        }
        _ => Ok(()),
    }
}
