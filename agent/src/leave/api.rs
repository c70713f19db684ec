//! The cluster's API server, asked by kubectl with an identity that is on this machine.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bootstrap::failure::{Code, Failure};
use bootstrap::leaving::drain::Refusal;
use bootstrap::leaving::traces::{ADMIN_CONF, KUBELET_CONF};
use rand::Rng as _;

use crate::board::Board;
use crate::host::Host;
use crate::tool::Tool;

/// One question.
const ANSWER: Duration = Duration::from_secs(15);
/// How long an API server that does not answer keeps a node from leaving: longer than it takes to restart.
const PATIENCE: Duration = Duration::from_secs(40);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// A refusal, with what was said.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) kind: Refusal,
    pub(super) said: String,
}

/// An identity in the cluster.
#[derive(Debug, Clone)]
pub(super) struct Api {
    host: Host,
    kubeconfig: PathBuf,
    /// It is an administrator's, or was given: it may delete a node. The node's own may not.
    pub(super) may_delete: bool,
    /// The identity, for people.
    pub(super) shown: String,
}

impl Api {
    /// The identity to leave with: the given one, an administrator's, the node's own; none where there is none.
    pub(super) fn of(host: &Host, given: Option<&Path>) -> Option<Self> {
        let there = |path: &str| Some(host.path(path)).filter(|path| path.is_file());
        let (kubeconfig, may_delete, shown) = match given {
            Some(given) => (given.to_owned(), true, given.display().to_string()),
            None => match (there(ADMIN_CONF), there(KUBELET_CONF)) {
                (Some(admin), _) => (admin, true, ADMIN_CONF.to_owned()),
                (None, Some(own)) => (own, false, "the node's own identity".to_owned()),
                (None, None) => return None,
            },
        };
        Some(Self { host: host.clone(), kubeconfig, may_delete, shown })
    }

    /// Asks once.
    pub(super) async fn ask(&self, arguments: &[&str], input: Option<String>) -> Result<String, Refused> {
        let call = Tool::Kubectl.call(&self.host).arg("--kubeconfig").arg(&self.kubeconfig);
        let call = call.args(["--request-timeout", "10s"]).args(arguments).patience(ANSWER);
        let call = match input {
            Some(input) => call.input(input),
            None => call,
        };
        match call.output().await {
            Ok(said) if said.code == Some(0) => Ok(said.stdout),
            Ok(said) => {
                let kind = Refusal::of(&said.stderr);
                let last = said.stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
                Err(Refused { kind, said: bootstrap::text::plain(last.trim()) })
            }
            Err(failure) => Err(Refused { kind: Refusal::Unreachable, said: failure.what }),
        }
    }

    /// Waits until the API server answers, within bounds; the wait is shown on `board`. A server that refuses the identity is
    /// not waited for.
    ///
    /// # Errors
    /// `API_UNREACHABLE` with the last answer.
    pub(super) async fn wait(&self, board: &Board) -> Result<(), Failure> {
        let (since, waits_for) = (Instant::now(), "the cluster's API server");
        let mut pause = FIRST_PAUSE;
        loop {
            let Err(refused) = self.ask(&["get", "--raw", "/version"], None).await else {
                board.stop_waiting(waits_for);
                return Ok(());
            };
            let vain = refused.kind == Refusal::Forbidden || Tool::Kubectl.find(&self.host).is_none();
            if vain || since.elapsed() >= PATIENCE {
                board.stop_waiting(waits_for);
                let what = format!("the API server does not answer {}: {}", self.shown, refused.said);
                return Err(Failure::new(Code::ApiUnreachable, what));
            }
            let jitter = rand::rng().random_range(0.75..1.25);
            let next = pause.mul_f64(jitter).min(PATIENCE.saturating_sub(since.elapsed()));
            board.wait(waits_for, &refused.said, since, next, PATIENCE);
            tokio::time::sleep(next).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
