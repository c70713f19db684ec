//! Kernel modules and settings of a Kubernetes node, kept over a reboot (the stock scripts set them for
//! the running system only, and leave `ip_forward` to the template).

use std::collections::BTreeMap;
use std::fmt::Write;

/// `/etc/modules-load.d/cks.conf`.
pub const MODULES: &str =
    "# Written by cks-agent: containerd's snapshots and bridged pod traffic.\noverlay\nbr_netfilter\n";

/// The ARP settings undo the hardening of CloudStack's system VM template,
/// for every interface, whatever its name (CloudStack issue 9186).
const SYSCTL: &str = "# Written by cks-agent.
net.bridge.bridge-nf-call-iptables = 1
net.bridge.bridge-nf-call-ip6tables = 1
net.ipv4.ip_forward = 1
net.ipv4.conf.default.arp_announce = 0
net.ipv4.conf.default.arp_ignore = 0
net.ipv4.conf.all.arp_announce = 0
net.ipv4.conf.all.arp_ignore = 0
";

/// `/etc/sysctl.d/90-cks.conf`: what every node needs, then what the bundle wants, so that the bundle's
/// value of a key is the one that counts.
#[must_use]
pub fn sysctl(bundle: &BTreeMap<String, String>) -> String {
    let mut text = SYSCTL.to_owned();
    if !bundle.is_empty() {
        text += "# Of the bundle.\n";
    }
    for (key, value) in bundle {
        // Writing into a String does not fail.
        let _ = writeln!(text, "{key} = {value}");
    }
    text
}
