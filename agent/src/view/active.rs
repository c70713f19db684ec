//! The bars: one for the whole, one for each artefact at work.

use bootstrap::state::{ActiveStep, NodeState, Progress};
use bootstrap::text::plain;
use unicode_width::UnicodeWidthStr as _;

use super::line::{Line, Style, cut_begin, cut_end, pad, pad_left};
use super::{LABEL, Look, bytes, left};

/// `100 %`.
const PERCENT: usize = 5;
/// `1023.9 MiB/s`.
const RATE: usize = 12;
/// `119 min left`.
const LEFT: usize = 12;
/// A bar is at least so wide, or is not drawn.
const SHORTEST_BAR: usize = 6;

/// The bar of the whole, with as many figures as there is room for. Each figure has its column, whether there
/// is anything in it or not, so that nothing jumps.
pub(super) fn overall(label: &str, state: &NodeState, look: &Look) -> Line {
    let line = Line::labelled(label, Style::Strong);
    let total = bytes(state.bytes.total);
    let share = percent(state.bytes);
    let amount = format!("{} of {total}", bytes(state.bytes.done));
    let speed = if state.rate > 0 { rate(state.rate) } else { String::new() };
    let left = state.eta_seconds.map(left).unwrap_or_default();
    let Some(width) = look.width else {
        let figures = [share, amount, speed, left].into_iter().filter(|figure| !figure.is_empty());
        return line.and(Style::Plain, &figures.collect::<Vec<_>>().join(", "));
    };
    let mut figures = vec![(share, PERCENT), (amount, 2 * total.len() + 4), (speed, RATE), (left, LEFT)];
    let columns = |figures: &[(String, usize)]| figures.iter().map(|(_, column)| column + 2).sum::<usize>();
    // Bytes go first, then the rate; the share of a small terminal is worth more than its bar.
    while figures.len() > 1 && LABEL + SHORTEST_BAR + columns(&figures) > width {
        figures.remove(1);
    }
    let bar_width = width.saturating_sub(LABEL + columns(&figures)).min(40);
    let text: String = figures.iter().map(|(figure, column)| format!("  {}", pad_left(figure, *column))).collect();
    bar(line, state.bytes, bar_width).and(Style::Plain, &text)
}

/// One line for each artefact at work, in columns.
pub(super) fn lines(state: &NodeState, look: &Look) -> Vec<Line> {
    let Some(width) = look.width else {
        return state.active.iter().map(in_words).collect();
    };
    let (bar_width, with_rate, source_width) = match width {
        100.. => (20, true, 30),
        70.. => (10, true, 12),
        50.. => (8, true, 0),
        _ => (SHORTEST_BAR, false, 0),
    };
    let sources = state.active.iter().map(|active| cut_end(&plain(short(&active.source)), source_width));
    let sources: Vec<String> = sources.collect();
    let source_width = sources.iter().map(|source| source.width()).max().unwrap_or(0);
    let right = 1 + bar_width + 1 + PERCENT + if with_rate { 1 + RATE + 2 + source_width } else { 0 };
    let longest = state.active.iter().map(|active| plain(&active.object).width()).max().unwrap_or(0);
    let name_width = longest.min(width.saturating_sub(LABEL + right)).max(8);
    let rows = state.active.iter().zip(&sources).map(|(active, source)| {
        let name = cut_begin(&plain(&active.object), name_width);
        let line = Line::labelled(active.doing.as_str(), Style::Plain).and(Style::Plain, &pad(&name, name_width + 1));
        if active.bytes.total == 0 {
            return line;
        }
        let line = bar(line, active.bytes, bar_width);
        let line = line.and(Style::Plain, &pad_left(&percent(active.bytes), PERCENT + 1));
        if !with_rate {
            return line;
        }
        let rate = if active.rate > 0 { rate(active.rate) } else { String::new() };
        line.and(Style::Plain, &pad_left(&rate, RATE + 1)).and(Style::Dim, &format!("  {source}"))
    });
    rows.collect()
}

fn in_words(active: &ActiveStep) -> Line {
    let mut text = format!("{} {}", active.object, percent(active.bytes));
    if active.rate > 0 {
        text += &format!(", {}", rate(active.rate));
    }
    if !active.source.is_empty() {
        text += &format!(" from {}", active.source);
    }
    if let Some(seconds) = active.eta_seconds {
        text += &format!(", {}", left(seconds));
    }
    Line::labelled(active.doing.as_str(), Style::Plain).and(Style::Plain, &text)
}

/// A source without what every reader knows.
fn short(source: &str) -> &str {
    source.strip_prefix("http://").or_else(|| source.strip_prefix("https://")).unwrap_or(source)
}

fn rate(per_second: u64) -> String {
    format!("{}/s", bytes(per_second))
}

pub(super) fn percent(Progress { done, total }: Progress) -> String {
    let share = (u128::from(done) * 100).checked_div(u128::from(total)).unwrap_or(0).min(100);
    format!("{share} %")
}

fn bar(line: Line, Progress { done, total }: Progress, width: usize) -> Line {
    let full = (u128::from(done.min(total)) * width as u128).checked_div(u128::from(total)).unwrap_or(0) as usize;
    line.and(Style::Good, &"█".repeat(full)).and(Style::Dim, &"░".repeat(width - full))
}
