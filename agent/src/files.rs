//! Files that appear whole or not at all: write beside, fsync, rename, fsync the directory.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use bootstrap::digest::{Digest, Hasher};
use bootstrap::failure::{Code, Failure};
use nix::fcntl::OFlag;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::host::io_failure;

/// What tells that a file is still the one that was hashed, without reading it: any write changes
/// `ctime`, and only the kernel sets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified_ns: i64,
    changed_ns: i64,
}

impl Fingerprint {
    /// Of the regular file at `path`; none where there is none.
    #[must_use]
    pub fn of(path: &Path) -> Option<(Self, u32)> {
        let meta = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
        let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        let fingerprint = Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified_ns: nanoseconds(meta.mtime(), meta.mtime_nsec()),
            changed_ns: nanoseconds(meta.ctime(), meta.ctime_nsec()),
        };
        Some((fingerprint, meta.mode() & 0o7777))
    }
}

/// The digest of a file, read in chunks.
///
/// # Errors
/// `IO` names the file.
pub fn digest(path: &Path) -> Result<Digest, Failure> {
    let failed = |e| io_failure("Reading", path, e);
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match std::io::Read::read(&mut file, &mut buffer).map_err(failed)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// The file at `path`, which may have up to `limit` bytes; none where there is none.
///
/// # Errors
/// Those of the system, and one for a file that is larger.
pub fn small(path: &Path, limit: u64) -> std::io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, limit + 1), &mut bytes)?;
    if bytes.len() as u64 > limit {
        let what = format!("has more than {limit} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, what));
    }
    Ok(Some(bytes))
}

/// Writes `bytes` as the file `path`, in one go for every reader.
///
/// # Errors
/// `NO_SPACE` or `IO` names the file; the old content then stays.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    write_for(path, bytes, mode, (0, 0))
}

/// As [`write`], for a user and a group.
///
/// # Errors
/// As [`write`].
pub fn write_for(path: &Path, bytes: &[u8], mode: u32, owner: (u32, u32)) -> Result<(), Failure> {
    let beside = beside(path);
    let failed = |e| io_failure("Writing", path, e);
    let written = (|| {
        let mut file = create_anew(&beside)?;
        file.write_all(bytes)?;
        own(&file, mode, owner)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_directory(path)
    })();
    written.map_err(|e| {
        // Best effort: the next write truncates what is left.
        let _ = fs::remove_file(&beside);
        failed(e)
    })
}

/// Removes the file at `path`, where there is one.
///
/// # Errors
/// `IO` names the file.
pub fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io_failure("Removing", path, e)),
        _ => Ok(()),
    }
}

/// Writes `document` as JSON for programs and for people.
///
/// # Errors
/// As [`write`].
pub fn write_json(path: &Path, document: &impl Serialize, mode: u32) -> Result<(), Failure> {
    let mut text = serde_json::to_vec_pretty(document).map_err(|e| io_failure("Writing", path, e.into()))?;
    text.push(b'\n');
    write(path, &text, mode)
}

/// The document of the JSON file at `path`; none where there is none.
///
/// # Errors
/// `STATE_INVALID` and `IO` name the file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_failure("Reading", path, e)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| Failure::new(Code::StateInvalid, format!("{}: {e}", path.display())))
}

/// A new file at `path`, for this process alone. What is there goes away first, so that a link that
/// somebody left at our hidden name leads nowhere.
///
/// # Errors
/// Those of the system.
pub fn create_anew(path: &Path) -> std::io::Result<File> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Options that refuse to open a symbolic link.
#[must_use]
pub fn no_links() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(OFlag::O_NOFOLLOW.bits());
    options
}

/// Makes the whole file `from` appear as `to`, with its permission bits; both on one filesystem.
///
/// # Errors
/// `IO` names the file.
pub fn publish(from: &Path, to: &Path, mode: u32) -> Result<(), Failure> {
    publish_all(&[(from, to, mode)])
}

/// Makes whole files appear one after the other, each `(from, to, permission bits)`; their directories are
/// synced once.
///
/// # Errors
/// `IO` names the file; those before it are visible then.
pub fn publish_all(files: &[(&Path, &Path, u32)]) -> Result<(), Failure> {
    let failed = |to: &Path, e| io_failure("Installing", to, e);
    for (from, to, mode) in files {
        let ready = File::open(from).and_then(|file| own(&file, *mode, (0, 0)).and_then(|()| file.sync_all()));
        ready.map_err(|e| failed(to, e))?;
    }
    for (from, to, _) in files {
        fs::rename(from, to).map_err(|e| failed(to, e))?;
    }
    let directories: BTreeSet<_> = files.iter().filter_map(|(_, to, _)| to.parent()).collect();
    directories.into_iter().try_for_each(|directory| {
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(|e| failed(directory, e))
    })
}

/// Gives a file to its owner, root in most cases, whatever the directory's group rules say, and its permission bits,
/// whatever the umask is. Where that is not allowed (`--root` of somebody else than root), the owner stays.
fn own(file: &File, mode: u32, owner: (u32, u32)) -> std::io::Result<()> {
    match std::os::unix::fs::fchown(file, Some(owner.0), Some(owner.1)) {
        Err(e) if e.kind() != std::io::ErrorKind::PermissionDenied => return Err(e),
        _ => {}
    }
    file.set_permissions(fs::Permissions::from_mode(mode))
}

/// Makes `path` a symbolic link to `target`, replacing a file or link that is there in one go.
///
/// # Errors
/// `IO` names the link.
pub fn link(path: &Path, target: &str) -> Result<(), Failure> {
    let beside = beside(path);
    let made = (|| {
        match fs::remove_file(&beside) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        symlink(target, &beside)?;
        fs::rename(&beside, path)?;
        sync_directory(path)
    })();
    made.map_err(|e| io_failure("Linking", path, e))
}

/// The hidden name that a file has while it is written.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.cks-new"))
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_its_fingerprint_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        write(&path, b"one", 0o644).unwrap();
        let before = Fingerprint::of(&path).unwrap();
        assert_eq!(before.1, 0o644);
        write(&path, b"two", 0o755).unwrap();
        let after = Fingerprint::of(&path).unwrap();
        assert_ne!(before.0, after.0);
        assert_eq!((after.1, digest(&path).unwrap()), (0o755, Digest::of(b"two")));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_small_file_is_read_and_no_large_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        assert_eq!(small(&path, 3).unwrap(), None);
        write(&path, b"one", 0o644).unwrap();
        assert_eq!(small(&path, 3).unwrap().unwrap(), b"one");
        assert!(small(&path, 2).is_err() && small(directory.path(), 2).is_err());
    }

    #[test]
    fn a_document_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.json");
        let read = || read_json::<BTreeSet<u32>>(&path);
        assert_eq!(read().unwrap(), None);
        write_json(&path, &BTreeSet::from([7, 1]), 0o600).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "[\n  1,\n  7\n]\n");
        assert_eq!(read().unwrap(), Some(BTreeSet::from([1, 7])));
        fs::write(&path, "[1,").unwrap();
        let failure = read().unwrap_err();
        assert!(failure.code == Code::StateInvalid && failure.what.contains("x.json"), "{failure}");
    }

    #[test]
    fn a_link_replaces_a_file_and_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubelet");
        write(&path, b"stock", 0o755).unwrap();
        link(&path, "../a").unwrap();
        link(&path, "../b").unwrap();
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("../b"));
        assert!(Fingerprint::of(&path).is_none());
    }

    #[test]
    fn a_failed_write_names_the_file() {
        let failure = write(Path::new("/nonexistent/x"), b"", 0o644).unwrap_err();
        assert!(failure.what.contains("/nonexistent/x"));
    }
}
