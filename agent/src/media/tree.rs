//! A directory that holds the content of a CKS ISO: a mounted disc, a mirror, an unpacked ISO.

use std::fs::{self, File};
use std::io::Read as _;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootstrap::bundle::legacy::{self, Listed};
use bootstrap::bundle::{MANIFEST_MAX_BYTES, MANIFEST_PATH, layout};
use bootstrap::failure::{Code, Failure};
use bootstrap::signature::{SIGNATURE_MAX_BYTES, SIGNATURE_PATH};
use rustix::fs::{Advice, fadvise};
use tokio::sync::mpsc;

use super::discs;
use super::pieces::FilePieces;
use super::{Opened, PIECE_BYTES};

/// Directories below which nobody looks: the stock layout has one level.
const MAX_DEPTH: usize = 4;
/// Files of a directory at most, as of a listing: the stock ISO has some fifty.
const MAX_FILES: usize = 4096;

/// A drive that starts up takes some seconds, one that reads a scratch again some more.
const INACTIVITY: Duration = Duration::from_secs(60);

type Read = Result<Vec<u8>, Failure>;

/// A directory.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
}

/// Whether `name` is a directory.
#[must_use]
pub fn is_directory(name: &str) -> bool {
    Path::new(name).is_dir()
}

impl Tree {
    /// Opens the directory `name`.
    ///
    /// # Errors
    /// `MEDIA_NOT_A_BUNDLE` when nothing in it belongs on a CKS ISO; `MANIFEST_…`; `IO`.
    pub fn open(name: &str) -> Result<(Self, Opened), Failure> {
        let tree = Self { root: PathBuf::from(name) };
        let manifest = tree.root.join(MANIFEST_PATH);
        if let Some((bytes, size)) = small(&manifest, MANIFEST_MAX_BYTES)? {
            if size > MANIFEST_MAX_BYTES {
                let what = format!("{}: {size} bytes are too many", manifest.display());
                return Err(Failure::new(Code::ManifestInvalid, what));
            }
            let signature = tree.signature()?;
            return Ok((tree, Opened::Manifest { bytes, signature }));
        }
        let mut listing = Vec::new();
        list(&tree.root, "", 0, &mut listing)?;
        if !legacy::is_bundle(listing.iter().map(|file| file.path.as_str())) {
            let what = format!("directory {name} holds {} files, none of a CKS ISO", listing.len());
            return Err(Failure::new(Code::MediaNotABundle, what));
        }
        Ok((tree, Opened::Listing(listing)))
    }

    fn signature(&self) -> Result<Option<Vec<u8>>, Failure> {
        let path = self.root.join(SIGNATURE_PATH);
        match small(&path, SIGNATURE_MAX_BYTES)? {
            Some((_, size)) if size > SIGNATURE_MAX_BYTES => {
                Err(signature_too_large(&path.display().to_string(), size))
            }
            found => Ok(found.map(|(bytes, _)| bytes)),
        }
    }

    /// Reads a range of an entry.
    ///
    /// # Errors
    /// `SOURCE_FILE_MISSING`, `SOURCE_TRUNCATED`, `SOURCE_INVALID` name the file.
    pub fn read(&self, path: &str, size: u64, offset: u64, length: u64) -> Result<FilePieces, Failure> {
        let full = self.root.join(path);
        let refuse = |code, why: String| Failure::new(code, format!("{}: {why}", full.display()));
        if let Err(reason) = layout::check_path(path) {
            return Err(refuse(Code::SourceInvalid, reason.to_owned()));
        }
        let what = full.display().to_string();
        let open = move || {
            let refuse = |code, why: String| Failure::new(code, format!("{}: {why}", full.display()));
            // A mounted disc may have a FIFO in the file's place: waiting for its writer would take for ever.
            let file = discs::open(&full).map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => refuse(Code::SourceFileMissing, e.to_string()),
                _ => refuse(Code::SourceUnreachable, e.to_string()),
            })?;
            let meta = file.metadata().map_err(|e| refuse(Code::SourceUnreachable, e.to_string()))?;
            if !meta.is_file() {
                return Err(refuse(Code::SourceInvalid, "is no regular file".to_owned()));
            }
            check_size(&full.display().to_string(), meta.len(), size)?;
            Ok(file)
        };
        Ok(read_ahead(open, vec![(offset, length)], what))
    }
}

/// A small file, up to one byte more than `limit`, and its size; none where there is none.
fn small(path: &Path, limit: u64) -> Result<Option<(Vec<u8>, u64)>, Failure> {
    // Neither waits for the writer of a FIFO nor believes the size of a device: a mounted disc may have both.
    let file = match discs::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(path, e)),
    };
    let meta = file.metadata().map_err(|e| failed(path, e))?;
    if !meta.is_file() {
        return Err(Failure::new(Code::SourceInvalid, format!("{}: is no regular file", path.display())));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| failed(path, e))?;
    let size = meta.len().max(bytes.len() as u64);
    Ok(Some((bytes, size)))
}

/// A signature file that is refused unread.
pub(super) fn signature_too_large(what: &str, size: u64) -> Failure {
    Failure::new(Code::SignatureInvalid, format!("{what}: {size} bytes are more than signatures have"))
}

/// A source whose file has another size than its manifest or listing says is of no use.
pub(super) fn check_size(what: &str, is: u64, should: u64) -> Result<(), Failure> {
    let code = match is.cmp(&should) {
        std::cmp::Ordering::Equal => return Ok(()),
        std::cmp::Ordering::Less => Code::SourceTruncated,
        std::cmp::Ordering::Greater => Code::DigestMismatch,
    };
    Err(Failure::new(code, format!("{what}: has {is} bytes, should have {should}")))
}

/// Reads byte ranges of the file that `open` gives, on a thread of its own and a few pieces ahead. The file is
/// open for as long as that takes, and what was read does not stay in the page cache.
pub(super) fn read_ahead(
    open: impl FnOnce() -> Result<File, Failure> + Send + 'static,
    ranges: Vec<(u64, u64)>,
    what: String,
) -> FilePieces {
    let (sender, receiver) = mpsc::channel(2);
    let left = ranges.iter().map(|(_, length)| length).sum();
    let pieces = FilePieces { receiver, left, what: what.clone(), inactivity: INACTIVITY };
    tokio::task::spawn_blocking(move || {
        let file = match open() {
            Ok(file) => file,
            // A reader that went away needs no reason.
            Err(failure) => return drop(sender.blocking_send(Err(failure))),
        };
        // Advice: where it is not taken, everything works the same.
        let _ = fadvise(&file, 0, None, Advice::Sequential);
        for (offset, length) in ranges {
            if !read_range(&file, offset, length, &what, &sender) {
                return;
            }
        }
    });
    pieces
}

/// Hands on a range; tells whether to go on behind it.
fn read_range(file: &File, mut offset: u64, mut length: u64, what: &str, sender: &mpsc::Sender<Read>) -> bool {
    while length > 0 {
        let mut piece = vec![0; length.min(PIECE_BYTES as u64) as usize];
        let sent = match file.read_at(&mut piece, offset) {
            Ok(0) => return false,
            Ok(count) => {
                piece.truncate(count);
                let _ = fadvise(file, offset, NonZeroU64::new(count as u64), Advice::DontNeed);
                offset += count as u64;
                length -= count as u64;
                sender.blocking_send(Ok(piece))
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            // A disc that was pulled out or is scratched here, a file server that is gone: another may do.
            Err(e) => {
                let why = format!("{what}: at byte {offset}: {e}");
                drop(sender.blocking_send(Err(Failure::new(Code::SourceUnreachable, why))));
                return false;
            }
        };
        if sent.is_err() {
            return false;
        }
    }
    true
}

fn list(directory: &Path, prefix: &str, depth: usize, listing: &mut Vec<Listed>) -> Result<(), Failure> {
    for entry in fs::read_dir(directory).map_err(|e| failed(directory, e))? {
        let entry = entry.map_err(|e| failed(directory, e))?;
        let meta = entry.metadata().map_err(|e| failed(&entry.path(), e))?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if listing.len() > MAX_FILES {
            let what = format!("directory {} holds too many files for a CKS ISO", directory.display());
            return Err(Failure::new(Code::MediaNotABundle, what));
        }
        if meta.is_file() && layout::check_path(&path).is_ok() {
            listing.push(Listed { path, size: meta.len() });
        } else if meta.is_dir() && depth < MAX_DEPTH {
            list(&entry.path(), &format!("{path}/"), depth + 1, listing)?;
        }
    }
    Ok(())
}

fn failed(path: &Path, e: std::io::Error) -> Failure {
    Failure::new(Code::Io, format!("Reading {}", path.display())).with_source(e)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn what_is_no_file_is_refused_unread() {
        let directory = tempfile::tempdir().unwrap();
        let (name, manifest) = (directory.path().to_string_lossy(), directory.path().join(MANIFEST_PATH));
        let signature = directory.path().join(SIGNATURE_PATH);
        let refused = |at: &Path| {
            let failure = Tree::open(&name).unwrap_err();
            assert_eq!(failure.code, Code::SourceInvalid, "{}", failure.what);
            assert!(failure.what.starts_with(&at.display().to_string()), "{}", failure.what);
        };
        nix::unistd::mkfifo(&manifest, Mode::S_IRWXU).unwrap();
        refused(&manifest);
        fs::remove_file(&manifest).unwrap();
        symlink("/dev/zero", &manifest).unwrap();
        refused(&manifest);
        fs::remove_file(&manifest).unwrap();
        fs::write(&manifest, "{}").unwrap();
        nix::unistd::mkfifo(&signature, Mode::S_IRWXU).unwrap();
        refused(&signature);
    }

    #[tokio::test]
    async fn a_fifo_in_a_file_s_place_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&directory.path().join("kubelet"), Mode::S_IRWXU).unwrap();
        let tree = Tree { root: directory.path().to_owned() };
        let mut pieces = tree.read("kubelet", 5, 0, 5).unwrap();
        assert_eq!(pieces.next().await.unwrap_err().code, Code::SourceInvalid);
    }

    #[test]
    fn a_directory_of_too_many_files_is_none() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..MAX_FILES + 2 {
            fs::write(directory.path().join(number.to_string()), "").unwrap();
        }
        let failure = Tree::open(&directory.path().to_string_lossy()).unwrap_err();
        assert!(failure.code == Code::MediaNotABundle && failure.what.contains("too many"), "{}", failure.what);
    }
}
