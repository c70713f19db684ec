//! The uncompressed bytes of a layer, hashed and counted on their way.

use std::sync::mpsc::{Receiver, Sender};

use bootstrap::digest::Hasher;

use super::{Applied, Refused, content_invalid};

/// Where pieces come from.
pub(super) trait Supply {
    /// Puts the next piece into `piece`; an empty one is the end.
    fn next(&mut self, piece: &mut Vec<u8>) -> Result<(), Refused>;
}

/// All of a small layer.
pub(super) struct Whole(pub(super) Option<Vec<u8>>);

impl Supply for Whole {
    fn next(&mut self, piece: &mut Vec<u8>) -> Result<(), Refused> {
        *piece = self.0.take().unwrap_or_default();
        Ok(())
    }
}

/// Pieces from another thread; used ones go back to it.
pub(super) struct Piped {
    pub(super) full: Receiver<Result<Vec<u8>, Refused>>,
    pub(super) empty: Sender<Vec<u8>>,
}

impl Supply for Piped {
    fn next(&mut self, piece: &mut Vec<u8>) -> Result<(), Refused> {
        let next = self.full.recv().map_err(|_| content_invalid("its decompression ended early"))??;
        let used = std::mem::replace(piece, next);
        // The other thread may be through already.
        let _ = self.empty.send(used);
        Ok(())
    }
}

/// A stream of pieces as bytes.
pub(super) struct Stream<S> {
    supply: S,
    piece: Vec<u8>,
    at: usize,
    ended: bool,
    hasher: Hasher,
    bytes: u64,
    limit: Option<u64>,
    /// Whether the supply failed, so that nothing more can come.
    pub(super) broken: bool,
}

impl<S: Supply> Stream<S> {
    pub(super) fn new(supply: S, limit: Option<u64>) -> Self {
        let hasher = Hasher::default();
        Self { supply, piece: Vec::new(), at: 0, ended: false, hasher, bytes: 0, limit, broken: false }
    }

    /// The bytes that are there already, at least one; none at the end.
    pub(super) fn available(&mut self) -> Result<&[u8], Refused> {
        if self.at == self.piece.len() && !self.ended {
            self.supply.next(&mut self.piece).inspect_err(|_| self.broken = true)?;
            self.at = 0;
            self.ended = self.piece.is_empty();
            self.hasher.update(&self.piece);
            self.bytes += self.piece.len() as u64;
            if let Some(limit) = self.limit.filter(|limit| self.bytes > *limit) {
                return Err(content_invalid(format!("it unpacks to more than the {limit} bytes that it may have")));
            }
        }
        Ok(&self.piece[self.at..])
    }

    /// Goes on by `count` of the available bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.piece.len());
    }

    /// Hands at most `count` bytes to `each`, piece by piece; the number of bytes that were there.
    pub(super) fn take(
        &mut self,
        count: u64,
        mut each: impl FnMut(&[u8]) -> Result<(), Refused>,
    ) -> Result<u64, Refused> {
        let mut left = count;
        while left > 0 {
            let available = self.available()?;
            if available.is_empty() {
                break;
            }
            let part = available.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            each(&available[..part])?;
            self.consume(part);
            left -= part as u64;
        }
        Ok(count - left)
    }

    /// Reads the rest, which counts too; then the digest and number of all bytes.
    pub(super) fn finish(mut self) -> Result<Applied, Refused> {
        self.take(u64::MAX, |_| Ok(()))?;
        Ok(Applied { diff_id: self.hasher.finish(), bytes: self.bytes })
    }
}
