//! The sources as they are known at any time: which hold the bundle, which ail, which one is next.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure, Retry};
use bootstrap::plan::Bundle;
use tokio::sync::{Notify, watch};

use super::Source;
use super::candidates::{Candidate, Kind};
use super::discs::Print;
use super::http::held_off;
use super::shown::Held;
use crate::report;

/// How long better sources that have not answered yet are waited for once one has a bundle.
pub const GRACE: Duration = Duration::from_secs(2);
/// The first pause of a source that failed a second time without a byte between; doubled from there.
const FIRST_REST: Duration = Duration::from_secs(2);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// The sources of a run; shared by who probes them and who reads from them.
#[derive(Debug)]
pub struct Set {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
    /// Wakes the prober: a source failed while it was read.
    pub(super) poke: Notify,
    ids: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub rows: Vec<Row>,
    pub chosen: Option<Digest>,
    first_found: Option<Instant>,
}

/// A candidate and what is known of it.
#[derive(Debug)]
pub(super) struct Row {
    pub candidate: Candidate,
    pub state: State,
    pub probing: bool,
    /// When it is probed next; none: only when something happens to it.
    pub due: Option<Instant>,
    pub pause: Duration,
    pub tries: u32,
    pub checked: Option<Instant>,
    pub latency: Option<Duration>,
    pub label: Option<String>,
    /// A block device that is no disc: nobody is told about the machine's own disks.
    pub hidden: bool,
    /// Bytes of sources that were open under this name before.
    pub earlier: u64,
    /// A device or file that was there and is no more.
    pub gone: bool,
    /// The print of what is open.
    pub opened_as: Option<Print>,
}

#[derive(Debug)]
pub(super) enum State {
    Pending,
    Refused(Failure),
    Holds(Holding),
}

#[derive(Debug)]
pub(super) struct Holding {
    pub id: u64,
    pub source: Arc<Source>,
    pub bundle: Arc<Bundle>,
    pub held: Held,
    pub ailing: Option<Ailing>,
    /// Failures since the last byte.
    strikes: u32,
}

#[derive(Debug)]
pub(super) struct Ailing {
    pub code: Code,
    pub what: String,
    until: Instant,
}

/// A source that holds the bundle.
#[derive(Debug, Clone)]
pub struct Live {
    /// Which opening of it this is.
    pub id: u64,
    /// The source.
    pub source: Arc<Source>,
    /// Whether its last read failed.
    pub ailing: bool,
}

/// What came of a second look at a source that gave something wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// It still holds the bundle: it is at fault.
    Still,
    /// It is gone or holds something else.
    Gone,
    /// The look is under way.
    Open,
}

impl Set {
    pub(super) fn new() -> Self {
        let (inner, poke, ids) = Default::default();
        Self { inner, changed: watch::Sender::new(0), poke, ids }
    }

    /// Tells of every change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The sources of the chosen bundle: those that do well first, best first.
    #[must_use]
    pub fn live(&self) -> Vec<Live> {
        let inner = self.lock();
        let mut live: Vec<Live> = inner.holding().map(Holding::live).collect();
        live.sort_by_key(|live| live.ailing);
        live
    }

    /// Names of the sources that hold the chosen bundle, best first.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.lock().holding().map(|holding| holding.source.name.clone()).collect()
    }

    /// Bytes that came from each source so far.
    #[must_use]
    pub fn bytes_by_source(&self) -> Vec<(String, u64)> {
        self.lock().rows.iter().filter(|row| !row.hidden).map(|row| (row.candidate.shown(), row.bytes())).collect()
    }

    /// A source brought something.
    pub fn worked(&self, id: u64) {
        let mut inner = self.lock();
        let Some((_, holding)) = inner.by_id(id) else { return };
        holding.strikes = 0;
        if holding.ailing.take().is_some() {
            self.tell(inner);
        }
    }

    /// A source failed while it was read: the others come first until a look at it goes well.
    pub fn failed(&self, id: u64, failure: &Failure) {
        let mut inner = self.lock();
        let Some((due, holding)) = inner.by_id(id) else { return };
        let now = Instant::now();
        let rest = FIRST_REST * 2_u32.saturating_pow(holding.strikes.min(8)) / 2;
        let rest = if holding.strikes == 0 { Duration::ZERO } else { rest.min(LONGEST_REST) };
        holding.strikes += 1;
        let until = held_off(failure).map_or(now + rest, |until| until.max(now + rest));
        holding.ailing = Some(Ailing { code: failure.code, what: report::chain(failure), until });
        *due = Some(if failure.code.retry() == Retry::Transient { until } else { now });
        self.tell(inner);
        self.poke.notify_one();
    }

    /// What a look at a source says that was made after `since`.
    #[must_use]
    pub fn confirmed(&self, id: u64, since: Instant) -> Confirmed {
        let inner = self.lock();
        let chosen = inner.chosen;
        let is_it = |row: &&Row| matches!(&row.state, State::Holds(holding) if holding.id == id && Some(holding.bundle.id) == chosen);
        match inner.rows.iter().find(is_it) {
            None => Confirmed::Gone,
            Some(row) if row.checked.is_some_and(|checked| checked > since) => Confirmed::Still,
            Some(_) => Confirmed::Open,
        }
    }

    /// The bundle: that of the best source that has one, as soon as all better ones have answered or
    /// [`GRACE`] is over.
    pub(super) fn choose(&self) -> Choice {
        let mut inner = self.lock();
        let Some(at) = inner.rows.iter().position(|row| matches!(row.state, State::Holds(_))) else {
            return Choice::None;
        };
        let first_found = *inner.first_found.get_or_insert_with(Instant::now);
        let left = GRACE.saturating_sub(first_found.elapsed());
        if inner.rows[..at].iter().any(|row| matches!(row.state, State::Pending)) && !left.is_zero() {
            return Choice::In(left);
        }
        let State::Holds(holding) = &inner.rows[at].state else { return Choice::None };
        let bundle = Arc::clone(&holding.bundle);
        inner.chosen = Some(bundle.id);
        self.tell(inner);
        Choice::Bundle(bundle)
    }

    /// The bundle of the best source that has answered.
    pub(super) fn choose_now(&self) {
        self.lock().first_found = Instant::now().checked_sub(GRACE);
        let _ = self.choose();
    }

    /// Whether every candidate has answered at least once.
    pub(super) fn all_answered(&self) -> bool {
        let inner = self.lock();
        !inner.rows.is_empty() && !inner.rows.iter().any(|row| matches!(row.state, State::Pending))
    }

    /// Why no source holds a bundle; none before the first look.
    pub(super) fn refused(&self) -> Option<Refused> {
        let inner = self.lock();
        if inner.rows.is_empty() {
            return None;
        }
        let (mut whys, mut waits, mut answered) = (Vec::new(), false, true);
        for row in &inner.rows {
            let failure = match &row.state {
                State::Refused(failure) => copy(failure),
                State::Pending => {
                    answered = false;
                    let what = format!("{}: has not answered yet", row.candidate.shown());
                    Failure::new(Code::SourceUnreachable, what)
                }
                State::Holds(_) => continue,
            };
            if !row.hidden {
                waits |= row.candidate.may_come || failure.code.retry() == Retry::Transient;
                whys.push(failure);
            }
        }
        let what = whys.iter().map(|failure| failure.what.as_str()).collect::<Vec<_>>().join("; ");
        let first = whys.iter().position(|failure| failure.code.retry() == Retry::Transient).unwrap_or(0);
        Some(match whys.into_iter().nth(first) {
            None => {
                Refused { failure: Failure::new(Code::MediaNotFound, "no source holds a disc"), waits: true, answered }
            }
            Some(first) => Refused { failure: Failure { what, ..first }, waits, answered },
        })
    }

    /// Whether every source was refused for what only a person can change, and no other may come.
    pub(super) fn is_hopeless(&self) -> bool {
        self.refused().is_some_and(|refused| refused.answered && !refused.waits)
    }

    /// How long until the next look.
    pub(super) fn next_due(&self) -> Duration {
        let inner = self.lock();
        let due = inner.rows.iter().filter(|row| !row.probing).filter_map(|row| row.due).min();
        due.map_or(Duration::MAX, |due| due.saturating_duration_since(Instant::now()))
    }

    /// The optical drives that hold the bundle.
    pub(super) fn drives(&self) -> Vec<String> {
        let inner = self.lock();
        let chosen = inner.chosen;
        let holds = |row: &&Row| matches!(&row.state, State::Holds(holding) if Some(holding.bundle.id) == chosen);
        let name = |row: &Row| row.candidate.name.clone();
        inner.rows.iter().filter(holds).filter(|row| row.candidate.is_optical()).map(name).collect()
    }

    /// A drive was opened.
    pub(super) fn ejected(&self, name: &str) {
        let mut inner = self.lock();
        if let Some(row) = inner.rows.iter_mut().find(|row| row.candidate.name == name) {
            let what = format!("{name}: ejected: nothing more is needed from it");
            row.become_(State::Refused(Failure::new(Code::MediaNotFound, what)));
            self.tell(inner);
        }
    }

    pub(super) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is whole before anything can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, inner: MutexGuard<'_, Inner>) {
        drop(inner);
        self.changed.send_modify(|count| *count += 1);
    }
}

/// Why there is no bundle.
#[derive(Debug)]
pub(super) struct Refused {
    /// The failures of all sources, under the code of one.
    pub failure: Failure,
    /// Whether waiting may help.
    pub waits: bool,
    /// Whether every first look is over.
    pub answered: bool,
}

/// The same to tell, with its causes as text: the error below it stays where it was.
pub(super) fn copy(failure: &Failure) -> Failure {
    Failure { remedy: failure.remedy.clone(), ..Failure::new(failure.code, report::chain(failure)) }
}

/// Whether the bundle is known.
#[derive(Debug)]
pub(super) enum Choice {
    None,
    In(Duration),
    Bundle(Arc<Bundle>),
}

impl Inner {
    /// Those that hold the chosen bundle, best first.
    pub(super) fn holding(&self) -> impl Iterator<Item = &Holding> {
        self.rows.iter().filter_map(|row| match &row.state {
            State::Holds(holding) if Some(holding.bundle.id) == self.chosen => Some(holding),
            _ => None,
        })
    }

    /// An entry without candidates is told of only as long as it has none.
    pub(super) fn hide_placeholders(&mut self) {
        for at in 0..self.rows.len() {
            if self.rows[at].candidate.kind == Kind::Nothing {
                let entry = &self.rows[at].candidate.entry;
                let other =
                    |row: &Row| row.candidate.entry == *entry && row.candidate.kind != Kind::Nothing && !row.hidden;
                self.rows[at].hidden = self.rows.iter().any(other);
            }
        }
    }

    fn by_id(&mut self, id: u64) -> Option<(&mut Option<Instant>, &mut Holding)> {
        self.rows.iter_mut().find_map(|row| match &mut row.state {
            State::Holds(holding) if holding.id == id => Some((&mut row.due, holding)),
            _ => None,
        })
    }
}

impl Row {
    pub(super) fn new(candidate: Candidate) -> Self {
        let (probing, pause, tries, checked, latency, label) = Default::default();
        let (earlier, gone, opened_as) = Default::default();
        let state = match candidate.kind {
            Kind::Nothing => State::Refused(Failure::new(Code::MediaNotFound, "no disc is attached")),
            _ => State::Pending,
        };
        let hidden = candidate.kind == Kind::Device { optical: false };
        let due = matches!(state, State::Pending).then(Instant::now);
        Self { candidate, state, probing, due, pause, tries, checked, latency, label, hidden, earlier, gone, opened_as }
    }

    /// Bytes that came from it.
    pub(super) fn bytes(&self) -> u64 {
        match &self.state {
            State::Holds(holding) => self.earlier + holding.source.bytes(),
            _ => self.earlier,
        }
    }

    /// Takes another state in; what came from the old one still counts.
    pub(super) fn become_(&mut self, state: State) {
        self.earlier = self.bytes();
        self.state = state;
    }
}

impl Holding {
    pub(super) fn new(id: u64, source: Source, bundle: Bundle) -> Self {
        let manifest = &bundle.manifest;
        let held =
            Held { id: bundle.id.to_string(), name: manifest.name.clone(), kubernetes: manifest.kubernetes.clone() };
        Self { id, source: Arc::new(source), bundle: Arc::new(bundle), held, ailing: None, strikes: 0 }
    }

    /// A look at it went wrong.
    pub(super) fn ails(&mut self, failure: &Failure) {
        let until = Instant::now();
        self.ailing = Some(Ailing { code: failure.code, what: report::chain(failure), until });
    }

    /// A look at it went well: it is trusted again when it has rested.
    pub(super) fn recovers(&mut self, now: Instant) -> Option<Instant> {
        let until = self.ailing.as_ref()?.until;
        if until <= now {
            self.ailing = None;
            return None;
        }
        Some(until)
    }

    fn live(&self) -> Live {
        Live { id: self.id, source: Arc::clone(&self.source), ailing: self.ailing.is_some() }
    }
}
