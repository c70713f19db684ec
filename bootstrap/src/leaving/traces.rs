//! What tells that a machine is, was, or has begun to be a member of a cluster.

use serde::Serialize;

/// CloudStack's scripts write it when a node has joined; the older ones for the user `core`.
pub const MARKERS: [&str; 2] = [MARKER, "/home/core/success"];

/// The marker of the templates that the server's scripts are made for.
pub const MARKER: &str = "/home/cloud/success";

/// The identity that kubelet has in a cluster; the surest sign.
pub const KUBELET_CONF: &str = "/etc/kubernetes/kubelet.conf";

/// The administrator's kubeconfig of a control plane node.
pub const ADMIN_CONF: &str = "/etc/kubernetes/admin.conf";

/// The cluster's certificate authority; of every node of it.
pub const CLUSTER_CA: &str = "/etc/kubernetes/pki/ca.crt";

/// kubelet's settings, which kubeadm writes when it begins to join.
pub const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";

/// The static pods of a control plane node.
pub const MANIFESTS: &str = "/etc/kubernetes/manifests";

/// Files that only a member has, or one that began to become one.
pub const SIGNS: [&str; 6] = [
    KUBELET_CONF,
    "/etc/kubernetes/bootstrap-kubelet.conf",
    ADMIN_CONF,
    CLUSTER_CA,
    KUBELET_CONFIG,
    "/var/lib/kubelet/kubeadm-flags.env",
];

/// What was found of a membership.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces {
    /// Those of [`SIGNS`] that are there, and static pods.
    pub signs: Vec<String>,
    /// Those of [`MARKERS`] that are there.
    pub markers: Vec<String>,
    /// The agent's own record of a join that succeeded, where it is there.
    pub records: Vec<String>,
    /// kube-proxy's or kubelet's rules, volumes that are mounted, pods.
    pub remains: Vec<String>,
    /// An earlier `leave` began and did not end.
    pub begun: bool,
    /// The machine is a member of a dedicated etcd cluster, and no Kubernetes node.
    pub dedicated_etcd: bool,
}

/// Where a machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It never joined, or has left and nothing is left of it.
    Stranger,
    /// It has an identity in a cluster.
    Member,
    /// A join or init began and did not get as far.
    HalfJoined,
    /// Somebody ran `kubeadm reset` here: the identity is gone, and other things are not.
    Reset,
    /// An earlier `leave` did not end.
    Leaving,
}

impl Traces {
    /// Where the machine stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let has = |sign: &str| self.signs.iter().any(|there| there == sign);
        if self.begun {
            Standing::Leaving
        } else if has(KUBELET_CONF) {
            Standing::Member
        } else if !self.signs.is_empty() {
            Standing::HalfJoined
        } else if (self.says_joined() || !self.remains.is_empty()) && !self.dedicated_etcd {
            Standing::Reset
        } else {
            Standing::Stranger
        }
    }

    /// Whether the node was reset behind our back: it says that it has joined, and has no identity any more. So a node
    /// looks after the management server's `remove-node-from-cluster`, which ends with `kubeadm reset -f`.
    ///
    /// A node that is about to join has no marker, and one that waits for its certificate has `bootstrap-kubelet.conf`.
    #[must_use]
    pub fn was_reset_by_others(&self) -> bool {
        self.says_joined() && self.signs.is_empty() && !self.dedicated_etcd && !self.begun
    }

    fn says_joined(&self) -> bool {
        !self.markers.is_empty() || !self.records.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces(signs: &[&str], marker: bool, records: bool, remains: bool, begun: bool, etcd: bool) -> Traces {
        let one = |there: bool, name: &str| if there { vec![name.to_owned()] } else { Vec::new() };
        Traces {
            signs: signs.iter().map(|sign| (*sign).to_owned()).collect(),
            markers: one(marker, MARKERS[0]),
            records: one(records, "record"),
            remains: one(remains, "rules"),
            begun,
            dedicated_etcd: etcd,
        }
    }

    #[test]
    fn a_machine_is_told_by_what_is_there() {
        let (yes, no) = (true, false);
        for (traces, standing, reset) in [
            (traces(&[], no, no, no, no, no), Standing::Stranger, no),
            (traces(&SIGNS, yes, yes, yes, no, no), Standing::Member, no),
            (traces(&[KUBELET_CONF], no, no, no, no, no), Standing::Member, no),
            (traces(&[SIGNS[1]], no, no, no, no, no), Standing::HalfJoined, no),
            (traces(&[CLUSTER_CA], yes, no, no, no, no), Standing::HalfJoined, no),
            (traces(&[], yes, no, yes, no, no), Standing::Reset, yes),
            (traces(&[], no, yes, no, no, no), Standing::Reset, yes),
            (traces(&[], no, no, yes, no, no), Standing::Reset, no),
            (traces(&[], yes, no, no, no, yes), Standing::Stranger, no),
            (traces(&[], yes, yes, no, yes, no), Standing::Leaving, no),
        ] {
            assert_eq!((traces.standing(), traces.was_reset_by_others()), (standing, reset), "{traces:?}");
        }
    }
}
