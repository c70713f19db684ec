//! The scripts that stand in for the server's: they stay until the work is done, say so, and never spin.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use agent::adopt;
use agent::board::{self, Board};
use agent::config::Config;
use agent::host::{Host, STATUS_PATH};
use bootstrap::bundle::Role;
use bootstrap::failure::Code;
use bootstrap::node_spec::NodeSpec;
use bootstrap::state::{FailureState, Phase};
use cks_tests::process::Command;
use cks_tests::programs;
use tempfile::TempDir;

use crate::within;

/// A bootstrap at work, as others see it: its lock, and its document.
struct Run {
    host: Host,
    board: Board,
    _journal: agent::journal::Journal,
}

impl Run {
    fn begin(root: &Path) -> Self {
        let host = Host::new(root).unwrap();
        let journal = agent::journal::Journal::open(&host).unwrap();
        let run = Self { host, board: Board::new(Role::Worker), _journal: journal };
        run.tell();
        run
    }

    fn phase(&self, phase: Phase) {
        self.board.phase(phase);
        self.tell();
    }

    fn fail(&self, code: Code) {
        let (message, remedy) = ("10.1.1.5:6443: refused".to_owned(), "look".to_owned());
        self.board.fail(&FailureState { code, message, remedy });
        self.tell();
    }

    fn tell(&self) {
        board::write(&self.host.prepare(STATUS_PATH).unwrap(), &self.board.snapshot()).unwrap();
    }
}

fn attend(root: &Path, stage: &str) -> Command {
    let agent = Command::new(programs::built("cks-agent").unwrap());
    agent.args(["attend", stage, "--root"]).arg(root)
}

fn machine() -> TempDir {
    cks_tests::scratch("attending").unwrap()
}

#[test]
fn each_stage_ends_when_its_work_is_done() {
    let root = machine();
    let log = |stage: &str| root.path().join(format!("{stage}.log"));
    let said = |stage: &str| fs::read_to_string(log(stage)).unwrap();
    // Started before anybody has begun.
    let mut setup = attend(root.path(), "setup").start(&log("setup")).unwrap();
    within("that shows", || said("setup").contains("has not begun yet"));
    let run = Run::begin(root.path());
    let mut ready = attend(root.path(), "ready").start(&log("ready")).unwrap();
    run.phase(Phase::Install);
    within("the phase shows", || said("setup").contains("phase install") && said("ready").contains("phase install"));
    run.phase(Phase::Configure);
    assert_eq!(setup.wait().unwrap(), 0, "{}", said("setup"));
    run.phase(Phase::Join);
    within("the phase shows", || said("ready").contains("phase join"));
    run.phase(Phase::Ready);
    assert_eq!(ready.wait().unwrap(), 0, "{}", said("ready"));
    assert!(said("ready").ends_with("ready: done\n"), "{}", said("ready"));
    // Once more, as a unit that is started again.
    for stage in ["setup", "ready", "containerd"] {
        assert_eq!(attend(root.path(), stage).output().unwrap().code, 0, "{stage}");
    }
}

#[test]
fn a_run_that_failed_is_waited_for_and_its_code_is_handed_on() {
    let root = machine();
    let log = root.path().join("log");
    let said = || fs::read_to_string(&log).unwrap();
    let run = Run::begin(root.path());
    run.phase(Phase::Join);
    let mut ready = attend(root.path(), "ready").args(["--pause", "60s"]).start(&log).unwrap();
    run.fail(Code::ApiUnreachable);
    within("the failure shows", || said().contains("error[API_UNREACHABLE]: 10.1.1.5:6443: refused"));
    drop(run);
    // The unit starts the next one.
    let run = Run::begin(root.path());
    run.phase(Phase::Join);
    run.phase(Phase::Ready);
    assert_eq!(ready.wait().unwrap(), 0, "{}", said());

    for (code, exit) in [(Code::ApiUnreachable, 75), (Code::TokenRefused, 78)] {
        drop(fs::remove_file(root.path().join("var/lib/cks-agent/lock")));
        let run = Run::begin(root.path());
        run.phase(Phase::Join);
        run.fail(code);
        let began = Instant::now();
        let output = attend(root.path(), "ready").args(["--pause", "2s"]).output().unwrap();
        assert_eq!(output.code, exit, "{output:?}");
        assert!(began.elapsed() >= Duration::from_secs(2), "systemd starts it again at once: {:?}", began.elapsed());
        assert!(output.stdout.contains(&format!("error[{code}]")), "{output:?}");
        assert_eq!(attend(root.path(), "setup").output().unwrap().code, 0, "what was installed is installed");
    }
}

#[test]
fn its_patience_ends() {
    let root = machine();
    let output = attend(root.path(), "setup").args(["--patience", "1s"]).output().unwrap();
    assert_eq!(output.code, 75, "{output:?}");
    assert!(output.stderr.contains("error[TIMED_OUT]") && output.stderr.contains("cks-agent status"), "{output:?}");
}

#[test]
fn the_scripts_of_an_adopted_node_run_under_their_names() {
    let root = machine();
    let scripts = root.path().join("opt/bin");
    fs::create_dir_all(&scripts).unwrap();
    fs::write(scripts.join("setup-kube-system"), "#!/bin/bash -e\nset +e\nsystemctl start kubelet\n").unwrap();
    let host = Host::new(root.path()).unwrap();
    let spec = NodeSpec::new(Role::Worker, "node-1", None, None).unwrap();
    let board = Board::new(Role::Worker);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(adopt::adopt(&host, &spec, &Config::default(), &board)).unwrap();
    assert!(outcome.is_ours(), "{outcome:?}");
    // The agent that adopted is this test; the one that is called is the program.
    let script = scripts.join("setup-kube-system");
    let own = std::env::current_exe().unwrap();
    let text = fs::read_to_string(&script).unwrap();
    let agent = programs::built("cks-agent").unwrap();
    assert!(text.contains(&*own.to_string_lossy()), "{text}");
    fs::write(&script, text.replace(&*own.to_string_lossy(), &agent.to_string_lossy())).unwrap();
    let run = Run::begin(root.path());
    run.phase(Phase::Verify);
    run.phase(Phase::Installed);
    let output = Command::new(&script).output().unwrap();
    assert_eq!((output.code, output.stdout.as_str()), (0, "phase verify\ninstalled: done\n"), "{output:?}");
}
