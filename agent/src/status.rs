//! `cks-agent status`: the state document, for people, for programs, and as it changes.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use bootstrap::failure::{Code, Failure};
use bootstrap::state::{NodeState, Phase, Progress, Trust};
use indicatif::HumanBytes;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::cli;
use crate::host::{Host, STATUS_PATH, io_failure};
use crate::journal::Journal;
use crate::report;

/// Clears the screen and goes to its top (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[2J";
/// A change that inotify did not tell (another filesystem, an overlay) is seen after this time.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Prints the state; follows it with `--watch`. Returns the exit code: 0, or 65, 75, 78 as the node's
/// failure has it.
///
/// # Errors
/// `ROOT_NOT_FOUND`, `STATE_INVALID`, `IO`.
pub fn status(arguments: &cli::Status) -> Result<u8, Failure> {
    let host = Host::new(&arguments.root)?;
    let path = host.path(STATUS_PATH);
    let mut state = read(&host, &path)?;
    show(arguments, state.as_ref());
    if arguments.watch {
        let changes = Changes::of(&path);
        while state.as_ref().is_none_or(|state| !state.phase.is_final()) {
            changes.wait();
            let next = read(&host, &path)?;
            if next != state {
                state = next;
                show(arguments, state.as_ref());
            }
        }
    }
    Ok(state.and_then(|state| state.failure).map_or(0, |failure| failure.code.exit_code()))
}

/// The document; of a run that was killed, with that said: nobody else can.
fn read(host: &Host, path: &Path) -> Result<Option<NodeState>, Failure> {
    // Asked first: a run that ends between the two questions has then written its last word.
    let at_work = Journal::is_held(host);
    let mut state = parse(path)?;
    if let Some(state) = state.as_mut().filter(|state| !state.phase.is_final() && !at_work) {
        let what = format!("the bootstrap ended in phase {} without a last word (killed?)", state.phase.as_str());
        state.failure = Some(report::state_of(&Failure::new(Code::Interrupted, what)));
        state.phase = Phase::Failed;
        state.wait = None;
        state.active.clear();
    }
    Ok(state)
}

fn parse(path: &Path) -> Result<Option<NodeState>, Failure> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_failure("Reading", path, e)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| Failure::new(Code::StateInvalid, format!("{}: {e}", path.display())))
}

fn show(arguments: &cli::Status, state: Option<&NodeState>) {
    let mut text = match (arguments.json, state) {
        (true, state) => serde_json::to_string(&state).unwrap_or_default() + "\n",
        (false, None) => "this node was not bootstrapped since it started\n".to_owned(),
        (false, Some(state)) => lines(state),
    };
    if arguments.watch && !arguments.json && std::io::stdout().is_terminal() {
        text.insert_str(0, CLEAR);
    }
    // A reader that went away is no failure of ours.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// The state as lines for people.
#[must_use]
pub fn lines(state: &NodeState) -> String {
    let mut text = format!("{:<9} {} as of {}\n", state.phase.as_str(), state.role, state.updated);
    if let Some(bundle) = &state.bundle {
        let version = bundle.kubernetes.as_deref().unwrap_or("no Kubernetes");
        text += &format!("bundle    {} ({version}) in {}\n", bundle.name, bundle.directory);
        text += &match bundle.trust {
            Trust::Signed => format!("trust     signed by {}\n", bundle.signed_by.join(", ")),
            Trust::Manifest => "trust     manifest, without a signature that counts\n".to_owned(),
            Trust::Legacy => "trust     none: a stock ISO without manifest\n".to_owned(),
        };
    }
    for source in &state.sources {
        let reason = if source.reason.is_empty() { String::new() } else { format!(": {}", source.reason) };
        let bytes = if source.bytes > 0 { format!(", {}", HumanBytes(source.bytes)) } else { String::new() };
        text += &format!("source    {} {}{bytes}{reason}\n", source.source, source.verdict);
    }
    if state.steps.total > 0 {
        let Progress { done, total } = state.steps;
        let bytes = format!("{} of {}", HumanBytes(state.bytes.done), HumanBytes(state.bytes.total));
        text += &format!("steps     {done} of {total}, {bytes}\n");
    }
    for active in &state.active {
        let Progress { done, total } = active.bytes;
        text += &format!("          {} {}%\n", active.object, (done * 100).checked_div(total).unwrap_or(0));
    }
    let phases = state.timeline.iter().map(|time| format!("{} {:.1} s", time.phase.as_str(), time.seconds));
    text += &format!("phases    {}\n", phases.collect::<Vec<_>>().join(", "));
    if let Some(wait) = &state.wait {
        text += &format!("waiting   for {} since {}: {}\n", wait.waits_for, wait.since, wait.last_error);
        text += &format!("          next try {}, given up at {}\n", wait.next_try, wait.deadline);
    }
    for warning in &state.warnings {
        text += &format!("warning   {warning}\n");
    }
    if let (Some(failure), Phase::Failed) = (&state.failure, state.phase) {
        text += &format!("error     {}: {}\nremedy    {}\n", failure.code, failure.message, failure.remedy);
    }
    text
}

/// Tells when the status document may have changed.
struct Changes {
    inotify: Option<Inotify>,
}

impl Changes {
    fn of(path: &Path) -> Self {
        let watch = |path: &Path| {
            let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
            // The directory, not the file: the document is replaced by rename.
            inotify.add_watch(path.parent()?, AddWatchFlags::IN_MOVED_TO).ok()?;
            Some(inotify)
        };
        Self { inotify: watch(path) }
    }

    fn wait(&self) {
        match &self.inotify {
            Some(inotify) => {
                use std::os::fd::AsFd as _;
                let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
                let timeout = PollTimeout::try_from(LOOK_EVERY).unwrap_or(PollTimeout::MAX);
                // A signal or an overflow only means: look.
                let _ = poll(&mut fds, timeout);
                let _ = inotify.read_events();
            }
            None => std::thread::sleep(LOOK_EVERY),
        }
    }
}
