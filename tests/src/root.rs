//! A distribution's root file system, as a template is made of: real packages, changed as a test likes and gone with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Command, Output};
use crate::{programs, scratch};

/// Packages are installed in it, over the network.
const LIMIT: Duration = Duration::from_secs(600);

/// A root, changes of which go into a layer of its own.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    _layers: TempDir,
}

impl Root {
    /// A fresh one of `tests/tools/root`.
    ///
    /// # Errors
    /// Without root's rights, or when it can't be made.
    pub fn new(name: &str) -> Result<Self> {
        let made =
            Command::new(programs::workspace().join("tests/tools/root")).args(["--tree", name]).limit(LIMIT).ok()?;
        Self::over(Path::new(made.trim()))
    }

    /// One that begins as `lower` is; that one must not change meanwhile.
    ///
    /// # Errors
    /// Without root's rights.
    pub fn over(lower: &Path) -> Result<Self> {
        let layers = scratch("root")?;
        let path = |name: &str| -> Result<PathBuf> {
            let path = layers.path().join(name);
            fs::create_dir(&path).with_context(|| format!("Making {}", path.display()))?;
            Ok(path)
        };
        let (upper, work, merged) = (path("upper")?, path("work")?, path("root")?);
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
            .with_context(|| format!("Mounting an overlay at {}", merged.display()))?;
        Ok(Self { path: merged, _layers: layers })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `cks-agent` at work on it.
    ///
    /// # Errors
    /// When it has not been built, or can't be started.
    pub fn agent(&self, verb: &str, args: &[&str]) -> Result<Output> {
        Command::new(programs::built("cks-agent")?)
            .args([verb, "--root"])
            .arg(&self.path)
            .args(args)
            .limit(LIMIT)
            .output()
    }

    /// `cks-agent` at work on it, and killed after some seconds, unless it has ended; its own programs go on.
    ///
    /// # Errors
    /// When it has not been built, or can't be started.
    pub fn killed(&self, verb: &str, seconds: &str) -> Result<Output> {
        let agent = Command::new(programs::built("cks-agent")?).args([verb, "--root"]).arg(&self.path);
        agent.under("timeout", ["--foreground", "-s", "KILL", seconds]).limit(LIMIT).output()
    }

    /// What `cks-agent VERB --json` prints.
    ///
    /// # Errors
    /// As [`Self::agent`], and when it prints no document.
    pub fn document(&self, verb: &str, args: &[&str]) -> Result<Value> {
        let output = self.agent(verb, &[args, &["--json"]].concat())?;
        serde_json::from_str(&output.stdout).with_context(|| format!("{verb}: {}{}", output.stdout, output.stderr))
    }

    /// Lines of a shell, with the root's programs, as its administrator.
    ///
    /// # Errors
    /// When one of them fails.
    pub fn sh(&self, lines: &str) -> Result<String> {
        self.chroot(&["/bin/sh", "-euc", lines]).ok()
    }

    /// A program of the root's.
    #[must_use]
    pub fn chroot(&self, words: &[&str]) -> Command {
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        Command::new("chroot").arg(&self.path).args(words).bare().env("PATH", path).env("SYSTEMD_OFFLINE", "1")
    }

    /// Installs this workspace's agent and its units, as its package does.
    ///
    /// # Errors
    /// When they can't be copied.
    pub fn install_agent(&self) -> Result<()> {
        fs::copy(programs::built("cks-agent")?, self.path.join("usr/bin/cks-agent"))?;
        for unit in fs::read_dir(programs::workspace().join("systemd"))? {
            let unit = unit?;
            fs::copy(unit.path(), self.path.join("usr/lib/systemd/system").join(unit.file_name()))?;
        }
        Ok(())
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // A program that still runs there keeps it no longer than it lives.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}
