//! The node's state while a run is on: written through [`Board`], read by everybody else.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use bootstrap::bundle::Role;
use bootstrap::failure::Failure;
use bootstrap::plan::{Bundle, Plan, Step};
use bootstrap::state::{
    ActiveStep, BundleState, FailureState, NodeState, Phase, PhaseTime, Progress, SCHEMA, SourceState, Trust, Wait,
};
use bootstrap::text;
use tokio::sync::watch;

use crate::files;

/// The state and its watchers.
#[derive(Debug, Clone)]
pub struct Board {
    state: watch::Sender<NodeState>,
    phase_began: std::sync::Arc<std::sync::Mutex<Instant>>,
}

impl Board {
    /// The board of a run that begins now.
    #[must_use]
    pub fn new(role: Role) -> Self {
        let state = NodeState {
            schema: SCHEMA,
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            role,
            phase: Phase::Locate,
            bundle: None,
            sources: Vec::new(),
            steps: Progress::default(),
            bytes: Progress::default(),
            active: Vec::new(),
            wait: None,
            failure: None,
            warnings: Vec::new(),
            timeline: Vec::new(),
            started: timestamp(Duration::ZERO),
            updated: timestamp(Duration::ZERO),
        };
        Self {
            state: watch::Sender::new(state),
            phase_began: std::sync::Arc::new(std::sync::Mutex::new(Instant::now())),
        }
    }

    /// A view that follows the state.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<NodeState> {
        self.state.subscribe()
    }

    /// The state as it is now.
    #[must_use]
    pub fn snapshot(&self) -> NodeState {
        self.update(|_| {});
        self.state.borrow().clone()
    }

    /// Goes on to `phase`.
    pub fn phase(&self, phase: Phase) {
        self.update(|state| {
            state.phase = phase;
            if state.timeline.last().is_none_or(|last| last.phase != phase) && !phase.is_final() {
                state.timeline.push(PhaseTime { phase, seconds: 0.0 });
            }
        });
        *self.phase_began() = Instant::now();
    }

    /// Shows what became of the sources.
    pub fn sources(&self, sources: &[SourceState]) {
        self.update(|state| state.sources = sources.to_vec());
    }

    /// Shows how many bytes the sources brought.
    pub fn source_bytes(&self, bytes: &[(String, u64)]) {
        self.update(|state| {
            for source in &mut state.sources {
                if let Some((_, count)) = bytes.iter().find(|(name, _)| *name == source.source) {
                    source.bytes = *count;
                }
            }
        });
    }

    /// Shows the bundle that is used.
    pub fn bundle(&self, bundle: &Bundle) {
        let shown = BundleState {
            id: bundle.id.to_string(),
            name: bundle.manifest.name.clone(),
            kubernetes: bundle.manifest.kubernetes.clone(),
            trust: match (bundle.derived, bundle.signers()) {
                (true, _) => Trust::Legacy,
                (false, []) => Trust::Manifest,
                (false, _) => Trust::Signed,
            },
            signed_by: bundle.signers().to_vec(),
            directory: bundle.directory(),
        };
        self.update(|state| state.bundle = Some(shown));
    }

    /// Shows a plan's size and its warnings; a second plan of the same run adds to the first.
    pub fn plan(&self, plan: &Plan) {
        self.update(|state| {
            state.steps.total = state.steps.done + plan.steps.len() as u64;
            state.bytes.total = state.bytes.done + plan.bytes();
            for warning in &plan.warnings {
                let text = format!("{}: {}", warning.code, warning.text);
                if !state.warnings.contains(&text) {
                    state.warnings.push(text);
                }
            }
        });
    }

    /// Shows something that the operator should know.
    pub fn warn(&self, text: String) {
        self.update(|state| {
            if !state.warnings.contains(&text) {
                state.warnings.push(text);
            }
        });
    }

    /// A step begins.
    pub fn begin(&self, step: &Step) {
        let active = ActiveStep { object: step.object().to_owned(), bytes: Progress { done: 0, total: step.bytes() } };
        self.update(|state| state.active.push(active));
    }

    /// A step got `count` bytes further.
    pub fn advance(&self, object: &str, count: u64) {
        self.update(|state| {
            state.bytes.done += count;
            if let Some(active) = state.active.iter_mut().find(|active| active.object == object) {
                active.bytes.done += count;
            }
        });
    }

    /// A step is done.
    pub fn end(&self, step: &Step) {
        self.update(|state| {
            state.steps.done += 1;
            state.active.retain(|active| active.object != step.object());
        });
    }

    /// Something is waited for: since when, why, and until when.
    pub fn wait(&self, waits_for: &str, last_error: &str, since: Instant, pause: Duration, patience: Duration) {
        let ago = since.elapsed();
        let wait = Wait {
            waits_for: waits_for.to_owned(),
            since: humantime::format_rfc3339_seconds(SystemTime::now() - ago).to_string(),
            last_error: text::plain(last_error),
            next_try: timestamp(pause),
            deadline: timestamp(patience.saturating_sub(ago)),
        };
        self.update(|state| state.wait = Some(wait));
    }

    /// `waits_for` is not waited for any more. Several may wait at once; the last one that began is shown.
    pub fn stop_waiting(&self, waits_for: &str) {
        self.update(|state| state.wait = state.wait.take().filter(|wait| wait.waits_for != waits_for));
    }

    /// The run stops with `failure`.
    pub fn fail(&self, failure: &FailureState) {
        self.update(|state| {
            state.phase = Phase::Failed;
            state.failure = Some(failure.clone());
            state.wait = None;
            state.active.clear();
        });
    }

    fn update(&self, change: impl FnOnce(&mut NodeState)) {
        let elapsed = self.phase_began().elapsed().as_secs_f64();
        self.state.send_modify(|state| {
            if let Some(last) = state.timeline.last_mut()
                && !state.phase.is_final()
            {
                last.seconds = (elapsed * 1000.0).round() / 1000.0;
            }
            change(state);
            state.updated = timestamp(Duration::ZERO);
        });
    }

    fn phase_began(&self) -> std::sync::MutexGuard<'_, Instant> {
        // An instant is whole whatever panicked while it was locked.
        self.phase_began.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Keeps the status document up to date until the board is gone. Five times a second is what a person
/// can follow.
pub async fn write_status(mut states: watch::Receiver<NodeState>, path: std::path::PathBuf) {
    while states.changed().await.is_ok() {
        let state = states.borrow_and_update().clone();
        if let Err(failure) = write(&path, &state) {
            tracing::debug!(path = %path.display(), "{failure}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Writes the status document once.
///
/// # Errors
/// `IO` or `NO_SPACE` names the file.
pub fn write(path: &Path, state: &NodeState) -> Result<(), Failure> {
    let mut text = serde_json::to_vec_pretty(state).map_err(|e| crate::host::io_failure("Writing", path, e.into()))?;
    text.push(b'\n');
    files::write(path, &text, 0o644)
}

/// The time in `ahead` from now (RFC 3339, UTC, whole seconds).
#[must_use]
pub fn timestamp(ahead: Duration) -> String {
    humantime::format_rfc3339_seconds(SystemTime::now() + ahead).to_string()
}
