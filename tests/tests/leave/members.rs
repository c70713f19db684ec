//! A control plane node whose etcd member is real, in a real cluster of members.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cks_tests::leash::Running;
use cks_tests::process::Command;
use cks_tests::programs;

use crate::machine::Machine;

const SETUP: &str = include_str!("etcd.sh");

/// The machine is `c0` of a control plane.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) machine: Machine,
    etcdctl: PathBuf,
    /// The number of another member; none where there is none.
    other: Option<u32>,
    /// They end with the machine.
    _servers: Running,
}

impl Members {
    /// So many members, all of them up.
    ///
    /// # Errors
    /// Without etcd: says how it is built.
    pub(crate) fn new(count: u32) -> Result<Self> {
        Self::after("true", count)
    }

    /// The same, after a script that prepares the machine.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn after(script: &str, count: u32) -> Result<Self> {
        let etcd = programs::built_before("etcd", "v3")?.context("etcd is not built: run tests/tools/build etcd")?;
        let machine = Machine::joined()?;
        machine.sh(script)?;
        let numbers: Vec<String> = (0..count).map(|number| number.to_string()).collect();
        let setup = Command::new("sh").args(["-ec", SETUP, "etcd"]).arg(&etcd).arg(numbers.join(" "));
        let servers = machine.run(setup).start(&machine.log("etcd"))?;
        let other = (count > 1).then_some(1);
        let members = Self { machine, etcdctl: etcd.join("etcdctl"), other, _servers: servers };
        let deadline = Instant::now() + Duration::from_secs(60);
        while members.ctl(0, &["endpoint", "health", "--cluster"]).is_err() {
            let log = || members.machine.sh("cat /srv/c*.log").unwrap_or_default();
            ensure!(Instant::now() < deadline, "etcd is not healthy: {}", log());
            thread::sleep(Duration::from_millis(200));
        }
        members.ctl(0, &["put", "precious", "value"])?;
        Ok(members)
    }

    /// etcdctl at a member.
    ///
    /// # Errors
    /// With what it said.
    pub(crate) fn ctl(&self, member: u32, arguments: &[&str]) -> Result<String> {
        let port = if member == 0 { "2379".to_owned() } else { format!("{member}2379") };
        let keys = ["--cacert=/srv/etcd/ca.crt", "--cert=/srv/etcd/server.crt", "--key=/srv/etcd/server.key"];
        let command = Command::new(&self.etcdctl).args(keys).arg(format!("--endpoints=https://127.0.0.1:{port}"));
        self.machine.run(command.args(arguments)).limit(Duration::from_secs(30)).ok()
    }

    /// The names of the members, as another one than the node's own tells them.
    ///
    /// # Errors
    /// With what etcdctl said.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let listed = self.ctl(self.other.unwrap_or(0), &["member", "list"])?;
        let mut names: Vec<String> =
            listed.lines().filter_map(|line| Some(line.split(", ").nth(2)?.to_owned())).collect();
        names.sort();
        Ok(names)
    }

    /// The id of the member of this name, as another one than the node's own tells it; none where it is no member.
    ///
    /// # Errors
    /// With what etcdctl said.
    pub(crate) fn id(&self, name: &str) -> Result<Option<String>> {
        let listed = self.ctl(self.other.unwrap_or(0), &["member", "list"])?;
        let named = listed.lines().find(|line| line.split(", ").nth(2) == Some(name));
        Ok(named.and_then(|line| line.split(", ").next()).map(str::to_owned))
    }

    /// Ends a member without a word.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn kill(&self, member: u32) -> Result<()> {
        self.machine.sh(&format!("kill -KILL $(cat /srv/c{member}.pid)")).map(drop)
    }
}
