//! Directories that go away: known files one by one, then what is empty. What nobody knows stays.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bootstrap::failure::Failure;

use crate::host::io_failure;

/// Directories deeper than this are none of ours.
const MAX_DEPTH: usize = 8;

/// What came of a removal.
#[derive(Debug, Default)]
pub(super) struct Removed {
    /// Room that is free now.
    pub(super) bytes: u64,
    /// What was left, because nobody knows it.
    pub(super) left: Vec<PathBuf>,
}

/// Removes the files of `directory` that `is_known` by their path, and the directories that are empty then,
/// `directory` too. It follows no link and leaves no filesystem.
///
/// # Errors
/// `IO` names the file.
pub(super) fn remove_known(directory: &Path, is_known: &dyn Fn(&Path) -> bool) -> Result<Removed, Failure> {
    let mut removed = Removed::default();
    let device = fs::symlink_metadata(directory).map_err(|e| io_failure("Reading", directory, e))?.dev();
    remove_below(directory, device, MAX_DEPTH, is_known, &mut removed)?;
    Ok(removed)
}

fn remove_below(
    directory: &Path,
    device: u64,
    depth: usize,
    is_known: &dyn Fn(&Path) -> bool,
    removed: &mut Removed,
) -> Result<(), Failure> {
    let failed = |e| io_failure("Reading", directory, e);
    let (mut directories, mut files) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let meta = fs::symlink_metadata(&path).map_err(|e| io_failure("Reading", &path, e))?;
        match meta.is_dir() {
            true if meta.dev() == device && depth > 0 => directories.push(path),
            true => removed.left.push(path),
            false => files.push((path, meta)),
        }
    }
    // Files last: those of the top tell what the directory is.
    for below in directories {
        remove_below(&below, device, depth - 1, is_known, removed)?;
    }
    for (path, meta) in files {
        if is_known(&path) {
            fs::remove_file(&path).map_err(|e| io_failure("Removing", &path, e))?;
            removed.bytes += if meta.nlink() == 1 { meta.blocks() * 512 } else { 0 };
        } else {
            removed.left.push(path);
        }
    }
    match fs::remove_dir(directory) {
        Err(e) if e.kind() != io::ErrorKind::DirectoryNotEmpty => Err(io_failure("Removing", directory, e)),
        _ => Ok(()),
    }
}

/// Paths for a message, the first few of them.
pub(super) fn named(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths.iter().take(3).map(|path| path.display().to_string()).collect();
    let more = paths.len().saturating_sub(shown.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    bootstrap::text::plain(&format!("{}{more}", shown.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_knows_stays_with_what_it_lies_in() {
        let root = tempfile::tempdir().unwrap();
        let top = root.path().join("top");
        for name in ["a/known", "b/known", "b/foreign", "known"] {
            let path = top.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "12345").unwrap();
        }
        let outside = root.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("known"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, top.join("link")).unwrap();
        let known = |path: &Path| path.ends_with("known");
        let removed = remove_known(&top, &known).unwrap();
        let mut left = removed.left.clone();
        left.sort();
        assert_eq!(left, [top.join("b/foreign"), top.join("link")]);
        assert!(removed.bytes >= 3, "{removed:?}");
        assert!(!top.join("a").exists() && top.join("b/foreign").exists() && outside.join("known").exists());
        fs::remove_file(top.join("b/foreign")).unwrap();
        fs::remove_file(top.join("link")).unwrap();
        assert!(remove_known(&top, &known).unwrap().left.is_empty());
        assert!(!top.exists());
    }
}
