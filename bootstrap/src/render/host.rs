//! Kernel modules and settings of a Kubernetes node, kept over a reboot (the stock scripts set them for
//! the running system only, and leave `ip_forward` to the template).

/// `/etc/modules-load.d/cks.conf`.
pub const MODULES: &str =
    "# Written by cks-agent: containerd's snapshots and bridged pod traffic.\noverlay\nbr_netfilter\n";

/// `/etc/sysctl.d/90-cks.conf`. The ARP settings undo the hardening of CloudStack's system VM template,
/// for every interface, whatever its name (CloudStack issue 9186).
pub const SYSCTL: &str = "# Written by cks-agent.
net.bridge.bridge-nf-call-iptables = 1
net.bridge.bridge-nf-call-ip6tables = 1
net.ipv4.ip_forward = 1
net.ipv4.conf.default.arp_announce = 0
net.ipv4.conf.default.arp_ignore = 0
net.ipv4.conf.all.arp_announce = 0
net.ipv4.conf.all.arp_ignore = 0
";
