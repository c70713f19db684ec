//! Looks at the machine: as much of it as the plan depends on, and nothing else.

use std::fs;
use std::path::Path;

use bootstrap::bundle::Arch;
use bootstrap::failure::Failure;
use bootstrap::plan::{Bundle, ContainerdFact, Facts, FileFact, VERSIONS_DIR, Wanted};
use bootstrap::render::containerd::{DROP_IN, MAIN};

use crate::containerd::Containerd;
use crate::host::{Host, filesystem, io_failure};
use crate::journal::Journal;

/// A text file larger than this is none of ours.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// Facts about everything that `wanted` names.
///
/// # Errors
/// `IO` names a file that can't be read; `CONTAINERD_…`.
pub async fn gather(
    host: &Host,
    journal: &Journal,
    arch: Arch,
    bundle: &Bundle,
    wanted: &Wanted,
    containerd: Option<&Containerd>,
) -> Result<Facts, Failure> {
    let mut facts = Facts::empty(arch);
    for file in &wanted.files {
        if let Some((sha256, mode)) = journal.digest_of(&file.path, &host.path(&file.path))? {
            facts.files.insert(file.path.clone(), FileFact { sha256, mode });
        }
    }
    let units = wanted.units.iter().flat_map(|(path, source)| [path, source]);
    let ours = [bundle.record_path(), DROP_IN.to_owned()];
    for path in wanted.texts.keys().chain(units).chain(&ours) {
        if let Some(text) = text(&host.path(path)) {
            facts.texts.insert(path.clone(), text);
        }
    }
    if let Some(text) = foreign_text(&host.path(MAIN))? {
        facts.texts.insert(MAIN.to_owned(), text);
    }
    for path in wanted.links.keys() {
        if let Ok(target) = fs::read_link(host.path(path)) {
            facts.links.insert(path.clone(), target.to_string_lossy().into_owned());
        }
    }
    facts.filesystem = host.filesystem(VERSIONS_DIR);
    let partials = fs::read_dir(host.path(&format!("{VERSIONS_DIR}/.partial"))).into_iter().flatten().flatten();
    facts.kept_bytes = partials.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum();
    if let Some(containerd) = containerd {
        look_at_containerd(containerd, wanted, &mut facts).await?;
    }
    Ok(facts)
}

/// The text of a regular file; anything else is as good as none: it will be replaced.
fn text(path: &Path) -> Option<String> {
    let meta = fs::symlink_metadata(path).ok()?;
    if !meta.is_file() || meta.len() > MAX_TEXT_BYTES {
        return None;
    }
    fs::read_to_string(path).ok()
}

/// The text of a file that belongs to the operator: it may be a link, and is never taken for absent when it
/// only can't be read.
fn foreign_text(path: &Path) -> Result<Option<String>, Failure> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(None);
    }
    let bytes = fs::read(path).map_err(|e| io_failure("Reading", path, e))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

async fn look_at_containerd(containerd: &Containerd, wanted: &Wanted, facts: &mut Facts) -> Result<(), Failure> {
    facts.containerd = Some(ContainerdFact { version: containerd.version.clone() });
    facts.containerd_filesystem = containerd.root.as_deref().and_then(filesystem);
    let found = containerd.find(&wanted.images).await?;
    (facts.images, facts.blobs) = (found.images, found.blobs);
    Ok(())
}
