//! Takes the node over from the management server's own scripts, and leaves what the server looks for.
//!
//! cloud-init has written the scripts and has not run them yet. [`adopt`] keeps them in `/var/lib/cks-agent/adopted/` and
//! puts one call into the agent in the place of each ([`attend`]). [`revert`] is the way back.

mod attend;
mod hand_over;
mod record;

use std::fs;
use std::path::Path;
use std::time::Duration;

use bootstrap::adoption::{self, Asked, Caller, Decision, File};
use bootstrap::failure::{Code, Failure};
use bootstrap::leaving::traces::MARKER;
use bootstrap::node_spec::NodeSpec;
use bootstrap::render::etcd;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::board::Board;
use crate::config::Config;
use crate::files;
use crate::host::{Host, STATE_DIR, io_failure};
use crate::status::Changes;
use crate::tool::Tool;

pub use self::attend::attend;
pub use self::hand_over::{hand_over, hand_over_to_commands};
pub use self::record::{UserDataRecord, standing};

/// When the scripts are looked at by [`keep`] though nobody told of a change.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// The largest of the server's scripts has some ten thousand bytes.
const MAX_BYTES: u64 = 1 << 20;
/// After so long a script that is being written is written.
const SETTLED: Duration = Duration::from_secs(1);

/// What became of the server's scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// They stand for calls into the agent now; those that were replaced by this run.
    Ours(Vec<&'static str>),
    /// There are none: nobody else will make this machine a node.
    Nothing,
    /// The settings say that they shall run.
    Off,
    /// They say what is not known, and shall run: the reasons.
    Refused(Vec<String>),
    /// One of them is running.
    AtWork(String),
}

impl Outcome {
    /// Whether the agent is the one that makes this machine a node.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Ours(_) | Self::Nothing)
    }

    /// Why a run must not go on that had taken the scripts over: they would do the same beside it.
    fn lost(&self) -> Option<Failure> {
        match self {
            Self::Refused(why) => {
                let what = format!("{}: the management server's scripts stay and run", why.join("; "));
                Some(Failure::new(Code::UserDataUnknown, what))
            }
            Self::AtWork(script) => {
                let what = format!("the management server's {script} is running beside this run");
                Some(Failure::new(Code::AlreadyRunning, what))
            }
            Self::Ours(_) | Self::Nothing | Self::Off => None,
        }
    }
}

/// Takes the server's scripts over, for a node that shall become what `spec` says. What keeps it from that is told on
/// `board`. To be called before anything is done to the machine, and again whenever cloud-init may have written them
/// anew.
///
/// # Errors
/// `IO`, `NO_SPACE` name the file; the scripts before it are taken over then.
pub async fn adopt(host: &Host, spec: &NodeSpec, settings: &Config, board: &Board) -> Result<Outcome, Failure> {
    if !settings.adopt {
        revert(host).await?;
        return Ok(Outcome::Off);
    }
    let (found, decision) = decided(host, spec)?;
    if found.is_empty() {
        return Ok(Outcome::Nothing);
    }
    if !decision.refused.is_empty() {
        for why in &decision.refused {
            let rest = "the management server's scripts stay and run";
            board.warn(format!("{}: {why}: {rest}", Code::UserDataUnknown));
        }
        // Those that were taken over before, too: half of them would wait for an agent that does nothing.
        revert(host).await?;
        return Ok(Outcome::Refused(decision.refused));
    }
    if !decision.take.is_empty()
        && let Some(script) = at_work(host)
    {
        let what = format!("the management server's {script} is running: it is left alone until it has ended");
        board.warn(format!("{}: {what}", Code::AlreadyRunning));
        return Ok(Outcome::AtWork(script));
    }
    for (file, text) in &decision.take {
        if let Some((_, original)) = found.iter().find(|(found, _)| found == file) {
            files::write(&host.prepare(&kept(*file))?, original.as_bytes(), 0o600)?;
        }
        files::write(&host.prepare(file.path())?, text.as_bytes(), file.mode())?;
        tracing::info!(object = file.path(), "taken over");
    }
    if decision.take.iter().any(|(file, _)| *file == File::DeployUnit) {
        reload(host).await;
    }
    Ok(Outcome::Ours(decision.take.iter().map(|(file, _)| file.path()).collect()))
}

/// Keeps the member that this machine is from what cloud-init wrote for a node that it is not: those scripts are taken over,
/// and find nothing to do; etcd's unit, which starts the member, is ours again.
///
/// # Errors
/// As [`adopt`].
pub async fn stay(host: &Host, spec: &NodeSpec, settings: &Config, board: &Board) -> Result<Outcome, Failure> {
    let outcome = adopt(host, spec, settings, board).await?;
    let unit = host.path(etcd::UNIT_PATH);
    let is_member = host.path(etcd::ENVIRONMENT_PATH).is_file();
    if outcome.is_ours() && is_member && read(&unit)?.is_some_and(|text| text != etcd::UNIT) {
        files::write(&unit, etcd::UNIT.as_bytes(), 0o644)?;
        tracing::info!(object = etcd::UNIT_PATH, "put back");
        reload(host).await;
    }
    Ok(outcome)
}

/// A task that goes on for as long as this lives.
#[derive(Debug)]
#[must_use]
pub struct Keeping {
    task: JoinHandle<()>,
    outcome: watch::Receiver<Outcome>,
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes the scripts over again whenever somebody has written them anew: where cloud-init is started later than the agent,
/// or made to run again, it would run them beside it. [`lost`] tells when that can't be done.
pub fn keep(host: &Host, spec: &NodeSpec, settings: &Config, board: &Board) -> Keeping {
    let (host, spec, settings, board) = (host.clone(), spec.clone(), settings.clone(), board.clone());
    let (tell, outcome) = watch::channel(Outcome::Nothing);
    let task = tokio::spawn(async move {
        let directory = |file: &File| Some(host.path(file.path()).parent()?.to_owned());
        let directories: Vec<_> = File::ALL.iter().filter_map(directory).collect();
        let mut changes = Changes::below(directories);
        loop {
            // Whoever writes them may be in the middle of one.
            let refuses = |(_, decision): (_, Decision)| !decision.refused.is_empty();
            if settings.adopt && decided(&host, &spec).is_ok_and(refuses) {
                tokio::time::sleep(SETTLED).await;
            }
            match adopt(&host, &spec, &settings, &board).await {
                Ok(outcome) => drop(tell.send_replace(outcome)),
                Err(failure) => tracing::warn!("{failure}"),
            }
            changes.wait(LOOK_AGAIN).await;
        }
    });
    Keeping { task, outcome }
}

/// Waits until the scripts that are kept are the management server's again, and tells why; for ever as long as they are ours.
pub async fn lost(kept: Option<&mut Keeping>) -> Failure {
    if let Some(Keeping { outcome, .. }) = kept {
        let lost = outcome.wait_for(|outcome| outcome.lost().is_some()).await;
        let lost = lost.ok().and_then(|outcome| outcome.lost());
        if let Some(failure) = lost {
            return failure;
        }
    }
    std::future::pending().await
}

/// Puts the server's scripts back where ours stand for them. Returns the paths.
///
/// # Errors
/// `IO`, `NO_SPACE` name the file; those before it are back then.
pub async fn revert(host: &Host) -> Result<Vec<&'static str>, Failure> {
    let mut back = Vec::new();
    // The way back is the way there the other way round: what runs first is ours the longest.
    for file in File::ALL.into_iter().rev() {
        let kept = host.path(&kept(file));
        let Some(original) = read(&kept)? else { continue };
        let now = read(&host.path(file.path()))?;
        // cloud-init, or somebody else, wrote another one meanwhile.
        if now.as_deref().is_some_and(adoption::is_ours) {
            files::write(&host.prepare(file.path())?, original.as_bytes(), file.stock_mode())?;
            back.push(file.path());
        }
        fs::remove_file(&kept).map_err(|e| io_failure("Removing", &kept, e))?;
    }
    if back.contains(&File::DeployUnit.path()) {
        reload(host).await;
    }
    Ok(back)
}

/// The server's files that are there, and what becomes of them.
fn decided(host: &Host, spec: &NodeSpec) -> Result<(Vec<(File, String)>, Decision), Failure> {
    let found = found(host)?;
    let files: Vec<(File, &str)> = found.iter().map(|(file, text)| (*file, text.as_str())).collect();
    let decision = adoption::decide(&files, &Asked::of(spec), &caller(host)?);
    Ok((found, decision))
}

/// The server's files that are there.
fn found(host: &Host) -> Result<Vec<(File, String)>, Failure> {
    let mut found = Vec::new();
    for file in File::ALL {
        if let Some(text) = read(&host.path(file.path()))? {
            found.push((file, text));
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = files::small(path, MAX_BYTES).map_err(|e| io_failure("Reading", path, e))?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

fn kept(file: File) -> String {
    format!("{STATE_DIR}/adopted/{}", file.name())
}

/// How the scripts call this very program.
fn caller(host: &Host) -> Result<Caller, Failure> {
    let program = std::env::current_exe();
    let program = program.map_err(|e| Failure::new(Code::Io, "Finding this program's own file").with_source(e))?;
    let program = program.to_string_lossy();
    // What the kernel adds when a package was upgraded under a running program.
    let program = program.strip_suffix(" (deleted)").unwrap_or(&program).to_owned();
    let root = host.root().to_string_lossy().into_owned();
    Ok(Caller { program, root: (root != "/").then_some(root) })
}

/// The script of the server that is running now. One of ours is so only for the moment until it has become the agent.
fn at_work(host: &Host) -> Option<String> {
    let scripts = [File::Setup, File::SetupEtcd, File::Deploy, File::SetupContainerd];
    for process in host.processes() {
        let line = fs::read(host.path(&format!("/proc/{process}/cmdline"))).unwrap_or_default();
        // `/bin/bash -e /opt/bin/setup-kube-system`
        let mut words = line.split(|byte| *byte == 0);
        let shell = words.next().is_some_and(|word| word.ends_with(b"sh"));
        let file = words.find_map(|word| scripts.iter().find(|file| file.path().as_bytes() == word));
        if let (true, Some(file)) = (shell, file) {
            return Some(format!("{file} (process {process})"));
        }
    }
    None
}

/// Units that systemd knows already are read again. Where it does not run, or refuses, the old unit calls our script.
async fn reload(host: &Host) {
    if !host.path("/run/systemd/system").is_dir() {
        return;
    }
    if let Err(failure) = Tool::Systemctl.call(host).arg("daemon-reload").ok(Code::ServiceFailed).await {
        tracing::warn!("{failure}");
    }
}

#[cfg(test)]
mod tests;
