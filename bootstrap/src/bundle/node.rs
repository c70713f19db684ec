//! What a bundle wants of a node beside files and images.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Settings that what the bundle brings (a pod network, say) wants of every node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Kernel settings: key → value, as in `/etc/sysctl.d`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, String>,
    /// Arguments for `kubeadm init`, one each: `--pod-network-cidr=10.244.0.0/16`. They become part of its
    /// configuration ([`crate::render::kubeadm::Arguments`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kubeadm_arguments: Vec<String>,
}

impl Node {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sysctl.is_empty() && self.kubeadm_arguments.is_empty()
    }

    /// Accepts settings that stay one line each wherever they are written.
    ///
    /// # Errors
    /// What is wrong with the first that is refused.
    pub fn check(&self) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/*".contains(c);
        for (key, value) in &self.sysctl {
            if !key.starts_with(|c: char| c.is_ascii_alphanumeric()) || !key.chars().all(plain) || key.len() > 128 {
                return Err(format!("sysctl {key:?} is no name of a kernel setting"));
            }
            let printable = |c: char| c == ' ' || c.is_ascii_graphic();
            if value.trim().is_empty() || value.len() > 128 || !value.chars().all(printable) {
                return Err(format!("sysctl {key}: {value:?} is no value on one line"));
            }
        }
        for argument in &self.kubeadm_arguments {
            let printable = argument.len() <= 256 && argument.chars().all(|c| c.is_ascii_graphic());
            if !argument.starts_with("--") || argument.len() < 4 || !printable {
                return Err(format!("kubeadm argument {argument:?} is no --name or --name=value"));
            }
        }
        if self.sysctl.len() > 256 || self.kubeadm_arguments.len() > 64 {
            return Err("more than 256 kernel settings or 64 kubeadm arguments".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_would_break_out_of_their_line_are_refused() {
        let sysctl = |key: &str, value: &str| Node {
            sysctl: BTreeMap::from([(key.to_owned(), value.to_owned())]),
            kubeadm_arguments: Vec::new(),
        };
        let argument = |text: &str| Node { sysctl: BTreeMap::new(), kubeadm_arguments: vec![text.to_owned()] };
        for (node, good) in [
            (sysctl("net.ipv4.conf.all.rp_filter", "0"), true),
            (sysctl("net/ipv4/conf/eth0.100/rp_filter", "0"), true),
            (sysctl("net.ipv4.ip_local_port_range", "1024 65000"), true),
            (sysctl("", "0"), false),
            (sysctl("-a", "0"), false),
            (sysctl("a = 1\nb", "0"), false),
            (sysctl("a b", "0"), false),
            (sysctl("a", ""), false),
            (sysctl("a", "0\nkernel.modprobe = /x"), false),
            (argument("--pod-network-cidr=10.244.0.0/16"), true),
            (argument("--skip-phases=addon/kube-proxy"), true),
            (argument("init"), false),
            (argument("--"), false),
            (argument("--a b"), false),
            (argument("--a\n--b"), false),
        ] {
            assert_eq!(node.check().is_ok(), good, "{node:?}");
        }
    }
}
