//! Which metrics there are (`docs/metrics.md` lists them).

use std::collections::BTreeMap;

use bootstrap::state::{NodeState, Phase, Trust};
use serde_json::Value;

use super::exposition::{Family, Kind, Sample};

/// What the metrics are made of.
#[derive(Debug)]
pub(super) struct Known<'a> {
    /// The state of the last run, if there was one since the machine started.
    pub(super) state: Option<&'a NodeState>,
    /// What the last check of the installed content found.
    pub(super) verify: Option<&'a Value>,
    /// When a run last went well (RFC 3339, UTC).
    pub(super) last_success: Option<String>,
}

pub(super) type Labels = Vec<(&'static str, String)>;

pub(super) fn of(known: &Known<'_>) -> Vec<Family> {
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    let mut families = vec![info("cks_agent_build", "The agent.", version)];
    if let Some(state) = known.state {
        families.extend(run(state));
        families.extend(progress(state));
        families.extend(sources(state));
    }
    let success = known
        .state
        .filter(|state| matches!(state.phase, Phase::Installed | Phase::Ready))
        .map(|state| state.updated.as_str());
    families.push(timestamp(
        "cks_agent_last_success_timestamp_seconds",
        "When a run last ended with everything installed.",
        success.or(known.last_success.as_deref()),
    ));
    families.extend(known.verify.map(drift).unwrap_or_default());
    families
}

fn run(state: &NodeState) -> Vec<Family> {
    let bundle = state.bundle.as_ref().map(|bundle| {
        let trust = match bundle.trust {
            Trust::Signed => "signed",
            Trust::Manifest => "manifest",
            Trust::Legacy => "legacy",
        };
        vec![
            ("id", bundle.id.clone()),
            ("name", bundle.name.clone()),
            ("kubernetes", bundle.kubernetes.clone().unwrap_or_default()),
            ("trust", trust.to_owned()),
        ]
    });
    let mut seconds: BTreeMap<Phase, f64> = BTreeMap::new();
    for time in &state.timeline {
        // A run may go through a phase twice.
        *seconds.entry(time.phase).or_default() += time.seconds;
    }
    let mut warnings: BTreeMap<&str, u64> = BTreeMap::new();
    for warning in &state.warnings {
        *warnings.entry(warning.split(':').next().unwrap_or_default()).or_default() += 1;
    }
    let failure = state.failure.iter().map(|failure| (vec![("code", failure.code.to_string())], 1.0));
    let phases = Phase::ALL.iter().map(|phase| {
        let set = if *phase == state.phase { 1.0 } else { 0.0 };
        (vec![("cks_agent_phase", phase.as_str().to_owned())], set)
    });
    let seconds = seconds.iter().map(|(phase, seconds)| (vec![("phase", phase.as_str().to_owned())], *seconds));
    let warnings = warnings.iter().map(|(code, count)| (vec![("code", (*code).to_owned())], *count as f64));
    vec![
        info("cks_agent_run", "The run.", vec![("role", state.role.map_or_else(String::new, |role| role.to_string()))]),
        Family {
            samples: samples(bundle.into_iter().map(|labels| (labels, 1.0))),
            ..info("cks_agent_bundle", "The bundle in use.", Vec::new())
        },
        family("cks_agent_phase", Kind::StateSet, None, "What the run does.", phases),
        family("cks_agent_phase_seconds", Kind::Gauge, Some("seconds"), "Seconds in each phase.", seconds),
        family("cks_agent_failure", Kind::Gauge, None, "Why the run stopped.", failure),
        family("cks_agent_warnings", Kind::Gauge, None, "Warnings of the run.", warnings),
        timestamp("cks_agent_run_start_timestamp_seconds", "When the run began.", Some(&state.started)),
        timestamp("cks_agent_run_update_timestamp_seconds", "When the run last told its state.", Some(&state.updated)),
    ]
}

fn progress(state: &NodeState) -> Vec<Family> {
    let bytes = Some("bytes");
    let counters = state.counters;
    let deadline = state.waits.iter().map(|wait| wait.deadline.as_str()).min();
    vec![
        one("cks_agent_plan_steps", Kind::Gauge, None, "Steps of the plan.", state.steps.total),
        one("cks_agent_done_steps", Kind::Gauge, None, "Steps that are done.", state.steps.done),
        one("cks_agent_plan_bytes", Kind::Gauge, bytes, "Bytes of the plan.", state.bytes.total),
        one("cks_agent_done_bytes", Kind::Gauge, bytes, "Bytes of the plan that are there.", state.bytes.done),
        one("cks_agent_fetched_bytes", Kind::Counter, bytes, "Bytes that came from sources.", counters.bytes_fetched),
        one("cks_agent_resumed_bytes", Kind::Counter, bytes, "Bytes that an earlier run left.", counters.bytes_resumed),
        one("cks_agent_bytes_per_second", Kind::Gauge, None, "Progress, averaged over some seconds.", state.rate),
        one("cks_agent_retries", Kind::Counter, None, "Sources asked again after a failure.", counters.retries),
        one("cks_agent_moved_blobs", Kind::Counter, None, "Blobs gone on with another source.", counters.blobs_moved),
        one("cks_agent_active", Kind::Gauge, None, "Artefacts at work.", state.active.len() as u64),
        one("cks_agent_waits", Kind::Gauge, None, "What is waited for, in number.", state.waits.len() as u64),
        timestamp("cks_agent_wait_deadline_timestamp_seconds", "When the first wait is given up.", deadline),
    ]
}

fn sources(state: &NodeState) -> Vec<Family> {
    let label = |source: &str| vec![("source", source.to_owned())];
    let each = |value: fn(&bootstrap::state::SourceState) -> u64| {
        state.sources.iter().map(move |source| (label(&source.source), value(source) as f64))
    };
    let verdicts = state
        .sources
        .iter()
        .map(|source| (vec![("source", source.source.clone()), ("verdict", source.verdict.clone())], 1.0));
    let last = state
        .sources
        .iter()
        .filter_map(|source| Some((label(&source.source), seconds_since_epoch(source.last_byte_at.as_deref()?)?)));
    let (bytes, seconds) = (Some("bytes"), Some("seconds"));
    vec![
        family("cks_agent_source", Kind::Info, None, "Sources, and what became of each.", verdicts),
        family("cks_agent_source_bytes", Kind::Counter, bytes, "Bytes from each source.", each(|source| source.bytes)),
        family(
            "cks_agent_source_retries",
            Kind::Counter,
            None,
            "Retries of each source.",
            each(|source| source.retries),
        ),
        family(
            "cks_agent_source_last_byte_timestamp_seconds",
            Kind::Gauge,
            seconds,
            "When it last brought something.",
            last,
        ),
    ]
}

/// What `cks-agent verify` wrote; a field that is missing or of another kind is left out.
fn drift(verify: &Value) -> Vec<Family> {
    let number = |field: &str| match &verify[field] {
        Value::Array(values) => Some(values.len() as f64),
        value => value.as_f64(),
    };
    let gauge = |name, unit, help, field| {
        family(name, Kind::Gauge, unit, help, number(field).into_iter().map(|value| (Vec::new(), value)))
    };
    vec![
        gauge(
            "cks_agent_drift",
            None,
            "Findings of the last verify: content that is not as it was installed.",
            "findings",
        ),
        gauge("cks_agent_verify_checked", None, "What the last verify looked at, in number.", "checked"),
        gauge("cks_agent_verify_bytes", Some("bytes"), "Bytes that the last verify read.", "bytes"),
        gauge("cks_agent_verify_seconds", Some("seconds"), "Seconds that the last verify took.", "seconds"),
        timestamp("cks_agent_verify_timestamp_seconds", "When the last verify ended.", verify["at"].as_str()),
    ]
}

pub(super) fn family(
    name: &'static str,
    kind: Kind,
    unit: Option<&'static str>,
    help: &'static str,
    values: impl Iterator<Item = (Labels, f64)>,
) -> Family {
    Family { name, kind, unit, help, samples: samples(values) }
}

fn samples(values: impl Iterator<Item = (Labels, f64)>) -> Vec<Sample> {
    let mut samples: Vec<Sample> = Vec::new();
    for (labels, value) in values {
        // The same labels twice (a source that was named twice) would make the whole text invalid.
        if samples.iter().all(|sample| sample.labels != labels) {
            samples.push(Sample { labels, value });
        }
    }
    samples
}

fn one(name: &'static str, kind: Kind, unit: Option<&'static str>, help: &'static str, value: u64) -> Family {
    family(name, kind, unit, help, std::iter::once((Vec::new(), value as f64)))
}

fn info(name: &'static str, help: &'static str, labels: Labels) -> Family {
    family(name, Kind::Info, None, help, std::iter::once((labels, 1.0)))
}

fn timestamp(name: &'static str, help: &'static str, time: Option<&str>) -> Family {
    let seconds = time.and_then(seconds_since_epoch);
    family(name, Kind::Gauge, Some("seconds"), help, seconds.into_iter().map(|seconds| (Vec::new(), seconds)))
}

fn seconds_since_epoch(time: &str) -> Option<f64> {
    let time = humantime::parse_rfc3339(time).ok()?;
    Some(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs_f64())
}
