//! The state as text for people: a pure function of state, size, colours and time.
//!
//! `cks-agent status` shows all of it ([`render`]), the bars of a run show what moves ([`live`]), and where
//! there is no terminal lines tell what is new ([`news`]).

mod active;
pub mod line;
pub mod news;
mod parts;

use std::time::{Duration, SystemTime};

use bootstrap::state::{NodeState, Phase};

use self::line::{Line, Style};

/// Columns of the word that begins a line.
const LABEL: usize = 10;

/// What is drawn on, and when.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Columns of the terminal; none where lines may be of any length (a pipe, a file): no bars then.
    pub width: Option<usize>,
    /// Rows of the terminal, where what is drawn has to fit on it.
    pub height: Option<usize>,
    /// Whether colours may be used.
    pub colours: bool,
    /// The time.
    pub now: SystemTime,
}

/// The whole state, line by line, without line ends.
#[must_use]
pub fn render(state: &NodeState, look: &Look) -> Vec<String> {
    let mut lines = vec![(9, parts::header(state, look))];
    lines.extend(parts::bundle(state, look).into_iter().map(|line| (2, line)));
    lines.extend(overall(state, look).into_iter().map(|line| (8, line)));
    lines.extend(active::lines(state, look).into_iter().map(|line| (6, line)));
    lines.extend(parts::waits(state, look).into_iter().map(|line| (7, line)));
    lines.extend(parts::sources(state, look).into_iter().map(|line| (5, line)));
    lines.extend(parts::warnings(state, look).into_iter().map(|line| (4, line)));
    lines.extend(parts::steps(state, look).into_iter().map(|line| (2, line)));
    lines.extend(parts::phases(state, look).into_iter().map(|line| (3, line)));
    lines.extend(parts::result(state, look).into_iter().map(|line| (9, line)));
    clip(&mut lines, look.height);
    lines.into_iter().map(|(_, line)| finish(line, look)).collect()
}

/// What moves: the whole, the artefacts at work, the waits.
#[must_use]
pub fn live(state: &NodeState, look: &Look) -> Vec<String> {
    let mut lines: Vec<(u8, Line)> = Vec::new();
    match overall(state, look) {
        Some(line) => lines.push((9, line)),
        None => lines.push((9, parts::header(state, look))),
    }
    lines.extend(active::lines(state, look).into_iter().map(|line| (6, line)));
    lines.extend(parts::waits(state, look).into_iter().map(|line| (7, line)));
    clip(&mut lines, look.height);
    lines.into_iter().map(|(_, line)| finish(line, look)).collect()
}

/// The drawing that replaces the one before: from the top left corner, line by line, so that nothing flickers.
/// `clear` is for the first one and after the terminal's size has changed.
#[must_use]
pub fn frame(lines: &[String], clear: bool) -> String {
    // ECMA-48: CUP, ED (to the end of the screen, or all of it), EL (to the end of the line).
    let mut text = String::from(if clear { "\x1b[H\x1b[2J" } else { "\x1b[H" });
    for line in lines {
        text += line;
        text += "\x1b[K\n";
    }
    text + "\x1b[J"
}

fn overall(state: &NodeState, look: &Look) -> Option<Line> {
    if state.bytes.total == 0 || state.phase.is_final() {
        return None;
    }
    let label = if state.phase == Phase::Install { "overall" } else { state.phase.as_str() };
    Some(active::overall(label, state, look))
}

fn finish(line: Line, look: &Look) -> String {
    match look.width {
        Some(width) => line.fit(width).text(look.colours),
        None => line.text(look.colours),
    }
}

/// Leaves out what matters least until the lines fit; the last row stays free for the cursor.
fn clip(lines: &mut Vec<(u8, Line)>, height: Option<usize>) {
    let Some(room) = height.map(|height| height.saturating_sub(1).max(1)) else { return };
    if lines.len() <= room {
        return;
    }
    let left_out = lines.len() - room + usize::from(room > 1);
    for _ in 0..left_out {
        let least = lines.iter().enumerate().min_by_key(|(place, (weight, _))| (*weight, usize::MAX - place));
        if let Some((place, _)) = least {
            lines.remove(place);
        }
    }
    if room > 1 {
        let text = format!("{left_out} more lines do not fit");
        lines.push((9, Line::labelled("…", Style::Dim).and(Style::Dim, &text)));
    }
}

/// How long the run takes so far, or took.
fn elapsed(state: &NodeState, now: SystemTime) -> Duration {
    let end = if state.phase.is_final() { time(&state.updated) } else { Some(now) };
    match (time(&state.started), end) {
        (Some(began), Some(end)) => end.duration_since(began).unwrap_or_default(),
        _ => Duration::ZERO,
    }
}

fn time(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}

/// `12 s`, `3 min 05 s`, `2 h 07 min`.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// The time that is left, as exactly as it can be known: `4 s left`, `12 min left`.
fn left(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s left"),
        120..7200 => format!("{} min left", seconds.div_ceil(60)),
        _ => format!("{} h left", seconds.div_ceil(3600)),
    }
}

/// `512 B`, `48.2 MiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    let mut unit = 0;
    let mut value = count as f64;
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (seconds, text) in
            [(0, "0 s"), (59, "59 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (7620, "2 h 07 min")]
        {
            assert_eq!(span(seconds), text);
        }
        for (seconds, text) in [(1, "1 s left"), (119, "119 s left"), (121, "3 min left"), (7201, "3 h left")] {
            assert_eq!(left(seconds), text);
        }
        for (count, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (u64::MAX, "16777216.0 TiB")] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out_by_weight() {
        let line = |text: &str| Line::default().and(Style::Plain, text);
        let mut lines = vec![(9, line("head")), (2, line("a")), (6, line("b")), (6, line("c")), (9, line("end"))];
        clip(&mut lines, Some(5));
        let text: Vec<String> = lines.into_iter().map(|(_, line)| line.text(false)).collect();
        assert_eq!(text, ["head", "b", "end", "…         2 more lines do not fit"]);
    }
}
