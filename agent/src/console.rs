//! The machine's console: one line for each notice. It is all that an operator sees of a node that nobody can log into.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{Duration, SystemTime};

use bootstrap::state::NodeState;
use nix::fcntl::OFlag;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::host::Host;
use crate::notices::{Event, Notice, Notices};

/// Where the kernel itself writes to.
const CONSOLE: &str = "/dev/console";
/// A wait gets long without any change of the state.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What tells a state's news as it changes, until its board is gone.
#[derive(Debug)]
pub struct Following {
    task: JoinHandle<()>,
}

impl Following {
    /// Waits until the last news are told; the board must be gone by then.
    pub async fn finish(self) {
        // One that broke is no reason to fail.
        let _ = self.task.await;
    }
}

/// Tells the news of `states` on the console of `host`, and in the log (the journal, where it goes there).
#[must_use]
pub fn follow(host: &Host, states: watch::Receiver<NodeState>) -> Following {
    let (host, mut states) = (host.clone(), states);
    let task = tokio::spawn(async move {
        let mut notices = Notices::default();
        loop {
            let state = states.borrow_and_update().clone();
            for notice in notices.of(&state, SystemTime::now()) {
                log(&state, &notice);
                write(&host, &notice.text);
            }
            if let Ok(Err(_)) = tokio::time::timeout(LOOK_EVERY, states.changed()).await {
                break;
            }
        }
    });
    Following { task }
}

/// Writes a line. A console that is not there, or takes nothing now, is left alone: nobody waits for it.
fn write(host: &Host, text: &str) {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let console = OpenOptions::new().append(true).custom_flags(flags.bits()).open(host.path(CONSOLE));
    if let Ok(mut console) = console {
        // In one write, or it mixes with the kernel's own lines.
        let _ = console.write_all(format!("cks-agent: {text}\n").as_bytes());
    }
}

/// Notices by which a journal is searched: `journalctl MESSAGE_ID=…`. They never change (docs/status.md).
pub(crate) const FAILED: &str = "1b1d2c5e8f6a4c0fa3c5d8a97e6b4f20";
const PHASE: &str = "5c0a7f3d9e2148b6b7d1f4e08a6c3b91";
const WAITING: &str = "8e4d6b2f1a7c45d39f0e3c5b7a9d2e64";
const WARNING: &str = "c7f2a9e4d1b84e06a5d3f8c2b6e0719d";

fn log(state: &NodeState, notice: &Notice) {
    let (role, phase, text) = (state.role_name().to_owned(), state.phase.as_str(), notice.text.as_str());
    match &notice.event {
        Event::Phase(_) => tracing::info!(target: TARGET, message_id = PHASE, role, phase, "{text}"),
        Event::Waiting { object } => {
            tracing::warn!(target: TARGET, message_id = WAITING, role, phase, object, "{text}");
        }
        Event::Warning { code } => tracing::warn!(target: TARGET, message_id = WARNING, role, phase, code, "{text}"),
        Event::Failed(failure) => {
            let (code, remedy) = (failure.code.as_str(), failure.remedy.as_str());
            tracing::error!(target: TARGET, message_id = FAILED, role, phase, code, remedy, "{text}");
        }
    }
}

/// By this the journal's layer knows what is always told there, and standard error's what the display tells already.
pub(crate) const TARGET: &str = "cks_agent::notice";

#[cfg(test)]
mod tests {
    use std::fs;

    use bootstrap::bundle::Role;
    use bootstrap::failure::Code;
    use bootstrap::state::{FailureState, Phase};

    use super::*;
    use crate::board::Board;

    #[tokio::test]
    async fn each_notice_is_a_line_on_the_console() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        let console = host.prepare(CONSOLE).unwrap();
        let board = Board::new(Role::Worker);
        // Without a console nothing happens, and none is made.
        let following = follow(&host, board.subscribe());
        tokio::task::yield_now().await;
        assert!(!console.exists());
        fs::write(&console, "").unwrap();
        board.phase(Phase::Join);
        board.fail(&FailureState { code: Code::TokenRefused, message: "m".to_owned(), remedy: "r".to_owned() });
        drop(board);
        following.finish().await;
        let told = fs::read_to_string(&console).unwrap();
        assert_eq!(told, "cks-agent: worker join\ncks-agent: failed TOKEN_REFUSED: m; remedy: r\n");
    }

    #[tokio::test]
    async fn a_console_that_takes_nothing_keeps_nobody() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        nix::unistd::mkfifo(&host.prepare(CONSOLE).unwrap(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let board = Board::new(Role::Worker);
        let following = follow(&host, board.subscribe());
        board.phase(Phase::Ready);
        drop(board);
        tokio::time::timeout(Duration::from_secs(10), following.finish()).await.unwrap();
    }
}
