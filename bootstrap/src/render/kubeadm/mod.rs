//! What kubeadm is told, in the version of its configuration that it reads: `v1beta3` up to Kubernetes 1.30,
//! `v1beta4` since 1.31 (`cmd/kubeadm/app/apis/kubeadm`).
//!
//! The texts hold the bootstrap token and the certificate key: their files are for root alone (mode 0600).

mod arguments;
mod init;
mod join;
mod registration;

use std::net::IpAddr;

use serde::Deserialize;

pub use self::arguments::Arguments;
pub use self::init::{ETCD_CA, ETCD_CLIENT_CERTIFICATE, ETCD_CLIENT_KEY, init_arguments, init_config};
pub use self::join::{join_arguments, join_config};
use super::yaml::Map;
use crate::version::Version;

/// Where kubeadm finds the container runtime.
pub const CRI_SOCKET: &str = "unix:///run/containerd/containerd.sock";

/// What is known of the node and its bundle when kubeadm is about to run.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// The version of the bundle, and so of its kubeadm.
    pub version: &'a Version,
    /// The address that this node is reached at: what the API server advertises, and what the kubelet registers unless
    /// the wish names another.
    pub address: IpAddr,
    /// Where the container runtime listens: [`CRI_SOCKET`].
    pub cri_socket: &'a str,
    /// `Node::kubeadm_arguments` of the bundle.
    pub arguments: &'a [String],
    /// A directory of patches for what kubeadm writes (`kubeletconfiguration+merge.yaml`).
    pub patches: Option<&'a str>,
    /// Digests of the cluster authority's key that somebody trustworthy told, where the wish pins none.
    pub ca_hashes: &'a [String],
    /// Preflight checks of kubeadm's that may fail: `Swap`, `all`.
    pub ignored_errors: &'a [String],
    /// Who makes control groups.
    pub cgroup_driver: CgroupDriver,
    /// Whether the kubelet runs on cgroup v1, which it refuses since 1.35.
    pub allow_cgroup_v1: bool,
}

impl<'a> Context<'a> {
    /// A node at `address` with nothing out of the ordinary.
    #[must_use]
    pub fn new(version: &'a Version, address: IpAddr) -> Self {
        Self {
            version,
            address,
            cri_socket: CRI_SOCKET,
            arguments: &[],
            patches: None,
            ca_hashes: &[],
            ignored_errors: &[],
            cgroup_driver: CgroupDriver::Systemd,
            allow_cgroup_v1: false,
        }
    }

    fn api(&self) -> Api {
        if self.version.minor() < 31 { Api::V1Beta3 } else { Api::V1Beta4 }
    }
}

/// Who makes control groups for the kubelet and for containers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CgroupDriver {
    /// systemd, as on every machine that it has started.
    #[default]
    Systemd,
    /// The kubelet and the container runtime themselves.
    Cgroupfs,
}

impl CgroupDriver {
    /// As the kubelet's configuration names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Cgroupfs => "cgroupfs",
        }
    }
}

/// A version of kubeadm's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    V1Beta3,
    V1Beta4,
}

impl Api {
    fn document(self, kind: &str) -> Map {
        let version = match self {
            Self::V1Beta3 => "kubeadm.k8s.io/v1beta3",
            Self::V1Beta4 => "kubeadm.k8s.io/v1beta4",
        };
        Map::new().with("apiVersion", version).with("kind", kind)
    }

    /// `v1beta4` can name one argument twice, so it has a list.
    fn arguments(self, arguments: &[(&str, String)]) -> super::yaml::Yaml {
        let pair = |(name, value): &(&str, String)| Map::new().with("name", *name).with("value", value.clone());
        match self {
            Self::V1Beta3 => {
                arguments.iter().fold(Map::new(), |map, (name, value)| map.with(name, value.clone())).into()
            }
            Self::V1Beta4 => arguments.iter().map(pair).collect::<Vec<_>>().into(),
        }
    }
}

/// The first line of each text.
const HEAD: &str = "Written by cks-agent for kubeadm.";

#[cfg(test)]
mod tests;
