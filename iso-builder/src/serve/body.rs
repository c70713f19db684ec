//! The body of an answer: read in pieces off the async threads, one piece ahead of the connection at most.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::task::JoinHandle;

use super::log::Entry;
use crate::content::Content;

/// Bytes of a piece.
const PIECE: usize = 128 << 10;

/// A body; its request is logged when it ends.
#[derive(Debug)]
pub(super) struct Answered {
    content: Content,
    at: u64,
    end: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    entry: Entry,
    /// The site's list, counted by its holders while the answer runs.
    _running: super::Running,
}

impl Answered {
    /// `length` bytes of `content` from byte `from`.
    pub(super) fn new(content: Content, from: u64, length: u64, entry: Entry, running: super::Running) -> Self {
        Self { content, at: from, end: from + length, reading: None, entry, _running: running }
    }
}

/// The next piece. Where the file was changed meanwhile the answer breaks off: it never has bytes of two
/// versions.
fn read(content: &Content, at: u64, end: u64) -> io::Result<Bytes> {
    let mut piece = vec![0; usize::try_from(end - at).unwrap_or(PIECE).min(PIECE)];
    let count = content.read_at(at, &mut piece)?;
    piece.truncate(count);
    match (count, content.is_unchanged()?) {
        (0, _) => Err(io::ErrorKind::UnexpectedEof.into()),
        (_, false) => Err(io::Error::other("the file changed while it was sent")),
        (_, true) => Ok(piece.into()),
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.at >= this.end {
            return Poll::Ready(None);
        }
        let (content, at, end) = (&this.content, this.at, this.end);
        let reading = this.reading.get_or_insert_with(|| {
            let content = content.clone();
            tokio::task::spawn_blocking(move || read(&content, at, end))
        });
        let piece = ready!(Pin::new(reading).poll(context));
        this.reading = None;
        let piece = piece.map_err(io::Error::other).flatten();
        if let Ok(piece) = &piece {
            this.at += piece.len() as u64;
            this.entry.sent += piece.len() as u64;
        } else {
            this.at = this.end;
        }
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.at >= self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.at)
    }
}
