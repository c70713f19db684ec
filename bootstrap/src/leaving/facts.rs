//! What a leave looks at.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::action::Filter;
use super::cni::ConfigFile;
use super::etcd::{Fate, Removing, Stacked};
use super::mounts::Mount;
#[cfg(doc)]
use super::paths;
use super::report::Left;
use super::traces::Traces;
use crate::etcd::members::Id;

/// What a leave writes down before it changes anything, because it is not to be found out afterwards.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Begun {
    /// When (RFC 3339).
    pub at: String,
    /// The node's name in its cluster.
    pub node: Option<String>,
    /// The cluster's certificate authority, PEM.
    pub authority: Option<String>,
    /// The etcd member that ran here as a static pod.
    pub stacked: Option<Stacked>,
    /// The member that is, or was, removed.
    pub removing: Option<Removing>,
    /// What became of it.
    pub fate: Option<Fate>,
    /// CNI configuration that is the cluster's though its content does not say so.
    pub networks: BTreeSet<String>,
    /// Bridges of the cluster's CNI configuration.
    pub bridges: BTreeSet<String>,
    /// `kubeadm reset` ran to its end.
    pub reset: bool,
}

impl Begun {
    /// Whether it may be of the cluster with this authority. One of another cluster tells nothing of this membership.
    #[must_use]
    pub fn is_of(&self, authority: Option<&str>) -> bool {
        self.authority.as_deref().zip(authority).is_none_or(|(earlier, now)| earlier.trim() == now.trim())
    }
}

/// kubelet's service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kubelet {
    /// It runs, or systemd tries to start it.
    pub runs: bool,
    /// It starts with the machine.
    pub enabled: bool,
}

/// What the container runtime tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Runtime {
    /// Pods and containers without a pod; none where it does not answer.
    pub pods: Option<usize>,
    /// Directories of running pods, which are seen without it.
    pub tasks: usize,
    /// Images that no container uses once the pods are gone.
    pub images: usize,
}

/// What is in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Nothing, or what the filesystem made itself.
    Empty,
    /// Something.
    Some,
}

/// Everything that a leave depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// What tells of a membership.
    pub traces: Traces,
    /// What an earlier, interrupted leave wrote down.
    pub begun: Option<Begun>,
    /// The node's name in its cluster.
    pub node: Option<String>,
    /// The cluster's certificate authority, PEM.
    pub authority: Option<String>,
    /// The etcd member that runs here as a static pod.
    pub stacked: Option<Stacked>,
    /// Why its static pod does not tell it, where there is one and it does not.
    pub unknown_member: Option<String>,
    /// Whose data lies where that member's should.
    pub data_member: Option<Id>,
    /// kubelet's service.
    pub kubelet: Kubelet,
    /// The container runtime.
    pub runtime: Runtime,
    /// Whether kubeadm is installed.
    pub kubeadm: bool,
    /// Where kubelet's directory really is, when a symbolic link leads there.
    pub kubelet_directory: Option<String>,
    /// All mounts.
    pub mounts: Vec<Mount>,
    /// What `iptables-save` prints.
    pub filters: BTreeMap<Filter, String>,
    /// What could not be looked at, and why: there may be something of the cluster.
    pub unread: Vec<Left>,
    /// What `nft -j list ruleset` prints.
    pub nft: String,
    /// What `ip -j -d link` prints.
    pub links: String,
    /// What `ip -j route show table all` prints, of both families.
    pub routes: Vec<String>,
    /// Names of sets.
    pub sets: Vec<String>,
    /// IPVS has services.
    pub ipvs: bool,
    /// Names of network namespaces.
    pub namespaces: Vec<String>,
    /// Files of `/etc/cni/net.d`.
    pub cni: Vec<ConfigFile>,
    /// Directories that are there, of those that are asked for.
    pub directories: BTreeMap<String, Content>,
    /// Files that are there, of those that are asked for.
    pub files: BTreeSet<String>,
    /// kubeconfig files of people, with their text.
    pub kubeconfigs: BTreeMap<String, String>,
    /// Entries of the directories that CNI plugins keep state in, of those that are there; and of [`paths::NAMESPACES`].
    pub cni_state: BTreeMap<String, Vec<String>>,
}
