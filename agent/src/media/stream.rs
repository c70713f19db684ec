//! A range that arrives whole: it goes on at the byte after a break, and on another source when one is
//! of no more use.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bootstrap::failure::{Code, Failure, Retry};
use rand::Rng as _;
use tokio::sync::watch;

use super::Pieces;
use super::eject;
use super::http::held_off;
use super::prober::Probing;
use super::set::{Confirmed, Live, Set, copy};
use super::turn::{Turn, bit};
use crate::board::Board;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a source may bring nothing while another one stands by.
const IMPATIENCE: Duration = Duration::from_secs(2);

/// The sources of one bundle, best first; they come and go while it is installed.
#[derive(Debug)]
pub struct Media {
    probing: Probing,
    /// How long nothing may come from any source before a range is given up.
    patience: Duration,
    board: Board,
    turns: AtomicU64,
    /// Which sources brought bytes of a turn.
    suppliers: Mutex<HashMap<u64, u64>>,
}

/// A byte range of an entry on its way.
#[derive(Debug)]
pub struct Stream<'a> {
    media: &'a Media,
    turn: Turn,
    path: &'a str,
    size: u64,
    position: u64,
    end: u64,
    reading: Option<(Live, Pieces)>,
    tries: HashMap<u64, Try>,
    quiet_since: Instant,
    changes: watch::Receiver<u64>,
    waits_for: Option<String>,
}

/// What a source did for a range since its last byte.
#[derive(Debug)]
struct Try {
    failure: Failure,
    at: Instant,
    again: Instant,
    pause: Duration,
}

/// Who reads next.
enum Next {
    From(Live),
    Later(Duration, Failure),
    Nobody(Failure),
}

impl Media {
    /// The media of a run.
    #[must_use]
    pub fn new(probing: Probing, patience: Duration, board: Board) -> Self {
        let (turns, suppliers) = Default::default();
        Self { probing, patience, board, turns, suppliers }
    }

    /// A try that no source is left out of.
    #[must_use]
    pub fn preferred(&self) -> Turn {
        Turn::new(self.turns.fetch_add(1, Ordering::Relaxed))
    }

    /// Which version of an entry the best source has ([`super::Source::validator`]).
    #[must_use]
    pub fn validator(&self, path: &str) -> Option<String> {
        self.set().live().first()?.source.validator(path)
    }

    /// How often an entry changed under way, on all sources ([`super::Source::changes`]).
    #[must_use]
    pub fn changes(&self, path: &str) -> u64 {
        self.set().live().iter().map(|live| live.source.changes(path)).sum()
    }

    /// The bytes `offset .. offset + length` of the entry `path` of `size` bytes, from the best source that
    /// `turn` does not leave out and from those after it.
    #[must_use]
    pub fn stream<'a>(&'a self, turn: Turn, path: &'a str, size: u64, offset: u64, length: u64) -> Stream<'a> {
        self.suppliers().remove(&turn.serial);
        Stream {
            media: self,
            turn,
            path,
            size,
            position: offset,
            end: offset + length,
            reading: None,
            tries: HashMap::new(),
            quiet_since: Instant::now(),
            changes: self.set().subscribe(),
            waits_for: None,
        }
    }

    /// Names of the sources that hold the bundle, best first.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.set().names()
    }

    /// Bytes that came from each source so far.
    #[must_use]
    pub fn bytes_by_source(&self) -> Vec<(String, u64)> {
        self.set().bytes_by_source()
    }

    /// Nothing more is needed: where `eject` says so, the optical drives that held the bundle are opened. What
    /// could not be is returned, for the operator.
    #[must_use]
    pub fn release(&self, eject: bool) -> Vec<Failure> {
        if !eject {
            return Vec::new();
        }
        // The agent's own view of the mounts: a drive is the machine's, whatever root is worked on.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut failures = Vec::new();
        for drive in self.set().drives() {
            match eject::eject(Path::new(&drive), &mounts) {
                Ok(()) => self.set().ejected(&drive),
                Err(failure) => failures.push(failure),
            }
        }
        failures
    }

    /// How long nothing may come before a range is given up.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    pub(super) fn set(&self) -> &Arc<Set> {
        self.probing.set()
    }

    pub(super) fn suppliers(&self) -> std::sync::MutexGuard<'_, HashMap<u64, u64>> {
        // Every change is one call.
        self.suppliers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream<'_> {
    /// The next piece; none at the end of the range.
    ///
    /// # Errors
    /// The failure of a source, when nobody brought anything for as long as the run waits, or when all that are
    /// there give something wrong.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        if self.tries.is_empty() {
            // What the taker of the last piece needed is nobody's silence.
            self.quiet_since = Instant::now();
        }
        loop {
            if self.position == self.end {
                return Ok(None);
            }
            let Some(live) = self.source().await? else { continue };
            match self.read(&live).await {
                Ok(piece) => {
                    self.position += piece.len() as u64;
                    self.tries.clear();
                    self.stop_waiting();
                    self.media.set().worked(live.id);
                    self.media.board.source_progress(&live.source.name, piece.len() as u64);
                    *self.media.suppliers().entry(self.turn.serial).or_default() |= bit(live.id);
                    return Ok(Some(piece));
                }
                Err(failure) => {
                    self.reading = None;
                    self.media.set().failed(live.id, &failure);
                    self.failed(&live, failure);
                }
            }
        }
    }

    /// The source of the last piece; empty before the first.
    #[must_use]
    pub fn supplier(&self) -> &str {
        self.reading.as_ref().map_or("", |(live, _)| live.source.name.as_str())
    }

    /// The source to read from; none when somebody was waited for.
    async fn source(&mut self) -> Result<Option<Live>, Failure> {
        if let Some((live, _)) = &self.reading {
            return Ok(Some(live.clone()));
        }
        self.changes.borrow_and_update();
        let left = self.media.patience.saturating_sub(self.quiet_since.elapsed());
        match self.choose() {
            Next::From(live) => Ok(Some(live)),
            Next::Nobody(failure) => {
                self.stop_waiting();
                Err(failure)
            }
            Next::Later(_, failure) if left.is_zero() => {
                self.stop_waiting();
                Err(failure)
            }
            Next::Later(pause, failure) => {
                // The last try is at the deadline that was shown.
                let pause = pause.min(left);
                self.wait(&failure, pause);
                let _ = tokio::time::timeout(pause, self.changes.changed()).await;
                Ok(None)
            }
        }
    }

    fn choose(&self) -> Next {
        let (set, now) = (self.media.set(), Instant::now());
        let mut live = set.live();
        // Not at once: a router that takes its disc away may list a file and lack it for a moment.
        let hopeless = live.is_empty() && self.quiet_since.elapsed() >= LONGEST_PAUSE && set.is_hopeless();
        live.retain(|live| self.turn.blamed & bit(live.id) == 0);
        live.sort_by_key(|live| self.turn.suspected & bit(live.id) != 0);
        let (mut soonest, mut at_fault, mut open) = (None::<Instant>, None, false);
        for live in &live {
            let Some(tried) = self.tries.get(&live.id) else { return Next::From(live.clone()) };
            if tried.failure.code.retry() == Retry::Transient {
                if tried.again <= now {
                    return Next::From(live.clone());
                }
                soonest = Some(soonest.map_or(tried.again, |soonest| soonest.min(tried.again)));
                continue;
            }
            match set.confirmed(live.id, tried.at) {
                Confirmed::Still => at_fault = at_fault.or(Some(&tried.failure)),
                Confirmed::Open => open = true,
                Confirmed::Gone => {}
            }
        }
        let last = self.tries.values().max_by_key(|tried| tried.at).map(|tried| copy(&tried.failure));
        let last = last.unwrap_or_else(|| {
            Failure::new(Code::MediaNotFound, format!("{}: no source holds the bundle any more", self.path))
        });
        match (soonest, at_fault) {
            (None, Some(failure)) if !open => Next::Nobody(copy(failure)),
            (None, _) if hopeless => Next::Nobody(last),
            (Some(again), _) => Next::Later(again.saturating_duration_since(now), last),
            (None, _) => Next::Later(LONGEST_PAUSE, last),
        }
    }

    async fn read(&mut self, live: &Live) -> Result<Vec<u8>, Failure> {
        let (path, size, position, end) = (self.path, self.size, self.position, self.end);
        let reading = &mut self.reading;
        let asked = AtomicBool::new(reading.is_none());
        let piece = async {
            let (_, pieces) = match reading {
                Some(reading) => reading,
                None => {
                    let pieces = live.source.read(path, size, position, end - position).await?;
                    asked.store(false, Ordering::Relaxed);
                    reading.insert((live.clone(), pieces))
                }
            };
            pieces.next().await
        };
        let others = self
            .media
            .set()
            .live()
            .iter()
            .any(|other| other.id != live.id && !other.ailing && (self.turn.blamed & bit(other.id)) == 0);
        // With another source at hand nobody waits long for this one.
        let limit = if others { IMPATIENCE.min(self.media.patience.max(FIRST_PAUSE)) } else { IMPATIENCE };
        let (since, mut heard, mut brought) = (Instant::now(), Instant::now(), live.source.bytes());
        let mut piece = std::pin::pin!(piece);
        let outcome = loop {
            let outcome = tokio::time::timeout(limit, &mut piece).await;
            if outcome.is_ok() {
                break outcome;
            }
            let unanswered = asked.load(Ordering::Relaxed);
            if unanswered && live.source.bytes() > brought {
                // It serves other artefacts, over all the connections that it may have: no silence of its.
                (heard, brought) = (Instant::now(), live.source.bytes());
                let waits_for = format!("{path}: a free connection to {}", live.source.name);
                let patience = since.elapsed() + self.media.patience;
                self.media.board.wait(&waits_for, "all are in use", since, limit, patience);
                self.waits_for = Some(waits_for);
            } else if others || (unanswered && heard.elapsed() >= self.media.patience) {
                break outcome;
            }
        };
        let name = &live.source.name;
        match outcome {
            Ok(Ok(Some(piece))) => Ok(piece),
            Ok(Ok(None)) => {
                let what = format!("{path} on {name}: ended at byte {position}");
                Err(Failure::new(Code::SourceTruncated, what))
            }
            Ok(Err(failure)) => Err(failure),
            Err(_) => {
                let what = format!("{path} on {name}: brings nothing at byte {position}");
                Err(Failure::new(Code::SourceUnreachable, what))
            }
        }
    }

    fn failed(&mut self, live: &Live, failure: Failure) {
        let (id, others) = (live.id, self.media.set().live().len() > 1);
        if others {
            self.media.board.moved(&live.source.name, &failure.what);
            tracing::warn!(entry = self.path, code = %failure.code, "{}: going on with another source", failure.what);
        } else {
            self.media.board.retry(&live.source.name, &failure.what);
        }
        let now = Instant::now();
        let pause = self.tries.get(&id).map_or(FIRST_PAUSE, |tried| (tried.pause * 2).min(LONGEST_PAUSE));
        // Many nodes lose the same router at the same moment; they shall not come back as one.
        let again = now + pause.mul_f64(rand::rng().random_range(0.5..1.5));
        let again = held_off(&failure).map_or(again, |until| until.max(again));
        self.tries.insert(id, Try { failure, at: now, again, pause });
    }

    fn wait(&mut self, failure: &Failure, pause: Duration) {
        let names = self.media.names();
        let from = names.first().map_or("any source", String::as_str);
        let waits_for = format!("{} from {from}", self.path);
        if self.waits_for.as_ref() != Some(&waits_for) {
            self.stop_waiting();
        }
        self.media.board.wait(&waits_for, &failure.what, self.quiet_since, pause, self.media.patience);
        self.waits_for = Some(waits_for);
    }

    fn stop_waiting(&mut self) {
        if let Some(waits_for) = self.waits_for.take() {
            self.media.board.stop_waiting(&waits_for);
        }
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        self.stop_waiting();
    }
}
