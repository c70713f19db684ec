//! Commands in a booted machine, by its guest agent: no network, no login.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::monitor::Monitor;
use crate::process::Output;

/// How often something in a guest is looked at: each look is a process that QEMU translates.
const PAUSE: Duration = Duration::from_millis(500);

/// How long the agent may be silent while it is there.
const SILENCE: Duration = Duration::from_secs(60);

/// The agent of a machine.
#[derive(Debug, Clone)]
pub struct Guest {
    socket: PathBuf,
    name: String,
}

impl Guest {
    pub(super) fn new(socket: &Path, name: &str) -> Self {
        Self { socket: socket.to_owned(), name: name.to_owned() }
    }

    /// Waits until the agent answers.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub fn up(&self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            match Monitor::of_guest(&self.socket, Duration::from_secs(3)) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context(format!("{} is not up after {} s", self.name, limit.as_secs())));
                }
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// Runs a script in `sh -e`, whatever its exit code. `input` is what it reads.
    ///
    /// # Errors
    /// When the machine doesn't answer, or the script takes longer than `limit`.
    pub fn run(&self, script: &str, input: &[u8], limit: Duration) -> Result<Output> {
        let begun = Instant::now();
        let mut monitor = Monitor::of_guest(&self.socket, SILENCE).with_context(|| format!("Asking {}", self.name))?;
        let mut run = json!({ "path": "/bin/sh", "arg": ["-e", "-c", script], "capture-output": true,
            "env": ["PATH=/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"] });
        if !input.is_empty() {
            run["input-data"] = STANDARD.encode(input).into();
        }
        let started = monitor.ask("guest-exec", &run)?;
        let pid = &started["pid"];
        loop {
            let status = monitor.ask("guest-exec-status", &json!({ "pid": pid }))?;
            if status["exited"] == true {
                return output(&status, begun.elapsed());
            }
            ensure!(begun.elapsed() < limit, "{}: not done after {} s: {script}", self.name, limit.as_secs());
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Runs a script and gives what it printed.
    ///
    /// # Errors
    /// As [`Self::run`]; when it fails, with what it said.
    pub fn sh(&self, script: &str) -> Result<String> {
        let said = self.run(script, &[], Duration::from_secs(180))?;
        if said.code != 0 {
            bail!("{}: {script}: exit code {}\n{}{}", self.name, said.code, said.stdout, said.stderr);
        }
        Ok(said.stdout)
    }

    /// Writes a file, with its directories.
    ///
    /// # Errors
    /// As [`Self::sh`].
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let script = format!("mkdir -p \"$(dirname '{path}')\"; cat >'{path}'");
        let said = self.run(&script, bytes, Duration::from_secs(60))?;
        ensure!(said.code == 0, "{}: writing {path}: {}", self.name, said.stderr);
        Ok(())
    }

    /// Waits until a script's exit code is 0.
    ///
    /// # Errors
    /// When it isn't within `limit`: with what it said last.
    pub fn wait(&self, what: &str, limit: Duration, script: &str) -> Result<Duration> {
        let begun = Instant::now();
        loop {
            let said = self.run(script, &[], SILENCE);
            if said.as_ref().is_ok_and(|said| said.code == 0) {
                return Ok(begun.elapsed());
            }
            if begun.elapsed() > limit {
                let said = said.map_or_else(|error| format!("{error:#}"), |said| said.stdout + &said.stderr);
                bail!("{}: {what} is not so after {} s: {said}", self.name, limit.as_secs());
            }
            thread::sleep(PAUSE);
        }
    }
}

fn output(status: &Value, elapsed: Duration) -> Result<Output> {
    let text = |key: &str| -> Result<String> {
        let bytes = STANDARD.decode(status[key].as_str().unwrap_or_default()).context("Reading what a guest said")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let signal = status["signal"].as_i64().map(|signal| signal + 128);
    let code = status["exitcode"].as_i64().or(signal).context("a process without an end")?;
    let code = i32::try_from(code).context("Reading an exit code")?;
    Ok(Output { code, stdout: text("out-data")?, stderr: text("err-data")?, elapsed })
}
