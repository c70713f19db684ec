//! The receiving end of a fetch: what an earlier run left, then what comes, kept, hashed and handed on.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bootstrap::digest::{Digest, Hasher};
use bootstrap::failure::{Code, Failure};
use tokio::sync::mpsc;

use crate::host::io_failure;

/// Pieces that may wait for the disk: with the sender's own, at most four per entry in flight.
const PIECES_IN_FLIGHT: usize = 2;

/// The bytes of one entry, from first to last, for one blocking reader.
#[derive(Debug)]
pub struct Intake {
    path: PathBuf,
    earlier: File,
    earlier_left: u64,
    partial: File,
    receiver: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    used: usize,
    size: u64,
    position: u64,
    hasher: Hasher,
    failure: Option<Failure>,
}

impl Intake {
    /// Opens the partial file at `path` of an entry of `size` bytes. The sender takes the pieces that
    /// follow what the partial holds already.
    ///
    /// # Errors
    /// `IO` or `NO_SPACE` names the file.
    pub fn open(path: &Path, size: u64) -> Result<(Self, mpsc::Sender<Vec<u8>>), Failure> {
        let failed = |e| io_failure("Opening", path, e);
        let partial = OpenOptions::new().append(true).create(true).open(path).map_err(failed)?;
        let length = partial.metadata().map_err(failed)?.len();
        if length > size {
            partial.set_len(size).map_err(failed)?;
        }
        let (sender, receiver) = mpsc::channel(PIECES_IN_FLIGHT);
        let intake = Self {
            path: path.to_owned(),
            earlier: File::open(path).map_err(failed)?,
            earlier_left: length.min(size),
            partial,
            receiver,
            piece: Vec::new(),
            used: 0,
            size,
            position: 0,
            hasher: Hasher::default(),
            failure: None,
        };
        Ok((intake, sender))
    }

    /// Takes what is left and gives the digest of the whole.
    ///
    /// # Errors
    /// `NO_SPACE` or `IO` when the partial can't be written; `SOURCE_TRUNCATED` when bytes are missing.
    pub fn finish(mut self) -> Result<Digest, Failure> {
        let drained = io::copy(&mut self, &mut io::sink());
        match (drained, self.failure) {
            (_, Some(failure)) => {
                if failure.code == Code::NoSpace {
                    // A full disk is worth more than a resumed download.
                    let _ = std::fs::remove_file(&self.path);
                }
                Err(failure)
            }
            (Err(e), None) => Err(io_failure("Reading", &self.path, e)),
            (Ok(_), None) => Ok(self.hasher.finish()),
        }
    }

    fn fail(&mut self, failure: Failure) -> io::Error {
        let error = io::Error::other(failure.what.clone());
        self.failure.get_or_insert(failure);
        error
    }

    fn read_earlier(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.earlier_left).unwrap_or(usize::MAX));
        let count = self.earlier.read(&mut buffer[..want])?;
        if count == 0 {
            let failure = io_failure("Reading", &self.path, io::ErrorKind::UnexpectedEof.into());
            return Err(self.fail(failure));
        }
        self.earlier_left -= count as u64;
        Ok(count)
    }
}

impl Read for Intake {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return Err(io::Error::other("the source or the disk failed"));
        }
        if self.position == self.size || buffer.is_empty() {
            return Ok(0);
        }
        let count = if self.earlier_left > 0 {
            self.read_earlier(buffer)?
        } else {
            if self.used == self.piece.len() {
                let Some(piece) = self.receiver.blocking_recv() else {
                    let what = format!("ended at byte {} of {}", self.position, self.size);
                    return Err(self.fail(Failure::new(Code::SourceTruncated, what)));
                };
                if let Err(e) = self.partial.write_all(&piece) {
                    let failure = io_failure("Writing", &self.path, e);
                    return Err(self.fail(failure));
                }
                (self.piece, self.used) = (piece, 0);
            }
            let rest = &self.piece[self.used..];
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            self.used += count;
            count
        };
        self.hasher.update(&buffer[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_run_left_is_read_again_and_not_fetched() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("partial");
        std::fs::write(&path, b"one ").unwrap();
        let (intake, sender) = Intake::open(&path, 7).unwrap();
        sender.try_send(b"two".to_vec()).unwrap();
        drop(sender);
        assert_eq!(intake.finish().unwrap(), Digest::of(b"one two"));
        assert_eq!(std::fs::read(&path).unwrap(), b"one two");
    }

    #[test]
    fn missing_bytes_are_told_and_what_came_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("partial");
        let (intake, sender) = Intake::open(&path, 7).unwrap();
        sender.try_send(b"one".to_vec()).unwrap();
        drop(sender);
        assert_eq!(intake.finish().unwrap_err().code, Code::SourceTruncated);
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
    }
}
