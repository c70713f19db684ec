//! A file that only root reads and that is gone afterwards, however the run ends: also when it is broken off.

use std::fs;
use std::path::{Path, PathBuf};

use bootstrap::failure::Failure;

use crate::files;

/// The file, for as long as this value lives.
#[derive(Debug)]
pub(super) struct Fleeting(PathBuf);

impl Fleeting {
    /// Writes it, mode 0600.
    ///
    /// # Errors
    /// `IO`, `NO_SPACE` name the file.
    pub(super) fn write(path: &Path, content: &[u8]) -> Result<Self, Failure> {
        let fleeting = Self(path.to_owned());
        files::write(path, content, 0o600)?;
        Ok(fleeting)
    }
}

impl Drop for Fleeting {
    fn drop(&mut self) {
        // One that a kill left is written over by the next run, on a filesystem that no reboot outlives.
        if let Err(e) = fs::remove_file(&self.0)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("removing {}: {e}", self.0.display());
        }
    }
}
