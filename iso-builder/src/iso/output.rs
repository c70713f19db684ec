//! The image file as the block device that the ISO 9660 library writes to: forward only, hashed on the
//! way.

use std::io::{self, Write};

use bootstrap::digest::{Digest, Hasher};
use hadris_fs::{Error, ErrorKind, FsResult};
use hadris_io::ErrorType;
use hadris_storage::sync::BlockDevice;
use hadris_storage::{BlockIndex, BlockSize};

use crate::progress::Bar;

/// Bytes of a block.
const BLOCK: u64 = 2048;

/// The image being written.
pub(super) struct Output<'a, W> {
    file: W,
    blocks: u64,
    next: u64,
    hasher: Option<Hasher>,
    bar: &'a Bar,
    failed: Option<io::Error>,
}

impl<'a, W> Output<'a, W> {
    pub(super) fn new(file: W, size: u64, bar: &'a Bar) -> Self {
        Self { file, blocks: size / BLOCK, next: 0, hasher: Some(Hasher::default()), bar, failed: None }
    }

    /// The same, for an image whose digest nobody wants.
    pub(super) fn unhashed(file: W, size: u64, bar: &'a Bar) -> Self {
        Self { hasher: None, ..Self::new(file, size, bar) }
    }

    /// The digest of what was written, and the error that stopped it.
    pub(super) fn finish(self) -> (Digest, Option<io::Error>) {
        (self.hasher.unwrap_or_default().finish(), self.failed)
    }
}

impl<W> ErrorType for Output<'_, W> {
    type Error = io::Error;
}

impl<W: Write> BlockDevice for Output<'_, W> {
    fn block_size(&self) -> BlockSize {
        const SIZE: BlockSize = match BlockSize::new(BLOCK as u32) {
            Some(size) => size,
            None => unreachable!(),
        };
        SIZE
    }

    fn block_count(&self) -> u64 {
        self.blocks
    }

    fn writable(&self) -> bool {
        true
    }

    fn read_blocks(&mut self, _first: BlockIndex, _buf: &mut [u8]) -> FsResult<(), Self::Error> {
        Err(Error::new(ErrorKind::Unsupported, "the image is only written"))
    }

    fn write_blocks(&mut self, first: BlockIndex, buf: &[u8]) -> FsResult<(), Self::Error> {
        if first.get() != self.next {
            return Err(Error::new(ErrorKind::Unsupported, "the image is written from its start to its end"));
        }
        if let Err(error) = self.file.write_all(buf) {
            self.failed = Some(error);
            return Err(Error::new(ErrorKind::Io, "writing the image"));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(buf);
        }
        self.bar.add(buf.len() as u64);
        self.next += buf.len() as u64 / BLOCK;
        Ok(())
    }
}
