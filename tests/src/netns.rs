//! A private network namespace: the address of CloudStack's virtual router, and nothing else.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::NamedTempFile;

use crate::leash::Daemon;
use crate::process::Command;

/// The guest address of the virtual router in the bed; CloudStack's own default for isolated networks.
pub const ADDRESS: &str = "10.1.1.1";

const SETUP: &str = "ip link set lo up && ip address add 10.1.1.1/24 dev lo && echo ready && exec sleep infinity";

/// A network namespace with 127.0.0.1 and [`ADDRESS`] on `lo`. It is gone when this value is dropped
/// and the last command inside has ended.
#[derive(Debug)]
pub struct Netns {
    holder: Daemon,
    _log: NamedTempFile,
}

impl Netns {
    /// Makes one.
    ///
    /// # Errors
    /// Without root, or without iproute2.
    pub fn new() -> Result<Self> {
        let log = NamedTempFile::new().context("Making a file for the namespace's log")?;
        let mut holder = Command::new("sh").args(["-c", SETUP]).daemon_with_network(log.path())?;
        let up = || fs::read_to_string(log.path()).is_ok_and(|said| said.contains("ready"));
        holder.ready(Duration::from_secs(10), up).context("Making a network namespace")?;
        Ok(Self { holder, _log: log })
    }

    /// The command, run inside.
    #[must_use]
    pub fn enter(&self, command: Command) -> Command {
        command.network(&self.path())
    }

    /// The path that stands for it: `/proc/PID/ns/net`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.pid())
    }
}
