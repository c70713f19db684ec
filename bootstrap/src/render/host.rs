//! Kernel modules and settings of a Kubernetes node, kept over a reboot (the stock scripts set them for
//! the running system only, and leave `ip_forward` to the template).

use std::collections::BTreeMap;
use std::fmt::Write;

/// `/etc/modules-load.d/cks.conf`.
pub const MODULES: &str =
    "# Written by cks-agent: containerd's snapshots and bridged pod traffic.\noverlay\nbr_netfilter\n";

/// The modules of [`MODULES`].
pub const MODULES_OF_NODE: [&str; 2] = ["overlay", "br_netfilter"];

/// What CloudStack's user data loads on further control plane nodes: for a kube-proxy in IPVS mode.
pub const MODULES_OF_CONTROL_PLANE: [&str; 4] = ["ip_vs", "ip_vs_wrr", "ip_vs_sh", "nf_conntrack"];

/// Where the settings are kept.
pub const SYSCTL_PATH: &str = "/etc/sysctl.d/90-cks.conf";

/// The ARP settings undo the hardening of CloudStack's system VM template,
/// for every interface, whatever its name (CloudStack issue 9186): the kernel takes the larger of an interface's value
/// and that of `all`. An older `sysctl` knows no pattern, so a failure of those lines does not count.
const SYSCTL: &str = "# Written by cks-agent.
net.bridge.bridge-nf-call-iptables = 1
net.bridge.bridge-nf-call-ip6tables = 1
net.ipv4.ip_forward = 1
-net.ipv4.conf.*.arp_announce = 0
-net.ipv4.conf.*.arp_ignore = 0
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

/// A line of such a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The parts of its path below `/proc/sys`; `*` stands for any name.
    pub path: Vec<String>,
    /// Its value.
    pub value: String,
    /// Whether a failure does not count.
    pub optional: bool,
}

/// The settings of a text as systemd-sysctl and `sysctl` read it.
#[must_use]
pub fn settings(text: &str) -> Vec<Setting> {
    let setting = |line: &str| {
        let line = line.trim();
        let (optional, line) = line.strip_prefix('-').map_or((false, line), |rest| (true, rest));
        let (key, value) = line.split_once('=').filter(|_| !line.starts_with(['#', ';']))?;
        let path = parts(key.trim()).filter(|path| path.iter().all(|part| !part.is_empty() && part != ".."))?;
        Some(Setting { path, value: value.trim().to_owned(), optional })
    };
    text.lines().filter_map(setting).collect()
}

/// The first separator says what the others are: in `net/ipv4/conf/eth0.100/x` dots are dots.
fn parts(key: &str) -> Option<Vec<String>> {
    let separator = key.chars().find(|c| matches!(c, '.' | '/'))?;
    let other = if separator == '.' { '/' } else { '.' };
    // Between dots a slash stands for a dot; between slashes a dot is one already.
    let part = |part: &str| if separator == '.' { part.replace(other, ".") } else { part.to_owned() };
    Some(key.split(separator).map(part).collect())
}

impl Setting {
    /// The key as `sysctl` names it: `net.ipv4.conf.eth0/100.rp_filter`.
    #[must_use]
    pub fn key(path: &[String]) -> String {
        path.iter().map(|part| part.replace('.', "/")).collect::<Vec<_>>().join(".")
    }

    /// Whether it is meant for `key`.
    #[must_use]
    pub fn fits(&self, key: &str) -> bool {
        let Some(parts) = parts(key) else { return false };
        let same = |(own, other): (&String, &String)| own == "*" || own == other;
        parts.len() == self.path.len() && self.path.iter().zip(&parts).all(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_sysctl_reads_them() {
        let path = |text: &str| settings(text).first().map(|setting| setting.path.join("|"));
        for (text, want) in [
            ("net.ipv4.ip_forward = 1", Some("net|ipv4|ip_forward")),
            ("-net/ipv4/conf/eth0.100/arp_ignore=0", Some("net|ipv4|conf|eth0.100|arp_ignore")),
            ("net.ipv4.conf.eth0/100.arp_ignore = 0", Some("net|ipv4|conf|eth0.100|arp_ignore")),
            ("# net.ipv4.ip_forward = 1", None),
            ("; a.b = 1", None),
            ("a.b", None),
            ("a/../b = 1", None),
            ("a..b = 1", None),
        ] {
            assert_eq!(path(text).as_deref(), want, "{text}");
        }
        let all = settings(&sysctl(&BTreeMap::from([("kernel.x".to_owned(), "1 2".to_owned())])));
        assert_eq!((all.len(), all.iter().filter(|setting| setting.optional).count()), (10, 2));
        assert_eq!(all[9].value, "1 2");
    }

    #[test]
    fn a_pattern_fits_every_interface() {
        let pattern = &settings("net.ipv4.conf.*.arp_ignore = 0")[0];
        for (key, fits) in [
            ("net.ipv4.conf.enp1s0.arp_ignore", true),
            ("net.ipv4.conf.eth0/100.arp_ignore", true),
            ("net.ipv4.conf.eth0.arp_announce", false),
            ("net.ipv4.conf.arp_ignore", false),
            ("x", false),
        ] {
            assert_eq!(pattern.fits(key), fits, "{key}");
        }
        let path = ["net", "ipv4", "conf", "eth0.100", "arp_ignore"].map(str::to_owned);
        assert!(pattern.fits(&Setting::key(&path)));
    }
}
