//! A cluster that `cks-agent` makes by itself, of what the router tells each machine.

use std::time::Duration;

use anyhow::{Result, bail};

use super::cluster::{Cluster, LIMIT, TOKEN, side_by_side};
use super::{Bed, Machine};
use crate::process::Output;

/// What differs here from a machine that systemd has started on a kernel of a distribution (docs/operator.md, "Settings").
/// kubeadm looks into the kernel's configuration and for cgroup v2.
pub const SETTINGS: &str = "\
sources = [\"vr\"]
wait = \"2m\"
[cluster]
wait = \"8m\"
cgroup-driver = \"cgroupfs\"
allow-cgroup-v1 = true
kubeadm-ignores = [\"SystemVerification\"]
";

impl Bed {
    /// Tells a machine what it shall become, and how this bed differs from other places.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn ask(&self, machine: &Machine, user_data: &str) -> Result<()> {
        machine.write("/etc/cks-agent/config.toml", SETTINGS)?;
        self.user_data(machine, user_data)
    }
}

/// Runs the agent in a machine, to its end.
///
/// # Errors
/// When it can't be started.
pub fn bootstrap(machine: &Machine, limit: Duration) -> Result<Output> {
    machine.command(["cks-agent", "bootstrap", "--verbose"])?.limit(limit).output()
}

impl Cluster {
    /// Makes the machines a cluster, by what the router tells them alone. All begin at once, as machines of CloudStack do.
    ///
    /// # Errors
    /// When one doesn't become what it shall be: with what the agent said.
    pub fn by_agent(&self) -> Result<()> {
        for machine in self.machines() {
            self.bed.ask(machine, &self.user_data_of(machine))?;
        }
        self.as_told()
    }

    /// As [`Self::by_agent`], of what each machine was asked before.
    ///
    /// # Errors
    /// When one doesn't become what it shall be: with what the agent said.
    pub fn as_told(&self) -> Result<()> {
        self.these_as_told(self.machines())?;
        self.all_ready()
    }

    /// Has these machines become what they were asked, all at once.
    ///
    /// # Errors
    /// When one doesn't: with what the agent said.
    pub fn these_as_told<'a>(&self, machines: impl IntoIterator<Item = &'a Machine>) -> Result<()> {
        side_by_side(machines, |machine| {
            let said = bootstrap(machine, LIMIT * 2)?;
            if said.code != 0 {
                bail!("{}: exit code {}\n{}{}", machine.name, said.code, said.stdout, said.stderr);
            }
            self.say(&format!("{}: {}", machine.name, said.stdout.trim()));
            Ok(())
        })
    }

    /// What a machine is asked to become, in the agent's own words.
    #[must_use]
    pub fn user_data_of(&self, machine: &Machine) -> String {
        let (control, etcd) = (&self.control.address, &self.etcd);
        let what = match &machine.name {
            name if *name == etcd.name => {
                format!("role: etcd\n  etcd: {{members: {{{name}: \"http://{}:2380\"}}}}", etcd.address)
            }
            name if *name == self.control.name => format!(
                "role: first-control-plane\n  endpoint: {control}:6443\n  token: {TOKEN}\n  \
                 etcd: {{endpoints: [\"http://{}:2379\"]}}",
                etcd.address
            ),
            _ => format!("role: worker\n  endpoint: {control}:6443\n  token: {TOKEN}"),
        };
        format!("#cloud-config\ncks:\n  {what}\n")
    }
}
