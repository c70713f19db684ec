//! How far a machine is on its way into a cluster.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::leaving::traces::MANIFESTS;

/// What is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// What an earlier run wrote down.
    pub record: Option<Record>,
    /// `/etc/kubernetes/kubelet.conf`: the node's own identity.
    pub kubelet_conf: bool,
    /// `/etc/kubernetes/admin.conf`: the cluster has been begun here, or joined as a control plane.
    pub admin_conf: bool,
    /// Other traces of kubeadm: `bootstrap-kubelet.conf`, static pods, keys, the kubelet's configuration, etcd's data.
    pub traces: Vec<String>,
    /// The marker of the stock scripts, `/home/cloud/success`.
    pub marker: bool,
    /// What the cluster says of this node.
    pub identity: Identity,
    /// Whether modules and settings are in force, and every check has passed.
    pub host_is_prepared: bool,
    /// Whether the container runtime runs with the settings that are wanted.
    pub runtime_is_configured: bool,
    /// Whether etcd serves as a member of the wanted cluster.
    pub etcd_serves: bool,
    /// Whether what is to be applied was applied, in this very text.
    pub is_applied: bool,
    /// Whether everything that the management server looks for is there.
    pub is_handed_over: bool,
}

/// What the cluster says of a node that asks with its own identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Identity {
    /// It has none.
    #[default]
    None,
    /// The API server does not answer.
    Unreachable {
        /// Why.
        why: String,
    },
    /// The API server does not accept it.
    Refused {
        /// Why.
        why: String,
    },
    /// There is no such node.
    Unknown,
    /// There is.
    Known {
        /// Whether it is ready.
        ready: bool,
        /// Why not, as its condition says.
        why: String,
    },
}

/// How far a membership got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Something irreversible may have been begun.
    Begun,
    /// kubeadm, or etcd, has said that it is done.
    Member,
    /// The node was ready once.
    Ready,
}

/// What is kept of a membership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The kind, as [`super::kind_of`] names it.
    pub membership: String,
    /// Digests of the public keys of the cluster's authority: what a later join is pinned to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authority: Vec<String>,
    /// How far it got.
    pub stage: Stage,
    /// What was applied: name → digest of its text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub applied: BTreeMap<String, Digest>,
}

impl Record {
    /// Whether it binds the machine when it is asked for by other user data: a try that never became a member does not. What such
    /// a try left on the machine is found by itself.
    #[must_use]
    pub fn outlives_user_data(&self) -> bool {
        self.stage >= Stage::Member
    }
}

impl Facts {
    /// Whether a run of ours finished joining or beginning the cluster, and it is still there.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.kubelet_conf && self.record.as_ref().is_some_and(|record| record.stage >= Stage::Member)
    }

    /// Whether the stock scripts made this node, to their end.
    #[must_use]
    pub fn made_by_others(&self) -> bool {
        self.record.is_none() && self.marker && self.kubelet_conf
    }

    /// Whether a control plane that once was a member lost the node's identity and nothing else. `kubeadm reset` leaves neither
    /// an administrator's kubeconfig nor static pods.
    #[must_use]
    pub fn serves_without_identity(&self) -> bool {
        let was_member = self.record.as_ref().is_some_and(|record| record.stage >= Stage::Member);
        let static_pods = || self.traces.iter().any(|trace| trace.starts_with(MANIFESTS));
        was_member && !self.kubelet_conf && (self.admin_conf || static_pods())
    }

    /// Whether an earlier try, whoever's, left anything.
    #[must_use]
    pub fn has_leftovers(&self) -> bool {
        self.kubelet_conf || self.admin_conf || !self.traces.is_empty()
    }
}
