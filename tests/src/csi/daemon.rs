//! The daemon of a bed while it runs: `nsenter`, and its child.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::leash::{POLL, Running};
use crate::process::Command;

/// How long a program may take to start, on a machine with much to do.
const START: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Daemon {
    outer: Running,
    pid: u32,
}

impl Daemon {
    /// Starts a command of [`super::Namespace::enter`].
    pub(super) fn start(entering: &Command, log: &Path) -> Result<Self> {
        let mut outer = entering.start(log)?;
        let deadline = Instant::now() + START;
        loop {
            if let Some(pid) = child_of(outer.pid()) {
                return Ok(Self { outer, pid });
            }
            if outer.ended()?.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(log).unwrap_or_default();
                bail!("{entering} did not start\n{said}");
            }
            std::thread::sleep(POLL);
        }
    }

    /// The process id of the child, outside.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn ended(&mut self) -> Result<bool> {
        Ok(self.outer.ended()?.is_some())
    }

    /// Sends the signal to the child alone, waits for its end, and gives the exit code.
    pub(super) fn end(mut self, signal: Signal) -> Result<i32> {
        if !self.ended()? {
            let pid = i32::try_from(self.pid).map(Pid::from_raw).context("A process id")?;
            match kill(pid, signal) {
                // It has just ended by itself.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(e) => return Err(e).context("Ending the daemon"),
            }
        }
        self.outer.wait()
    }

    /// Its memory in bytes (`VmRSS`).
    pub(super) fn rss(&self) -> Result<u64> {
        let status = format!("/proc/{}/status", self.pid);
        let status = fs::read_to_string(&status).with_context(|| format!("Reading {status}"))?;
        let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let kibibytes: u64 = kibibytes.context("The daemon has ended")?.parse().context("Reading VmRSS")?;
        Ok(kibibytes << 10)
    }
}

fn child_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
