//! The version directories of a node: which stay for a way back, and which go.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bootstrap::bundle::{MANIFEST_PATH, Manifest};
use bootstrap::digest::Digest;
use bootstrap::failure::Failure;
use bootstrap::plan::{Bundle, CURRENT, LISTING_NAME, VERSIONS_DIR, paths_of};
use bootstrap::signature::SIGNATURE_PATH;

use super::Site;
use super::removal::{named, remove_known};
use crate::host::Host;

/// The names of the version directories that stay: `current`, and of the others that are whole the `keep` that
/// were installed or in use last.
#[must_use]
pub fn kept(host: &Host, current: &str, keep: u32) -> Vec<String> {
    let mut others: Vec<(SystemTime, String)> = names(host)
        .into_iter()
        .filter(|name| name != current)
        .filter_map(|name| Some((last_used(host, &name)?, name)))
        .collect();
    others.sort();
    let others = others.into_iter().rev().take(keep as usize).map(|(_, name)| name);
    [current.to_owned()].into_iter().chain(others).collect()
}

/// To be called before `current` leads elsewhere: what is in use until now is the way back, whenever it was installed.
/// Where that can't be written down, the time of its installation counts.
pub fn retire(host: &Host) {
    for record in [MANIFEST_PATH, LISTING_NAME] {
        if let Ok(record) = fs::File::open(host.path(&format!("{CURRENT}/{record}"))) {
            let _ = record.set_modified(SystemTime::now());
        }
    }
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

/// When the version was whole, as its record is written last, or when another took its place ([`retire`]).
fn last_used(host: &Host, name: &str) -> Option<SystemTime> {
    [MANIFEST_PATH, LISTING_NAME].iter().find_map(|record| {
        let path = host.path(&format!("{VERSIONS_DIR}/{name}/{record}"));
        let digest = crate::files::digest(&path).ok()?;
        name.ends_with(&digest.short()).then(|| fs::metadata(&path).ok()?.modified().ok()).flatten()
    })
}

/// Every file that an installation as `directory` may have made, as it lies for us: what its manifest names, and
/// what the journal saw (all there is of a stock ISO, and of what broke off).
fn known_files(site: &Site, directory: &str) -> BTreeSet<PathBuf> {
    let read = |file: &str| fs::read_to_string(site.host.path(&format!("{directory}/{file}"))).ok();
    let bundle = read(MANIFEST_PATH).and_then(|text| {
        let manifest = Manifest::parse(text.as_bytes()).ok()?;
        Some(Bundle { id: Digest::of(text.as_bytes()), manifest, text, derived: false, signature: None })
    });
    let named = bundle.map(|bundle| paths_of(&bundle)).unwrap_or_default();
    let records = [MANIFEST_PATH, SIGNATURE_PATH, LISTING_NAME].map(|record| format!("{directory}/{record}"));
    let known = records.into_iter().chain(named).chain(site.journal.files_below(directory));
    // A manifest of another directory names none of this one's.
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
