//! Where bytes gather, and what stock scripts left where theirs did.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bootstrap::bundle::{Kind, MANIFEST_PATH, Manifest, layout, legacy};
use bootstrap::failure::{Code, Failure};
use bootstrap::plan::VERSIONS_DIR;
use nix::sys::statfs::{FsType, statfs};

use super::Site;
use super::removal::{named, remove_known};
use crate::host::{Host, io_failure};

/// Where CloudStack's scripts mount the ISO, or download it to.
const STOCK_STAGING: &str = "/mnt/k8sdisk";
/// `ISOFS_SUPER_MAGIC` and `UDF_SUPER_MAGIC` (linux/magic.h).
const DISCS: [FsType; 2] = [FsType(0x9660), FsType(0x1501_3346)];
/// A tree with more files than this is no CKS ISO.
const MAX_FILES: usize = 100_000;

/// Refuses a node whose version directories are a disc, or lie on another filesystem than the bytes that
/// gather: a file that was checked could not be renamed to its place.
///
/// # Errors
/// `CONFIG_INVALID` names the directory.
pub fn check(host: &Host, version: &str) -> Result<(), Failure> {
    let versions = host.path(VERSIONS_DIR);
    let refuse = |path: &Path, why: &str| {
        Err(Failure::new(Code::ConfigInvalid, format!("{} {why}", path.display()))
            .with_remedy(format!("unmount {}", path.display())))
    };
    let Ok(meta) = fs::metadata(&versions) else { return Ok(()) };
    if statfs(&versions).is_ok_and(|filesystem| DISCS.contains(&filesystem.filesystem_type())) {
        return refuse(&versions, "is a disc: versions can't be installed there");
    }
    for below in [".partial", version] {
        let path = versions.join(below);
        let mounted = path.canonicalize().is_ok_and(|path| mounts_below(&path).is_some_and(|count| count > 0));
        if mounted || fs::metadata(&path).is_ok_and(|below| below.dev() != meta.dev()) {
            return refuse(&path, "is mounted by itself: what is installed has to lie on the filesystem of /opt/cks");
        }
    }
    Ok(())
}

/// Removes the copy of an ISO that stock scripts left in `/mnt/k8sdisk`, where a later upgrade of theirs would
/// install it again. Not when something is mounted there, nor when one of `sources` lies there.
///
/// # Errors
/// `IO` names the file.
pub fn clear_stock(site: &Site, sources: &[String]) -> Result<(), Failure> {
    let directory = site.host.path(STOCK_STAGING);
    if !fs::symlink_metadata(&directory).is_ok_and(|meta| meta.is_dir()) {
        return Ok(());
    }
    let real = directory.canonicalize().map_err(|e| io_failure("Reading", &directory, e))?;
    let is_source = |source: &String| Path::new(source).canonicalize().is_ok_and(|source| source.starts_with(&real));
    if mounts_below(&real) != Some(0) || sources.iter().any(is_source) {
        return Ok(());
    }
    let mut files = Vec::new();
    list(&real, &real, &mut files);
    let manifest = fs::read(real.join(MANIFEST_PATH)).ok().and_then(|bytes| Manifest::parse(&bytes).ok());
    if manifest.is_none() && !legacy::is_bundle(files.iter().map(String::as_str)) {
        return Ok(());
    }
    let removed = remove_known(&real, &|path| {
        let Some(path) = path.strip_prefix(&real).ok().and_then(Path::to_str) else { return false };
        let listed = manifest.as_ref().is_some_and(|manifest| manifest.entry(path).is_some());
        listed || layout::kind_of(path) != Kind::Other || path.starts_with(MANIFEST_PATH)
    })?;
    let mut told = format!(
        "STALE_STAGING: {STOCK_STAGING} held the copy of an ISO that CloudStack's scripts left: removed, {} MiB are free again",
        removed.bytes >> 20
    );
    if !removed.left.is_empty() {
        told = format!("{told}; left what belongs to no ISO: {}", named(&removed.left));
    }
    site.board.warn(told);
    Ok(())
}

/// How many mounts there are at `path` and below; none where that can't be found out.
fn mounts_below(path: &Path) -> Option<usize> {
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    Some(mount_points(&text).iter().filter(|mount| mount.starts_with(path)).count())
}

/// The mount points of `/proc/self/mountinfo`; spaces and the like are octal there.
fn mount_points(text: &str) -> Vec<PathBuf> {
    let point = |line: &str| {
        let field = line.split(' ').nth(4)?;
        let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
        Some(PathBuf::from(escapes.iter().fold(field.to_owned(), |field, (from, to)| field.replace(from, to))))
    };
    text.lines().filter_map(point).collect()
}

fn list(top: &Path, directory: &Path, files: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && files.len() < MAX_FILES => list(top, &path, files),
            Ok(kind) if kind.is_file() => {
                files.extend(path.strip_prefix(top).ok().and_then(Path::to_str).map(str::to_owned));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read() {
        let text = "22 28 0:20 / /sys rw - sysfs sysfs rw\n36 35 98:0 /mnt1 /mnt/k8s\\040disk rw master:1 - ext3 /dev/root rw\n";
        assert_eq!(mount_points(text), [Path::new("/sys"), Path::new("/mnt/k8s disk")]);
        assert!(mounts_below(Path::new("/proc")) > Some(0));
        assert_eq!(mounts_below(Path::new("/nonexistent")), Some(0));
    }
}
