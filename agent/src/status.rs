//! `cks-agent status`: the state document, for people, for programs, and as it changes.

mod changes;

use std::io::Write as _;
use std::time::Instant;

use bootstrap::failure::{Code, Failure};
use bootstrap::state::{NodeState, Phase};

pub(crate) use self::changes::{Changes, LOOK_EVERY};
use crate::host::{Host, STATUS_PATH};
use crate::journal::Journal;
use crate::progress::PLAIN_EVERY;
use crate::report;
use crate::terminal::Terminal;
use crate::view::news::{self, News};
use crate::view::{self, Look};
use crate::{cli, files};

/// The exit code of what SIGINT ended (128 and the signal's number, as shells tell it).
const INTERRUPTED: u8 = 130;
const NO_STATE: &str = "this node was not bootstrapped since it started";

/// Prints the state; follows it with `--watch`. Returns the exit code: 0, or 65, 75, 78 as the node's
/// failure has it.
///
/// # Errors
/// `ROOT_NOT_FOUND`, `STATE_INVALID`, `IO`.
pub async fn status(arguments: &cli::Status) -> Result<u8, Failure> {
    let host = Host::new(&arguments.root)?;
    let terminal = cli::terminal(std::io::stdout());
    let state = if arguments.watch {
        tokio::select! {
            state = watch(&host, arguments.json, terminal) => state?,
            _ = tokio::signal::ctrl_c() => {
                // Behind the `^C` that the terminal shows.
                print("\n");
                return Ok(INTERRUPTED);
            }
        }
    } else {
        let state = read(&host)?;
        let look = Look { height: None, ..terminal.look(std::io::stdout()) };
        print(&if arguments.json { json(state.as_ref()) } else { text(state.as_ref(), &look) });
        state
    };
    Ok(state.and_then(|state| state.failure).map_or(0, |failure| failure.code.exit_code()))
}

/// Follows the state until its run is over.
async fn watch(host: &Host, as_json: bool, terminal: Terminal) -> Result<Option<NodeState>, Failure> {
    let mut changes = Changes::of(host);
    let mut shown = Shown::default();
    loop {
        let state = read(host)?;
        let over = state.as_ref().is_some_and(|state| state.phase.is_final());
        print(&match (as_json, terminal.draws) {
            (true, _) => shown.json(state.as_ref()),
            (false, true) => shown.drawing(state.as_ref(), &terminal.look(std::io::stdout())),
            (false, false) => shown.lines(state.as_ref()),
        });
        if over {
            return Ok(state);
        }
        // Countdowns go on as often.
        changes.wait(LOOK_EVERY).await;
    }
}

/// What is on the screen already.
#[derive(Debug, Default)]
struct Shown {
    text: Option<String>,
    size: Option<(Option<usize>, Option<usize>)>,
    news: News,
    summary_at: Option<Instant>,
}

impl Shown {
    fn json(&mut self, state: Option<&NodeState>) -> String {
        self.changed(json(state))
    }

    fn drawing(&mut self, state: Option<&NodeState>, look: &Look) -> String {
        let lines = match state {
            Some(state) => view::render(state, look),
            None => vec![NO_STATE.to_owned()],
        };
        let size = Some((look.width, look.height));
        let clear = self.size != size;
        self.size = size;
        if clear {
            self.text = None;
        }
        let frame = self.changed(view::frame(&lines, false));
        if clear { view::frame(&lines, true) } else { frame }
    }

    fn lines(&mut self, state: Option<&NodeState>) -> String {
        let Some(state) = state else { return self.changed(format!("{NO_STATE}\n")) };
        let mut lines = self.news.of(state);
        let due = self.summary_at.is_none_or(|at| at.elapsed() >= PLAIN_EVERY);
        if let (Some(summary), true) = (news::summary(state), due) {
            self.summary_at = Some(Instant::now());
            if self.text.as_ref() != Some(&summary) {
                lines.push(summary.clone());
                self.text = Some(summary);
            }
        }
        if state.phase.is_final() {
            lines.push(text(Some(state), &plain_look()));
            return lines.join("\n");
        }
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// `text` where it is another one than the last.
    fn changed(&mut self, text: String) -> String {
        if self.text.as_ref() == Some(&text) {
            return String::new();
        }
        self.text.insert(text).clone()
    }
}

fn plain_look() -> Look {
    Look { width: None, height: None, colours: false, now: std::time::SystemTime::now() }
}

fn json(state: Option<&NodeState>) -> String {
    serde_json::to_string(&state).unwrap_or_default() + "\n"
}

fn text(state: Option<&NodeState>, look: &Look) -> String {
    let Some(state) = state else { return format!("{NO_STATE}\n") };
    view::render(state, look).join("\n") + "\n"
}

/// A reader that went away is no failure of ours.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The document; of a run that was killed, with that said: nobody else can.
pub(crate) fn read(host: &Host) -> Result<Option<NodeState>, Failure> {
    // Asked first: a run that ends between the two questions has then written its last word.
    let at_work = Journal::is_held(host);
    let mut state = files::read_json::<NodeState>(&host.path(STATUS_PATH))?;
    if let Some(state) = state.as_mut().filter(|state| !state.phase.is_final() && !at_work) {
        let what = format!("the bootstrap ended in phase {} without a last word (killed?)", state.phase.as_str());
        state.failure = Some(report::state_of(&Failure::new(Code::Interrupted, what)));
        state.phase = Phase::Failed;
        state.wait = None;
        state.waits.clear();
        (state.rate, state.eta_seconds) = (0, None);
        state.active.clear();
    }
    Ok(state)
}
