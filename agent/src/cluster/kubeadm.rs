//! kubeadm, run as a transaction: its configuration in a file that nobody else reads and that is gone afterwards, its
//! words in a log without secrets, its failures by class.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use bootstrap::cluster::classify;
use bootstrap::failure::{Code, Failure};

use super::fleeting::Fleeting;
use super::redact::Redactor;
use crate::files;
use crate::host::{Host, io_failure};
use crate::tool::Tool;

/// Where kubeadm's words are kept.
pub const LOG: &str = "/var/log/cks-agent/kubeadm.log";
/// The configuration, for as long as kubeadm runs.
const CONFIG: &str = "/run/cks-agent/kubeadm.yaml";
/// What is begun gets this long, also at the end of the time that all may take: half a join has to be taken back.
const SHORTEST: Duration = Duration::from_secs(60);
/// kubeadm's own waits add up to some ten minutes.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// The log begins anew when it is larger.
const LOG_BYTES: u64 = 4 << 20;

/// Runs kubeadm with the configuration `config` and the arguments that `arguments` makes of the configuration's path;
/// `each` is shown its lines as they come.
///
/// # Errors
/// The class of what kubeadm said, with the lines that tell it and the log's name; `TOOL_MISSING`, `TIMED_OUT`, `IO`.
pub async fn run(
    host: &Host,
    config: &str,
    arguments: impl FnOnce(&str) -> Vec<String>,
    redactor: &Redactor,
    left: Duration,
    mut each: impl FnMut(&str),
) -> Result<(), Failure> {
    let path = host.prepare(CONFIG)?;
    let config = Fleeting::write(&path, config.as_bytes())?;
    let mut log = open_log(host)?;
    let arguments = arguments(&path.to_string_lossy());
    let verb = arguments.first().cloned().unwrap_or_default();
    let call = Tool::Kubeadm.call(host).args(&arguments).patience(left.clamp(SHORTEST, PATIENCE));
    // What a full disk does to the log must not end kubeadm.
    let _ = writeln!(log, "--- {} {}", crate::board::timestamp(Duration::ZERO), call.shown());
    let ran = call
        .lines(|line| {
            let line = redactor.apply(line);
            let _ = writeln!(log, "{line}");
            each(&line);
        })
        .await;
    drop(config);
    let said = ran?;
    if said.code == Some(0) {
        return Ok(());
    }
    let words = redactor.apply(&format!("{}\n{}", said.stdout, said.stderr));
    let told = marked(&words);
    let what = format!("kubeadm {verb}: {} (all of it: {LOG})", shortened(&told));
    Err(Failure::new(classify(&told), what))
}

/// Removes what a run that was killed left of kubeadm's configuration: it holds secrets.
pub fn forget(host: &Host) {
    drop(fs::remove_file(host.path(CONFIG)));
}

/// The lines that tell what went wrong: kubeadm marks them. Progress and warnings would tell of what did not stop it.
fn marked(words: &str) -> String {
    let is_marked = |line: &&str| line.contains("[ERROR ") || line.starts_with("error");
    let lines: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let marked: Vec<&str> = lines.iter().copied().filter(is_marked).collect();
    match &marked[..] {
        [] => lines[lines.len().saturating_sub(2)..].join("; "),
        marked => marked.join("; "),
    }
}

fn shortened(told: &str) -> String {
    match told.char_indices().nth(600) {
        Some((end, _)) => format!("{}…", &told[..end]),
        None => told.to_owned(),
    }
}

fn open_log(host: &Host) -> Result<File, Failure> {
    let path = host.prepare(LOG)?;
    let is_large = fs::metadata(&path).is_ok_and(|meta| meta.len() > LOG_BYTES);
    let mut options = files::no_links();
    options.create(true).mode(0o600);
    if is_large {
        options.write(true).truncate(true)
    } else {
        options.append(true)
    };
    options.open(&path).map_err(|e| io_failure("Opening", &path, e))
}

/// The process of another kubeadm that changes this machine: of a run that was killed, or an operator's.
#[must_use]
pub fn at_work(host: &Host) -> Option<String> {
    let process = host.processes().into_iter().find(|process| {
        let line = fs::read(host.path(&format!("/proc/{process}/cmdline"))).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let is_kubeadm =
            words.next().is_some_and(|program| program.rsplit(|byte| *byte == b'/').next() == Some(b"kubeadm"));
        is_kubeadm && words.next().is_some_and(|verb| [&b"init"[..], b"join", b"reset", b"upgrade"].contains(&verb))
    });
    process.map(|process| process.to_string())
}

/// Takes back what a try left: `kubeadm reset`, which also takes the node's etcd member out of its cluster.
///
/// # Errors
/// `KUBEADM_FAILED` with what it said; `TOOL_MISSING`, `TIMED_OUT`.
pub async fn reset(host: &Host, socket: &str) -> Result<(), Failure> {
    let call = Tool::Kubeadm.call(host).args(["reset", "--force", "--cri-socket", socket]).patience(PATIENCE);
    call.ok(Code::KubeadmFailed).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marked_lines_are_told() {
        let words = "[preflight] Running pre-flight checks\n\t[ERROR Port-10250]: Port 10250 is in use\n[preflight] If you know\nerror: x\nTo see the stack trace\n";
        assert_eq!(marked(words), "[ERROR Port-10250]: Port 10250 is in use; error: x");
        assert_eq!(marked("a\n\nb\nc\n"), "b; c");
        assert_eq!(shortened(&"ö".repeat(900)).chars().count(), 601);
    }

    #[test]
    fn a_warning_is_no_reason() {
        let words = "[WARNING SystemVerification]: cgroups v1 support is in maintenance mode\n[certs] Generating \"etcd/ca\" certificate\n\
                     error: error execution phase wait-control-plane: context deadline exceeded\n";
        assert_eq!(classify(&marked(words)), Code::KubeadmFailed);
    }

    #[tokio::test]
    async fn a_run_leaves_no_configuration_and_no_secret() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        let program = host.prepare("/opt/bin/kubeadm").unwrap();
        files::write(
            &program,
            b"#!/bin/sh\necho \"token $(cat $3)\"\necho '[ERROR Port-6443]: Port 6443 is in use' >&2\nexit 1\n",
            0o755,
        )
        .unwrap();
        let mut spec = bootstrap::node_spec::NodeSpec::new(bootstrap::bundle::Role::Worker, "n", None, None).unwrap();
        spec.membership = Some(bootstrap::node_spec::Membership::Worker(bootstrap::node_spec::Join {
            endpoint: bootstrap::node_spec::Endpoint::parse("10.1.1.5").unwrap(),
            token: bootstrap::node_spec::Token::parse("abcdef.0123456789abcdef").unwrap(),
            certificate_key: None,
            trust: bootstrap::node_spec::CaTrust::TokenOnly,
        }));
        let mut lines = Vec::new();
        let redactor = Redactor::of(&spec);
        let ran = run(
            &host,
            "abcdef.0123456789abcdef",
            |path| ["join", "--config", path].map(str::to_owned).to_vec(),
            &redactor,
            PATIENCE,
            |line| lines.push(line.to_owned()),
        )
        .await;
        let failure = ran.unwrap_err();
        assert_eq!(failure.code, Code::PortInUse);
        assert!(failure.what.contains("Port 6443") && failure.what.contains(LOG), "{}", failure.what);
        assert!(!host.path(CONFIG).exists());
        let log = fs::read_to_string(host.path(LOG)).unwrap();
        assert!(log.contains("token (secret)") && !log.contains("0123456789abcdef"), "{log}");
        assert!(lines.contains(&"token (secret)".to_owned()));
    }
}
