//! The unit `etcd.service`: what it is told, started and stopped.

use std::fs;

use bootstrap::etcd::account::Ids;
use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::NodeSpec;
use bootstrap::render::etcd::{self, Beginning, ENVIRONMENT_PATH, UNIT, UNIT_PATH};

use super::data;
use crate::files;
use crate::host::Host;
use crate::tool::Tool;

const NAME: &str = "etcd.service";
/// etcd hands its leadership on and closes its files; a large database takes a while.
const STOP: std::time::Duration = std::time::Duration::from_secs(120);

#[derive(Debug, Clone, Copy)]
pub(super) struct Service<'a> {
    host: &'a Host,
}

impl<'a> Service<'a> {
    pub(super) fn new(host: &'a Host) -> Self {
        Self { host }
    }

    /// Whether it was told which cluster it is a member of.
    pub(super) fn is_told(&self) -> bool {
        self.host.path(ENVIRONMENT_PATH).exists()
    }

    /// How it began, as it was told; else as one that its data tells the rest.
    pub(super) fn beginning(&self, spec: &NodeSpec) -> Beginning {
        let text = fs::read_to_string(self.host.path(ENVIRONMENT_PATH)).unwrap_or_default();
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let pairs = spec.etcd_cluster().into_iter().map(|(name, url)| format!("{name}={url}"));
        Beginning {
            cluster: value("ETCD_INITIAL_CLUSTER").map_or_else(|| pairs.collect::<Vec<_>>().join(","), str::to_owned),
            existing: value("ETCD_INITIAL_CLUSTER_STATE") != Some("new"),
        }
    }

    /// Writes the unit and what it is told; says whether anything was not so before.
    pub(super) fn tell(&self, spec: &NodeSpec, beginning: &Beginning, ids: Ids) -> Result<bool, Failure> {
        data::prepare(self.host, ids)?;
        let unit = self.write(UNIT_PATH, UNIT)?;
        let environment = self.write(ENVIRONMENT_PATH, &etcd::environment(spec, beginning))?;
        Ok(unit || environment)
    }

    fn write(&self, path: &str, text: &str) -> Result<bool, Failure> {
        let there = fs::read(self.host.path(path));
        if there.is_ok_and(|there| there == text.as_bytes()) {
            return Ok(false);
        }
        files::write(&self.host.prepare(path)?, text.as_bytes(), 0o644).map(|()| true)
    }

    /// Starts it, and at every boot; does not wait until it serves.
    pub(super) async fn start(&self) -> Result<(), Failure> {
        if self.is_active().await {
            return Ok(());
        }
        self.reload().await?;
        self.systemctl(&["enable", NAME]).await?;
        // A start waits until the cluster has a leader.
        self.systemctl(&["start", "--no-block", NAME]).await
    }

    /// Stops it.
    pub(super) async fn stop(&self) -> Result<(), Failure> {
        let call = Tool::Systemctl.call(self.host).args(["stop", NAME]).patience(STOP);
        call.ok(Code::ServiceFailed).await.map(drop)
    }

    /// Makes systemd read units that changed below it.
    pub(super) async fn reload(&self) -> Result<(), Failure> {
        self.systemctl(&["daemon-reload"]).await
    }

    /// Whether it runs, is starting, or is about to be started again.
    pub(super) async fn is_active(&self) -> bool {
        ["active", "activating", "reloading"].contains(&self.property("ActiveState").await.as_str())
    }

    /// For people.
    pub(super) async fn state(&self) -> String {
        let (active, sub) = (self.property("ActiveState").await, self.property("SubState").await);
        if active.is_empty() {
            "etcd.service: state unknown".to_owned()
        } else {
            format!("etcd.service is {active} ({sub})")
        }
    }

    async fn property(&self, name: &str) -> String {
        let call = Tool::Systemctl.call(self.host).args(["show", "--property", name, "--value", NAME]);
        call.ok(Code::ServiceFailed).await.unwrap_or_default().trim().to_owned()
    }

    async fn systemctl(&self, args: &[&str]) -> Result<(), Failure> {
        Tool::Systemctl.call(self.host).args(args).ok(Code::ServiceFailed).await.map(drop)
    }
}
