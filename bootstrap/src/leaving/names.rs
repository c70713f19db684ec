//! By which names the parts of a cluster are known on a node: kubelet's, kube-proxy's, and those of CNI plugins.

/// Chains of kubelet, kube-proxy and kube-router, Calico, Cilium, flannel, Weave, Antrea.
const CHAINS: [&str; 7] = ["KUBE-", "cali-", "CILIUM_", "OLD_CILIUM_", "FLANNEL-", "WEAVE-", "ANTREA-"];

/// How rules outside of these chains tell whose they are.
const COMMENTS: [&str; 4] = ["cali:", "flanneld ", "cilium: ", "cilium-feeder: "];

/// Sets of addresses: kube-proxy, Calico (IPv4, IPv6), Cilium, kube-router, Weave.
const SETS: [&str; 8] =
    ["KUBE-", "cali40", "cali60", "cilium_node_set_", "kube-router-", "inet6:kube-router-", "weave-", "CALI-"];

/// Whether a chain of the packet filter is a cluster's; `CNI-` chains are where no other engine uses CNI plugins.
pub(super) fn is_cluster_chain(chain: &str, keep_cni: bool) -> bool {
    CHAINS.iter().any(|prefix| chain.starts_with(prefix)) || (!keep_cni && chain.starts_with("CNI-"))
}

/// Whether a rule's comment is a cluster's.
pub(super) fn is_cluster_comment(comment: &str) -> bool {
    COMMENTS.iter().any(|prefix| comment.starts_with(prefix))
}

/// Whether a set of addresses is a cluster's.
pub(super) fn is_cluster_set(set: &str) -> bool {
    SETS.iter().any(|prefix| set.starts_with(prefix))
}

/// Whether nftables' table `name` of `family` is a cluster's.
pub(super) fn is_cluster_table(family: &str, name: &str, keep_cni: bool) -> bool {
    match (family, name) {
        ("ip" | "ip6", "kube-proxy" | "calico" | "kube-router") | ("netdev", "calico") => true,
        ("ip", "flannel-ipv4") | ("ip6", "flannel-ipv6") => true,
        (_, "cni_hostport" | "cni_plugins_masquerade") => !keep_cni,
        _ => false,
    }
}

/// Whether a link is a cluster's by its name, as far as no other is ever called so.
pub(super) fn is_cluster_link(name: &str, kind: &str) -> bool {
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|c| c.is_ascii_digit()))
    };
    let exact = ["cni0", "kube-ipvs0", "nodelocaldns", "kube-bridge", "vxlan.calico", "vxlan-v6.calico"];
    let wireguard = ["wireguard.cali", "wg-v6.cali", "flannel-wg", "flannel-wg-v6"];
    exact.contains(&name)
        || wireguard.contains(&name)
        || numbered("flannel.")
        || numbered("flannel-v6.")
        || name.starts_with("cilium_")
        || (name.starts_with("cali") && kind == "veth")
        || (name.starts_with("lxc") && kind == "veth" && is_cilium_endpoint(name))
        || (name.starts_with("kube-dummy") && kind == "dummy")
        || ["weave", "datapath"].contains(&name)
        || name.starts_with("vethwe")
        || ["antrea-gw0", "antrea-tun0"].contains(&name)
}

/// `lxc` and twelve hexadecimal digits, or `lxc_health`; LXC's own links are named otherwise (`vethXXXXXX`, `lxcbr0`).
fn is_cilium_endpoint(name: &str) -> bool {
    let rest = name.trim_start_matches("lxc");
    rest == "_health" || (rest.len() == 12 && rest.bytes().all(|c| c.is_ascii_hexdigit()))
}

/// Whether a named network namespace was made for a pod: `cni-` and a UUID.
pub(super) fn is_pod_namespace(name: &str) -> bool {
    let Some(uuid) = name.strip_prefix("cni-") else { return false };
    uuid.len() == 36 && uuid.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_others_are_left_alone() {
        for (name, kind, cluster) in [
            ("cni0", "bridge", true),
            ("flannel.1", "vxlan", true),
            ("flannel.", "vxlan", false),
            ("cali12345678901", "veth", true),
            ("calibration0", "dummy", false),
            ("lxc_health", "veth", true),
            ("lxc0123456789ab", "veth", true),
            ("lxcbr0", "bridge", false),
            ("cilium_host", "veth", true),
            ("kube-ipvs0", "dummy", true),
            ("eth0", "", false),
            ("docker0", "bridge", false),
            ("cni-podman0", "bridge", false),
            ("vxlan0", "vxlan", false),
        ] {
            assert_eq!(is_cluster_link(name, kind), cluster, "{name}");
        }
    }

    #[test]
    fn namespaces_of_pods_are_known_by_their_uuid() {
        assert!(is_pod_namespace("cni-7a1e2f03-1111-2222-3333-444455556666"));
        for name in
            ["cni-test", "blue", "7a1e2f03-1111-2222-3333-444455556666", "cni-7a1e2f03-1111-2222-3333-44445555666/"]
        {
            assert!(!is_pod_namespace(name), "{name}");
        }
    }

    #[test]
    fn tables_are_known_by_family_and_name() {
        for (family, name, keep_cni, cluster) in [
            ("ip", "kube-proxy", false, true),
            ("inet", "kube-proxy", false, false),
            ("inet", "filter", false, false),
            ("inet", "cni_hostport", false, true),
            ("inet", "cni_hostport", true, false),
        ] {
            assert_eq!(is_cluster_table(family, name, keep_cni), cluster, "{family} {name}");
        }
    }
}
