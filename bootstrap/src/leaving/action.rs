//! The steps of a leave.

use std::fmt;

use serde::Serialize;

use super::links::ClusterLink;
use super::mounts::MountPoint;
use super::nft;

/// Which programs speak to a packet filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// iptables, by nftables.
    Nft4,
    /// ip6tables, by nftables.
    Nft6,
    /// iptables, by its own tables.
    Legacy4,
    /// ip6tables, by its own tables.
    Legacy6,
}

impl Filter {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Nft4, Self::Nft6, Self::Legacy4, Self::Legacy6];

    /// As one would name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nft4 => "iptables (nft)",
            Self::Nft6 => "ip6tables (nft)",
            Self::Legacy4 => "iptables (legacy)",
            Self::Legacy6 => "ip6tables (legacy)",
        }
    }
}

/// Something that has to be done on the machine. Each looks first whether it is so already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Action {
    /// Stops kubelet, and keeps it from starting by itself.
    StopKubelet,
    /// Stops and removes all pods and containers of the container runtime's Kubernetes namespace.
    RemovePods {
        /// So many pods.
        pods: usize,
    },
    /// Unmounts what is mounted there; never lazily.
    Unmount {
        /// The mount point.
        path: MountPoint,
    },
    /// `kubeadm reset`, without its etcd phase; and without its cleaning where something is still mounted.
    ResetKubeadm,
    /// Moves a directory that may hold the only copy of data aside.
    KeepAside {
        /// The directory.
        path: String,
    },
    /// Removes a directory's content, as far as it lies on one filesystem, and the directory.
    RemoveTree {
        /// The directory.
        path: String,
        /// The directory itself stays.
        stays: bool,
    },
    /// Removes a directory when nothing is in it any more.
    RemoveEmpty {
        /// The directory.
        path: String,
    },
    /// Removes a file or link.
    RemoveFile {
        /// The file.
        path: String,
    },
    /// Deletes a link, or silences one that is the kernel's.
    DeleteLink {
        /// The link.
        #[serde(flatten)]
        link: ClusterLink,
    },
    /// Deletes a route.
    DeleteRoute {
        /// As `ip route delete` takes it.
        arguments: Vec<String>,
    },
    /// Removes a pod's named network namespace.
    RemoveNamespace {
        /// Its name.
        name: String,
    },
    /// Removes the cluster's chains, and rules that lead there.
    CleanFilter {
        /// Of which packet filter.
        filter: Filter,
        /// So many chains.
        chains: usize,
        /// So many rules of other chains.
        rules: usize,
        /// For `iptables-restore --noflush`.
        #[serde(skip)]
        text: String,
    },
    /// Deletes a table of nftables.
    DeleteTable {
        /// The table.
        #[serde(flatten)]
        table: nft::Table,
    },
    /// Clears the kernel's load balancer, which belongs to kube-proxy alone where it has its link.
    ClearIpvs,
    /// Destroys a set of addresses.
    DestroySet {
        /// Its name.
        name: String,
    },
    /// Removes the images that no container uses.
    RemoveImages {
        /// So many.
        images: usize,
    },
    /// Forgets what the node was told and made to, and this leave itself: nothing is left to do.
    Forget,
}

impl Action {
    /// The place in the order of a leave: what uses something goes before it.
    #[must_use]
    pub fn rank(&self) -> u8 {
        match self {
            Self::StopKubelet => 0,
            Self::RemovePods { .. } => 1,
            Self::Unmount { .. } => 2,
            Self::RemoveNamespace { .. } => 3,
            Self::KeepAside { .. } => 4,
            Self::ResetKubeadm => 5,
            Self::ClearIpvs => 6,
            Self::DeleteLink { .. } => 7,
            Self::DeleteRoute { .. } => 8,
            Self::CleanFilter { .. } => 9,
            Self::DeleteTable { .. } => 10,
            Self::DestroySet { .. } => 11,
            Self::RemoveTree { .. } => 12,
            Self::RemoveEmpty { .. } => 13,
            Self::RemoveFile { .. } => 14,
            Self::RemoveImages { .. } => 15,
            Self::Forget => 16,
        }
    }
}

/// What it takes away, for people.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StopKubelet => f.write_str("kubelet stopped and disabled"),
            Self::RemovePods { pods } => write!(f, "pods: {pods}"),
            Self::Unmount { path } => write!(f, "mount {path}"),
            Self::ResetKubeadm => f.write_str("what kubeadm made"),
            Self::KeepAside { path } => write!(f, "{path}, moved aside"),
            Self::RemoveTree { path, stays: false } => write!(f, "directory {path}"),
            Self::RemoveTree { path, stays: true } => write!(f, "content of {path}"),
            Self::RemoveEmpty { path } => write!(f, "empty directory {path}"),
            Self::RemoveFile { path } => write!(f, "file {path}"),
            Self::DeleteLink { link } if link.quiet => write!(f, "addresses of link {}", link.name),
            Self::DeleteLink { link } => write!(f, "link {}", link.name),
            Self::DeleteRoute { arguments } => write!(f, "route {}", arguments.join(" ")),
            Self::RemoveNamespace { name } => write!(f, "network namespace {name}"),
            Self::CleanFilter { filter, chains, rules, .. } => {
                write!(f, "{}: {chains} chains, {rules} rules that lead there", filter.as_str())
            }
            Self::DeleteTable { table } => write!(f, "nftables table {} {}", table.family, table.name),
            Self::ClearIpvs => f.write_str("IPVS services"),
            Self::DestroySet { name } => write!(f, "ipset {name}"),
            Self::RemoveImages { images } => write!(f, "images: {images}"),
            Self::Forget => f.write_str("what the agent knows of the node"),
        }
    }
}
