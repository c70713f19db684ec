//! Large files past the page cache: a node gets gigabytes that nobody reads for now, and a cache full of them
//! pushes out what it runs (and costs more time than the disk does, where a virtual machine's memory is given to
//! it page by page).
//!
//! The kernel takes such writes (`O_DIRECT`, open(2)) from aligned memory, to aligned places, in whole blocks. What
//! is left over at the end of a file, and filesystems that can't, go by the cache.

use std::borrow::BorrowMut;
use std::os::fd::AsFd;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, write};

/// Files below this gain nothing: each has a waiting write of its own.
pub const LARGE: u64 = 256 << 10;
/// Bytes of a write: the disk is busy for longer than the way there takes, and a few buffers fit the memory.
const BUFFER: usize = 512 << 10;
/// Fits the blocks of all disks that are in use.
const ALIGNMENT: usize = 4096;

/// Aligned memory, to be used for one file after the other; none is taken until one is large.
#[derive(Debug, Default)]
pub struct Buffer(Vec<u8>);

/// A file that is written from its first byte, or its last one, on.
#[derive(Debug)]
pub struct Writing<F, B> {
    file: F,
    buffer: B,
    filled: usize,
    direct: bool,
}

impl Buffer {
    fn aligned(&mut self) -> &mut [u8] {
        if self.0.is_empty() {
            self.0 = vec![0; BUFFER + ALIGNMENT];
        }
        let start = self.0.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        &mut self.0[start..start + BUFFER]
    }
}

impl<F: AsFd, B: BorrowMut<Buffer>> Writing<F, B> {
    /// Writes to `file`, which is expected to get `size` bytes.
    pub fn new(file: F, size: u64, buffer: B) -> Self {
        let direct = size >= LARGE && set_direct(&file, true).is_ok();
        Self { file, buffer, filled: 0, direct }
    }

    /// Takes `bytes`; some of them may wait for [`Self::finish`].
    ///
    /// # Errors
    /// Those of write(2).
    pub fn put(&mut self, mut bytes: &[u8]) -> Result<(), Errno> {
        while self.direct && !bytes.is_empty() {
            let free = &mut self.buffer.borrow_mut().aligned()[self.filled..];
            let (now, later) = bytes.split_at(bytes.len().min(free.len()));
            free[..now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == BUFFER {
                self.keep()?;
            }
        }
        write_all(&self.file, bytes)
    }

    /// Writes what waits, and goes on by the cache.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn flush(&mut self) -> Result<(), Errno> {
        self.keep()?;
        if self.filled > 0 { self.go_plain(0) } else { Ok(()) }
    }

    /// Writes what waits; the file.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn finish(mut self) -> Result<F, Errno> {
        self.flush()?;
        Ok(self.file)
    }

    /// Writes what waits but for less than a block.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn keep(&mut self) -> Result<(), Errno> {
        let blocks = self.filled / ALIGNMENT * ALIGNMENT;
        if blocks == 0 {
            return Ok(());
        }
        let mut done = 0;
        while done < blocks {
            match write(&self.file, &self.buffer.borrow_mut().aligned()[done..blocks]) {
                // A disk that is nearly full may take a part that ends anywhere.
                Ok(written) if written % ALIGNMENT == 0 && written > 0 => done += written,
                Ok(written) => return self.go_plain(done + written),
                Err(Errno::INTR) => {}
                Err(Errno::INVAL | Errno::NOTSUP) => return self.go_plain(done),
                Err(errno) => {
                    // What is written stays; nobody shall write it again behind itself.
                    self.filled = 0;
                    return Err(errno);
                }
            }
        }
        let filled = self.filled;
        self.buffer.borrow_mut().aligned().copy_within(blocks..filled, 0);
        self.filled -= blocks;
        Ok(())
    }

    /// From here on by the cache: the first `done` bytes of the buffer are written.
    fn go_plain(&mut self, done: usize) -> Result<(), Errno> {
        self.direct = false;
        set_direct(&self.file, false)?;
        let filled = std::mem::take(&mut self.filled);
        write_all(&self.file, &self.buffer.borrow_mut().aligned()[done..filled])
    }
}

fn set_direct(file: impl AsFd, direct: bool) -> Result<(), Errno> {
    let mut flags = fcntl_getfl(&file)?;
    flags.set(OFlags::DIRECT, direct);
    fcntl_setfl(&file, flags)
}

fn write_all(file: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match write(&file, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// Bytes that tell where they are.
    fn pattern(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at / 7 + at / 4096) as u8).collect()
    }

    #[test]
    fn every_byte_arrives_whatever_the_sizes() {
        let mut buffer = Buffer::default();
        let large = LARGE as usize;
        // One of them lies in memory, where the kernel takes no direct writes or all of them, by its version.
        for place in ["/var/tmp", "/dev/shm"] {
            let directory = tempfile::tempdir_in(place).unwrap();
            for size in [0, 1, 4096, large - 1, large, large + 1, large + 4096, 3 * large + 511, 5 * BUFFER] {
                for step in [1 << 20, 300_001, 4096] {
                    let path = directory.path().join(format!("{size}-{step}"));
                    let bytes = pattern(size);
                    let mut writing = Writing::new(File::create(&path).unwrap(), size as u64, &mut buffer);
                    bytes.chunks(step).for_each(|part| writing.put(part).unwrap());
                    writing.finish().unwrap();
                    assert!(std::fs::read(&path).unwrap() == bytes, "{size} bytes in steps of {step} in {place}");
                }
            }
        }
    }

    #[test]
    fn fewer_or_more_bytes_than_expected_are_no_matter() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let mut buffer = Buffer::default();
        for (expected, size) in [(LARGE, 10_000), (10, 2_000_000)] {
            let path = directory.path().join("file");
            let mut writing = Writing::new(File::create(&path).unwrap(), expected, &mut buffer);
            writing.put(&pattern(size)).unwrap();
            writing.finish().unwrap();
            assert!(std::fs::read(&path).unwrap() == pattern(size));
        }
    }

    #[test]
    fn small_files_take_no_memory_and_a_full_disk_is_told() {
        let mut buffer = Buffer::default();
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let mut writing = Writing::new(File::create(directory.path().join("file")).unwrap(), 5, &mut buffer);
        writing.put(b"small").unwrap();
        writing.finish().unwrap();
        assert!(buffer.0.is_empty());
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut writing = Writing::new(full, LARGE, &mut buffer);
        let told = writing.put(&pattern(BUFFER)).and_then(|()| writing.finish().map(drop));
        assert_eq!(told, Err(Errno::NOSPC));
    }
}
