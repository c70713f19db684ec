//! Looks at the machine: as much of it as the plan depends on, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bootstrap::bundle::Arch;
use bootstrap::digest::Digest;
use bootstrap::failure::Failure;
use bootstrap::plan::{Bundle, CURRENT, ContainerdFact, Facts, FileFact, VERSIONS_DIR, Wanted};
use bootstrap::render::containerd::{CONFIG, DROP_IN, MAIN, SERVICE_DROP_IN, SET_ASIDE, UNIT_PLACES};

use crate::containerd::Containerd;
use crate::host::{Host, filesystem, io_failure};
use crate::journal::Journal;
use crate::verify::Outcome;

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
        let at = host.path(&file.path);
        if let Some((sha256, mode)) = journal.digest_of(&file.path, &at)?.filter(|_| is_ours(&at)) {
            facts.files.insert(file.path.clone(), FileFact { sha256, mode });
        }
    }
    let units = wanted.units.iter().flat_map(|(path, source)| [path, source]);
    let ours = [bundle.record_path(), bundle.signature_path()];
    let containerd_has = [CONFIG, DROP_IN, SERVICE_DROP_IN, SET_ASIDE].into_iter().chain(UNIT_PLACES);
    let containerd_has: Vec<String> = containerd_has.map(str::to_owned).collect();
    for path in wanted.texts.keys().chain(units).chain(&ours).chain(&containerd_has) {
        if let Some(text) = text(&host.path(path)) {
            facts.texts.insert(path.clone(), text);
        }
    }
    if let Some(text) = foreign_text(&host.path(MAIN))? {
        facts.texts.insert(MAIN.to_owned(), text);
    }
    look_at_links(host, bundle, wanted, &mut facts);
    facts.filesystem = host.filesystem(VERSIONS_DIR);
    let partials = fs::read_dir(host.path(&format!("{VERSIONS_DIR}/.partial"))).into_iter().flatten().flatten();
    facts.kept_bytes = partials.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum();
    if let Some(containerd) = containerd {
        look_at_containerd(containerd, wanted, &Outcome::suspects(host), &mut facts).await?;
    }
    Ok(facts)
}

/// The directories that programs and plugins are linked into, and how their links begin.
const LINKED: [(&str, &str); 2] = [("/opt/bin", "../cks/"), ("/opt/cni/bin", "../../cks/")];

fn look_at_links(host: &Host, bundle: &Bundle, wanted: &Wanted, facts: &mut Facts) {
    for path in wanted.links.keys().map(String::as_str).chain([CURRENT]) {
        if let Ok(target) = fs::read_link(host.path(path)) {
            facts.links.insert(path.to_owned(), target.to_string_lossy().into_owned());
        }
    }
    for (path, target) in &wanted.links {
        let full = host.path(path);
        // `exists` follows links: what leads nowhere is no loss.
        let works = facts.links.get(path) != Some(target) && full.exists();
        if works && !full.with_file_name(target).exists() {
            facts.until_switch.insert(path.clone());
        }
    }
    for (directory, prefix) in LINKED {
        for entry in fs::read_dir(host.path(directory)).into_iter().flatten().flatten() {
            let path = format!("{directory}/{}", entry.file_name().to_string_lossy());
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let Some(below) = target.to_str().and_then(|target| target.strip_prefix(prefix)) else { continue };
            let leads = below.strip_prefix("current/").map(|rest| host.path(&format!("{}/{rest}", bundle.directory())));
            if !wanted.links.contains_key(&path) && !leads.is_some_and(|file| file.exists()) {
                facts.stale_links.insert(path);
            }
        }
    }
}

/// Whether a file is of the user that we are, root on a node: another one could change it again.
fn is_ours(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.uid() == nix::unistd::geteuid().as_raw())
}

/// The text of a regular file of ours; anything else is as good as none: it will be replaced.
fn text(path: &Path) -> Option<String> {
    let meta = fs::symlink_metadata(path).ok()?;
    if !meta.is_file() || meta.len() > MAX_TEXT_BYTES || meta.mode() & 0o7777 != 0o644 || !is_ours(path) {
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

async fn look_at_containerd(
    containerd: &Containerd,
    wanted: &Wanted,
    suspects: &BTreeSet<Digest>,
    facts: &mut Facts,
) -> Result<(), Failure> {
    facts.containerd = Some(ContainerdFact { version: containerd.version.clone() });
    // Directories that are not to be seen from here lie on a filesystem that nothing is known of.
    let seen = |root: &Option<PathBuf>| root.as_deref().filter(|root| root.is_dir()).and_then(filesystem);
    facts.content_filesystem = seen(&containerd.content_root);
    facts.snapshot_filesystem = seen(&containerd.root);
    // What `verify` found damaged is read again before it counts as held.
    let found = containerd.find(&wanted.images, &containerd.broken(suspects).await?).await?;
    (facts.images, facts.blobs, facts.begun_bytes) = (found.images, found.blobs, found.begun_bytes);
    Ok(())
}
