//! Room on the disk while a layer is unpacked: nobody vouches for how large it becomes, and a node whose disk is full
//! is worse off than one without an image.

use std::path::{Path, PathBuf};

use bootstrap::failure::{Code, Failure};
use nix::sys::statvfs::statvfs;

use super::Refused;
use super::stream::Supply;

/// Bytes that no layer may take: below what a plan leaves free, so that whatever fits by plan is not refused.
const SPARED: u64 = 16 << 20;
/// Bytes between two looks; several layers come side by side.
const STRIDE: u64 = 2 << 20;

/// Pieces, for as long as there is room for what becomes of them.
pub(super) struct Roomy<S> {
    inner: S,
    directory: PathBuf,
    /// Bytes since the last look.
    passed: u64,
}

impl<S> Roomy<S> {
    /// Pieces of `inner` for files below `directory`.
    pub(super) fn new(inner: S, directory: &Path) -> Self {
        Self { inner, directory: directory.to_owned(), passed: 0 }
    }
}

impl<S: Supply> Supply for Roomy<S> {
    fn next(&mut self, piece: &mut Vec<u8>) -> Result<(), Refused> {
        self.inner.next(piece)?;
        self.passed += piece.len() as u64;
        if self.passed >= STRIDE {
            self.passed = 0;
            leave(&self.directory, 0)?;
        }
        Ok(())
    }
}

/// Refuses to put `bytes` more below `directory` where that leaves too little free. What can't be found out is left to
/// the filesystem.
pub(super) fn leave(directory: &Path, bytes: u64) -> Result<(), Refused> {
    let Ok(room) = statvfs(directory) else { return Ok(()) };
    let free = room.blocks_available() * room.fragment_size();
    if free >= SPARED.saturating_add(bytes) {
        return Ok(());
    }
    let what = format!("unpacking below {} would leave less than {} MiB free", directory.display(), SPARED >> 20);
    Err(Refused::Failed(Failure::new(Code::NoSpace, what)))
}
