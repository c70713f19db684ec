//! The version directories of a node: which stay for a way back, and which go.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use bootstrap::bundle::{MANIFEST_PATH, Manifest};
use bootstrap::digest::Digest;
use bootstrap::failure::Failure;
use bootstrap::plan::{Bundle, LISTING_NAME, VERSIONS_DIR, paths_of};

use super::Site;
use super::removal::{named, remove_known};
use crate::host::Host;

/// What is known of a stock ISO that its listing does not tell: its images, and what its tarballs hold. Kept
/// beside the listing, so that the node can be looked at without its source.
pub const DERIVED_NAME: &str = "derived.json";

/// The names of the version directories that stay: `current`, and of the others that are whole the `keep` that
/// were installed last.
#[must_use]
pub fn kept(host: &Host, current: &str, keep: u32) -> Vec<String> {
    let mut others: Vec<(SystemTime, String)> = names(host)
        .into_iter()
        .filter(|name| name != current)
        .filter_map(|name| Some((installed_at(host, &name)?, name)))
        .collect();
    others.sort();
    let others = others.into_iter().rev().take(keep as usize).map(|(_, name)| name);
    [current.to_owned()].into_iter().chain(others).collect()
}

/// Removes what is not kept: old versions, and what broken-off runs left of other bundles. What nobody knows
/// stays and is named in a warning.
///
/// # Errors
/// `IO` names the file.
pub fn prune(site: &Site, keep: u32) -> Result<(), Failure> {
    let kept = kept(&site.host, &site.bundle.directory_name(), keep);
    for name in names(&site.host).into_iter().filter(|name| !kept.contains(name)) {
        let directory = format!("{VERSIONS_DIR}/{name}");
        let known = known_files(site, &directory);
        let removed = remove_known(&site.host.path(&directory), &|path| {
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".cks-new"));
            hidden || known.contains(path)
        })?;
        tracing::info!(%directory, bytes = removed.bytes, "removed an old version");
        if !removed.left.is_empty() {
            let left = named(&removed.left);
            site.board.warn(format!("UNKNOWN_FILES: {left} are none of ours: move them away, then remove {directory}"));
        }
    }
    Ok(())
}

/// Keeps what was derived from a stock ISO's listing, and learned since.
///
/// # Errors
/// `IO` or `NO_SPACE` names the file.
pub fn keep_derived(site: &Site) -> Result<(), Failure> {
    if !site.bundle.derived {
        return Ok(());
    }
    let (path, text) = (format!("{}/{DERIVED_NAME}", site.bundle.directory()), site.bundle.manifest.to_json()?);
    match fs::read_to_string(site.host.path(&path)) {
        Ok(there) if there == text => Ok(()),
        _ => crate::files::write(&site.host.prepare(&path)?, text.as_bytes(), 0o644),
    }
}

/// The bundle that was installed as the version directory `name`, from what is kept there; none where that is
/// lost or changed.
#[must_use]
pub fn recorded(host: &Host, name: &str) -> Option<Bundle> {
    let read = |file: &str| fs::read_to_string(host.path(&format!("{VERSIONS_DIR}/{name}/{file}"))).ok();
    let (text, manifest, derived) = match read(MANIFEST_PATH) {
        Some(text) => (text.clone(), Manifest::parse(text.as_bytes()).ok()?, false),
        None => (read(LISTING_NAME)?, serde_json::from_str(&read(DERIVED_NAME)?).ok()?, true),
    };
    let bundle = Bundle { id: Digest::of(text.as_bytes()), manifest, text, derived };
    (bundle.directory_name() == name).then_some(bundle)
}

/// Names of version directories, whole ones or not: `v1.33.1-3f2a9c1b04d5`.
fn names(host: &Host) -> Vec<String> {
    let entries = fs::read_dir(host.path(VERSIONS_DIR)).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| is_version(name)).collect()
}

fn is_version(name: &str) -> bool {
    let digest =
        |text: &str| text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    name.rsplit_once('-').is_some_and(|(version, short)| !version.is_empty() && digest(short))
}

/// When the version was whole: its record is written last.
fn installed_at(host: &Host, name: &str) -> Option<SystemTime> {
    [MANIFEST_PATH, LISTING_NAME].iter().find_map(|record| {
        let path = host.path(&format!("{VERSIONS_DIR}/{name}/{record}"));
        let digest = crate::files::digest(&path).ok()?;
        name.ends_with(&digest.short()).then(|| fs::metadata(&path).ok()?.modified().ok()).flatten()
    })
}

/// Every file that an installation as `directory` may have made, as it lies for us.
fn known_files(site: &Site, directory: &str) -> BTreeSet<std::path::PathBuf> {
    let name = directory.rsplit('/').next().unwrap_or_default();
    let records = [MANIFEST_PATH, LISTING_NAME, DERIVED_NAME].map(|record| format!("{directory}/{record}"));
    let recorded = recorded(&site.host, name).map(|bundle| paths_of(&bundle)).unwrap_or_default();
    let known = records.into_iter().chain(recorded).chain(site.journal.files_below(directory));
    known.filter(|path| Path::new(path).starts_with(directory)).map(|path| site.host.path(&path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_versions_are_kept_and_nothing_else_counts() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        let mut names = Vec::new();
        for age in 0..4 {
            let text = format!("listing {age}");
            let name = format!("v1.3{age}.0-{}", Digest::of(text.as_bytes()).short());
            let record = host.prepare(&format!("{VERSIONS_DIR}/{name}/{LISTING_NAME}")).unwrap();
            fs::write(&record, text).unwrap();
            let installed = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000 - age);
            fs::File::open(&record).unwrap().set_modified(installed).unwrap();
            names.push(name);
        }
        // Broken off, damaged, and of somebody else.
        fs::create_dir(host.path(&format!("{VERSIONS_DIR}/v9-0123456789ab"))).unwrap();
        fs::write(host.path(&format!("{VERSIONS_DIR}/{}/{LISTING_NAME}", names[1])), "changed").unwrap();
        fs::create_dir_all(host.path(&format!("{VERSIONS_DIR}/media"))).unwrap();
        assert_eq!(kept(&host, &names[3], 1), [names[3].clone(), names[0].clone()]);
        assert_eq!(kept(&host, &names[3], 0), [names[3].clone()]);
        assert_eq!(kept(&host, &names[0], 9), [names[0].clone(), names[2].clone(), names[3].clone()]);
        assert_eq!(super::names(&host).len(), 5);
    }
}
