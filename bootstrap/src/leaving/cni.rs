//! Files of `/etc/cni/net.d`: which of them the network of the cluster wrote, and which are another engine's.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Plugins that only a cluster's network brings.
const CLUSTER_PLUGINS: [&str; 12] = [
    "flannel",
    "calico",
    "calico-ipam",
    "cilium-cni",
    "weave-net",
    "kube-router",
    "antrea",
    "multus",
    "multus-shim",
    "ovn-k8s-cni-overlay",
    "kube-ovn",
    "aws-cni",
];

/// Parts of names that the networks give to what they keep beside their configuration.
const CLUSTER_NAMES: [&str; 10] = [
    "calico",
    "cilium",
    "flannel",
    "weave",
    "kuberouter",
    "kube-router",
    "antrea",
    "multus",
    "kindnet",
    super::paths::SILENT_CNI_NAME,
];

/// How other engines and packages name theirs: Podman, CRI-O, nerdctl, containerd's example, a package's keep file.
const OTHERS: [&str; 6] =
    ["87-podman", "100-crio", "200-loopback", "nerdctl-", "10-containerd-net", ".kubernetes-cni-keep"];

/// A file of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Its name.
    pub name: String,
    /// Its text, where it is a small text.
    pub text: String,
    /// Whether it was written after the node joined its cluster; none where that can't be told.
    pub after_join: Option<bool>,
}

/// What is known of a directory's files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Networks {
    /// Files that the network of the cluster wrote.
    pub goes: Vec<String>,
    /// Files that are somebody else's.
    pub stays: Vec<String>,
    /// Networks that stay, by their names.
    #[serde(skip)]
    pub kept_networks: BTreeSet<String>,
    /// Bridges that the cluster's configuration names.
    #[serde(skip)]
    pub bridges: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    name: String,
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    plugins: Vec<Value>,
    #[serde(default)]
    bridge: String,
}

/// Sorts the files of `/etc/cni/net.d`. A file is the cluster's when it names a plugin that only clusters have, when
/// its own name says so, or when it was written after the node joined and is not named as another engine's.
#[must_use]
pub fn sort(files: &[ConfigFile]) -> Networks {
    let mut networks = Networks::default();
    for file in files {
        let config = serde_json::from_str::<Config>(&file.text).ok();
        let plugins = config.as_ref().map(plugins).unwrap_or_default();
        if is_cluster(file, &plugins) {
            networks.goes.push(file.name.clone());
            networks.bridges.extend(plugins.into_iter().filter_map(|(_, bridge)| bridge));
        } else {
            networks.stays.push(file.name.clone());
            networks.kept_networks.extend(config.map(|config| config.name).filter(|name| !name.is_empty()));
        }
    }
    networks
}

/// The types of a configuration's plugins, and the bridge that each names.
fn plugins(config: &Config) -> Vec<(String, Option<String>)> {
    let bridge = |kind: &str, named: &str| match (kind, named) {
        ("bridge", "") => Some("cni0".to_owned()),
        ("bridge", name) => Some(name.to_owned()),
        _ => None,
    };
    let text = |plugin: &Value, key: &str| plugin.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let own = (!config.r#type.is_empty()).then(|| (config.r#type.clone(), bridge(&config.r#type, &config.bridge)));
    let listed = config.plugins.iter().map(|plugin| {
        let kind = text(plugin, "type");
        let bridge = bridge(&kind, &text(plugin, "bridge"));
        (kind, bridge)
    });
    own.into_iter().chain(listed).collect()
}

fn is_cluster(file: &ConfigFile, plugins: &[(String, Option<String>)]) -> bool {
    let name = file.name.to_ascii_lowercase();
    if OTHERS.iter().any(|other| name.starts_with(other)) {
        return false;
    }
    let known = plugins.iter().any(|(kind, _)| CLUSTER_PLUGINS.contains(&kind.as_str()));
    known || CLUSTER_NAMES.iter().any(|part| name.contains(part)) || file.after_join == Some(true)
}

/// Whether an entry of `/var/lib/cni/networks` or `/var/lib/cni/results` belongs to a network that stays: the first
/// are named as networks are, the second `NETWORK-CONTAINER-INTERFACE`.
#[must_use]
pub fn is_kept_state(entry: &str, kept_networks: &BTreeSet<String>) -> bool {
    kept_networks
        .iter()
        .any(|name| entry == name || entry.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('-')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str, after_join: Option<bool>) -> ConfigFile {
        ConfigFile { name: name.to_owned(), text: text.to_owned(), after_join }
    }

    const FLANNEL: &str = r#"{"name":"cbr0","cniVersion":"0.3.1","plugins":[{"type":"flannel","delegate":{"hairpinMode":true,"isDefaultGateway":true}},{"type":"portmap","capabilities":{"portMappings":true}}]}"#;
    const BRIDGE: &str =
        r#"{"cniVersion":"0.4.0","name":"bed","type":"bridge","bridge":"bed0","ipam":{"type":"host-local"}}"#;
    const PODMAN: &str =
        r#"{"cniVersion":"0.4.0","name":"podman","plugins":[{"type":"bridge","bridge":"cni-podman0"}]}"#;

    #[test]
    fn the_networks_of_a_cluster_go_and_those_of_others_stay() {
        for (name, text, after_join, goes) in [
            ("10-flannel.conflist", FLANNEL, None, true),
            ("10-calico.conflist", "{", Some(false), true),
            ("calico-kubeconfig", "apiVersion: v1", None, true),
            ("05-cilium.conflist", "", None, true),
            ("10-bridge.conf", BRIDGE, Some(true), true),
            ("10-bridge.conf", BRIDGE, Some(false), false),
            ("10-bridge.conf", BRIDGE, None, false),
            ("87-podman-bridge.conflist", PODMAN, Some(true), false),
            ("10-containerd-net.conflist", BRIDGE, Some(true), false),
            (".kubernetes-cni-keep", "", Some(true), false),
            ("50-mine.conf", r#"{"name":"mine","type":"macvlan"}"#, Some(false), false),
            ("50-mine.conf", r#"{"name":"mine","type":"flannel"}"#, Some(false), true),
        ] {
            let sorted = sort(&[file(name, text, after_join)]);
            assert_eq!(sorted.goes == [name], goes, "{name} {after_join:?}");
        }
    }

    #[test]
    fn bridges_are_known_by_what_goes_alone() {
        let networks =
            sort(&[file("10-bridge.conf", BRIDGE, Some(true)), file("87-podman-bridge.conflist", PODMAN, None)]);
        assert_eq!(networks.bridges, BTreeSet::from(["bed0".to_owned()]));
        assert_eq!(networks.kept_networks, BTreeSet::from(["podman".to_owned()]));
        let unnamed = sort(&[file("a.conf", r#"{"name":"x","type":"bridge"}"#, Some(true))]);
        assert_eq!(unnamed.bridges, BTreeSet::from(["cni0".to_owned()]));
    }

    #[test]
    fn state_of_networks_that_stay_is_kept() {
        let kept = BTreeSet::from(["podman".to_owned()]);
        for (entry, stays) in [("podman", true), ("podman-0123-eth0", true), ("podman2", false), ("cbr0", false)] {
            assert_eq!(is_kept_state(entry, &kept), stays, "{entry}");
        }
    }
}
