//! The receiving end of a fetch: what an earlier run left, then what comes, kept, hashed and handed on.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bootstrap::digest::{Digest, Hasher};
use bootstrap::failure::{Code, Failure};
use rustix::io::Errno;
use tokio::sync::mpsc;

use crate::direct::{Buffer, Writing};
use crate::files;
use crate::host::io_failure;

/// Pieces that may wait for the reader: with the sender's own, at most four per entry in flight.
const PIECES_IN_FLIGHT: usize = 2;

/// The bytes of one entry, from first to last, for one blocking reader.
#[derive(Debug)]
pub struct Intake {
    path: PathBuf,
    earlier: File,
    earlier_left: u64,
    receiver: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    used: usize,
    size: u64,
    position: u64,
    hasher: Hasher,
    failure: Option<Failure>,
}

/// The sending end of an [`Intake`].
#[derive(Debug)]
pub struct Feed {
    path: PathBuf,
    partial: Arc<Mutex<Writing<File, Buffer>>>,
    sender: mpsc::Sender<Vec<u8>>,
}

impl Feed {
    /// Keeps `piece` in the partial file, but for less than a block, and hands it on; false when the reader has
    /// stopped. What waits for a slow reader is kept already, so a kill costs the piece that is still on its way and
    /// no other.
    ///
    /// # Errors
    /// `NO_SPACE` or `IO` names the partial.
    pub async fn give(&self, piece: Vec<u8>) -> Result<bool, Failure> {
        let kept = self.write(move |partial| partial.put(&piece).and_then(|()| partial.keep()).map(|()| piece));
        Ok(self.sender.send(kept.await?).await.is_ok())
    }

    /// Keeps the last bytes, too. The reader comes to its end.
    ///
    /// # Errors
    /// As [`Self::give`].
    pub async fn end(self) -> Result<(), Failure> {
        self.write(Writing::flush).await
    }

    async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&mut Writing<File, Buffer>) -> Result<T, Errno> + Send + 'static,
    ) -> Result<T, Failure> {
        let partial = Arc::clone(&self.partial);
        // A panic while it was locked ended this run.
        let written =
            tokio::task::spawn_blocking(move || write(&mut partial.lock().unwrap_or_else(PoisonError::into_inner)));
        let written = written.await.map_err(io::Error::from).and_then(|written| Ok(written?));
        written.map_err(|e| {
            let failure = io_failure("Writing", &self.path, e);
            if failure.code == Code::NoSpace {
                // A full disk is worth more than a resumed download.
                let _ = std::fs::remove_file(&self.path);
            }
            failure
        })
    }
}

impl Intake {
    /// Opens the partial file at `path` of an entry of `size` bytes. The feed takes the pieces that follow
    /// what the partial holds already. A partial that `lasts` becomes the installed file; any other is soon removed,
    /// most often before the kernel has written it to the disk.
    ///
    /// # Errors
    /// `IO` or `NO_SPACE` names the file.
    pub fn open(path: &Path, size: u64, lasts: bool) -> Result<(Self, Feed), Failure> {
        let failed = |e| io_failure("Opening", path, e);
        let partial = files::no_links().append(true).create(true).mode(0o600).open(path).map_err(failed)?;
        let length = partial.metadata().map_err(failed)?.len();
        if length > size {
            partial.set_len(size).map_err(failed)?;
        }
        let (sender, receiver) = mpsc::channel(PIECES_IN_FLIGHT);
        let intake = Self {
            path: path.to_owned(),
            earlier: File::open(path).map_err(failed)?,
            earlier_left: length.min(size),
            receiver,
            piece: Vec::new(),
            used: 0,
            size,
            position: 0,
            hasher: Hasher::default(),
            failure: None,
        };
        let large = if lasts { size - length.min(size) } else { 0 };
        let partial = Writing::new(partial, large, Buffer::default());
        Ok((intake, Feed { path: path.to_owned(), partial: Arc::new(Mutex::new(partial)), sender }))
    }

    /// Takes what is left and gives the digest of the whole.
    ///
    /// # Errors
    /// `IO` when the partial can't be read; `SOURCE_TRUNCATED` when bytes are missing.
    pub fn finish(mut self) -> Result<Digest, Failure> {
        let drained = io::copy(&mut self, &mut io::sink());
        match (drained, self.failure) {
            (_, Some(failure)) => Err(failure),
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

    /// What `feed` does with `piece` while nobody reads.
    fn give(feed: &Feed, piece: &[u8]) -> Result<bool, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(feed.give(piece.to_vec()))
    }

    #[test]
    fn what_an_earlier_run_left_is_read_again_and_not_fetched() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("partial");
        std::fs::write(&path, b"one ").unwrap();
        let (intake, feed) = Intake::open(&path, 7, true).unwrap();
        assert!(give(&feed, b"two").unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"one two", "kept before it is read");
        drop(feed);
        assert_eq!(intake.finish().unwrap(), Digest::of(b"one two"));
    }

    #[test]
    fn a_large_partial_is_kept_but_for_its_last_block_and_resumed_at_any_byte() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let path = directory.path().join("partial");
        let whole: Vec<u8> = (0..1_500_000_u32).map(|at| (at / 5) as u8).collect();
        let (mut position, size) = (0, whole.len() as u64);
        // A run that is killed, one that is stopped, and one that comes to the end.
        for (until, stopped) in [(600_000, false), (1_200_000, true), (whole.len(), true)] {
            let (mut intake, feed) = Intake::open(&path, size, true).unwrap();
            let reading = std::thread::spawn(move || {
                let mut read = Vec::new();
                let _ = intake.read_to_end(&mut read);
                read
            });
            for piece in whole[position..until].chunks(100_001) {
                assert!(give(&feed, piece).unwrap());
            }
            if stopped {
                tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(feed.end()).unwrap();
            } else {
                drop(feed);
            }
            assert!(reading.join().unwrap() == whole[..until], "the reader gets all of it");
            let kept = std::fs::read(&path).unwrap();
            assert!(whole.starts_with(&kept), "{until}");
            assert!(if stopped { kept.len() == until } else { until - kept.len() < 4096 }, "{} of {until}", kept.len());
            position = kept.len();
        }
    }

    #[test]
    fn missing_bytes_are_told_and_what_came_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("partial");
        let (intake, feed) = Intake::open(&path, 7, true).unwrap();
        assert!(give(&feed, b"one").unwrap());
        drop(feed);
        assert_eq!(intake.finish().unwrap_err().code, Code::SourceTruncated);
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
    }

    #[test]
    fn a_full_disk_is_told_and_a_reader_that_stopped_is_no_failure() {
        let (intake, feed) = Intake::open(Path::new("/dev/full"), 7, true).unwrap();
        drop(intake);
        // Not a real partial: it must not be removed.
        let feed = Feed { path: PathBuf::from("/nonexistent/partial"), ..feed };
        assert_eq!(give(&feed, b"one").unwrap_err().code, Code::NoSpace);
        let directory = tempfile::tempdir().unwrap();
        let (intake, feed) = Intake::open(&directory.path().join("partial"), 7, true).unwrap();
        drop(intake);
        assert!(!give(&feed, b"one").unwrap());
    }
}
