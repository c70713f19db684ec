//! Shows the sources: on the board, and as the document of `cks-agent sources`.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bootstrap::state::SourceState;
use bootstrap::text;

use super::set::{Holding, Inner, Row, Set, State};
use super::shown::{Document, SCHEMA, Shown};
use super::without_password;
use crate::board::{Board, timestamp};
use crate::{files, report};

/// Who is told.
#[derive(Debug)]
pub struct Teller {
    board: Option<Board>,
    path: Option<PathBuf>,
    bytes: Mutex<Vec<(String, u64)>>,
    /// Held while a document is made and written: the prober and the run both tell.
    writing: Mutex<()>,
}

impl Teller {
    /// Tells a board, and the document at `path`.
    #[must_use]
    pub fn new(board: Option<Board>, path: Option<PathBuf>) -> Self {
        Self { board, path, bytes: Mutex::default(), writing: Mutex::default() }
    }

    /// Tells everything.
    pub(super) fn tell(&self, set: &Set) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let document = document(&set.lock(), true);
        if let Some(board) = &self.board {
            let state = |shown: &Shown| SourceState {
                source: shown.source.clone(),
                verdict: shown.verdict.clone(),
                reason: shown.reason.clone(),
                bytes: shown.bytes,
                ..SourceState::default()
            };
            board.sources(&document.sources.iter().map(state).collect::<Vec<_>>());
        }
        self.write(&document);
    }

    /// Tells how many bytes came, if more did.
    pub(super) fn tell_bytes(&self, set: &Set) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = set.bytes_by_source();
        let mut told = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if *told == now {
            return;
        }
        if let Some(board) = &self.board {
            board.source_bytes(&now);
        }
        *told = now;
        self.write(&document(&set.lock(), true));
    }

    fn write(&self, document: &Document) {
        let Some(path) = &self.path else { return };
        let Ok(text) = serde_json::to_vec_pretty(document) else { return };
        // Where it can't be written, the status still tells.
        if let Err(failure) = files::write(path, &text, 0o644) {
            tracing::debug!(path = %path.display(), "{failure}");
        }
    }
}

/// The document of what is known now.
pub(super) fn document(inner: &Inner, running: bool) -> Document {
    let first = inner.holding().find(|holding| holding.ailing.is_none());
    let next = first.or_else(|| inner.holding().next());
    Document {
        schema: SCHEMA,
        running,
        bundle: inner.holding().next().map(|holding| holding.held.clone()),
        next: next.map(|holding| holding.source.name.clone()),
        sources: inner.rows.iter().filter(|row| !row.hidden).map(|row| shown(row, inner, first)).collect(),
        updated: timestamp(Duration::ZERO),
    }
}

fn shown(row: &Row, inner: &Inner, first: Option<&Holding>) -> Shown {
    let (verdict, reason) = verdict(row, inner, first);
    let holding = match &row.state {
        State::Holds(holding) => Some(holding),
        _ => None,
    };
    let now = Instant::now();
    Shown {
        entry: without_password(&row.candidate.entry),
        source: row.candidate.shown(),
        verdict,
        reason: text::plain(&reason),
        bundle: holding.map(|holding| holding.held.clone()),
        label: row.label.as_deref().map(text::plain),
        latency_ms: row.latency.map(|latency| latency.as_millis() as u64),
        tries: row.tries,
        next_try: row.due.map(|due| timestamp(due.saturating_duration_since(now))),
        bytes: row.bytes(),
    }
}

fn verdict(row: &Row, inner: &Inner, first: Option<&Holding>) -> (String, String) {
    let told = |word: &str, why: String| (word.to_owned(), why);
    match &row.state {
        State::Pending => told("probing", "has not answered yet".to_owned()),
        State::Refused(failure) => (failure.code.to_string(), report::chain(failure)),
        State::Holds(holding) if inner.chosen.is_some_and(|chosen| chosen != holding.bundle.id) => {
            let this = holding.bundle.directory_name();
            let that =
                inner.holding().next().map(|used| format!("{} of {}", used.bundle.directory_name(), used.source.name));
            let that =
                that.unwrap_or_else(|| inner.chosen.map(|id| format!("the bundle {}", id.short())).unwrap_or_default());
            told("other-bundle", format!("holds {this}, this run uses {that}"))
        }
        State::Holds(Holding { ailing: Some(ailing), .. }) => (ailing.code.to_string(), ailing.what.clone()),
        State::Holds(holding) if first.is_some_and(|first| first.id == holding.id) => told("in-use", String::new()),
        State::Holds(_) => told("standby", String::new()),
    }
}
