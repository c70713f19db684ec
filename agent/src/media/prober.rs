//! Looks for sources all the time: side by side, each at its own pace, and at once when the kernel tells of a
//! disc or a file is copied.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bootstrap::failure::{Code, Failure, Retry};
use bootstrap::plan::Bundle;
use rand::Rng as _;
use tokio::task::{AbortHandle, JoinSet};

use super::Source;
use super::candidates::{self, Candidate, Kind, watched};
use super::events::Events;
use super::http::held_off;
use super::locate::{self, Answer, Search};
use super::looks::Looks;
use super::set::{Choice, Holding, Refused, Row, Set, State};
use super::shown::Document;
use super::teller::{Teller, document};
use crate::board::Board;
use crate::host::Host;

/// What is waited for while no source has it.
const BUNDLE: &str = "a source that holds a CKS ISO";
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The same while another source serves: nobody is in a hurry then, and a router may have many nodes.
const LONGEST_IDLE_PAUSE: Duration = Duration::from_secs(30);
/// How often it is looked behind the events' back.
const RESCAN: Duration = Duration::from_secs(3);
/// How often the bytes are shown.
const TICK: Duration = Duration::from_millis(500);
/// An event seldom comes alone.
const SETTLE: Duration = Duration::from_millis(20);
/// A first look that takes longer is shown as a wait.
const SHOWN_AFTER: Duration = Duration::from_secs(1);

/// The search at work; it ends when this is dropped.
#[derive(Debug)]
pub struct Probing {
    set: Arc<Set>,
    teller: Arc<Teller>,
    task: AbortHandle,
    /// How long the first looks may take where nobody waits that long for a source.
    first_looks: Duration,
}

struct Prober {
    names: Vec<String>,
    host: Host,
    search: Arc<Search>,
    set: Arc<Set>,
    teller: Arc<Teller>,
    events: Arc<Events>,
    looks: Looks,
    probes: JoinSet<Answer>,
}

impl Probing {
    /// Begins to look for `names`. What is seen is shown on the teller's board.
    #[must_use]
    pub fn start(names: &[String], search: Search, host: &Host, teller: Teller) -> Self {
        let (set, teller) = (Arc::new(Set::new()), Arc::new(teller));
        // The manifest and its signature may each come as slowly as a connection may be silent.
        let first_looks = search.http.inactivity * 2;
        let prober = Prober {
            names: names.to_vec(),
            host: host.clone(),
            search: Arc::new(search),
            set: Arc::clone(&set),
            teller: Arc::clone(&teller),
            events: Arc::new(Events::subscribe()),
            looks: Looks::default(),
            probes: JoinSet::new(),
        };
        let task = tokio::spawn(prober.run()).abort_handle();
        Self { set, teller, task, first_looks }
    }

    /// The sources.
    #[must_use]
    pub fn set(&self) -> &Arc<Set> {
        &self.set
    }

    /// Waits for a bundle, up to `patience` where waiting may help.
    ///
    /// # Errors
    /// The failures of all sources, under the code of one.
    pub async fn bundle(&self, board: &Board, patience: Duration) -> Result<Bundle, Failure> {
        let since = Instant::now();
        let mut changes = self.set.subscribe();
        let outcome = loop {
            changes.borrow_and_update();
            match self.set.choose() {
                Choice::Bundle(bundle) => break Ok((*bundle).clone()),
                Choice::In(left) => {
                    let _ = tokio::time::timeout(left, changes.changed()).await;
                    continue;
                }
                Choice::None => {}
            }
            let Some(Refused { failure, waits, answered }) = self.set.refused() else {
                let _ = changes.changed().await;
                continue;
            };
            // A file server that is gone never answers, and a hostile one can take for ever to.
            let patience = if answered { patience } else { patience.max(self.first_looks) };
            let left = patience.saturating_sub(since.elapsed());
            if left.is_zero() || (answered && !waits) {
                break Err(failure);
            }
            let unseen = SHOWN_AFTER.saturating_sub(since.elapsed());
            if answered || unseen.is_zero() {
                board.wait_because(failure.code, BUNDLE, &failure.what, since, self.set.next_due().min(left), patience);
                let _ = tokio::time::timeout(left, changes.changed()).await;
            } else {
                let _ = tokio::time::timeout(left.min(unseen), changes.changed()).await;
            }
        };
        self.teller.tell(&self.set);
        board.stop_waiting(BUNDLE);
        outcome
    }
}

/// Looks once at everything that `names` stand for, for as long as `patience`; waits for nothing to appear.
pub async fn look_once(names: &[String], search: Search, host: &Host, patience: Duration) -> Document {
    let probing = Probing::start(names, search, host, Teller::new(None, None));
    let set = probing.set();
    let mut changes = set.subscribe();
    let looking = async {
        while !set.all_answered() {
            // Somebody tells as long as the search is at work.
            let _ = changes.changed().await;
        }
    };
    let _ = tokio::time::timeout(patience, looking).await;
    set.choose_now();
    let mut document = document(&set.lock(), false);
    for shown in &mut document.sources {
        shown.next_try = None;
    }
    document
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.task.abort();
        self.teller.tell(&self.set);
    }
}

impl Prober {
    async fn run(mut self) {
        let (mut rescan, mut changes) = (Instant::now(), self.set.subscribe());
        loop {
            if Instant::now() >= rescan {
                self.look().await;
                rescan = Instant::now() + RESCAN;
            }
            self.begin_due();
            if changes.has_changed().unwrap_or(false) {
                changes.borrow_and_update();
                self.teller.tell(&self.set);
            }
            self.teller.tell_bytes(&self.set);
            let pause = self.set.next_due().min(TICK).min(rescan.saturating_duration_since(Instant::now()));
            tokio::select! {
                () = self.events.next() => {
                    tokio::time::sleep(SETTLE).await;
                    rescan = Instant::now();
                }
                Some(answer) = self.probes.join_next() => {
                    // A look that panicked has told so; the next one is due when something changes.
                    if let Ok(answer) = answer {
                        self.take(answer);
                    }
                }
                () = self.set.poke.notified() => {}
                // Not at once: who reads may be telling of many sources.
                () = tokio::time::sleep(pause.max(Duration::from_millis(1))) => {}
            }
        }
    }

    /// Which candidates there are now. Subscribed first, so that nothing is missed between.
    async fn look(&mut self) {
        let (events, host) = (Arc::clone(&self.events), self.host.clone());
        let look = move |name: &str| {
            events.watch(watched(name, &host));
            candidates::of(name, &host)
        };
        let candidates = self.looks.all(&self.names, look).await;
        let mut inner = self.set.lock();
        let mut changed = false;
        let mut old = std::mem::take(&mut inner.rows);
        for candidate in candidates {
            match old.iter().position(|row| row.candidate.name == candidate.name) {
                None => {
                    changed = true;
                    inner.rows.push(Row::new(candidate));
                }
                Some(at) => {
                    let mut row = old.remove(at);
                    if row.candidate.print != candidate.print || row.gone {
                        (row.due, row.pause, row.gone) = (Some(Instant::now()), Duration::ZERO, false);
                    }
                    row.candidate = candidate;
                    inner.rows.push(row);
                }
            }
        }
        for mut row in old {
            let local = matches!(row.candidate.kind, Kind::Device { .. } | Kind::Path);
            if local && !row.gone {
                changed = true;
                (row.gone, row.due) = (true, None);
                let what = format!("{} is no longer there", row.candidate.name);
                row.become_(State::Refused(Failure::new(Code::MediaNotFound, what)));
            }
            inner.rows.push(row);
        }
        let place = |row: &Row| self.names.iter().position(|name| *name == row.candidate.entry);
        inner.rows.sort_by_key(|row| (place(row), row.gone));
        inner.hide_placeholders();
        if changed {
            self.set.tell(inner);
        }
    }

    fn begin_due(&mut self) {
        let mut inner = self.set.lock();
        let now = Instant::now();
        for row in inner.rows.iter_mut().filter(|row| !row.probing && row.due.is_some_and(|due| due <= now)) {
            (row.probing, row.due) = (true, None);
            row.tries += 1;
            self.probes.spawn(locate::ask(row.candidate.clone(), Arc::clone(&self.search)));
        }
    }

    fn take(&self, answer: Answer) {
        let mut inner = self.set.lock();
        let longest = if inner.holding().next().is_some() { LONGEST_IDLE_PAUSE } else { LONGEST_PAUSE };
        let chosen = inner.chosen;
        let Some(row) = inner.rows.iter_mut().find(|row| row.candidate.name == answer.candidate.name) else { return };
        row.probing = false;
        (row.latency, row.label) = (Some(answer.latency), answer.label);
        // A source that could not be asked is not proven to be as it was.
        row.checked = if answer.result.is_ok() { Some(answer.began) } else { row.checked };
        if row.gone {
            return;
        }
        let again = match answer.result {
            Ok((source, bundle)) => {
                row.hidden = false;
                row.pause = Duration::ZERO;
                let again = self.holds(row, source, bundle, &answer.candidate);
                // Another bundle is looked at again: somebody may put the right one there.
                again.or_else(|| {
                    matches!(&row.state, State::Holds(held) if chosen.is_some_and(|id| id != held.bundle.id))
                        .then(|| backed_off(row, longest))
                        .flatten()
                })
            }
            Err(failure) => {
                row.hidden = !answer.is_disc;
                let again = backed_off(row, longest).filter(|_| asks_again(&row.candidate, &failure));
                // Who sent us away is not asked before it wants to be.
                let again = again.map(|again| held_off(&failure).map_or(again, |until| until.max(again)));
                refused(row, failure);
                again
            }
        };
        // Somebody may have asked for another look since this one began.
        row.due = row.due.or(again);
        inner.hide_placeholders();
        self.set.tell(inner);
    }

    /// Takes a bundle in; the source that is open already stays, unless it is another one now.
    fn holds(&self, row: &mut Row, source: Source, bundle: Bundle, asked: &Candidate) -> Option<Instant> {
        if let State::Holds(old) = &mut row.state
            && old.bundle.id == bundle.id
            && row.opened_as == asked.print
        {
            return old.recovers(Instant::now());
        }
        row.opened_as.clone_from(&asked.print);
        row.become_(State::Holds(Holding::new(self.set.next_id(), source, bundle)));
        None
    }
}

/// Another server may be up again with the same content, and so may be gone on with; a disc that is gone is gone.
fn refused(row: &mut Row, failure: Failure) {
    let remote = matches!(row.candidate.kind, Kind::Url | Kind::Router);
    if remote
        && failure.code.retry() == Retry::Transient
        && failure.code != Code::MediaNotFound
        && let State::Holds(holding) = &mut row.state
    {
        holding.ails(&failure);
        return;
    }
    row.become_(State::Refused(failure));
}

/// Whether a refused candidate is asked again although nothing happened to it.
fn asks_again(candidate: &Candidate, failure: &Failure) -> bool {
    match candidate.kind {
        Kind::Device { optical: false } => failure.code.retry() == Retry::Transient,
        Kind::Nothing => false,
        _ => true,
    }
}

fn backed_off(row: &mut Row, longest: Duration) -> Option<Instant> {
    row.pause = (row.pause * 2).clamp(FIRST_PAUSE, longest);
    // Many nodes lose the same router at the same moment; they shall not come back as one.
    Some(Instant::now() + row.pause.mul_f64(rand::rng().random_range(0.5..1.5)))
}

#[cfg(test)]
mod tests {
    use bootstrap::bundle::Role;

    use super::*;

    #[tokio::test]
    async fn a_source_that_never_answers_is_given_up_by_name() {
        let set = Arc::new(Set::new());
        set.lock().rows.push(Row::new(candidates::unseen("/gone")));
        let teller = Arc::new(Teller::new(None, None));
        let task = tokio::spawn(std::future::pending::<()>()).abort_handle();
        let probing = Probing { set, teller, task, first_looks: Duration::from_millis(20) };
        let failure = probing.bundle(&Board::new(Role::Worker), Duration::ZERO).await.unwrap_err();
        assert_eq!((failure.code, failure.what.as_str()), (Code::SourceUnreachable, "/gone: has not answered yet"));
    }
}
