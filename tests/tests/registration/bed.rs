//! kubelet's directories, an agent that keeps the driver registered, and parts of kubelet that it deals with.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::csi::registration::{Registration, Standing, State, keep_registered};
use cks_tests::leash::Daemon;
use cks_tests::process::{Command, Output};
use cks_tests::programs;
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub(crate) const DRIVER: &str = "csi.cloudstack.apache.org";
/// Longer than any pause that these tests come to.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn dialer(args: &[&str]) -> Command {
    Command::new(programs::pinned_built("kubelet-dialer", None).unwrap().join("kubelet-dialer")).args(args)
}

pub(crate) fn dial(how: &str, socket: &Path, more: &[&str]) -> Output {
    dialer(&[how, socket.to_str().unwrap()]).args(more).limit(LIMIT).output().unwrap()
}

/// kubelet's directories, and an agent that keeps the driver registered.
pub(crate) struct Bed {
    pub(crate) directory: TempDir,
    pub(crate) registration: Registration,
    pub(crate) states: watch::Receiver<State>,
    pub(crate) keeping: Keeping,
}

/// The agent at work.
pub(crate) struct Keeping {
    ready: watch::Sender<bool>,
    shutdown: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl Bed {
    /// With kubelet's directory, and CSI calls answered.
    pub(crate) fn begin() -> Self {
        let bed = Self::begin_with(|registry| fs::create_dir(registry).unwrap());
        bed.ready();
        bed
    }

    pub(crate) fn begin_with(prepare: impl FnOnce(&Path)) -> Self {
        let directory = cks_tests::scratch("registration").unwrap();
        let registry = directory.path().join("plugins_registry");
        prepare(&registry);
        let endpoint = directory.path().join("csi.sock");
        let registration = Registration { registry, driver: DRIVER.to_owned(), endpoint };
        let (states, keeping) = keep(&registration);
        Self { directory, registration, states, keeping }
    }

    /// CSI calls are answered.
    pub(crate) fn ready(&self) {
        self.keeping.ready.send_replace(true);
    }

    /// Another process in the place of this one, which is told to end, or killed.
    pub(crate) async fn begin_again(&mut self, kill: bool) {
        let (states, keeping) = keep(&self.registration);
        let before = std::mem::replace(&mut self.keeping, keeping);
        match kill {
            true => before.ended.abort(),
            false => drop(before.shutdown.send(())),
        }
        let _ = before.ended.await;
        assert!(self.socket().exists(), "it stays for the next one");
        self.states = states;
        self.ready();
    }

    pub(crate) async fn stop(self) -> (TempDir, Registration) {
        self.keeping.shutdown.send(()).unwrap();
        self.keeping.ended.await.unwrap();
        (self.directory, self.registration)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.registration.socket()
    }

    pub(crate) async fn until(&self, wanted: impl FnMut(&State) -> bool) -> Standing {
        let mut states = self.states.clone();
        let reached = tokio::time::timeout(LIMIT, states.wait_for(wanted)).await;
        reached.unwrap_or_else(|_| panic!("it stays {:?}", self.states.borrow())).unwrap().standing.clone()
    }

    pub(crate) async fn until_offered(&self) {
        self.until(|state| state.standing == Standing::Offered).await;
    }

    /// kubelet registers, once.
    pub(crate) fn register(&self) {
        let output = dial("register", &self.socket(), &["1"]);
        assert_eq!(output.code, 0, "{output:?}");
    }
}

pub(crate) fn keep(registration: &Registration) -> (watch::Receiver<State>, Keeping) {
    let (ready, is_ready) = watch::channel(false);
    let (shutdown, is_shut_down) = oneshot::channel();
    let (told, states) = watch::channel(State::now(Standing::Waiting("nothing")));
    let registration = registration.clone();
    let ended = tokio::spawn(async move {
        let shutdown = async { drop(is_shut_down.await) };
        keep_registered(&registration, is_ready, &told, shutdown).await;
    });
    (states, Keeping { ready, shutdown, ended })
}

/// Looks until it is so; tells whether it came to that.
pub(crate) async fn until(mut so: impl FnMut() -> bool) -> bool {
    let looking = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, looking).await.is_ok()
}

/// kubelet's plugin manager at work on a bed's directory.
pub(crate) struct Manager {
    command: Command,
    log: PathBuf,
    daemon: Daemon,
}

impl Manager {
    pub(crate) fn begin(bed: &Bed) -> Self {
        let program = programs::pinned_built("plugin-manager", None).unwrap().join("plugin-manager");
        let command = Command::new(program).arg(&bed.registration.registry).arg(refusal(bed));
        let log = bed.directory.path().join("manager.log");
        let daemon = command.daemon(&log).unwrap();
        Self { command, log, daemon }
    }

    /// With a new log.
    pub(crate) fn restart(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon = self.command.daemon(&self.log).unwrap();
    }

    /// How often it said that it does so.
    pub(crate) async fn until(&self, doing: &str, times: usize) {
        let line = format!("{doing} {DRIVER}");
        let said = || fs::read_to_string(&self.log).unwrap_or_default();
        let so = until(|| said().lines().filter(|said| said.starts_with(&line)).count() == times).await;
        assert!(so, "{doing}: not {times} times, but\n{}", said());
    }
}

/// While it is there, kubelet refuses.
pub(crate) fn refusal(bed: &Bed) -> PathBuf {
    bed.directory.path().join("refusal")
}
