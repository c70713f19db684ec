//! A reader that a hostile tar can't make read without end: the tar crate takes long names and extended
//! headers (PAX, GNU `L` and `K`) into memory whole, however large they say they are.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

/// Bytes that the headers of one member may have, extended ones included. Linux' longest path has 4 KiB.
const HEADER_BYTES: u64 = 1 << 20;

/// A reader with a budget.
#[derive(Debug)]
pub struct Bounded<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

/// What a [`Bounded`] reader may still read.
#[derive(Debug, Clone)]
pub struct Budget(Rc<Cell<u64>>);

impl<R> Bounded<R> {
    /// Bounds `inner` to the headers of the first member.
    pub fn new(inner: R) -> (Self, Budget) {
        let left = Rc::new(Cell::new(HEADER_BYTES));
        (Self { inner, left: Rc::clone(&left) }, Budget(left))
    }

    /// The reader itself.
    pub fn into_inner(self) -> R {
        self.inner
    }
}

impl Budget {
    /// The next member's headers may be read.
    pub fn renew(&self) {
        self.0.set(HEADER_BYTES);
    }

    /// A member's content may be read, or passed over, which is `size` bytes and padding.
    pub fn allow(&self, size: u64) {
        self.0.set(size.saturating_add(HEADER_BYTES));
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.get() == 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a member has more than 1 MiB of headers"));
        }
        let want = buffer.len().min(usize::try_from(self.left.get()).unwrap_or(usize::MAX));
        let count = self.inner.read(&mut buffer[..want])?;
        self.left.set(self.left.get() - count as u64);
        Ok(count)
    }
}

impl<R: Seek> Seek for Bounded<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_extended_header_is_not_read() {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::XHeader);
        header.set_size(1 << 40);
        header.set_cksum();
        let endless = io::Read::chain(io::Cursor::new(header.as_bytes().to_vec()), io::repeat(b'x'));
        let (reader, _budget) = Bounded::new(endless);
        let mut archive = tar::Archive::new(reader);
        let error = archive.entries().unwrap().next().unwrap().err().unwrap();
        assert!(format!("{error:?}").contains("1 MiB of headers"), "{error:?}");
    }
}
