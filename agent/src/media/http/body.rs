//! The body of an answer, in pieces.

use std::sync::Arc;
use std::time::Duration;

use bootstrap::failure::{Code, Failure};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Bytes, Incoming};

use super::lanes::{Lane, Lanes};
use super::{broken, silent};
use crate::media::PIECE_BYTES;

/// What has come is handed on after this time, however little it is: a kill may cost no more of a slow
/// transfer, and who reads sees how long nothing came.
const LINGER: Duration = Duration::from_secs(1);

/// The bytes of a range on their way.
#[derive(Debug)]
pub struct Body {
    flow: Option<Flow>,
    /// Bytes that come first and were not asked for.
    skip: u64,
    left: u64,
    /// What came beyond the piece before, not copied yet.
    over: Bytes,
    what: String,
}

/// An answer that is being read.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) incoming: Incoming,
    pub(super) lane: Lane,
    pub(super) lanes: Arc<Lanes>,
    pub(super) inactivity: Duration,
}

impl Flow {
    /// The next bytes; none at the end.
    async fn chunk(&mut self, what: &str) -> Result<Option<Bytes>, Failure> {
        loop {
            let frame = tokio::time::timeout(self.inactivity, self.incoming.frame());
            match frame.await.map_err(|_| silent(what, self.inactivity))? {
                None => return Ok(None),
                Some(Err(e)) => return Err(broken(what, &e)),
                // Trailers tell nothing that matters.
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    fn end(self) {
        self.lanes.answered();
        if self.incoming.is_end_stream() {
            self.lane.keep();
        }
    }

    /// All of it, up to `limit` bytes.
    pub(super) async fn all(mut self, what: &str, limit: u64) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk(what).await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > limit {
                return Err(Failure::new(Code::SourceInvalid, format!("{what}: is larger than {limit} bytes")));
            }
        }
        self.end();
        Ok(bytes)
    }
}

impl Body {
    /// No bytes at all.
    pub(super) fn empty(what: String) -> Self {
        Self { flow: None, skip: 0, left: 0, over: Bytes::new(), what }
    }

    /// `length` bytes of `flow`, after `skip` that were not asked for.
    pub(super) fn new(flow: Flow, skip: u64, length: u64, what: String) -> Self {
        Self { flow: Some(flow), skip, left: length, over: Bytes::new(), what }
    }

    /// The next piece, of up to [`PIECE_BYTES`]; none at the end.
    ///
    /// # Errors
    /// `SOURCE_UNREACHABLE` when the connection breaks, ends early or brings nothing; `SOURCE_INVALID` when more
    /// comes than the file has.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let want = self.left.min(PIECE_BYTES as u64) as usize;
        let Some(flow) = self.flow.as_mut().filter(|_| want > 0) else { return Ok(None) };
        let mut piece: Vec<u8> = Vec::with_capacity(want);
        // The connection's chunks are small and uneven; what is handed on is not.
        while piece.len() < want {
            if self.over.is_empty() {
                let chunk = match piece.is_empty() {
                    true => flow.chunk(&self.what).await,
                    false => match tokio::time::timeout(LINGER, flow.chunk(&self.what)).await {
                        Ok(chunk) => chunk,
                        Err(_) => break,
                    },
                };
                match chunk {
                    Ok(Some(chunk)) => self.over = chunk,
                    Ok(None) => break,
                    // What has come is whole and kept; the error comes again with the next call.
                    Err(_) if !piece.is_empty() => break,
                    Err(failure) => return Err(failure),
                }
                let passed = self.skip.min(self.over.len() as u64);
                self.skip -= passed;
                drop(self.over.split_to(passed as usize));
            }
            let part = self.over.split_to(self.over.len().min(want - piece.len()));
            piece.extend_from_slice(&part);
        }
        if piece.is_empty() {
            let what = format!("{}: ended {} bytes early", self.what, self.left);
            return Err(Failure::new(Code::SourceUnreachable, what));
        }
        self.left -= piece.len() as u64;
        if self.left == 0 && !self.over.is_empty() {
            let what = format!("{}: sends more than was asked for", self.what);
            return Err(Failure::new(Code::SourceInvalid, what));
        }
        if self.left == 0
            && let Some(flow) = self.flow.take()
        {
            flow.end();
        }
        Ok(Some(piece))
    }
}
