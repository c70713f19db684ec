//! What is worth a line somewhere that nobody watches: on the console, in the journal. Pure: states in, notices out.

use std::time::{Duration, SystemTime};

use bootstrap::state::{FailureState, NodeState, Phase, Wait};
use bootstrap::text::plain;

/// A wait is worth a line when it has gone on for so long, and again each time so long.
const LONG: Duration = Duration::from_secs(15);
const AGAIN: Duration = Duration::from_secs(60);

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Another phase began, or the run is over.
    Phase(Phase),
    /// Something is waited for, and for long.
    Waiting {
        /// What.
        object: String,
    },
    /// The operator should know something.
    Warning {
        /// The code before its colon.
        code: String,
    },
    /// The run has failed.
    Failed(FailureState),
}

/// Something worth a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What happened.
    pub event: Event,
    /// The same for people, in one line.
    pub text: String,
}

/// What was told already.
#[derive(Debug, Default)]
pub struct Notices {
    started: String,
    phases: usize,
    over: bool,
    warnings: usize,
    waits: Vec<(String, SystemTime)>,
}

impl Notices {
    /// What `state` adds at the time `now`.
    pub fn of(&mut self, state: &NodeState, now: SystemTime) -> Vec<Notice> {
        if self.started != state.started {
            // Another run.
            *self = Self { started: state.started.clone(), ..Self::default() };
        }
        let mut notices = Vec::new();
        for warning in state.warnings.iter().skip(self.warnings) {
            let code = warning.split(": ").next().unwrap_or_default().to_owned();
            notices.push((Event::Warning { code }, format!("warning {warning}")));
        }
        self.warnings = state.warnings.len();
        for wait in &state.waits {
            if self.is_long(wait, now) {
                let told = format!(
                    "waiting for {} since {}: {}; given up at {}",
                    wait.waits_for,
                    wait.since,
                    wait.why(),
                    wait.deadline
                );
                notices.push((Event::Waiting { object: wait.waits_for.clone() }, told));
            }
        }
        self.waits.retain(|(object, _)| state.waits.iter().any(|wait| wait.waits_for == *object));
        for phase in state.timeline.iter().skip(self.phases).map(|time| time.phase) {
            notices.push((Event::Phase(phase), format!("{} {}", state.role_name(), phase.as_str())));
        }
        self.phases = state.timeline.len();
        if state.phase.is_final() && !std::mem::replace(&mut self.over, true) {
            notices.push(match &state.failure {
                Some(failure) => {
                    let told = format!("failed {}: {}; remedy: {}", failure.code, failure.message, failure.remedy);
                    (Event::Failed(failure.clone()), told)
                }
                None => (Event::Phase(state.phase), format!("{} {}", state.role_name(), end(state))),
            });
        }
        notices.into_iter().map(|(event, text)| Notice { event, text: plain(&text) }).collect()
    }

    fn is_long(&mut self, wait: &Wait, now: SystemTime) -> bool {
        let since = humantime::parse_rfc3339(&wait.since).unwrap_or(now);
        let past = |time: SystemTime| now.duration_since(time).unwrap_or_default();
        match self.waits.iter_mut().find(|(object, _)| *object == wait.waits_for) {
            Some((_, told)) if past(*told) >= AGAIN => {
                *told = now;
                true
            }
            Some(_) => false,
            None if past(since) >= LONG => {
                self.waits.push((wait.waits_for.clone(), now));
                true
            }
            None => false,
        }
    }
}

fn end(state: &NodeState) -> String {
    let bundle = state.bundle.as_ref().map_or_else(String::new, |bundle| format!(", {}", bundle.name));
    let seconds = state.timeline.iter().fold(0.0, |all, time| all + time.seconds);
    format!("{}{bundle} after {seconds:.0} s", state.phase.as_str())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bootstrap::bundle::Role;
    use bootstrap::failure::Code;

    use super::*;
    use crate::board::Board;

    fn texts(notices: &mut Notices, board: &Board, later: u64) -> Vec<String> {
        let now = SystemTime::now() + Duration::from_secs(later);
        notices.of(&board.snapshot(), now).into_iter().map(|notice| notice.text).collect()
    }

    #[test]
    fn phases_and_failures_are_told_once() {
        let (board, mut notices) = (Board::new(Role::Worker), Notices::default());
        assert_eq!(texts(&mut notices, &board, 0), [""; 0]);
        board.phase(Phase::Locate);
        board.phase(Phase::Install);
        assert_eq!(texts(&mut notices, &board, 0), ["worker locate", "worker install"]);
        assert_eq!(texts(&mut notices, &board, 0), [""; 0]);
        board.phase(Phase::Join);
        board.warn("LEGACY_BUNDLE: x\ny".to_owned());
        assert_eq!(texts(&mut notices, &board, 0), ["warning LEGACY_BUNDLE: x\\ny", "worker join"]);
        let failure = FailureState {
            code: Code::ApiUnreachable,
            message: "10.1.1.5:6443: \u{1b}[2Jrefused".to_owned(),
            remedy: "look".to_owned(),
        };
        board.fail(&failure);
        assert_eq!(
            texts(&mut notices, &board, 0),
            ["failed API_UNREACHABLE: 10.1.1.5:6443: \\u{1b}[2Jrefused; remedy: look"]
        );
        assert_eq!(texts(&mut notices, &board, 0), [""; 0]);
        let board = Board::new(Role::Etcd);
        board.phase(Phase::Ready);
        let mut again = board.snapshot();
        again.started = "2026-01-01T00:00:00Z".to_owned();
        let told: Vec<_> = notices.of(&again, SystemTime::now()).into_iter().map(|notice| notice.text).collect();
        assert_eq!(told, ["etcd ready after 0 s"], "another run begins anew");
    }

    #[test]
    fn a_wait_is_told_when_it_is_long_and_then_each_minute() {
        let (board, mut notices) = (Board::new(Role::Worker), Notices::default());
        texts(&mut notices, &board, 0);
        let minute = Duration::from_secs(60);
        board.wait("the API server", "refused", Instant::now(), minute, 5 * minute);
        for (later, told) in [(0, 0), (10, 0), (20, 1), (30, 0), (79, 0), (81, 1), (82, 0)] {
            assert_eq!(texts(&mut notices, &board, later).len(), told, "after {later} s");
        }
        board.stop_waiting("the API server");
        assert_eq!(texts(&mut notices, &board, 200).len(), 0);
        board.wait("the API server", "refused", Instant::now(), minute, 5 * minute);
        let told = texts(&mut notices, &board, 16);
        assert!(
            told[0].starts_with("waiting for the API server since ") && told[0].contains(": refused; given up at "),
            "{told:?}"
        );
        board.wait_because(Code::NodeNameTaken, "the next try", "it is there", Instant::now(), minute, 5 * minute);
        let told = texts(&mut notices, &board, 16);
        assert!(told[0].contains(": NODE_NAME_TAKEN: it is there; given up at "), "{told:?}");
    }
}
