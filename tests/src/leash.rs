//! Processes under way, and the leash that daemons are kept on.
//!
//! A [`Daemon`] has its own PID and mount namespace, whose first process ends when this program does,
//! however it does. With that process go the daemon, its children and its mounts, so nothing is left
//! behind even after `kill -9`.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How often a condition is looked at while waiting for it.
pub(crate) const POLL: Duration = Duration::from_millis(10);

/// What `unshare` makes for a daemon.
pub(crate) const NAMESPACES: [&str; 7] =
    ["--pid", "--fork", "--kill-child", "--mount", "--propagation", "private", "--mount-proc"];

/// The first process of a daemon's namespace. Standard input is the leash: at its end the daemon gets
/// SIGTERM, and 3 s later SIGKILL. When the daemon ends, this shell does, and the kernel kills the rest.
pub(crate) const LEASH: &str = r#"
exec 3<&0
"$@" 3<&- & daemon=$!
(cat >/dev/null; kill -TERM $daemon; sleep 3; kill -KILL $daemon) <&3 2>/dev/null &
wait $daemon
"#;

/// A command under way.
#[derive(Debug)]
pub struct Running {
    child: Child,
    line: String,
}

impl Running {
    pub(crate) fn new(child: Child, line: String) -> Self {
        Self { child, line }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit code, when it has ended.
    ///
    /// # Errors
    /// When the kernel doesn't tell.
    pub fn ended(&mut self) -> Result<Option<i32>> {
        let status = self.child.try_wait().with_context(|| format!("Waiting for {}", self.line))?;
        Ok(status.map(code))
    }

    /// Waits for the end and gives the exit code.
    ///
    /// # Errors
    /// When the kernel doesn't tell.
    pub fn wait(&mut self) -> Result<i32> {
        self.child.wait().map(code).with_context(|| format!("Waiting for {}", self.line))
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("Killing {}", self.line))?;
        self.wait().map(drop)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A program that serves until it is dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    line: String,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn new(child: Child, line: String, log: &Path) -> Self {
        Self { child, line, log: log.to_owned() }
    }

    /// The process id of the leash, which shares the daemon's network namespace.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `probe` says yes.
    ///
    /// # Errors
    /// When the daemon ends first or `limit` passes: with the end of its log.
    pub fn ready(&mut self, limit: Duration, mut probe: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !probe() {
            if let Some(status) = self.child.try_wait().with_context(|| format!("Waiting for {}", self.line))? {
                bail!("{} ended with exit code {}\n{}", self.line, code(status), self.log_end());
            }
            if Instant::now() > deadline {
                bail!("{} is not ready after {} s\n{}", self.line, limit.as_secs(), self.log_end());
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Sends SIGKILL to its whole namespace and waits until nothing of it is left: what it listened at refuses from then on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&mut self) -> Result<()> {
        let first = children(self.child.id());
        // `--kill-child` hands it on to the first process of the namespace, and that takes all others along.
        self.child.kill().with_context(|| format!("Killing {}", self.line))?;
        // Not by `wait`, which lets go of the leash first: the daemon would get SIGTERM and end in order.
        while self.child.try_wait().with_context(|| format!("Waiting for {}", self.line))?.is_none() {
            thread::sleep(POLL);
        }
        while first.iter().any(|pid| lives(*pid)) {
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// The last lines of what it said.
    #[must_use]
    pub fn log_end(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// The processes that `pid` has started.
fn children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether a process is there, and no zombie: the first one of a namespace becomes one after all others have gone.
fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(POLL);
        }
        // Its --kill-child takes the whole namespace along. Fails only for a process that is gone.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A command that does its work when this value is dropped, and also when this program is killed: it is not on the
/// leash, and begins at the end of its standard input.
#[derive(Debug)]
pub struct Heir {
    child: Child,
}

impl Heir {
    pub(crate) fn new(child: Child) -> Self {
        Self { child }
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

/// The command lines of this machine's processes that contain `text`.
///
/// # Errors
/// When `/proc` can't be read.
pub fn mentioning(text: &str) -> Result<Vec<String>> {
    let processes = std::fs::read_dir("/proc").context("Reading /proc")?;
    // A process may end between the two reads; it has no command line then.
    let lines = processes.flatten().filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    Ok(lines.filter(|line| line.contains(text)).collect())
}

/// The exit code; 128 + the signal's number where a signal ended it.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Command;

    #[test]
    fn a_daemon_that_ends_early_says_why() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut daemon = Command::new("sh").args(["-c", "echo no port; exit 4"]).daemon(log.path()).unwrap();
        let error = daemon.ready(Duration::from_secs(5), || false).unwrap_err().to_string();
        assert!(error.contains("exit code 4") && error.contains("no port"), "{error}");
    }

    #[test]
    fn a_daemon_takes_along_the_children_that_left_it() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mark = format!("600.{}", std::process::id());
        let script = format!("setsid sleep {mark} & exec sleep 600");
        let mut daemon = Command::new("bash").args(["-c", &script]).daemon(log.path()).unwrap();
        let alive = || mentioning(&format!("sleep {mark}")).unwrap().iter().any(|line| line.starts_with("sleep"));
        daemon.ready(Duration::from_secs(5), alive).unwrap();
        drop(daemon);
        assert!(!alive());
    }
}
