//! QEMU's two line protocols, over unix sockets: its monitor (QMP) and the agent in the guest (QGA). One JSON object a
//! line, answers in the order of the questions, events of the monitor in between.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// A conversation.
#[derive(Debug)]
pub(super) struct Monitor {
    lines: BufReader<UnixStream>,
    /// What has happened and nobody has asked for yet.
    events: Vec<Value>,
}

impl Monitor {
    /// With the monitor whose socket is at `path`.
    pub(super) fn of_qemu(path: &Path) -> Result<Self> {
        let mut monitor = Self::connect(path, Duration::from_secs(60))?;
        monitor.line().context("Reading QEMU's greeting")?;
        monitor.ask("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// With the agent in the guest. What an earlier conversation left unread is passed over.
    pub(super) fn of_guest(path: &Path, patience: Duration) -> Result<Self> {
        let mut monitor = Self::connect(path, patience)?;
        let number = SystemTime::now().duration_since(UNIX_EPOCH).context("Reading the clock")?.subsec_nanos();
        monitor.send("guest-sync", &json!({ "id": number }))?;
        loop {
            if monitor.line()?.get("return").and_then(Value::as_u64) == Some(u64::from(number)) {
                return Ok(monitor);
            }
        }
    }

    fn connect(path: &Path, patience: Duration) -> Result<Self> {
        let stream = UnixStream::connect(path).with_context(|| format!("Connecting to {}", path.display()))?;
        stream.set_read_timeout(Some(patience)).context("Bounding a wait")?;
        Ok(Self { lines: BufReader::new(stream), events: Vec::new() })
    }

    /// Asks, and gives what is returned.
    pub(super) fn ask(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        self.send(command, arguments)?;
        loop {
            let mut said = self.line().with_context(|| format!("Waiting for the answer to {command}"))?;
            if let Some(error) = said.get("error") {
                bail!("{command} {arguments}: {error}");
            }
            match said.get_mut("return") {
                Some(answer) => return Ok(answer.take()),
                None => self.events.push(said),
            }
        }
    }

    /// Waits for an event about the device `device`.
    pub(super) fn event(&mut self, name: &str, device: &str) -> Result<()> {
        loop {
            let fits = |event: &Value| event["event"] == name && event["data"]["device"] == device;
            if let Some(at) = self.events.iter().position(fits) {
                self.events.remove(at);
                return Ok(());
            }
            let said = self.line().with_context(|| format!("Waiting for {name} of {device}"))?;
            self.events.push(said);
        }
    }

    fn send(&mut self, command: &str, arguments: &Value) -> Result<()> {
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        self.lines.get_mut().write_all(line.as_bytes()).with_context(|| format!("Asking for {command}"))
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).context("Reading a line")?;
        if read == 0 {
            bail!("the other end has hung up");
        }
        serde_json::from_str(&line).with_context(|| format!("Reading {line:?}"))
    }
}
