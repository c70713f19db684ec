//! An entry as a seekable reader, for looking into image archives of stock ISOs.

use std::io::{self, Read, Seek, SeekFrom};

use bootstrap::failure::Failure;
use tokio::runtime::Handle;

use super::Source;

/// Bytes fetched at once: a tar header and what is likely to lie behind it.
const WINDOW: u64 = 64 << 10;

/// Reads an entry by small ranges. For blocking threads only: it waits for the source.
#[derive(Debug)]
pub struct EntryReader<'a> {
    source: &'a Source,
    path: &'a str,
    size: u64,
    position: u64,
    window: Vec<u8>,
    window_at: u64,
    runtime: Handle,
    failure: Option<Failure>,
}

impl<'a> EntryReader<'a> {
    /// A reader of the entry `path`, which has `size` bytes.
    #[must_use]
    pub fn new(source: &'a Source, path: &'a str, size: u64, runtime: Handle) -> Self {
        Self { source, path, size, position: 0, window: Vec::new(), window_at: 0, runtime, failure: None }
    }

    /// The failure of the source behind the last I/O error.
    #[must_use]
    pub fn take_failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    fn fill(&mut self) -> Result<(), Failure> {
        let length = WINDOW.min(self.size - self.position);
        let (source, path, size, offset) = (self.source, self.path, self.size, self.position);
        self.window = self.runtime.block_on(async {
            let mut bytes = Vec::with_capacity(length as usize);
            let mut pieces = source.read(path, size, offset, length).await?;
            while let Some(piece) = pieces.next().await? {
                bytes.extend(piece);
            }
            Ok::<_, Failure>(bytes)
        })?;
        self.window_at = offset;
        Ok(())
    }
}

impl Read for EntryReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.size {
            return Ok(0);
        }
        let end = self.window_at + self.window.len() as u64;
        if self.position < self.window_at || self.position >= end {
            self.fill().map_err(|failure| {
                let error = io::Error::other(failure.what.clone());
                self.failure = Some(failure);
                error
            })?;
        }
        let from = (self.position - self.window_at) as usize;
        let rest = self.window.get(from..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for EntryReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = sought(self.position, self.size, to)?;
        Ok(self.position)
    }
}

/// Where `to` leads in a file of `size` bytes.
pub(super) fn sought(position: u64, size: u64, to: SeekFrom) -> io::Result<u64> {
    let target = match to {
        SeekFrom::Start(at) => Some(at),
        SeekFrom::Current(by) => position.checked_add_signed(by),
        SeekFrom::End(by) => size.checked_add_signed(by),
    };
    target.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
