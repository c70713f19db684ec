//! A range that arrives whole: it goes on at the byte after a break, and on another source when one is
//! of no more use.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bootstrap::failure::{Failure, Retry};
use rand::Rng as _;

use super::{Pieces, Source};
use crate::board::Board;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The sources of one bundle, best first.
#[derive(Debug)]
pub struct Media {
    /// The sources.
    pub sources: Vec<Arc<Source>>,
    /// How long a source may bring nothing before it is given up.
    pub patience: Duration,
    /// Where waits are shown.
    pub board: Board,
}

/// A byte range of an entry on its way.
#[derive(Debug)]
pub struct Stream<'a> {
    media: &'a Media,
    path: &'a str,
    size: u64,
    position: u64,
    end: u64,
    source: usize,
    pieces: Option<Pieces<'a>>,
    pause: Duration,
    quiet_since: Option<Instant>,
}

impl Media {
    /// The bytes `offset .. offset + length` of the entry `path` of `size` bytes, from source number
    /// `first` on.
    #[must_use]
    pub fn stream<'a>(&'a self, first: usize, path: &'a str, size: u64, offset: u64, length: u64) -> Stream<'a> {
        Stream {
            media: self,
            path,
            size,
            position: offset,
            end: offset + length,
            source: first,
            pieces: None,
            pause: FIRST_PAUSE,
            quiet_since: None,
        }
    }
}

impl Stream<'_> {
    /// The next piece; none at the end of the range.
    ///
    /// # Errors
    /// The failure of the last source, when all have been given up.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            if self.position == self.end {
                return Ok(None);
            }
            match self.try_next().await {
                Ok(piece) => {
                    self.position += piece.len() as u64;
                    self.pause = FIRST_PAUSE;
                    if self.quiet_since.take().is_some() {
                        self.media.board.stop_waiting();
                    }
                    return Ok(Some(piece));
                }
                Err(failure) => {
                    self.pieces = None;
                    self.wait_or_move_on(failure).await?;
                }
            }
        }
    }

    async fn try_next(&mut self) -> Result<Vec<u8>, Failure> {
        // Copied out of `self`, so that the pieces may outlive this call.
        let media = self.media;
        let Some(source) = media.sources.get(self.source) else {
            return Err(Failure::new(bootstrap::failure::Code::MediaNotFound, "no source is left"));
        };
        if self.pieces.is_none() {
            let length = self.end - self.position;
            self.pieces = Some(source.read(self.path, self.size, self.position, length).await?);
        }
        let next = match &mut self.pieces {
            Some(pieces) => pieces.next().await?,
            None => None,
        };
        next.ok_or_else(|| {
            let what = format!("{} on {}: ended at byte {}", self.path, source.name, self.position);
            Failure::new(bootstrap::failure::Code::SourceTruncated, what)
        })
    }

    /// Pauses before the same source is tried again, or goes on to the next one.
    async fn wait_or_move_on(&mut self, failure: Failure) -> Result<(), Failure> {
        let patience = self.media.patience;
        let quiet_since = *self.quiet_since.get_or_insert_with(Instant::now);
        if failure.code.retry() == Retry::Transient && quiet_since.elapsed() + self.pause < patience {
            let name = self.media.sources.get(self.source).map_or("", |source| source.name.as_str());
            // Many nodes lose the same router at the same moment; they shall not come back as one.
            let pause = self.pause.mul_f64(rand::rng().random_range(0.5..1.5));
            self.media.board.wait(&format!("{} from {name}", self.path), &failure.what, quiet_since, pause, patience);
            tokio::time::sleep(pause).await;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            return Ok(());
        }
        if self.source + 1 < self.media.sources.len() {
            tracing::warn!(entry = self.path, code = %failure.code, "{}: going on with another source", failure.what);
            self.source += 1;
            self.quiet_since = None;
            return Ok(());
        }
        self.media.board.stop_waiting();
        Err(failure)
    }
}
