//! How far the work is: a bar at a terminal, a plain line per phase elsewhere.

use std::io::IsTerminal;
use std::time::Instant;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// Where progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A bar per phase on standard error.
    Bars,
    /// A line per finished phase on standard error.
    Lines,
    /// Nothing: machines read the output.
    Silent,
}

impl Progress {
    /// Bars at a terminal, lines elsewhere, nothing when `json` is wanted.
    #[must_use]
    pub fn choose(json: bool) -> Self {
        match (json, std::io::stderr().is_terminal()) {
            (true, _) => Self::Silent,
            (false, true) => Self::Bars,
            (false, false) => Self::Lines,
        }
    }

    /// Begins the phase `doing` (a gerund: `Hashing`) over `total` bytes.
    #[must_use]
    pub fn start(self, doing: &'static str, total: u64) -> Bar {
        let bar = match self {
            Self::Bars => ProgressBar::new(total),
            Self::Lines | Self::Silent => ProgressBar::hidden(),
        };
        let template = "{prefix:>12} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(doing);
        bar.set_length(total);
        Bar { bar, doing, lines: self != Self::Silent, began: Instant::now() }
    }
}

/// The progress of one phase.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    doing: &'static str,
    lines: bool,
    began: Instant,
}

impl Bar {
    /// A bar that nobody sees.
    #[must_use]
    pub fn none() -> Self {
        Progress::Silent.start("", 0)
    }

    /// `bytes` more are done.
    pub fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// The phase is done: the bar becomes a line.
    pub fn finish(self) {
        let bytes = self.bar.position();
        self.bar.finish_and_clear();
        if self.lines {
            eprintln!("{:>12} {} in {:.1} s", self.doing, HumanBytes(bytes), self.began.elapsed().as_secs_f64());
        }
    }
}
