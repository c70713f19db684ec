//! Which releases of CloudStack write a text like this.

use serde::{Serialize, Serializer};

/// A family of releases whose templates can't be told apart on this role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    /// CoreOS and docker.
    Docker,
    /// containerd, and nothing of what came later.
    Containerd,
    /// Sets ARP sysctls; 4.19.1.
    Arp,
    /// Finds the disc by its label; 4.20.
    Label,
    /// Settings for waits, dedicated etcd, CNI configurations, external nodes; 4.21.
    Flexible,
    /// Knows the CSI driver's files; 4.22.
    Csi,
    /// Headlamp instead of the Kubernetes Dashboard; 4.23.
    Headlamp,
    /// One of our own templates.
    Ours,
}

impl Release {
    /// What it is called.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "4.14 – 4.16.0",
            Self::Containerd => "4.16 – 4.19.0",
            Self::Arp => "4.19",
            Self::Label => "4.20",
            Self::Flexible => "4.21 or later",
            Self::Csi => "4.22 or later",
            Self::Headlamp => "4.23 or later",
            Self::Ours => "cks: section",
        }
    }

    /// Judges the `scripts` of one node, one text after the other, by the newest thing in them.
    pub(super) fn of(scripts: &str) -> Self {
        let has = |part: &str| scripts.contains(part);
        let marks = [
            (Self::Headlamp, has("headlamp.yaml")),
            (Self::Csi, has("/opt/csi")),
            // Waits that are settings are tested for being empty.
            (
                Self::Flexible,
                has("-z $OFFLINE_INSTALL_ATTEMPT_SLEEP") || has("EXTERNAL_CNI_PLUGIN") || has("ROUTER_IP"),
            ),
            (Self::Flexible, has("setup-etcd-node") || has("/mnt/etcddisk")),
            (Self::Label, has("LABEL=CDROM")),
            (Self::Arp, has("arp_announce")),
            (Self::Docker, has("docker load") || has("/home/core/")),
        ];
        marks.into_iter().find(|(_, there)| *there).map_or(Self::Containerd, |(release, _)| release)
    }
}

impl Serialize for Release {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
