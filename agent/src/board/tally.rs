//! What the document is computed from and does not hold: when things began, and how fast they go.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bootstrap::plan::Step;
use bootstrap::rate::{Rate, eta_seconds};
use bootstrap::state::{Activity, FinishedStep, NodeState};

/// The counts of one run. It asks no clock: the time comes with each call.
#[derive(Debug)]
pub(super) struct Tally {
    began: Instant,
    phase_began: Instant,
    overall: Rate,
    gauges: HashMap<String, Gauge>,
    pub(super) sources: BTreeMap<String, Traffic>,
}

/// An artefact at work.
#[derive(Debug)]
struct Gauge {
    began: Instant,
    rate: Rate,
    /// What happens once its last byte is there.
    then: Activity,
}

/// What came from a source, whether it is shown (yet) or not.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) bytes: u64,
    pub(super) retries: u64,
    pub(super) last_error: String,
    pub(super) last_byte_at: Option<String>,
}

impl Tally {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            phase_began: now,
            overall: Rate::new(Duration::ZERO),
            gauges: HashMap::new(),
            sources: BTreeMap::new(),
        }
    }

    pub(super) fn phase_begins(&mut self, now: Instant) {
        self.phase_began = now;
    }

    pub(super) fn time_phase(&self, state: &mut NodeState, now: Instant) {
        if let Some(last) = state.timeline.last_mut()
            && !state.phase.is_final()
        {
            last.seconds = seconds(now.saturating_duration_since(self.phase_began));
        }
    }

    pub(super) fn step_begins(&mut self, step: &Step, now: Instant) {
        let then = match step {
            Step::Unpack { .. } => Activity::Unpacking,
            Step::ImportImage { .. } => Activity::Importing,
            step if step.fetches() => Activity::Fetching,
            _ => Activity::Writing,
        };
        if self.gauges.is_empty() && self.overall.per_second(self.since(now)) == 0 {
            // The time before the first step says nothing about the speed of the sources.
            self.overall = Rate::new(self.since(now));
        }
        let gauge = Gauge { began: now, rate: Rate::new(self.since(now)), then };
        self.gauges.insert(step.object().to_owned(), gauge);
    }

    pub(super) fn advance(&mut self, state: &mut NodeState, object: &str, count: u64, now: Instant) {
        let since = self.since(now);
        self.overall.add(since, count);
        if let Some(gauge) = self.gauges.get_mut(object) {
            gauge.rate.add(since, count);
        }
        self.move_on(state, object, count);
    }

    /// `count` bytes of progress that tell nothing about speed.
    pub(super) fn move_on(&mut self, state: &mut NodeState, object: &str, count: u64) {
        state.bytes.done += count;
        let Some(active) = state.active.iter_mut().find(|active| active.object == object) else { return };
        active.bytes.done += count;
        if active.doing == Activity::Fetching
            && active.bytes.done >= active.bytes.total
            && let Some(gauge) = self.gauges.get(object)
        {
            active.doing = gauge.then;
        }
    }

    pub(super) fn step_ends(&mut self, state: &mut NodeState, step: &Step, now: Instant) {
        let Some(gauge) = self.gauges.remove(step.object()) else { return };
        if step.fetches() {
            let active = state.active.iter().find(|active| active.object == step.object());
            state.finished.push(FinishedStep {
                object: step.object().to_owned(),
                bytes: step.bytes(),
                seconds: seconds(now.saturating_duration_since(gauge.began)),
                source: active.map(|active| active.source.clone()).unwrap_or_default(),
            });
        }
    }

    pub(super) fn source(&mut self, name: &str) -> &mut Traffic {
        self.sources.entry(name.to_owned()).or_default()
    }

    /// Writes the rates and the traffic into `state`.
    pub(super) fn tell(&self, state: &mut NodeState, now: Instant) {
        let since = self.since(now);
        let over = state.phase.is_final();
        state.rate = if over { 0 } else { self.overall.per_second(since) };
        state.eta_seconds = eta_seconds(state.bytes.total.saturating_sub(state.bytes.done), state.rate);
        for active in &mut state.active {
            active.rate = self.gauges.get(&active.object).map_or(0, |gauge| gauge.rate.per_second(since));
            active.eta_seconds = eta_seconds(active.bytes.total.saturating_sub(active.bytes.done), active.rate);
        }
        for source in &mut state.sources {
            let Some(traffic) = self.sources.get(&source.source) else { continue };
            source.bytes = traffic.bytes;
            source.retries = traffic.retries;
            source.last_error.clone_from(&traffic.last_error);
            source.last_byte_at.clone_from(&traffic.last_byte_at);
        }
        state.counters.bytes_fetched = self.sources.values().map(|traffic| traffic.bytes).sum();
    }

    fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }
}

/// Seconds to the millisecond.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}
