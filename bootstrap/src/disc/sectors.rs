//! A reader as the block device that the ISO 9660 library wants, with a bound on its work.

use std::io::{Read, Seek, SeekFrom};

use hadris_fs::{Error, ErrorKind, FsResult};
use hadris_io::ErrorType;
use hadris_storage::sync::BlockDevice;
use hadris_storage::{BlockIndex, BlockSize};

/// Bytes of a block: the smallest logical block of ECMA-119, so that the end of an image that is no
/// multiple of 2048 stays readable.
const BLOCK: u64 = 512;

/// Bytes read at once: directories are read in steps of 2 KiB, one behind the other.
const WINDOW: usize = 64 << 10;

/// Calls after which a disc counts as broken. A disc with 65 536 files takes a few hundred thousand; a
/// malicious one could ask for the same directories again and again.
const MAX_READS: u64 = 4 << 20;

/// The block device.
pub(super) struct Sectors<R> {
    reader: R,
    /// Bytes of the image.
    length: u64,
    window: Vec<u8>,
    /// Where the window begins in the image.
    window_at: u64,
    reads: u64,
}

impl<R> Sectors<R> {
    pub(super) fn new(reader: R, length: u64) -> Self {
        Self { reader, length, window: Vec::new(), window_at: 0, reads: 0 }
    }
}

impl<R: Read + Seek> Sectors<R> {
    /// Bytes from `at` on, at least one; the caller has checked that they exist.
    fn bytes_at(&mut self, at: u64) -> std::io::Result<&[u8]> {
        let inside = at.checked_sub(self.window_at).is_some_and(|skip| skip < self.window.len() as u64);
        if !inside {
            self.window.clear();
            self.window_at = at - at % BLOCK;
            self.reader.seek(SeekFrom::Start(self.window_at))?;
            self.reader.by_ref().take(WINDOW as u64).read_to_end(&mut self.window)?;
        }
        let skip = usize::try_from(at - self.window_at).unwrap_or(usize::MAX);
        match self.window.get(skip..) {
            Some(bytes) if !bytes.is_empty() => Ok(bytes),
            _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl<R> ErrorType for Sectors<R> {
    type Error = std::io::Error;
}

impl<R: Read + Seek> BlockDevice for Sectors<R> {
    fn block_size(&self) -> BlockSize {
        const SIZE: BlockSize = match BlockSize::new(BLOCK as u32) {
            Some(size) => size,
            None => unreachable!(),
        };
        SIZE
    }

    fn block_count(&self) -> u64 {
        self.length / BLOCK
    }

    fn writable(&self) -> bool {
        false
    }

    fn read_blocks(&mut self, first: BlockIndex, buf: &mut [u8]) -> FsResult<(), Self::Error> {
        self.reads += 1;
        if self.reads > MAX_READS {
            return Err(Error::new(ErrorKind::LimitExceeded, "its directories lead in circles"));
        }
        let (mut at, mut rest) = (first.get().saturating_mul(BLOCK), buf);
        while !rest.is_empty() {
            let bytes = self.bytes_at(at).map_err(|e| Error::device(e, ""))?;
            let take = bytes.len().min(rest.len());
            let (now, later) = rest.split_at_mut(take);
            now.copy_from_slice(&bytes[..take]);
            (at, rest) = (at + take as u64, later);
        }
        Ok(())
    }
}
