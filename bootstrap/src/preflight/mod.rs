//! Whether a machine can become the node that it is meant to become: facts in, findings out, before anything is done that
//! is hard to take back.
//!
//! What is not known is no finding: a check speaks only of what was seen.

mod cidr;
pub mod facts;
mod kernel;
mod machine;
mod network;
pub mod read;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

pub use self::cidr::free;
pub use self::facts::HostFacts;
pub use self::machine::programs_looked_for;
pub use self::network::is_of_pods;
use crate::failure::{Code, Failure};
use crate::node_spec::{Endpoint, Membership, NodeSpec};
use crate::render::kubeadm::Arguments;
use crate::version::Version;

/// A check, by the name that it is left out by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The version of control groups, and their controllers.
    Cgroup,
    /// Kernel modules.
    Modules,
    /// Kernel settings.
    Sysctl,
    /// Swap.
    Swap,
    /// TCP ports that the node's programs listen at.
    Ports,
    /// The cluster's networks against those that the machine is in.
    Networks,
    /// The address that the node registers.
    NodeIp,
    /// The name of the control plane's endpoint.
    Dns,
    /// The clock.
    Clock,
    /// Room on filesystems.
    Disk,
    /// Processors and memory.
    Size,
    /// The machine's own name.
    HostName,
    /// Programs that kubeadm and the kubelet start.
    Programs,
    /// The Kubernetes version that is asked for against the bundle's.
    Version,
    /// Arguments of the kubelet that somebody left.
    KubeletArguments,
}

impl Check {
    /// All, in the order in which they are told.
    pub const ALL: [Self; 15] = [
        Self::Version,
        Self::Cgroup,
        Self::Modules,
        Self::Sysctl,
        Self::Swap,
        Self::Size,
        Self::Disk,
        Self::Programs,
        Self::KubeletArguments,
        Self::HostName,
        Self::NodeIp,
        Self::Networks,
        Self::Dns,
        Self::Ports,
        Self::Clock,
    ];

    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Modules => "modules",
            Self::Sysctl => "sysctl",
            Self::Swap => "swap",
            Self::Ports => "ports",
            Self::Networks => "networks",
            Self::NodeIp => "node-ip",
            Self::Dns => "dns",
            Self::Clock => "clock",
            Self::Disk => "disk",
            Self::Size => "size",
            Self::HostName => "host-name",
            Self::Programs => "programs",
            Self::Version => "version",
            Self::KubeletArguments => "kubelet-arguments",
        }
    }

    /// kubeadm's own checks of the same: it would refuse what was left out here.
    #[must_use]
    pub fn of_kubeadm(self) -> &'static [&'static str] {
        match self {
            Self::Cgroup => &["SystemVerification"],
            Self::Sysctl | Self::Modules => &[
                "FileContent--proc-sys-net-ipv4-ip_forward",
                "FileContent--proc-sys-net-bridge-bridge-nf-call-iptables",
            ],
            Self::Swap => &["Swap"],
            Self::Ports => &["Port-6443", "Port-10250", "Port-10257", "Port-10259", "Port-2379", "Port-2380"],
            Self::Size => &["NumCPU", "Mem"],
            Self::HostName => &["Hostname"],
            Self::Programs => &["FileExisting-conntrack", "FileExisting-losetup"],
            Self::Version => &["KubernetesVersion"],
            Self::Networks | Self::NodeIp | Self::Dns | Self::Clock | Self::Disk | Self::KubeletArguments => &[],
        }
    }

    /// The checks of these names; `all` stands for all.
    ///
    /// # Errors
    /// `CONFIG_INVALID` names the first that is none, and those that there are.
    pub fn named(names: &[String]) -> Result<Vec<Self>, Failure> {
        let mut checks = Vec::new();
        for name in names {
            match Self::ALL.iter().find(|check| check.name() == name.trim()) {
                Some(check) => checks.push(*check),
                None if name.trim() == "all" => checks.extend(Self::ALL),
                None => {
                    let all: Vec<&str> = Self::ALL.iter().map(|check| check.name()).collect();
                    let what = format!(
                        "{:?} is no check of the machine: there are {}",
                        crate::text::plain(name),
                        all.join(", ")
                    );
                    return Err(
                        Failure::new(Code::ConfigInvalid, what).with_remedy("correct the list of checks to leave out")
                    );
                }
            }
        }
        Ok(checks)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// The node will not work.
    Refuses,
    /// The operator should know.
    Warns,
}

/// Something about the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whose.
    pub check: Check,
    /// How much it weighs.
    pub weight: Weight,
    /// The failure that it is.
    pub code: Code,
    /// What was seen, and why that is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Finding {
    fn new(check: Check, code: Code, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, weight: Weight::Refuses, code, what: what.into(), remedy: remedy.into() }
    }

    fn warning(self) -> Self {
        Self { weight: Weight::Warns, ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (check {})", self.code, self.what, self.check)
    }
}

/// What the machine is checked for.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// The wish.
    pub spec: &'a NodeSpec,
    /// The version of the bundle; none, where it has none.
    pub version: Option<&'a Version>,
    /// What the bundle asks of kubeadm.
    pub arguments: &'a Arguments,
    /// What the bundle wants of the kernel, as the text of `/etc/sysctl.d/90-cks.conf`.
    pub sysctl: &'a str,
    /// Whether kubeadm has begun here: then its own programs may listen, and its own networks be there.
    pub begun: bool,
}

impl Subject<'_> {
    /// Where the control plane is asked, where that is not this node alone.
    #[must_use]
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match self.spec.membership.as_ref()? {
            Membership::FirstControlPlane(init) => init.endpoint.as_ref(),
            Membership::ControlPlane(join) | Membership::Worker(join) => Some(&join.endpoint),
            Membership::Etcd => None,
        }
    }

    fn is_kubernetes(&self) -> bool {
        self.spec.role != crate::bundle::Role::Etcd
    }

    fn is_control_plane(&self) -> bool {
        self.spec.role == crate::bundle::Role::ControlPlane
    }

    /// Whether a member of etcd runs here.
    fn has_etcd(&self) -> bool {
        match &self.spec.membership {
            Some(Membership::FirstControlPlane(init)) => init.etcd.is_none(),
            Some(Membership::ControlPlane(_) | Membership::Etcd) => true,
            Some(Membership::Worker(_)) => false,
            None => !self.is_kubernetes(),
        }
    }

    /// The networks of pods and services, in as far as this node is told of them.
    fn networks(&self) -> Vec<(&'static str, IpNet)> {
        let Some(Membership::FirstControlPlane(init)) = &self.spec.membership else { return Vec::new() };
        let all = |wish: Option<IpNet>, argument: &Option<String>, default: Option<&str>| -> Vec<IpNet> {
            let text = argument.as_deref().or(default).unwrap_or_default();
            wish.map_or_else(|| text.split(',').filter_map(|net| net.parse().ok()).collect(), |net| vec![net])
        };
        let pods = all(init.pod_cidr, &self.arguments.pod_cidr, None);
        let services = all(init.service_cidr, &self.arguments.service_cidr, Some("10.96.0.0/12"));
        let pods = pods.into_iter().map(|net| ("pod", net));
        pods.chain(services.into_iter().map(|net| ("service", net))).collect()
    }
}

/// Everything about the machine that keeps it from becoming what it should, or that the operator should know; the checks
/// in their order.
#[must_use]
pub fn examine(subject: &Subject<'_>, facts: &HostFacts) -> Vec<Finding> {
    let of = |check: Check| match check {
        Check::Cgroup => kernel::cgroup(subject, facts),
        Check::Modules => kernel::modules(subject, facts),
        Check::Sysctl => kernel::sysctl(subject, facts),
        Check::Swap => kernel::swap(subject, facts),
        Check::Ports => network::ports(subject, facts),
        Check::Networks => network::networks(subject, facts),
        Check::NodeIp => network::node_ip(subject, facts),
        Check::Dns => network::dns(subject, facts),
        Check::Clock => machine::clock(facts),
        Check::Disk => machine::disk(subject, facts),
        Check::Size => machine::size(subject, facts),
        Check::HostName => machine::host_name(subject, facts),
        Check::Programs => machine::programs(subject, facts),
        Check::Version => machine::version(subject),
        Check::KubeletArguments => machine::kubelet_arguments(subject, facts),
    };
    Check::ALL.into_iter().flat_map(of).collect()
}

/// What is told of `findings`, where the checks `skipped` are left out.
///
/// # Errors
/// The first that refuses, with the names of all that do.
pub fn judge(findings: &[Finding], skipped: &[Check]) -> Result<Vec<String>, Failure> {
    let counted = || findings.iter().filter(|finding| !skipped.contains(&finding.check));
    let refusing: Vec<&Finding> = counted().filter(|finding| finding.weight == Weight::Refuses).collect();
    if let Some(first) = refusing.first() {
        let mut what = format!("{} (check {})", first.what, first.check);
        for other in refusing.iter().skip(1) {
            what += &format!("; and {}: {} (check {})", other.code, other.what, other.check);
        }
        return Err(Failure::new(first.code, what).with_remedy(first.remedy.clone()));
    }
    let left_out = findings.iter().filter(|finding| skipped.contains(&finding.check));
    let left_out = left_out.map(|finding| format!("{finding}: left out as you wish"));
    Ok(counted().map(|finding| format!("{finding}: {}", finding.remedy)).chain(left_out).collect())
}

/// What kubeadm is told to ignore where `skipped` is left out here.
#[must_use]
pub fn ignored_by_kubeadm(skipped: &[Check]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in skipped.iter().flat_map(|check| check.of_kubeadm()) {
        if !names.iter().any(|known| known == name) {
            names.push((*name).to_owned());
        }
    }
    names
}

/// The address that the kubelet registers: the one that is wished for, else the one that reaches the control plane, else
/// the node's own.
#[must_use]
pub fn node_ip(spec: &NodeSpec, facts: &HostFacts) -> Option<IpAddr> {
    spec.registration.node_ip.or(facts.reaches_endpoint_from).or(spec.address).or(facts.reaches_default_from)
}
