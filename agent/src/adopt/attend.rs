//! `cks-agent attend STAGE`: what stands in for the server's scripts. It does nothing itself; it stays until the agent is
//! done with what the script did, and says so all the while.

use std::io::Write as _;
use std::time::{Duration, Instant};

use bootstrap::failure::{Code, Failure};
use bootstrap::state::{NodeState, Phase};

use super::UserDataRecord;
use crate::cli::{self, Stage};
use crate::host::Host;
use crate::report;
use crate::status::{self, Changes};
use crate::view::news::{self, News};

/// The server, and people, take half a minute of silence for life; not ten.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// Follows the node's state until the stage is over. Returns the exit code: 0, or that of the node's failure.
///
/// # Errors
/// `ROOT_NOT_FOUND`, `STATE_INVALID`, `IO`; `TIMED_OUT` when the stage is not over in time; the node's failure, when no new
/// run takes it up.
pub async fn attend(arguments: &cli::Attend) -> Result<u8, Failure> {
    if arguments.stage == Stage::Containerd {
        say("containerd is configured by cks-agent bootstrap");
        return Ok(0);
    }
    let host = Host::new(&arguments.root)?;
    let mut changes = Changes::of(&host);
    let began = Instant::now();
    let mut told = Told { news: News::default(), said_at: None, failed: None };
    loop {
        let state = status::read(&host)?;
        let asked = is_asked(&host);
        match state.as_ref().map_or(Progress::None, |state| progress(state, arguments.stage, asked)) {
            Progress::Over => {
                told.over(state.as_ref());
                return Ok(0);
            }
            Progress::Failed => {
                let failure = state.as_ref().and_then(|state| state.failure.clone());
                let since = told.failed(state.as_ref());
                // The unit starts the run again; whoever started us would do that at once, and for ever.
                if since.elapsed() >= arguments.pause {
                    let code = failure.as_ref().map_or(Code::Interrupted, |failure| failure.code);
                    say(&failure.map_or_else(String::new, |failure| report::lines(&failure)));
                    return Ok(code.exit_code());
                }
            }
            Progress::On => told.on(state.as_ref()),
            Progress::None => told.nothing(),
        }
        if began.elapsed() >= arguments.patience {
            return Err(late(arguments, state.as_ref()));
        }
        changes.wait(status::LOOK_EVERY).await;
    }
}

/// What a state means for a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Nobody has begun in this boot.
    None,
    /// It is not over.
    On,
    /// It is over.
    Over,
    /// The run has failed before it was.
    Failed,
}

/// Whether user data asks for a membership that has not been reached yet.
fn is_asked(host: &Host) -> bool {
    UserDataRecord::read(host).ok().flatten().is_some_and(|record| !record.ended)
}

fn progress(state: &NodeState, stage: Stage, asked: bool) -> Progress {
    // What comes behind the installation, or ends without a cluster to be in.
    let installed = |phase: Phase| {
        !matches!(
            phase,
            Phase::Discover
                | Phase::Locate
                | Phase::Preflight
                | Phase::Install
                | Phase::Activate
                | Phase::ImportRest
                | Phase::Verify
                | Phase::Failed
        )
    };
    let over = match stage {
        // A run that failed later did install.
        Stage::Setup => installed(state.phase) || state.timeline.iter().any(|time| installed(time.phase)),
        // Between two tries to join, something else may have installed what was lost.
        Stage::Ready => {
            state.phase.is_final() && state.phase != Phase::Failed && !(state.phase == Phase::Installed && asked)
        }
        Stage::Containerd => true,
    };
    match (over, state.phase) {
        (true, _) => Progress::Over,
        (false, Phase::Failed) => Progress::Failed,
        (false, _) => Progress::On,
    }
}

/// What was said already.
struct Told {
    news: News,
    said_at: Option<Instant>,
    /// The run that failed, and since when that is known.
    failed: Option<(String, Instant)>,
}

impl Told {
    fn on(&mut self, state: Option<&NodeState>) {
        let Some(state) = state else { return };
        self.failed = None;
        for line in self.news.of(state) {
            self.line(&line);
        }
        if self.is_due() {
            let phase = || format!("{}: still at work", state.phase.as_str());
            self.line(&news::summary(state).unwrap_or_else(phase));
        }
    }

    fn nothing(&mut self) {
        if self.is_due() {
            self.line("cks-agent bootstrap has not begun yet: systemctl status cks-bootstrap");
        }
    }

    /// Tells a failure once for each run; since when that one is known.
    fn failed(&mut self, state: Option<&NodeState>) -> Instant {
        let run = state.map_or_else(String::new, |state| state.started.clone());
        if let Some((known, since)) = self.failed.clone().filter(|(known, _)| *known == run) {
            if self.is_due() {
                self.line("the run has failed, another one is waited for: cks-agent status");
            }
            self.failed = Some((known, since));
            return since;
        }
        let failure = state.and_then(|state| state.failure.as_ref());
        self.line(&failure.map_or_else(|| "failed".to_owned(), |failure| report::lines(failure).trim_end().to_owned()));
        let since = Instant::now();
        self.failed = Some((run, since));
        since
    }

    fn over(&mut self, state: Option<&NodeState>) {
        let Some(state) = state else { return };
        for line in self.news.of(state) {
            self.line(&line);
        }
        self.line(&format!("{}: done", state.phase.as_str()));
    }

    fn is_due(&self) -> bool {
        self.said_at.is_none_or(|at| at.elapsed() >= SAY_EVERY)
    }

    fn line(&mut self, line: &str) {
        say(line);
        self.said_at = Some(Instant::now());
    }
}

fn late(arguments: &cli::Attend, state: Option<&NodeState>) -> Failure {
    let phase = state.map_or("no phase", |state| state.phase.as_str());
    let what = format!("after {} min this node is in {phase}", arguments.patience.as_secs() / 60);
    Failure::new(Code::TimedOut, what).with_remedy("cks-agent status tells what it waits for")
}

/// A reader that went away is no failure of ours.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Board;
    use bootstrap::bundle::Role;

    #[test]
    fn a_stage_is_over_when_its_script_would_be() {
        let state = |phase, behind: &[Phase]| {
            let board = Board::new(Role::Worker);
            behind.iter().for_each(|phase| board.phase(*phase));
            board.phase(phase);
            board.snapshot()
        };
        for (phase, behind, setup, ready) in [
            (Phase::Discover, &[][..], Progress::On, Progress::On),
            (Phase::Verify, &[Phase::Install], Progress::On, Progress::On),
            (Phase::Installed, &[Phase::Verify], Progress::Over, Progress::Over),
            (Phase::Join, &[Phase::Verify, Phase::Configure], Progress::Over, Progress::On),
            (Phase::Ready, &[Phase::Join], Progress::Over, Progress::Over),
            (Phase::Left, &[], Progress::Over, Progress::Over),
            (Phase::Failed, &[Phase::Locate], Progress::Failed, Progress::Failed),
            (Phase::Failed, &[Phase::Verify, Phase::Join], Progress::Over, Progress::Failed),
        ] {
            let state = state(phase, behind);
            let of = |asked: bool| (progress(&state, Stage::Setup, asked), progress(&state, Stage::Ready, asked));
            assert_eq!(of(false), (setup, ready), "{phase:?}");
            // A node that is installed is not yet what its user data asks for.
            let ready = if phase == Phase::Installed { Progress::On } else { ready };
            assert_eq!(of(true), (setup, ready), "{phase:?}");
        }
    }
}
