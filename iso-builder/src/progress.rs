//! How far the work is: bars at a terminal, a plain line per finished item elsewhere, or JSON lines.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bootstrap::text::plain;
use clap::ValueEnum;
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::report::say;

/// The least time between two `progress` events of one item.
const EVERY: Duration = Duration::from_millis(500);

/// Columns of an item's name beside its bar.
const NAME: usize = 32;

/// Where progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Bars on standard error.
    Bars,
    /// A line per finished phase or item on standard error.
    Lines,
    /// A JSON object per line on standard error (docs/downloads.md).
    Json,
    /// Nothing: machines read the output.
    Silent,
}

/// `--progress` of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Choice {
    /// Bars at a terminal, lines elsewhere, nothing with --json
    #[default]
    Auto,
    /// One bar per download, one for the whole
    Bars,
    /// One line per finished item
    Lines,
    /// One JSON object per line
    Json,
    /// Nothing
    None,
}

impl Choice {
    /// What `--progress` means where the result is `json`; `dumb` tells of a terminal that can't draw
    /// (`TERM=dumb`).
    #[must_use]
    pub fn settle(self, json: bool, dumb: bool) -> Progress {
        match self {
            Self::Auto if json => Progress::Silent,
            Self::Auto if std::io::stderr().is_terminal() && !dumb => Progress::Bars,
            Self::Auto | Self::Lines => Progress::Lines,
            Self::Bars => Progress::Bars,
            Self::Json => Progress::Json,
            Self::None => Progress::Silent,
        }
    }
}

impl Progress {
    /// Bars at a terminal, lines elsewhere, nothing when `json` is wanted.
    #[must_use]
    pub fn choose(json: bool) -> Self {
        Choice::Auto.settle(json, false)
    }

    /// Begins the phase `doing` (a gerund: `Hashing`) over `total` bytes.
    #[must_use]
    pub fn start(self, doing: &'static str, total: u64) -> Bar {
        let bar = match self {
            Self::Bars => ProgressBar::new(total),
            _ => ProgressBar::hidden(),
        };
        style(&bar, "{prefix:>12} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        bar.set_prefix(doing);
        Bar::begin(self, bar, doing, None, Some(total))
    }

    /// Begins the phase `doing` over several items.
    #[must_use]
    pub fn group(self, doing: &'static str, items: usize) -> Group {
        let target = if self == Self::Bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        let whole = bars.add(ProgressBar::new(0));
        style(&whole, "{prefix:>12} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {msg}");
        whole.set_prefix(doing);
        let group = Group {
            progress: self,
            bars,
            whole,
            doing,
            items,
            done: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            began: Instant::now(),
        };
        group.count();
        group
    }
}

fn style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
}

/// A phase of several items, some of them at once.
#[derive(Debug)]
pub struct Group {
    progress: Progress,
    bars: MultiProgress,
    whole: ProgressBar,
    doing: &'static str,
    items: usize,
    done: AtomicUsize,
    /// Items that needed work.
    begun: AtomicUsize,
    began: Instant,
}

impl Group {
    /// Begins the item `name`, of `total` bytes where that is known.
    #[must_use]
    pub fn item(&self, name: &str, total: Option<u64>) -> Bar {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let name = plain(name);
        let bar = self.bars.insert_before(&self.whole, ProgressBar::new(total.unwrap_or(0)));
        style(&bar, "{prefix:>32} [{bar:20}] {bytes}/{total_bytes} {bytes_per_sec}");
        bar.set_prefix(tail(&name));
        self.whole.inc_length(total.unwrap_or(0));
        let mut item = Bar::begin(self.progress, bar, self.doing, Some(name), total);
        item.whole = Some(self.whole.clone());
        item
    }

    /// Ends `item`.
    pub fn done(&self, item: Bar) {
        item.finish();
        self.passed();
    }

    /// An item that needed no work is done.
    pub fn passed(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.count();
    }

    fn count(&self) {
        self.whole.set_message(format!("{} of {}", self.done.load(Ordering::Relaxed), self.items));
    }

    /// The phase is done.
    pub fn finish(self) {
        let bytes = self.whole.position();
        self.whole.finish_and_clear();
        let seconds = self.began.elapsed().as_secs_f64();
        let begun = self.begun.load(Ordering::Relaxed);
        // Where each item has its line, one line is enough for one item.
        let least = match self.progress {
            Progress::Bars => 1,
            Progress::Lines => 2,
            Progress::Json | Progress::Silent => return,
        };
        if begun >= least {
            let items = if begun == 1 { "item" } else { "items" };
            say(&format!("{:>12} {begun} {items}, {} in {seconds:.1} s", self.doing, HumanBytes(bytes)));
        }
    }
}

/// The end of `name`, where files and digests differ.
fn tail(name: &str) -> String {
    let over = name.chars().count().saturating_sub(NAME);
    name.chars().skip(over).collect()
}

/// The progress of one phase, or of one item of a phase. Dropped before its end, it has failed.
#[derive(Debug)]
pub struct Bar {
    progress: Progress,
    bar: ProgressBar,
    whole: Option<ProgressBar>,
    doing: &'static str,
    name: Option<String>,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    total: Option<u64>,
    /// When an event was told last.
    told: Instant,
    over: bool,
}

/// A line of `--progress json`.
#[derive(Serialize)]
struct Event<'a> {
    event: &'a str,
    phase: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    seconds: f64,
}

impl Bar {
    /// A bar that nobody sees.
    #[must_use]
    pub fn none() -> Self {
        Progress::Silent.start("", 0)
    }

    fn begin(
        progress: Progress,
        bar: ProgressBar,
        doing: &'static str,
        name: Option<String>,
        total: Option<u64>,
    ) -> Self {
        let began = Instant::now();
        let state = Mutex::new(State { total, told: began, over: false });
        let bar = Self { progress, bar, whole: None, doing, name, began, state };
        bar.tell("start");
        bar
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `bytes` more are done.
    pub fn add(&self, bytes: u64) {
        self.bar.inc(bytes);
        if let Some(whole) = &self.whole {
            whole.inc(bytes);
        }
        if self.progress == Progress::Json && self.is_time() {
            self.tell("progress");
        }
    }

    /// Whether the next event may be told.
    fn is_time(&self) -> bool {
        let mut state = self.state();
        let is_time = state.told.elapsed() >= EVERY;
        if is_time {
            state.told = Instant::now();
        }
        is_time
    }

    /// All in all `bytes` are done: more where a part was there, fewer where it begins anew.
    pub fn set(&self, bytes: u64) {
        let before = self.bar.position();
        self.bar.set_position(bytes);
        if let Some(whole) = &self.whole {
            whole.set_position(whole.position().saturating_sub(before).saturating_add(bytes));
        }
    }

    /// The whole is now known to be of `total` bytes.
    pub fn set_total(&self, total: u64) {
        let before = self.state().total.replace(total);
        self.bar.set_length(total);
        if let (Some(whole), None) = (&self.whole, before) {
            whole.inc_length(total);
        }
    }

    /// The phase is done: the bar becomes a line.
    pub fn finish(self) {
        self.state().over = true;
        let bytes = self.bar.position();
        self.bar.finish_and_clear();
        self.tell("done");
        let seconds = self.began.elapsed().as_secs_f64();
        let name = self.name.as_deref().map(|name| format!(" {name},")).unwrap_or_default();
        // At a terminal the bar of the whole tells of the items.
        let shown = self.progress == Progress::Lines || self.progress == Progress::Bars && self.whole.is_none();
        if shown {
            say(&format!("{:>12}{name} {} in {seconds:.1} s", self.doing, HumanBytes(bytes)));
        }
    }

    fn tell(&self, event: &str) {
        if self.progress != Progress::Json {
            return;
        }
        let (phase, name) = (self.doing, self.name.as_deref());
        let seconds = (self.began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        let event = Event { event, phase, name, bytes: self.bar.position(), total: self.state().total, seconds };
        if let Ok(line) = serde_json::to_string(&event) {
            say(&line);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if !self.state().over {
            self.bar.finish_and_clear();
            self.tell("failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_follows_its_items() {
        let group = Progress::Silent.group("Downloading", 2);
        let (known, unknown) = (group.item("known", Some(10)), group.item("unknown", None));
        known.add(4);
        known.set(0);
        known.set(7);
        unknown.set_total(5);
        unknown.add(5);
        assert_eq!((group.whole.position(), group.whole.length()), (12, Some(15)));
        group.done(unknown);
        assert_eq!(group.whole.message(), "1 of 2");
    }

    #[test]
    fn the_choice_is_what_was_asked_for() {
        for (choice, json, want) in [
            (Choice::Bars, true, Progress::Bars),
            (Choice::Lines, true, Progress::Lines),
            (Choice::Json, false, Progress::Json),
            (Choice::None, false, Progress::Silent),
            (Choice::Auto, true, Progress::Silent),
        ] {
            assert_eq!(choice.settle(json, false), want);
        }
        assert_eq!(Choice::Auto.settle(false, true), Progress::Lines, "a dumb terminal can't draw");
    }

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(tail("short"), "short");
        assert_eq!(tail(&format!("{}/kubelet", "x".repeat(40))).len(), NAME);
    }
}
