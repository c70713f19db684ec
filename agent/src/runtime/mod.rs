//! Gives the container runtime what a node wants of it: looks, writes, restarts where that is needed, and proves it before
//! a kubelet starts.
//!
//! ```text
//! files ─► config dump ─► is the running one of these files? ─no─► restart ─► crictl info
//! ```
//! What is proved first is the configuration on the disk: a containerd that runs is not restarted into one that is wrong.

mod places;
mod process;
mod prove;

use std::path::Path;
use std::time::{Duration, Instant};

use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::Runtime;
use bootstrap::render::containerd::{CONFIG, Effective, Expected, Format, files};
use bootstrap::render::kubeadm::CgroupDriver;

use self::process::Process;
use crate::board::Board;
use crate::host::Host;
use crate::tool::{Said, Tool};

/// A unit of `Type=notify` is up when systemctl comes back; a slow disk makes containerd slow.
const RESTART_PATIENCE: Duration = Duration::from_secs(120);

/// What the runtime shall be.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// Registries and proxy.
    pub runtime: &'a Runtime,
    /// The sandbox image, where the bundle names one.
    pub sandbox_image: Option<&'a str>,
    /// Who makes control groups.
    pub cgroup_driver: CgroupDriver,
    /// Its socket, as seen from here.
    pub socket: &'a Path,
    /// How long it may take to answer after a restart.
    pub patience: Duration,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Files that were written or removed.
    pub changed: usize,
    /// Whether containerd was restarted.
    pub restarted: bool,
}

/// Makes containerd run as `wish` says; run again it finds nothing to do. The plan's texts ([`CONFIG`] and its drop-ins)
/// are there already.
///
/// # Errors
/// `CONFIG_INVALID` names a registry; `CONTAINERD_MISCONFIGURED` what differs, and then nothing was restarted or it
/// differs still; `SERVICE_FAILED` when it does not start; `TOOL_MISSING`, `IO`.
pub async fn apply(host: &Host, board: &Board, wish: &Wish<'_>) -> Result<Applied, Failure> {
    let format = Format::of_version(&version(host).await?);
    let files = files(format, wish.sandbox_image, wish.cgroup_driver, wish.runtime)?;
    let changed = places::bring_about(host, &files)?;
    let expected =
        Expected { sandbox_image: wish.sandbox_image, systemd_cgroup: wish.cgroup_driver == CgroupDriver::Systemd };
    let dump = dump(host).await?;
    let effective = Effective::of_dump(&dump).map_err(misconfigured)?;
    agrees(&effective, &expected, "its files")?;
    let inputs = places::digest_of_inputs(host, &dump);
    let mut restarted = false;
    let process = Process::of_socket(wish.socket).await;
    if !process.is_some_and(|process| process.has_read(host, &inputs, wish.socket)) {
        restart(host, board, wish, &inputs).await?;
        restarted = true;
    }
    let mut running = prove::running(host, board, wish).await?;
    // One that is known to be started with these very files would come up the same.
    let process = Process::of_socket(wish.socket).await;
    let would_change = !restarted && !process.is_some_and(|process| process.was_started_with(host, &inputs));
    if would_change && running.as_ref().is_some_and(|running| !running.differences(&expected).is_empty()) {
        restart(host, board, wish, &inputs).await?;
        restarted = true;
        running = prove::running(host, board, wish).await?;
    }
    if let Some(running) = running {
        agrees(&running, &expected, "the running one")?;
    }
    if let Some(process) = Process::of_socket(wish.socket).await {
        process.remember(host, &inputs)?;
    }
    tracing::info!(changed, restarted, "containerd is configured");
    Ok(Applied { changed, restarted })
}

fn agrees(effective: &Effective, expected: &Expected<'_>, which: &str) -> Result<(), Failure> {
    match &effective.differences(expected)[..] {
        [] => Ok(()),
        differences => Err(misconfigured(format!("containerd ({which}): {}", differences.join("; ")))),
    }
}

fn misconfigured(what: String) -> Failure {
    let remedy = format!("compare `containerd --config {CONFIG} config dump` with /etc/containerd/conf.d and {CONFIG}");
    Failure::new(Code::ContainerdMisconfigured, what).with_remedy(remedy)
}

/// The installed containerd's version: it is what a restart starts.
async fn version(host: &Host) -> Result<String, Failure> {
    let said = Tool::Containerd.call(host).arg("--version").ok(Code::ContainerdUnavailable).await?;
    // `containerd github.com/containerd/containerd 1.6.20~ds1 …`, `containerd …/v2 v2.1.4 …`
    Ok(said.split_whitespace().nth(2).unwrap_or_default().to_owned())
}

/// What the files come to. It may hold passwords, so of a failure only what was said of it is told.
async fn dump(host: &Host) -> Result<String, Failure> {
    let call = Tool::Containerd.call(host).arg("--config").arg(host.path(CONFIG)).args(["config", "dump"]);
    let shown = call.shown();
    let said = call.output().await?;
    match said.code {
        Some(0) => Ok(said.stdout),
        _ => Err(Said { stdout: String::new(), ..said }.failure(&shown, Code::ContainerdMisconfigured)),
    }
}

/// Restarts it, and writes down what it was started with: before anybody looks whether that is right, or each run would
/// restart one that can't be so.
async fn restart(host: &Host, board: &Board, wish: &Wish<'_>, inputs: &Digest) -> Result<(), Failure> {
    let waits_for = "containerd to restart";
    let since = Instant::now();
    board.wait(waits_for, "its configuration changed", since, RESTART_PATIENCE, RESTART_PATIENCE);
    let restarted = async {
        Tool::Systemctl.call(host).arg("daemon-reload").patience(RESTART_PATIENCE).ok(Code::ServiceFailed).await?;
        let restart = Tool::Systemctl.call(host).args(["restart", "containerd.service"]);
        restart.patience(RESTART_PATIENCE).ok(Code::ServiceFailed).await
    };
    let restarted = restarted.await;
    board.stop_waiting(waits_for);
    restarted.map_err(|failure| {
        failure.with_remedy("journalctl -u containerd tells why; it was given the configuration of cks.toml")
    })?;
    prove::answers(board, wish).await?;
    match Process::of_socket(wish.socket).await {
        Some(process) => process.remember(host, inputs),
        None => Ok(()),
    }
}
