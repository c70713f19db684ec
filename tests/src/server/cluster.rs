//! A cluster as the management server's database has it.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

use super::Release;

/// The first port that is forwarded to SSH of a node: the first control plane node's.
pub const FIRST_PORT: u16 = 2222;

/// The first port that is forwarded to SSH of an etcd node.
pub const FIRST_ETCD_PORT: u16 = 50000;

/// What a user asks for.
#[derive(Debug, Clone)]
pub struct Order {
    /// The cluster's name, of 43 characters at most.
    pub name: String,
    /// Of Kubernetes, without `v`.
    pub version: String,
    /// How many control plane nodes.
    pub controls: usize,
    /// How many workers.
    pub workers: usize,
    /// How many etcd nodes.
    pub etcd: usize,
    /// Whether the CSI driver is wanted.
    pub csi: bool,
    /// Cloud-config that brings the pod network, in the place of the ISO's.
    pub cni: Option<String>,
    /// A private registry.
    pub registry: Option<Registry>,
    /// A public key of the user's.
    pub keypair: Option<String>,
}

impl Order {
    /// One control plane node, one worker, and nothing besides.
    #[must_use]
    pub fn small(name: &str, version: &str) -> Self {
        let (name, version) = (name.to_owned(), version.trim_start_matches('v').to_owned());
        Self { name, version, controls: 1, workers: 1, etcd: 0, csi: false, cni: None, registry: None, keypair: None }
    }
}

/// A private registry.
#[derive(Debug, Clone)]
pub struct Registry {
    /// `https://registry.example.org`.
    pub url: String,
    /// Who logs in.
    pub username: String,
    /// By which password.
    pub password: String,
}

/// A cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Its UUID, which the token and the certificate key come from.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Of Kubernetes, without `v`.
    pub version: String,
    /// By their ids.
    pub vms: Vec<Vm>,
    /// What users get, once it is there.
    pub kubeconfig: Option<String>,
    /// What was asked for.
    pub(super) order: Order,
    next: u32,
}

/// A virtual machine of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// Its number in the database.
    pub id: u32,
    /// Its UUID, which is its instance id, too.
    pub uuid: String,
    /// Its host name, which is its display name and in lower case its node's.
    pub name: String,
    /// In the guest network.
    pub address: String,
    /// What it is in the cluster.
    pub role: Role,
    /// Whether it was there before it belonged to the cluster.
    pub external: bool,
    /// Whether the server leaves its upgrade to the user.
    pub manual: bool,
    /// The port that is forwarded to its SSH.
    pub port: u16,
}

/// What a virtual machine is in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A control plane node.
    Control,
    /// A worker.
    Worker,
    /// A member of etcd that is no node.
    Etcd,
}

impl Vm {
    /// The name of its node.
    #[must_use]
    pub fn node(&self) -> String {
        self.name.to_lowercase()
    }
}

impl Cluster {
    /// One without machines.
    pub(super) fn new(order: &Order) -> Result<Self> {
        let (name, version) = (order.name.clone(), order.version.clone());
        Ok(Self { id: uuid()?, name, version, vms: Vec::new(), kubeconfig: None, order: order.clone(), next: 1 })
    }

    /// The first control plane node.
    ///
    /// # Errors
    /// When there is none.
    pub fn control(&self) -> Result<&Vm> {
        self.vms.iter().find(|vm| vm.role == Role::Control).context("The cluster has no control plane node")
    }

    /// Its machines of one role, external ones, too.
    pub fn of(&self, role: Role) -> impl Iterator<Item = &Vm> {
        self.vms.iter().filter(move |vm| vm.role == role)
    }

    /// How many machines it has of all kinds.
    pub(super) fn total(&self) -> usize {
        self.vms.len()
    }

    pub(super) fn etcd(&self) -> usize {
        self.of(Role::Etcd).count()
    }

    /// A machine to be, with the name that the server gives it.
    pub(super) fn plan(&mut self, role: Role) -> Result<Vm> {
        let milliseconds = SystemTime::now().duration_since(UNIX_EPOCH).context("Reading the clock")?.as_millis();
        let stamp = format!("{:x}", milliseconds + u128::from(self.next));
        let cut = |length: usize| self.name.chars().take(length).collect::<String>();
        let count = self.of(role).count();
        let name = match role {
            Role::Control => format!("{}-control-{stamp}", cut(43)),
            Role::Worker => format!("{}-node-{stamp}", cut(43)),
            Role::Etcd => format!("{}-etcd-{}-{stamp}", cut(40), count + 1),
        };
        let port = match role {
            Role::Etcd => FIRST_ETCD_PORT + u16::try_from(count)?,
            Role::Control | Role::Worker => FIRST_PORT + u16::try_from(self.total() - self.etcd())?,
        };
        let (id, uuid, address) = (self.next, uuid()?, String::new());
        self.next += 1;
        Ok(Vm { id, uuid, name, address, role, external: false, manual: role == Role::Etcd, port })
    }

    /// A number for a machine that was there before.
    pub(super) fn number(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    /// `xxxxxx.yyyyyyyyyyyyyyyy`: the first digits of the UUID.
    pub(super) fn token(&self) -> String {
        let digits: String = self.id.chars().filter(|c| *c != '-').take(22).collect();
        let (front, back) = digits.split_at(6);
        format!("{front}.{back}")
    }

    /// The UUID's digits, twice.
    pub(super) fn certificate_key(&self) -> String {
        self.id.replace('-', "").repeat(2)
    }

    /// What kubeadm is told besides its token.
    pub(super) fn init_arguments(&self, public: &str) -> String {
        format!(
            "--control-plane-endpoint {public}:6443 --upload-certs --certificate-key {} \
             --apiserver-cert-extra-sans={public} --kubernetes-version={}",
            self.certificate_key(),
            self.version
        )
    }

    /// Whether this server may do that for the cluster at all.
    pub(super) fn check(order: &Order, release: Release) -> Result<()> {
        let refuse = |what: &str| anyhow::bail!("CloudStack {release} has no {what}");
        if !release.is_flexible() && (order.etcd > 0 || order.cni.is_some()) {
            return refuse("etcd nodes and CNI configurations");
        }
        if !release.has_csi() && order.csi {
            return refuse("CSI driver");
        }
        Ok(())
    }
}

/// A random UUID, from the kernel.
pub(super) fn uuid() -> Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("Reading a random UUID")?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ports_and_secrets_are_the_server_s() {
        let mut cluster = Cluster::new(&Order::small("Bed", "v1.34.4")).unwrap();
        cluster.id = "01234567-89ab-cdef-0123-456789abcdef".to_owned();
        for role in [Role::Etcd, Role::Control, Role::Worker] {
            let vm = cluster.plan(role).unwrap();
            cluster.vms.push(vm);
        }
        let names = ["Bed-etcd-1-", "Bed-control-", "Bed-node-"];
        let ports = [50000, 2222, 2223];
        for (vm, (name, port)) in cluster.vms.iter().zip(names.into_iter().zip(ports)) {
            assert!(vm.name.starts_with(name) && vm.port == port, "{vm:?}");
            assert!(vm.node().starts_with("bed-"));
        }
        assert_eq!(cluster.token(), "012345.6789abcdef012345");
        assert_eq!(cluster.certificate_key().len(), 64);
        let told = cluster.init_arguments("198.51.100.10");
        assert!(told.starts_with("--control-plane-endpoint 198.51.100.10:6443 --upload-certs --certificate-key 0123"));
        assert!(told.ends_with(" --apiserver-cert-extra-sans=198.51.100.10 --kubernetes-version=1.34.4"), "{told}");
    }

    #[test]
    fn old_releases_lack_things() {
        let order = Order { etcd: 1, ..Order::small("bed", "1.34.4") };
        Cluster::check(&order, Release::new(20, 2)).unwrap_err();
        Cluster::check(&order, Release::new(21, 0)).unwrap();
        let order = Order { csi: true, ..Order::small("bed", "1.34.4") };
        Cluster::check(&order, Release::new(21, 0)).unwrap_err();
        Cluster::check(&order, Release::new(22, 0)).unwrap();
    }
}
