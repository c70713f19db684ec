//! A range that arrives whole: it goes on at the byte after a break, and on another source when one is
//! of no more use.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bootstrap::failure::{Code, Failure, Retry};
use rand::Rng as _;

use super::{Pieces, Source};
use crate::board::Board;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a source may bring nothing while another one stands by.
pub(crate) const IMPATIENCE: Duration = Duration::from_secs(2);

/// The sources of one bundle, best first.
#[derive(Debug)]
pub struct Media {
    /// The sources.
    pub sources: Vec<Arc<Source>>,
    /// How long a source may bring nothing before it is given up.
    pub patience: Duration,
    /// Where waits are shown.
    pub board: Board,
    /// The source that last brought something: streams begin there, so that a dead one is waited for once.
    preferred: AtomicUsize,
}

/// Whose turn it is to bring a range: the sources in a circle, those that gave wrong bytes passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    first: usize,
    given_up: usize,
}

impl Turn {
    /// The next source's turn; none when every one of `media` had it.
    #[must_use]
    pub fn next(self, media: &Media) -> Option<Self> {
        let given_up = self.given_up + 1;
        (given_up < media.sources.len()).then_some(Self { given_up, ..self })
    }
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
    /// Sources that are of no more use for this range.
    given_up: usize,
    pieces: Option<Pieces<'a>>,
    pause: Duration,
    quiet_since: Option<Instant>,
}

impl Media {
    /// The media of a run.
    #[must_use]
    pub fn new(sources: Vec<Arc<Source>>, patience: Duration, board: Board) -> Self {
        Self { sources, patience, board, preferred: AtomicUsize::new(0) }
    }

    /// Where a new range begins, for now.
    #[must_use]
    pub fn preferred(&self) -> Turn {
        Turn { first: self.preferred.load(Ordering::Relaxed), given_up: 0 }
    }

    /// Which version of an entry the first source has ([`Source::validator`]).
    #[must_use]
    pub fn validator(&self, path: &str) -> Option<String> {
        self.sources.first()?.validator(path)
    }

    /// How often an entry changed under way, on all sources ([`Source::changes`]).
    #[must_use]
    pub fn changes(&self, path: &str) -> u64 {
        self.sources.iter().map(|source| source.changes(path)).sum()
    }

    /// The bytes `offset .. offset + length` of the entry `path` of `size` bytes, from the source whose
    /// `turn` it is and from those after it.
    #[must_use]
    pub fn stream<'a>(&'a self, turn: Turn, path: &'a str, size: u64, offset: u64, length: u64) -> Stream<'a> {
        Stream {
            given_up: turn.given_up,
            media: self,
            path,
            size,
            position: offset,
            end: offset + length,
            source: (turn.first + turn.given_up) % self.sources.len().max(1),
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
            let began = Instant::now();
            match self.try_next().await {
                Ok(piece) => {
                    self.position += piece.len() as u64;
                    self.pause = FIRST_PAUSE;
                    if self.quiet_since.take().is_some() {
                        self.stop_waiting();
                    }
                    self.media.preferred.store(self.source, Ordering::Relaxed);
                    return Ok(Some(piece));
                }
                Err(failure) => {
                    self.pieces = None;
                    self.wait_or_move_on(failure, began).await?;
                }
            }
        }
    }

    async fn try_next(&mut self) -> Result<Vec<u8>, Failure> {
        // Copied out of `self`, so that the pieces may outlive this call.
        let media = self.media;
        let Some(source) = media.sources.get(self.source) else {
            return Err(Failure::new(Code::MediaNotFound, "no source is left"));
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
            Failure::new(Code::SourceTruncated, what)
        })
    }

    /// Pauses before the same source is tried again, or goes on to the next one. The try that failed began at
    /// `began`, and the source has brought nothing since.
    async fn wait_or_move_on(&mut self, failure: Failure, began: Instant) -> Result<(), Failure> {
        let others = self.media.sources.len() - self.given_up.min(self.media.sources.len());
        // With another source at hand nobody waits long for this one.
        let patience = if others > 1 { IMPATIENCE.min(self.media.patience) } else { self.media.patience };
        let quiet_since = *self.quiet_since.get_or_insert(began);
        let left = patience.saturating_sub(quiet_since.elapsed());
        if failure.code.retry() == Retry::Transient && !left.is_zero() {
            // Many nodes lose the same router at the same moment; they shall not come back as one.
            let pause = self.pause.mul_f64(rand::rng().random_range(0.5..1.5)).min(left);
            self.media.board.wait(&self.waits_for(), &failure.what, quiet_since, pause, patience);
            tokio::time::sleep(pause).await;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            return Ok(());
        }
        self.stop_waiting();
        self.given_up += 1;
        if self.given_up >= self.media.sources.len() {
            return Err(failure);
        }
        tracing::warn!(entry = self.path, code = %failure.code, "{}: going on with another source", failure.what);
        self.source = (self.source + 1) % self.media.sources.len();
        self.quiet_since = None;
        self.pause = FIRST_PAUSE;
        Ok(())
    }

    fn waits_for(&self) -> String {
        let name = self.media.sources.get(self.source).map_or("", |source| source.name.as_str());
        format!("{} from {name}", self.path)
    }

    fn stop_waiting(&self) {
        self.media.board.stop_waiting(&self.waits_for());
    }
}
