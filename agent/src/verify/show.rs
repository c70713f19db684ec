//! What a person sees of `verify`.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use bootstrap::text;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Finding, Report};

/// Plain lines about bytes come at most this often.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Counts the bytes that were read, and shows them: a bar at a terminal, lines anywhere else.
pub(super) struct Meter {
    quiet: bool,
    bar: Option<ProgressBar>,
    done: u64,
    total: u64,
    said: Instant,
}

impl Meter {
    /// For about `total` bytes.
    pub(super) fn new(quiet: bool, total: u64) -> Self {
        let bar = (!quiet && total > 0 && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let template = "   verify {bar:30} {bytes:>10} of {total_bytes:10} {bytes_per_sec:>12} {wide_msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        Self { quiet, bar, done: 0, total, said: Instant::now() }
    }

    /// `count` more bytes of `object` were read.
    pub(super) fn advance(&mut self, object: &str, count: u64) {
        self.done += count;
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
            bar.set_message(text::plain(object));
        } else if !self.quiet && self.said.elapsed() >= PLAIN_EVERY {
            self.said = Instant::now();
            let (done, total) = (HumanBytes(self.done), HumanBytes(self.total.max(self.done)));
            to_stderr(&format!("verify: {done} of {total}, {}", text::plain(object)));
        }
    }

    /// Tells a finding as soon as it is known.
    pub(super) fn say(&self, line: &str) {
        match &self.bar {
            _ if self.quiet => {}
            // Not the bar's own `println`: findings are the output, the bar is not.
            Some(bar) => bar.suspend(|| to_stdout(&format!("{line}\n"))),
            None => to_stdout(&format!("{line}\n")),
        }
    }

    /// The bytes in all.
    pub(super) fn finish(&self) -> u64 {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.done
    }
}

/// A finding in one line.
pub(super) fn line(finding: &Finding) -> String {
    let Finding { object, is, should, remedy } = finding;
    text::plain(&format!("drift: {object}: is {is}, should be {should}; {remedy}"))
}

/// The last words, or the whole report as JSON.
pub(super) fn print(report: &Report, json: bool) {
    if json {
        to_stdout(&(serde_json::to_string_pretty(report).unwrap_or_default() + "\n"));
        return;
    }
    for why in &report.unchecked {
        to_stdout(&format!("not checked: {why}\n"));
    }
    let how = if report.quick { "by fingerprint and presence" } else { "by content" };
    let reference = match (report.reference, &report.signed_by[..]) {
        ("learned", _) => "; the reference is what was learned of a stock ISO when it was installed".to_owned(),
        (_, []) => String::new(),
        (_, keys) => format!("; signed by {}", keys.join(", ")),
    };
    to_stdout(&format!(
        "{}: {} objects checked {how}, {} read in {:.1} s, {} findings{reference}\n",
        report.directory,
        report.checked,
        HumanBytes(report.bytes),
        report.seconds,
        report.findings.len()
    ));
}

/// A reader that went away is no failure of ours.
fn to_stdout(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn to_stderr(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
