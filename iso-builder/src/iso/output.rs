//! The image file as the block device that the ISO 9660 library writes to: forward only, hashed on the
//! way by a thread of its own.

use std::io::{self, Write};

use bootstrap::digest::Digest;
use hadris_fs::{Error, ErrorKind, FsResult};
use hadris_io::ErrorType;
use hadris_storage::sync::BlockDevice;
use hadris_storage::{BlockIndex, BlockSize};

use crate::lane::{CHUNK, Chunks, Lane};
use crate::progress::Bar;

/// Bytes of a block.
const BLOCK: u64 = 2048;

/// The image being written.
pub(super) struct Output<'a, W> {
    file: W,
    blocks: u64,
    next: u64,
    chunks: Chunks,
    /// What is not written yet: the library's pieces are small.
    pending: Vec<u8>,
    lane: Lane,
    bar: &'a Bar,
    failed: Option<io::Error>,
}

impl<'a, W: Write> Output<'a, W> {
    pub(super) fn new(file: W, size: u64, bar: &'a Bar) -> Self {
        let mut chunks = Chunks::default();
        let (mut pending, lane) = (chunks.take(), Lane::start(size));
        pending.clear();
        Self { file, blocks: size / BLOCK, next: 0, chunks, pending, lane, bar, failed: None }
    }

    /// Writes what is left. Gives the digest of what was written, and the error that stopped it.
    pub(super) fn finish(mut self) -> (Digest, Option<io::Error>) {
        let ended = if self.failed.is_none() { self.pass_on() } else { Ok(()) };
        (self.lane.finish(), self.failed.or(ended.err()))
    }

    fn take(&mut self, mut buf: &[u8]) -> io::Result<()> {
        while !buf.is_empty() {
            let (now, later) = buf.split_at(buf.len().min(CHUNK - self.pending.len()));
            self.pending.extend_from_slice(now);
            buf = later;
            if self.pending.len() == CHUNK {
                self.pass_on()?;
            }
        }
        Ok(())
    }

    /// Hands the pending bytes to the hasher and writes them.
    fn pass_on(&mut self) -> io::Result<()> {
        let chunk = self.chunks.share(std::mem::take(&mut self.pending));
        self.lane.update(&chunk);
        self.file.write_all(&chunk)?;
        self.bar.add(chunk.len() as u64);
        self.pending = self.chunks.take();
        self.pending.clear();
        Ok(())
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
        if let Err(error) = self.take(buf) {
            self.failed = Some(error);
            return Err(Error::new(ErrorKind::Io, "writing the image"));
        }
        self.next += buf.len() as u64 / BLOCK;
        Ok(())
    }
}
