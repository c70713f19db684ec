//! The parts of the view that are words.

use std::time::SystemTime;

use bootstrap::state::{NodeState, Phase, SourceState, Trust, Wait};

use super::line::{Line, Style, wrap};
use super::{LABEL, Look, bytes, elapsed, span, time};

/// A paragraph: `label` before its first line, the others below its text.
fn paragraph(label: &str, style: Style, text: &str, look: &Look) -> Vec<Line> {
    let lines = match look.width {
        Some(width) => wrap(text, width.saturating_sub(LABEL)),
        None => vec![text.to_owned()],
    };
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    lines.iter().zip(labels).map(|(line, label)| Line::labelled(label, style).and(Style::Plain, line)).collect()
}

pub(super) fn header(state: &NodeState, look: &Look) -> Line {
    let style = match state.phase {
        Phase::Installed | Phase::Ready | Phase::Left => Style::Good,
        Phase::Failed => Style::Bad,
        _ => Style::Strong,
    };
    let took = span(elapsed(state, look.now).as_secs());
    // At a terminal the time is now; a text that is kept has to say it.
    let as_of = if look.width.is_none() { format!(" as of {}", state.updated) } else { String::new() };
    Line::labelled(state.phase.as_str(), style)
        .and(Style::Strong, state.role.map_or("not told yet", |role| role.as_str()))
        .and(Style::Plain, &format!("{as_of}, {} {took}", if state.phase.is_final() { "took" } else { "for" }))
}

pub(super) fn bundle(state: &NodeState, look: &Look) -> Vec<Line> {
    let Some(bundle) = &state.bundle else { return Vec::new() };
    let version = bundle.kubernetes.as_deref().unwrap_or("no Kubernetes");
    let trust = match bundle.trust {
        Trust::Signed => format!("signed by {}", bundle.signed_by.join(", ")),
        Trust::Manifest => "manifest, without a signature that counts".to_owned(),
        Trust::Legacy => "none: a stock ISO without manifest".to_owned(),
    };
    let mut lines =
        paragraph("bundle", Style::Plain, &format!("{} ({version}) in {}", bundle.name, bundle.directory), look);
    lines.extend(paragraph("trust", Style::Plain, &trust, look));
    lines
}

pub(super) fn sources(state: &NodeState, look: &Look) -> Vec<Line> {
    state
        .sources
        .iter()
        .flat_map(|source| paragraph("source", style_of(source), &source_text(state, source, look.now), look))
        .collect()
}

fn style_of(source: &SourceState) -> Style {
    match source.verdict.as_str() {
        "in-use" => Style::Good,
        "standby" => Style::Plain,
        _ => Style::Warn,
    }
}

fn source_text(state: &NodeState, source: &SourceState, now: SystemTime) -> String {
    let mut text = format!("{} {}", source.source, source.verdict);
    if source.bytes > 0 {
        text += &format!(", {}", bytes(source.bytes));
    }
    match source.retries {
        0 => {}
        1 => text += ", 1 retry",
        many => text += &format!(", {many} retries"),
    }
    if let Some(at) = source.last_byte_at.as_deref().and_then(time) {
        let ago = now.duration_since(at).unwrap_or_default().as_secs();
        // Of a source that brings something nobody has to be told when.
        if ago > 2 && !state.phase.is_final() {
            text += &format!(", last byte {} ago", span(ago));
        }
    }
    for why in [&source.reason, &source.last_error] {
        if !why.is_empty() && !text.contains(why.as_str()) {
            text += &format!(": {why}");
        }
    }
    text
}

pub(super) fn waits(state: &NodeState, look: &Look) -> Vec<Line> {
    state.waits.iter().flat_map(|wait| wait_lines(wait, look)).collect()
}

fn wait_lines(wait: &Wait, look: &Look) -> Vec<Line> {
    let mut text = format!("for {}", wait.waits_for);
    let mut end = format!("next try {}, given up at {}", wait.next_try, wait.deadline);
    if let (Some(_), Some(since), Some(next), Some(deadline)) =
        (look.width, time(&wait.since), time(&wait.next_try), time(&wait.deadline))
    {
        // Rounded up: what is shown as 0 s is over.
        let left =
            |until: SystemTime| span(until.duration_since(look.now).unwrap_or_default().as_secs_f64().ceil() as u64);
        text += &format!(" ({})", span(look.now.duration_since(since).unwrap_or_default().as_secs()));
        let next = if next <= look.now { "trying now".to_owned() } else { format!("next try in {}", left(next)) };
        end = format!("{next}, given up in {}", left(deadline));
    } else {
        text += &format!(" since {}", wait.since);
    }
    let mut lines = paragraph("waiting", Style::Warn, &format!("{text}: {}", wait.why()), look);
    if !wait.objects.is_empty() {
        lines.extend(paragraph("", Style::Plain, &format!("held up: {}", wait.objects.join(", ")), look));
    }
    lines.extend(paragraph("", Style::Plain, &end, look));
    lines
}

pub(super) fn warnings(state: &NodeState, look: &Look) -> Vec<Line> {
    state.warnings.iter().flat_map(|warning| paragraph("warning", Style::Warn, warning, look)).collect()
}

pub(super) fn steps(state: &NodeState, look: &Look) -> Vec<Line> {
    if state.steps.total == 0 {
        return Vec::new();
    }
    let mut text = format!("{} of {}", state.steps.done, state.steps.total);
    if state.bytes.total > 0 {
        text += &format!(", {} of {}", bytes(state.bytes.done), bytes(state.bytes.total));
    }
    if state.counters.bytes_resumed > 0 {
        text += &format!(", {} kept from before", bytes(state.counters.bytes_resumed));
    }
    match state.counters.blobs_moved {
        0 => {}
        moved => text += &format!(", {moved} moved to another source"),
    }
    paragraph("steps", Style::Plain, &text, look)
}

pub(super) fn phases(state: &NodeState, look: &Look) -> Vec<Line> {
    if state.timeline.is_empty() {
        return Vec::new();
    }
    let phases = state.timeline.iter().map(|time| format!("{} {:.1} s", time.phase.as_str(), time.seconds));
    paragraph("phases", Style::Plain, &phases.collect::<Vec<_>>().join(", "), look)
}

/// How it ended.
pub(super) fn result(state: &NodeState, look: &Look) -> Vec<Line> {
    match (state.phase, &state.failure) {
        (Phase::Failed, Some(failure)) => {
            let text = format!("{}: {}", failure.code, failure.message);
            let mut lines = paragraph("error", Style::Bad, &text, look);
            lines.extend(paragraph("remedy", Style::Strong, &failure.remedy, look));
            lines
        }
        (Phase::Ready, _) => paragraph("done", Style::Good, "the node is a member of its cluster", look),
        (Phase::Idle, _) => paragraph("done", Style::Plain, "nothing is asked of this machine", look),
        (Phase::Left, _) => paragraph("done", Style::Good, "the node has left its cluster", look),
        (Phase::Installed, _) => {
            let directory = state.bundle.as_ref().map_or("", |bundle| bundle.directory.as_str());
            let fetched: u64 = state.sources.iter().map(|source| source.bytes).sum();
            paragraph("done", Style::Good, &format!("{directory} is installed, {} fetched", bytes(fetched)), look)
        }
        _ => Vec::new(),
    }
}
