//! What is new since the last look, as lines for a log.

use bootstrap::state::NodeState;
use bootstrap::text::plain;

use super::active::percent;
use super::{bytes, left};

/// What was told already, so that it is told once.
#[derive(Debug, Default)]
pub struct News {
    started: String,
    phases: usize,
    warnings: usize,
    finished: usize,
    bundle: bool,
    waits: Vec<(String, String)>,
}

impl News {
    /// The lines that `state` adds, without line ends.
    pub fn of(&mut self, state: &NodeState) -> Vec<String> {
        if self.started != state.started {
            // Another run.
            *self = Self { started: state.started.clone(), ..Self::default() };
        }
        let mut news = Vec::new();
        for time in state.timeline.iter().skip(self.phases) {
            news.push(format!("phase {}", time.phase.as_str()));
        }
        self.phases = state.timeline.len();
        if let (Some(bundle), false) = (&state.bundle, self.bundle) {
            let source = state.sources.iter().find(|source| source.verdict == "in-use");
            let from = source.map_or_else(String::new, |source| format!(" from {}", source.source));
            news.push(format!("bundle {}{from}, for {}", bundle.name, bundle.directory));
            self.bundle = true;
        }
        for warning in state.warnings.iter().skip(self.warnings) {
            news.push(format!("warning[{}", warning.replacen(": ", "]: ", 1)));
        }
        self.warnings = state.warnings.len();
        for step in state.finished.iter().skip(self.finished) {
            let from = if step.source.is_empty() { String::new() } else { format!(" from {}", step.source) };
            news.push(format!("done {}: {}{from} in {:.1} s", step.object, bytes(step.bytes), step.seconds));
        }
        self.finished = state.finished.len();
        for wait in &state.waits {
            if !self.waits.iter().any(|(name, error)| *name == wait.waits_for && *error == wait.why()) {
                news.push(format!(
                    "waiting for {} since {}: {}; next try {}, given up at {}",
                    wait.waits_for,
                    wait.since,
                    wait.why(),
                    wait.next_try,
                    wait.deadline
                ));
            }
        }
        self.waits = state.waits.iter().map(|wait| (wait.waits_for.clone(), wait.why())).collect();
        news.iter().map(|line| plain(line)).collect()
    }
}

/// Where it stands, in one line; none while there is nothing to measure.
#[must_use]
pub fn summary(state: &NodeState) -> Option<String> {
    if state.bytes.total == 0 || state.phase.is_final() {
        return None;
    }
    let (done, total) = (bytes(state.bytes.done), bytes(state.bytes.total));
    let mut text = format!("{}: {done} of {total} ({})", state.phase.as_str(), percent(state.bytes));
    if state.rate > 0 {
        text += &format!(", {}/s", bytes(state.rate));
    }
    if let Some(seconds) = state.eta_seconds {
        text += &format!(", {}", left(seconds));
    }
    let objects: Vec<&str> = state.active.iter().map(|active| active.object.as_str()).collect();
    if !objects.is_empty() {
        text += &format!("; {}", objects.join(", "));
    }
    for wait in &state.waits {
        text += &format!("; waiting for {}: {}", wait.waits_for, wait.why());
    }
    Some(plain(&text))
}
