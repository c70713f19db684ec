//! Machines whose Kubernetes is a few files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use cks_tests::authority::Authority;
use cks_tests::kubernetes::{Bed, Machine};
use cks_tests::netns::Netns;
use cks_tests::server::rules::{PUBLIC, Rules};
use cks_tests::server::{Cloud, ManagementServer, Pace, Release, Vm};
use tempfile::TempDir;

const KUBECTL: &str = include_str!("kubectl");

/// Machines that are lent to clusters, one after the other.
pub(crate) struct Pretend {
    pub(crate) bed: Bed,
    pub(crate) machines: Vec<Machine>,
    /// How many have been lent.
    lent: usize,
    /// Machines by their names in a cluster.
    names: Vec<(String, usize)>,
    rules: Rules,
    forwarded: Vec<u16>,
    key: PathBuf,
    public_key: String,
    pub(crate) user_data: Vec<(String, String)>,
    _content: TempDir,
    files: TempDir,
}

impl Pretend {
    /// So many machines; all are switched on and the first one's API answers.
    pub(crate) fn new(machines: usize) -> Result<Self> {
        let content = cks_tests::scratch("content")?;
        let files = cks_tests::scratch("pretend")?;
        let mut bed = Bed::new(content.path(), None)?;
        let rules = Rules::new(&bed.vr.netns)?;
        let machines = (0..machines).map(|at| bed.machine(&format!("machine-{at}"))).collect::<Result<Vec<_>>>()?;
        let key = bed.key();
        let public_key = fs::read_to_string(key.with_extension("pub")).context("Reading a key")?;
        let (names, forwarded, user_data) = Default::default();
        let (lent, _content) = (0, content);
        let pretend =
            Self { bed, machines, lent, names, rules, forwarded, key, public_key, user_data, _content, files };
        pretend.set_up()?;
        Ok(pretend)
    }

    fn set_up(&self) -> Result<()> {
        let authority = Authority::new(self.files.path())?;
        let identity = authority.issue(PUBLIC)?;
        for machine in &self.machines {
            machine.wait("ssh", Duration::from_secs(30), || Ok(self.bed.ssh(machine, "true").output()?.code == 0))?;
        }
        let control = self.control();
        for (from, to) in [(&identity.certificate, "/root/api.crt"), (&identity.key, "/root/api.key")] {
            control.write(to, &fs::read_to_string(from)?)?;
        }
        self.serve_api("/root/api.crt")?;
        self.clean()
    }

    /// An API server that answers everything, with a certificate of the first machine.
    pub(crate) fn serve_api(&self, certificate: &str) -> Result<()> {
        self.control()
            .sh(&format!(
                "pkill -x openssl || true
                 setsid openssl s_server -quiet -www -accept 0.0.0.0:6443 -cert {certificate} -key /root/api.key \
                 </dev/null >/dev/null 2>&1 &"
            ))
            .map(drop)
    }

    /// Back to machines that belong to no cluster.
    pub(crate) fn clean(&self) -> Result<()> {
        for machine in &self.machines {
            machine.sh(
                "rm -rf /run/cluster /opt/bin /opt/provider /opt/csi /opt/autoscaler /etc/kubernetes /home/cloud/.kube
                 mkdir -p /run/cluster /opt/bin /opt/provider /opt/csi /opt/autoscaler /opt/cni/bin /etc/kubernetes /root/.kube
                 touch /run/cluster/nodes /run/cluster/asked /run/cluster/pods-kube-system /root/.kube/config
                 chmod 777 /run/cluster && chmod 666 /run/cluster/*",
            )?;
            machine.write("/opt/bin/kubectl", KUBECTL)?;
            machine.sh("chmod 755 /opt/bin/kubectl")?;
        }
        let control = self.control();
        let kubeconfig = format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    server: https://{}:6443\n  name: kubernetes\nusers: []\n",
            control.address
        );
        control.write("/etc/kubernetes/admin.conf", &kubeconfig)?;
        control.write("/run/cluster/pods-kubernetes-dashboard", "kubernetes-dashboard-1 Running\n")?;
        control.write("/run/cluster/pods-kube-system", "headlamp-1 Running\n")?;
        for file in ["provider/provider.yaml", "csi/snapshot-crds.yaml", "csi/manifest.yaml"] {
            control.write(&format!("/opt/{file}"), "kind: List\n")?;
        }
        control.write("/opt/autoscaler/autoscaler_tmpl.yaml", "<min>:<max>:<cluster-id>\n")
    }

    /// Takes all machines back and cleans them.
    pub(crate) fn take_back(&mut self) -> Result<()> {
        for port in std::mem::take(&mut self.forwarded) {
            self.rules.unforward(port)?;
        }
        self.lent = 0;
        self.names.clear();
        self.user_data.clear();
        self.clean()
    }

    pub(crate) fn control(&self) -> &Machine {
        &self.machines[0]
    }

    /// What a test puts into the cluster's state.
    pub(crate) fn state(&self, file: &str, text: &str) {
        self.control().write(&format!("/run/cluster/{file}"), text).unwrap();
    }

    /// What the stand-in was asked, a line each.
    pub(crate) fn asked(&self) -> String {
        self.control().read("/run/cluster/asked").unwrap_or_default()
    }

    pub(crate) fn machine(&self, vm: &Vm) -> Result<&Machine> {
        let found = self.names.iter().rfind(|(name, _)| *name == vm.name).map(|(_, at)| &self.machines[*at]);
        found.with_context(|| format!("{} is no machine", vm.name))
    }

    /// Makes a machine a candidate for an external node.
    pub(crate) fn lend(&mut self, name: &str) -> String {
        self.names.push((name.to_owned(), self.lent));
        self.lent += 1;
        self.machines[self.lent - 1].address.clone()
    }

    fn ready(&self, vm: &Vm) -> Result<()> {
        let nodes = self.control().read("/run/cluster/nodes")?;
        self.control().write("/run/cluster/nodes", &format!("{nodes}{} Ready v1.34.4\n", vm.node()))
    }
}

impl Cloud for Pretend {
    fn network(&self) -> &Netns {
        &self.bed.vr.netns
    }

    fn key(&self) -> &Path {
        &self.key
    }

    fn public_key(&self) -> &str {
        &self.public_key
    }

    fn public_address(&self) -> &str {
        PUBLIC
    }

    fn acquire(&mut self, name: &str) -> Result<String> {
        Ok(self.lend(name))
    }

    fn deploy(&mut self, vm: &Vm, user_data: &str) -> Result<()> {
        self.update(vm, user_data)
    }

    fn forward(&mut self, port: u16, vm: &Vm, to: u16) -> Result<()> {
        self.forwarded.push(port);
        self.rules.forward(port, &vm.address, to)
    }

    fn unforward(&mut self, port: u16) -> Result<()> {
        self.forwarded.retain(|other| *other != port);
        self.rules.unforward(port)
    }

    /// A node is ready once it has its disc: the server waits for nothing else meanwhile.
    fn attach(&mut self, vm: &Vm, version: &str) -> Result<()> {
        let machine = self.machine(vm)?;
        machine.write("/srv/disc/version", version)?;
        let nodes = self.control().read("/run/cluster/nodes")?;
        if vm.external || nodes.lines().any(|line| line.starts_with(&format!("{} ", vm.node()))) {
            machine.sh("mkdir -p /mnt/k8sdisk && mount --bind /srv/disc /mnt/k8sdisk").map(drop)
        } else {
            self.ready(vm)
        }
    }

    fn detach(&mut self, vm: &Vm) -> Result<()> {
        let take = "umount /mnt/k8sdisk 2>/dev/null && rmdir /mnt/k8sdisk || true";
        self.machine(vm)?.sh(take).map(drop)
    }

    fn serve(&mut self, _: Option<&str>) -> Result<()> {
        Ok(())
    }

    fn update(&mut self, vm: &Vm, user_data: &str) -> Result<()> {
        self.user_data.push((vm.name.clone(), user_data.to_owned()));
        Ok(())
    }

    fn reboot(&mut self, vm: &Vm) -> Result<()> {
        self.ready(vm)
    }

    fn destroy(&mut self, vm: &Vm) -> Result<()> {
        self.machine(vm)?.sh("rm -rf /run/cluster/gone && touch /run/cluster/gone").map(drop)
    }
}

/// A server of a release, in a hurry: whoever says nothing for 3 s is silent.
pub(crate) fn hasty(release: Release) -> ManagementServer {
    ManagementServer { release, pace: Pace::HASTY }
}

/// As [`hasty`], but nobody is silent who only takes his time.
pub(crate) fn patient(release: Release) -> ManagementServer {
    ManagementServer { release, pace: Pace { shortest: Duration::from_secs(30), ..Pace::HASTY } }
}
