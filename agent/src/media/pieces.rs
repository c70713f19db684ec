//! A byte range on its way, piece by piece.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bootstrap::failure::{Code, Failure};
use tokio::sync::mpsc;

use super::http::Body;
use super::remote::Parts;

/// The pieces of one range, in order.
#[derive(Debug)]
pub enum Pieces {
    /// From an HTTP answer.
    Http(Body),
    /// From several of them, one behind the other.
    Remote(Parts),
    /// From a file, read ahead by a thread of its own.
    File(FilePieces),
    /// Either of them, with its bytes counted.
    Counted(Box<Self>, Arc<AtomicU64>),
}

/// Pieces that a blocking thread reads from a file.
#[derive(Debug)]
pub struct FilePieces {
    /// Ends when the range does; a failure is the last that comes.
    pub receiver: mpsc::Receiver<Result<Vec<u8>, Failure>>,
    /// Bytes that are still to come.
    pub left: u64,
    /// What is read, for messages.
    pub what: String,
    /// How long it may bring nothing: a file server that is gone says nothing at all.
    pub inactivity: Duration,
}

impl Pieces {
    /// The same pieces, their bytes added to `counter`.
    pub(super) fn counted(self, counter: Arc<AtomicU64>) -> Self {
        Self::Counted(Box::new(self), counter)
    }

    /// The next piece; none at the end of the range.
    ///
    /// # Errors
    /// `SOURCE_TRUNCATED` when the source ends early, `SOURCE_UNREACHABLE` when it breaks off or stalls.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Self::Http(body) => body.next().await,
            Self::Remote(parts) => parts.next().await,
            Self::File(pieces) => pieces.next().await,
            Self::Counted(inner, counter) => {
                let piece = Box::pin(inner.next()).await?;
                counter.fetch_add(piece.as_ref().map_or(0, Vec::len) as u64, Ordering::Relaxed);
                Ok(piece)
            }
        }
    }
}

impl FilePieces {
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let piece = tokio::time::timeout(self.inactivity, self.receiver.recv());
        let stalled = |_| {
            let what = format!("{}: brought nothing for {} s", self.what, self.inactivity.as_secs_f64());
            Failure::new(Code::SourceUnreachable, what)
        };
        match piece.await.map_err(stalled)? {
            Some(Ok(piece)) => {
                self.left = self.left.saturating_sub(piece.len() as u64);
                Ok(Some(piece))
            }
            Some(Err(failure)) => Err(failure),
            None if self.left > 0 => {
                let what = format!("{}: ended {} bytes early", self.what, self.left);
                Err(Failure::new(Code::SourceTruncated, what))
            }
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_never_answers_is_given_up() {
        let (_held, receiver) = mpsc::channel(1);
        let inactivity = Duration::from_millis(20);
        let mut pieces = FilePieces { receiver, left: 5, what: "kubelet on /mnt".to_owned(), inactivity };
        let failure = pieces.next().await.unwrap_err();
        assert_eq!(failure.code, Code::SourceUnreachable);
        assert!(failure.what.contains("kubelet on /mnt: brought nothing"), "{}", failure.what);
    }
}
