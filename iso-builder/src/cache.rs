//! What was downloaded, by digest: `DIR/sha256/<hex>`, files and blobs alike. A file has its name only
//! when it is whole and on the disk; still, each is hashed again before it is used.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};

use crate::content::{Content, Source, failed, misnamed};
use crate::partial::Partial;
use crate::progress::Bar;

/// A directory of downloads, which several builds may share at once.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache at `root`, which need not exist yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the content with `digest` is, or would be.
    #[must_use]
    pub fn path(&self, digest: Digest) -> PathBuf {
        self.root.join("sha256").join(digest.hex())
    }

    /// Whether the content with `digest` is there. It is hashed; a damaged one counts as missing.
    ///
    /// # Errors
    /// `IO` names the file.
    pub fn holds(&self, digest: Digest) -> Result<bool, Failure> {
        Ok(self.whole(digest)?.is_some())
    }

    /// The size of the content with `digest`, where it is there and hashes to it.
    pub(crate) fn whole(&self, digest: Digest) -> Result<Option<u64>, Failure> {
        let path = self.path(digest);
        if !path.exists() {
            return Ok(None);
        }
        let content = Content::whole(&Source::open(&path)?);
        Ok((content.digest(&Bar::none())? == digest).then_some(content.length()))
    }

    /// Keeps `bytes` and says under which digest.
    ///
    /// # Errors
    /// `NO_SPACE` or `IO` names the file.
    pub fn keep(&self, bytes: &[u8]) -> Result<Digest, Failure> {
        let digest = Digest::of(bytes);
        if !self.holds(digest)? {
            self.prepare()?;
            let path = self.path(digest);
            // Not the name that a download has: one of this very program would never end while its thread waits.
            let partial = Partial::wait(&path.with_extension("kept"))?;
            partial.file().write_all(bytes).map_err(|e| self.unwritten(&path, e))?;
            partial.finish_as(&path)?;
        }
        Ok(digest)
    }

    /// The content with `digest`, of at most `limit` bytes; none where it is missing or damaged.
    ///
    /// # Errors
    /// `IO` names the file.
    pub fn read(&self, digest: Digest, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
        let path = self.path(digest);
        match fs::metadata(&path) {
            Ok(meta) if meta.is_file() && meta.len() <= limit => {}
            _ => return Ok(None),
        }
        let bytes = fs::read(&path).map_err(|e| failed("Reading", &path, e))?;
        Ok(Some(bytes).filter(|bytes| Digest::of(bytes) == digest))
    }

    /// Makes the directories.
    pub(crate) fn prepare(&self) -> Result<(), Failure> {
        for directory in [self.root.join("sha256"), self.urls()] {
            fs::create_dir_all(&directory).map_err(|e| misnamed("Making", &directory, e))?;
        }
        Ok(())
    }

    /// Where downloads lie whose digest is not known yet, and what is remembered about their URLs.
    pub(crate) fn urls(&self) -> PathBuf {
        self.root.join("url")
    }

    /// The failure of writing `path`.
    pub(crate) fn unwritten(&self, path: &Path, error: io::Error) -> Failure {
        let failure = failed("Writing", path, error);
        if failure.code != Code::NoSpace {
            return failure;
        }
        failure.with_remedy(format!(
            "free space below {}, or name another cache with --cache; the next run goes on where this one stopped",
            self.root.display()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_content_counts_as_missing() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().join("a/b"));
        let digest = Digest::of(b"abc");
        assert!(!cache.holds(digest).unwrap());
        assert_eq!(cache.keep(b"abc").unwrap(), digest);
        assert!(cache.holds(digest).unwrap());
        assert_eq!(cache.read(digest, 3).unwrap().as_deref(), Some(&b"abc"[..]));
        assert_eq!(cache.read(digest, 2).unwrap(), None);
        fs::write(cache.path(digest), "abd").unwrap();
        assert!(!cache.holds(digest).unwrap());
        assert_eq!(cache.read(digest, 9).unwrap(), None);
        cache.keep(b"abc").unwrap();
        assert!(cache.holds(digest).unwrap());
        assert_eq!(fs::read_dir(dir.path().join("a/b/sha256")).unwrap().count(), 1);
    }
    #[test]
    fn keeping_does_not_wait_for_a_download_of_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        cache.prepare().unwrap();
        // A download of this very program, which goes on only when this thread does.
        let download = Partial::resume(&cache.path(Digest::of(b"abc"))).unwrap().unwrap();
        let (done, waiting) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(cache.keep(b"abc").is_ok()));
        assert_eq!(waiting.recv_timeout(std::time::Duration::from_secs(20)), Ok(true));
        drop(download);
        assert_eq!(fs::read_dir(dir.path().join("sha256")).unwrap().count(), 1);
    }
}
