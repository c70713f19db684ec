//! The node's state while a run is on: written through [`Board`], read by everybody else.

mod clock;
mod file;
mod tally;
mod traffic;
mod waits;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bootstrap::bundle::Role;
use bootstrap::plan::{Bundle, Plan, Step};
use bootstrap::state::{
    ActiveStep, Activity, BundleState, Counters, FailureState, NodeState, Phase, PhaseTime, Progress, SCHEMA,
    SourceState, Trust,
};
use tokio::sync::watch;

pub use self::clock::{Clock, Now};
pub use self::file::{write, write_status};
use self::tally::Tally;

/// The state and its watchers.
#[derive(Debug, Clone)]
pub struct Board {
    state: watch::Sender<NodeState>,
    tally: Arc<Mutex<Tally>>,
    clock: Clock,
}

impl Board {
    /// The board of a run that begins now.
    #[must_use]
    pub fn new(role: impl Into<Option<Role>>) -> Self {
        Self::with_clock(role, Clock::default())
    }

    /// The board of a run that begins when `clock` says now.
    #[must_use]
    pub fn with_clock(role: impl Into<Option<Role>>, clock: Clock) -> Self {
        let now = clock.now();
        let state = NodeState {
            schema: SCHEMA,
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            role: role.into(),
            phase: Phase::Locate,
            bundle: None,
            sources: Vec::new(),
            steps: Progress::default(),
            bytes: Progress::default(),
            rate: 0,
            eta_seconds: None,
            active: Vec::new(),
            finished: Vec::new(),
            wait: None,
            waits: Vec::new(),
            counters: Counters::default(),
            failure: None,
            warnings: Vec::new(),
            timeline: Vec::new(),
            started: rfc3339(now.wall),
            updated: rfc3339(now.wall),
        };
        Self { state: watch::Sender::new(state), tally: Arc::new(Mutex::new(Tally::new(now.instant))), clock }
    }

    /// A view that follows the state.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<NodeState> {
        self.state.subscribe()
    }

    /// The state as it is now.
    #[must_use]
    pub fn snapshot(&self) -> NodeState {
        self.tick();
        self.state.borrow().clone()
    }

    /// Brings rates and seconds up to date where nothing else happens; once a run is over they stay.
    pub fn tick(&self) {
        if !self.state.borrow().phase.is_final() {
            self.update(|_, _, _| {});
        }
    }

    /// Goes on to `phase`.
    pub fn phase(&self, phase: Phase) {
        self.update(|state, tally, now| {
            state.phase = phase;
            if state.timeline.last().is_none_or(|last| last.phase != phase) && !phase.is_final() {
                state.timeline.push(PhaseTime { phase, seconds: 0.0 });
                tally.phase_begins(now.instant);
            }
        });
    }

    /// Shows what the node is to become.
    pub fn role(&self, role: Role) {
        self.update(|state, _, _| state.role = Some(role));
    }

    /// Shows what became of the sources; what was counted of them stays.
    pub fn sources(&self, sources: &[SourceState]) {
        self.update(|state, _, _| state.sources = sources.to_vec());
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
        self.update(|state, _, _| state.bundle = Some(shown));
    }

    /// Shows a plan's size and its warnings; a second plan of the same run adds to the first.
    pub fn plan(&self, plan: &Plan) {
        self.update(|state, _, _| {
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
        self.update(|state, _, _| {
            if !state.warnings.contains(&text) {
                state.warnings.push(text);
            }
        });
    }

    /// A step begins.
    pub fn begin(&self, step: &Step) {
        self.update(|state, tally, now| {
            let doing = if step.fetches() { Activity::Fetching } else { Activity::Writing };
            state.active.push(ActiveStep {
                object: step.object().to_owned(),
                doing,
                bytes: Progress { done: 0, total: step.bytes() },
                ..ActiveStep::default()
            });
            tally.step_begins(step, now.instant);
        });
    }

    /// A step got `count` bytes further.
    pub fn advance(&self, object: &str, count: u64) {
        self.update(|state, tally, now| tally.advance(state, object, count, now.instant));
    }

    /// What happens to `object` now. Without a call an artefact counts as fetched until its last byte is
    /// there, then as unpacked or imported.
    pub fn doing(&self, object: &str, activity: Activity) {
        self.update(|state, _, _| {
            if let Some(active) = state.active.iter_mut().find(|active| active.object == object) {
                active.doing = activity;
            }
        });
    }

    /// A step is done.
    pub fn end(&self, step: &Step) {
        self.update(|state, tally, now| {
            state.steps.done += 1;
            tally.step_ends(state, step, now.instant);
            state.active.retain(|active| active.object != step.object());
        });
    }

    /// What is done to `objects` was given up.
    pub fn drop_active(&self, objects: &BTreeSet<&str>) {
        self.update(|state, _, _| state.active.retain(|active| !objects.contains(active.object.as_str())));
    }

    /// The run stops with `failure`.
    pub fn fail(&self, failure: &FailureState) {
        self.update(|state, _, _| {
            state.phase = Phase::Failed;
            state.failure = Some(failure.clone());
            state.wait = None;
            state.waits.clear();
            state.active.clear();
        });
    }

    /// The run stops, and the node is what it was before, in `phase`; `warning` tells why.
    pub fn stop(&self, phase: Phase, warning: String) {
        self.warn(warning);
        self.update(|state, _, _| {
            state.phase = phase;
            state.wait = None;
            state.waits.clear();
            state.active.clear();
        });
    }

    fn update(&self, change: impl FnOnce(&mut NodeState, &mut Tally, Now)) {
        let now = self.clock.now();
        let mut tally = self.tally();
        self.state.send_modify(|state| {
            // A phase's time ends where the next one begins, so it is taken first.
            tally.time_phase(state, now.instant);
            change(state, &mut tally, now);
            tally.tell(state, now.instant);
            state.updated = rfc3339(now.wall);
        });
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        // A count that a panic left half-way is worth no second panic.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time in `ahead` from now (RFC 3339, UTC, whole seconds).
#[must_use]
pub fn timestamp(ahead: Duration) -> String {
    rfc3339(SystemTime::now() + ahead)
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
