//! One service: its states, from start to restart, as `systemd.service(5)` tells them.

mod start;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;

use crate::command::Exec;
use crate::launch::{Place, signal};
use crate::policy;
use crate::unit::Unit;

/// How often it is looked whether the last process of a unit has ended.
const LOOK: Duration = Duration::from_millis(20);
/// systemd's own `DefaultTimeoutStartSec=`.
const TIMEOUT: Duration = Duration::from_secs(90);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Inactive,
    Activating,
    Active,
    Deactivating,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    StartPre,
    Start,
    AwaitReady,
    StartPost,
    Running,
    Reload,
    Stop,
    Term,
    Kill,
    StopPost,
    AutoRestart,
}

/// What others wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// A start came to its end: well, or with the reason.
    Started(Result<(), &'static str>),
    Stopped,
    Reloaded,
}

/// A unit and what has become of it.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) unit: Unit,
    pub(crate) state: State,
    stage: Stage,
    pub(crate) main: Option<u32>,
    control: Option<(u32, bool)>,
    queue: VecDeque<Exec>,
    environment: BTreeMap<String, String>,
    pub(crate) result: &'static str,
    /// How the main process ended: its exit code, or the signal.
    pub(crate) exit: Option<Exit>,
    pub(crate) restarts: u32,
    starts: VecDeque<Instant>,
    deadline: Option<Instant>,
    pub(crate) text: String,
    pub(crate) since: SystemTime,
    starting: bool,
    stopping: bool,
    pub(crate) news: Vec<News>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
}

impl Service {
    pub(crate) fn new(unit: Unit) -> Self {
        Self {
            unit,
            state: State::Inactive,
            stage: Stage::Idle,
            main: None,
            control: None,
            queue: VecDeque::new(),
            environment: BTreeMap::new(),
            result: "success",
            exit: None,
            restarts: 0,
            starts: VecDeque::new(),
            deadline: None,
            text: String::new(),
            since: SystemTime::now(),
            starting: false,
            stopping: false,
            news: Vec::new(),
        }
    }

    /// The finer state, `SubState`.
    pub(crate) fn sub(&self) -> &'static str {
        match self.stage {
            Stage::Idle if self.state == State::Failed => "failed",
            Stage::Idle if self.state == State::Active => "active",
            Stage::Idle => "dead",
            Stage::StartPre => "start-pre",
            Stage::Start | Stage::AwaitReady => "start",
            Stage::StartPost => "start-post",
            Stage::Running if self.main.is_none() => "exited",
            Stage::Running => "running",
            Stage::Reload => "reload",
            Stage::Stop => "stop",
            Stage::Term => "stop-sigterm",
            Stage::Kill => "stop-sigkill",
            Stage::StopPost => "stop-post",
            Stage::AutoRestart => "auto-restart",
        }
    }

    /// Whether a start or a stop may begin now.
    pub(crate) fn at_rest(&self) -> bool {
        matches!(self.stage, Stage::Idle | Stage::Running | Stage::AutoRestart)
    }

    /// When [`Self::tick`] is to be called.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        let look = matches!(self.stage, Stage::Term | Stage::Kill).then(|| now + LOOK);
        look.into_iter().chain(self.deadline).min()
    }

    /// Whether `process` is one that it waits for.
    pub(crate) fn owns(&self, process: u32) -> bool {
        self.main == Some(process) || self.control.is_some_and(|(control, _)| control == process)
    }

    pub(crate) fn start(&mut self, place: &Place, now: Instant) {
        match (self.state, self.stage) {
            (State::Active, _) => return self.news.push(News::Started(Ok(()))),
            // It stays asked for, and the timer begins it.
            (_, Stage::AutoRestart) => return self.starting = true,
            _ => {}
        }
        self.starting = true;
        if !self.unit.name.ends_with(".service") {
            self.enter(State::Active, Stage::Idle);
            return self.up();
        }
        self.begin(place, now);
    }

    /// Forgets a failure and the starts so far.
    pub(crate) fn reset(&mut self) {
        self.starts.clear();
        if self.state == State::Failed {
            self.result = "success";
            self.enter(State::Inactive, Stage::Idle);
        }
    }

    /// A process of it has ended.
    pub(crate) fn exited(&mut self, process: u32, exit: Exit, place: &Place, now: Instant) {
        if self.main == Some(process) {
            self.main_exited(exit, place, now);
        } else if let Some((_, may_fail)) = self.control.take_if(|(control, _)| *control == process) {
            let bad = exit != Exit::Code(0) && !may_fail;
            match self.stage {
                Stage::StartPre | Stage::StartPost if bad => {
                    self.result = policy::result(exit);
                    self.term(place, now);
                }
                Stage::Reload => {
                    self.stage = Stage::Running;
                    self.news.push(News::Reloaded);
                }
                _ => self.advance(place, now),
            }
        }
    }

    fn main_exited(&mut self, exit: Exit, place: &Place, now: Instant) {
        self.main = None;
        self.exit = Some(exit);
        let clean = policy::clean(&self.unit, exit);
        let may_fail = Exec::all(&self.unit, "ExecStart").last().is_some_and(|exec| exec.may_fail);
        if !clean && !may_fail && self.result == "success" {
            self.result = policy::result(exit);
        }
        let good = clean || may_fail;
        match self.stage {
            Stage::Start if good => self.advance(place, now),
            Stage::AwaitReady if good && self.kind() == "forking" => self.forked(place, now),
            Stage::AwaitReady if good => {
                self.result = "protocol";
                self.term(place, now);
            }
            Stage::Running if good && self.unit.on("RemainAfterExit") => {}
            Stage::Start | Stage::AwaitReady | Stage::Running | Stage::Reload => self.term(place, now),
            _ => self.tick(place, now),
        }
    }

    fn forked(&mut self, place: &Place, now: Instant) {
        let file = self.unit.service("PIDFile").and_then(|path| std::fs::read_to_string(path).ok());
        self.main =
            file.and_then(|text| text.trim().parse().ok()).or_else(|| place.processes(&self.unit).first().copied());
        self.after_main(place, now);
    }

    /// `sd_notify` of one of its processes.
    pub(crate) fn notified(&mut self, text: &str, place: &Place, now: Instant) {
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match (key, value) {
                ("STATUS", text) => text.clone_into(&mut self.text),
                ("MAINPID", process) => self.main = process.parse().ok().or(self.main),
                ("EXTEND_TIMEOUT_USEC", more) if self.deadline.is_some() => {
                    self.deadline = more.parse().ok().map(|more| now + Duration::from_micros(more));
                }
                ("READY", "1") if self.stage == Stage::AwaitReady => self.after_main(place, now),
                _ => {}
            }
        }
    }

    pub(crate) fn reload(&mut self, place: &Place, now: Instant) {
        self.queue = Exec::all(&self.unit, "ExecReload").into();
        self.stage = Stage::Reload;
        self.advance(place, now);
    }

    pub(crate) fn stop(&mut self, place: &Place, now: Instant) {
        self.stopping = true;
        match self.stage {
            Stage::Idle => self.news.push(News::Stopped),
            Stage::AutoRestart => {
                // As systemd has it: what is not running any more has not failed by being stopped.
                self.result = "success";
                self.rest();
            }
            Stage::Running | Stage::Reload => {
                self.queue = Exec::all(&self.unit, "ExecStop").into();
                self.deadline = self.unit.time("TimeoutStopSec", TIMEOUT).map(|limit| now + limit);
                self.enter(State::Deactivating, Stage::Stop);
                self.advance(place, now);
            }
            Stage::Term | Stage::Kill | Stage::StopPost | Stage::Stop => {}
            _ => self.term(place, now),
        }
    }

    fn term(&mut self, place: &Place, now: Instant) {
        self.queue.clear();
        self.deadline = self.unit.time("TimeoutStopSec", TIMEOUT).map(|limit| now + limit);
        self.enter(State::Deactivating, Stage::Term);
        let signal_name = self.unit.service("KillSignal").unwrap_or("SIGTERM");
        let what = signal_name.parse().unwrap_or(Signal::SIGTERM);
        let mode = self.unit.service("KillMode").unwrap_or("control-group");
        for process in self.main.into_iter().chain(self.control.map(|(control, _)| control)).filter(|_| mode != "none")
        {
            signal(process, what);
        }
        match mode {
            "control-group" => place.signal_all(&self.unit, what),
            "mixed" if self.main.is_none() => place.signal_all(&self.unit, Signal::SIGKILL),
            _ => {}
        }
        self.tick(place, now);
    }

    /// Looks at the clock and at what is still there.
    pub(crate) fn tick(&mut self, place: &Place, now: Instant) {
        let late = self.deadline.is_some_and(|deadline| now >= deadline);
        match self.stage {
            Stage::AutoRestart if late => {
                self.restarts += 1;
                self.begin(place, now);
            }
            Stage::StartPre | Stage::Start | Stage::AwaitReady | Stage::StartPost if late => {
                self.result = "timeout";
                self.term(place, now);
            }
            Stage::Term | Stage::Kill if self.gone(place) => {
                self.deadline = None;
                self.queue = Exec::all(&self.unit, "ExecStopPost").into();
                self.stage = Stage::StopPost;
                self.advance(place, now);
            }
            Stage::Term if late => {
                self.result = "timeout";
                self.deadline = None;
                self.stage = Stage::Kill;
                let all = self.unit.service("KillMode") != Some("process");
                self.main.into_iter().for_each(|main| signal(main, Signal::SIGKILL));
                if all {
                    place.signal_all(&self.unit, Signal::SIGKILL)
                }
            }
            Stage::Stop if late => self.term(place, now),
            _ => {}
        }
    }

    fn gone(&self, place: &Place) -> bool {
        let whole_group = !matches!(self.unit.service("KillMode"), Some("process" | "none"));
        self.main.is_none() && self.control.is_none() && (!whole_group || place.processes(&self.unit).is_empty())
    }

    fn finish(&mut self, now: Instant) {
        let again = !self.stopping && policy::restarts(&self.unit, self.result, self.exit);
        if again {
            self.enter(State::Activating, Stage::AutoRestart);
            self.deadline = self.unit.time("RestartSec", Duration::from_millis(100)).map(|pause| now + pause);
            if std::mem::take(&mut self.starting) {
                self.news.push(News::Started(Err(self.result)));
            }
        } else {
            self.rest();
        }
    }

    fn rest(&mut self) {
        self.deadline = None;
        let failed = self.result != "success";
        self.enter(if failed { State::Failed } else { State::Inactive }, Stage::Idle);
        policy::remove_runtime_directories(&self.unit);
        if std::mem::take(&mut self.starting) {
            self.news.push(News::Started(Err(if failed { self.result } else { "canceled" })));
        }
        self.news.push(News::Stopped);
    }

    fn up(&mut self) {
        self.starting = false;
        self.news.push(News::Started(Ok(())));
    }

    fn enter(&mut self, state: State, stage: Stage) {
        if self.state != state {
            self.since = SystemTime::now();
        }
        (self.state, self.stage) = (state, stage);
        crate::say(&format!("{}: {} ({}), {}", self.unit.name, self.state.name(), self.sub(), self.result));
    }
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Activating => "activating",
            Self::Active => "active",
            Self::Deactivating => "deactivating",
            Self::Failed => "failed",
        }
    }
}
