//! Files and directories that a membership leaves on a node, and what of them goes.

/// kubelet's directory.
pub const KUBELET: &str = "/var/lib/kubelet";

/// A directory whose content goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    /// Where it is.
    pub path: &'static str,
    /// The directory itself stays: it is part of what is installed, or somebody may have mounted a disk there.
    pub stays: bool,
}

const fn gone(path: &'static str) -> Tree {
    Tree { path, stays: false }
}

const fn emptied(path: &'static str) -> Tree {
    Tree { path, stays: true }
}

/// Directories of kubelet, kubeadm, and CNI plugins, and where CloudStack's script keeps manifests to be applied.
/// `pki` goes with what user data put into it (`pki/cloudstack`): `kubeadm reset` removes that, too, and no node reads it.
pub const TREES: [Tree; 18] = [
    emptied("/etc/kubernetes/manifests"),
    gone("/etc/kubernetes/pki"),
    gone("/etc/kubernetes/tmp"),
    gone(KUBELET),
    gone("/var/lib/calico"),
    gone("/run/calico"),
    gone("/run/flannel"),
    gone("/run/cilium"),
    gone("/var/lib/weave"),
    gone("/run/multus"),
    gone("/var/lib/kube-proxy"),
    gone("/var/lib/kube-router"),
    gone("/run/kubernetes"),
    gone("/tmp/k8sconfigscripts"),
    gone("/var/lib/cni/flannel"),
    gone("/var/lib/cni/cache"),
    gone("/var/lib/cni/multus"),
    gone("/run/openvswitch-antrea"),
];

/// State that CNI plugins keep for each network: entry by entry, for another engine's networks stay.
pub const CNI_STATE: [&str; 2] = ["/var/lib/cni/networks", "/var/lib/cni/results"];

/// What these and others keep is below.
pub const CNI: &str = "/var/lib/cni";

/// All that is known to be there.
pub const CNI_KNOWN: [&str; 5] = ["networks", "results", "flannel", "cache", "multus"];

/// Where named network namespaces are.
pub const NAMESPACES: &str = "/run/netns";

/// Where CNI plugins are configured.
pub const CNI_CONFIG: &str = "/etc/cni/net.d";

/// The name of the configuration that makes the end of a pod's network succeed where its own plugin can't any more.
pub const SILENT_CNI_NAME: &str = "cks-agent-leave";

/// Its text. `loopback` is a plugin that every node has.
pub const SILENT_CNI: &str =
    "{\"cniVersion\":\"0.3.1\",\"name\":\"cks-agent-leave\",\"plugins\":[{\"type\":\"loopback\"}]}\n";

/// Files of kubeadm and of CloudStack's user data.
pub const FILES: [&str; 8] = [
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/super-admin.conf",
    "/etc/kubernetes/kubelet.conf",
    "/etc/kubernetes/bootstrap-kubelet.conf",
    "/etc/kubernetes/controller-manager.conf",
    "/etc/kubernetes/scheduler.conf",
    "/etc/kubernetes/user.conf",
    "/etc/kubernetes/kubeadm-config.yaml",
];

/// kubeconfig files of people; they go when they are of the cluster that is left.
pub const KUBECONFIGS: [&str; 3] = ["/root/.kube/config", "/home/cloud/.kube/config", "/home/core/.kube/config"];

/// The agent's own record of a membership; it tells how far that got.
pub const MEMBERSHIP: &str = "/var/lib/cks-agent/cluster.json";

/// What else the agent knows of what it made of the node. Without it nothing of the node is mended any more.
pub const RECORDS: [&str; 2] = [MEMBERSHIP, "/var/lib/cks-agent/node.json"];

/// Which user data was carried out. It is kept, so that a reboot does not bring a node back that has left; what asks for
/// that is other user data, or cloud-init that was made to run again.
pub const USER_DATA: &str = "/var/lib/cks-agent/user-data.json";

/// When the node left.
pub const LEFT: &str = "/var/lib/cks-agent/left.json";

/// What a `leave` has to know after a crash; it goes last.
pub const BEGUN: &str = "/var/lib/cks-agent/leaving.json";

/// Where etcd's data is put aside within its own directory: that may be a filesystem of its own.
pub const ASIDE: &str = "aside-";

/// Names of etcd's directory that are not the member's: its filesystem's, and what was put aside.
#[must_use]
pub fn is_beside_member(name: &str) -> bool {
    is_of_filesystem(name) || name.starts_with(ASIDE)
}

/// Names that are nobody's files: a filesystem's own directory.
#[must_use]
pub fn is_of_filesystem(name: &str) -> bool {
    name == "lost+found"
}
