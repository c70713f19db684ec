//! Hashing in a thread of its own, beside the reading and the writing: sha256 takes as long as both.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use bootstrap::digest::{Digest, Hasher};

/// Chunks on their way to the hasher, at most: beyond it the reader waits.
const AHEAD: usize = 8;

/// Bytes of the thread's stack; it calls one function.
const STACK: usize = 128 << 10;

/// Bytes below which a thread costs more than it brings.
const WORTH: u64 = 4 << 20;

/// Bytes of a chunk.
pub const CHUNK: usize = 256 << 10;

/// Buffers of [`CHUNK`] bytes, used again when every lane is done with them.
#[derive(Debug, Default)]
pub struct Chunks(VecDeque<Arc<Vec<u8>>>);

impl Chunks {
    /// A buffer to be filled; the bytes in it have no meaning.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        let mut buffer = match self.0.pop_front().map(Arc::try_unwrap) {
            Some(Ok(buffer)) => buffer,
            Some(Err(busy)) => {
                self.0.push_front(busy);
                Vec::new()
            }
            None => Vec::new(),
        };
        buffer.resize(CHUNK, 0);
        buffer
    }

    /// Makes a filled buffer a chunk, and comes back to it later.
    pub fn share(&mut self, buffer: Vec<u8>) -> Arc<Vec<u8>> {
        let chunk = Arc::new(buffer);
        self.0.push_back(Arc::clone(&chunk));
        chunk
    }
}

/// A running sha256 over chunks that are handed over.
#[derive(Debug)]
pub struct Lane(State);

#[derive(Debug)]
enum State {
    Beside { chunks: SyncSender<Arc<Vec<u8>>>, thread: JoinHandle<Digest> },
    Here(Hasher),
}

impl Lane {
    /// A hasher for about `length` bytes: few are hashed by the caller's thread, and so are all where no
    /// thread can be had.
    #[must_use]
    pub fn start(length: u64) -> Self {
        if length < WORTH {
            return Self(State::Here(Hasher::default()));
        }
        let (chunks, taken) = sync_channel::<Arc<Vec<u8>>>(AHEAD);
        let hash = move || {
            let mut hasher = Hasher::default();
            taken.iter().for_each(|chunk| hasher.update(&chunk));
            hasher.finish()
        };
        match Builder::new().name("sha256".to_owned()).stack_size(STACK).spawn(hash) {
            Ok(thread) => Self(State::Beside { chunks, thread }),
            Err(_) => Self(State::Here(Hasher::default())),
        }
    }

    /// Takes the next chunk.
    pub fn update(&mut self, chunk: &Arc<Vec<u8>>) {
        match &mut self.0 {
            // It fails when the thread has panicked; `finish` tells that.
            State::Beside { chunks, .. } => drop(chunks.send(Arc::clone(chunk))),
            State::Here(hasher) => hasher.update(chunk),
        }
    }

    /// The digest of all that was taken.
    #[must_use]
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Beside { chunks, thread } => {
                drop(chunks);
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
            State::Here(hasher) => hasher.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gives_the_same_digest() {
        for length in [0, WORTH] {
            let (mut lane, mut chunks, mut all) = (Lane::start(length), Chunks::default(), Vec::new());
            for byte in 0..100 {
                let mut buffer = chunks.take();
                buffer.truncate(CHUNK - usize::from(byte));
                buffer.fill(byte);
                all.extend_from_slice(&buffer);
                lane.update(&chunks.share(buffer));
            }
            assert_eq!(lane.finish(), Digest::of(&all));
            assert!(chunks.0.len() <= AHEAD + 4, "{} buffers", chunks.0.len());
        }
    }
}
