//! Links and routes as `ip -j` prints them: which of them a cluster made.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::names;

#[derive(Deserialize)]
struct Link {
    ifname: String,
    #[serde(default)]
    master: String,
    #[serde(default)]
    linkinfo: Kind,
    #[serde(default)]
    flags: Vec<String>,
}

#[derive(Deserialize, Default)]
struct Kind {
    #[serde(default)]
    info_kind: String,
}

/// What becomes of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterLink {
    /// Its name.
    pub name: String,
    /// It belongs to the kernel and can't be deleted: it is set down, and loses its addresses.
    pub quiet: bool,
}

/// The links that a cluster made, of `ip -j -d link`; what lies on a bridge comes before it. `bridges` are those
/// that the cluster's CNI configuration names.
#[must_use]
pub fn of_cluster(links: &str, bridges: &BTreeSet<String>) -> Vec<ClusterLink> {
    let links: Vec<Link> = serde_json::from_str(links).unwrap_or_default();
    let named = |link: &Link| {
        let kind = &link.linkinfo.info_kind;
        names::is_cluster_link(&link.ifname, kind) || (kind == "bridge" && bridges.contains(&link.ifname))
    };
    let ours: BTreeSet<&str> = links.iter().filter(|link| named(link)).map(|link| link.ifname.as_str()).collect();
    // The ends of pods' links have names by chance, but lie on a bridge that is known.
    let ends = links.iter().filter(|link| link.linkinfo.info_kind == "veth" && ours.contains(link.master.as_str()));
    let ends: BTreeSet<&str> = ends.map(|link| link.ifname.as_str()).filter(|name| !ours.contains(name)).collect();
    let goes = |name: &&str| ClusterLink { name: (*name).to_owned(), quiet: false };
    // The kernel makes it for itself as soon as something tunnels, and up it is by Calico alone.
    let tunnel = links.iter().filter(|link| link.ifname == "tunl0" && link.flags.iter().any(|flag| flag == "UP"));
    let quiet = tunnel.map(|link| ClusterLink { name: link.ifname.clone(), quiet: true });
    ends.iter().map(goes).chain(ours.iter().map(goes)).chain(quiet).collect()
}

#[derive(Deserialize)]
struct Route {
    #[serde(default)]
    dst: String,
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    protocol: String,
    #[serde(default)]
    table: String,
}

/// Routes that outlive the links of the cluster, as arguments of `ip route delete`: Calico's (protocol 80).
#[must_use]
pub fn routes_of_cluster(routes: &str) -> Vec<Vec<String>> {
    let routes: Vec<Route> = serde_json::from_str(routes).unwrap_or_default();
    let calico = routes.into_iter().filter(|route| route.protocol == "80" && !route.dst.is_empty());
    let arguments = |route: Route| {
        let kind = (!route.r#type.is_empty()).then_some(route.r#type);
        let table = if route.table.is_empty() { "main".to_owned() } else { route.table };
        let rest = [route.dst, "proto".to_owned(), "80".to_owned(), "table".to_owned(), table];
        kind.into_iter().chain(rest).collect()
    };
    calico.map(arguments).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINKS: &str = include_str!("../../tests/data/leaving/links.json");

    fn names(bridges: &[&str]) -> Vec<String> {
        let bridges = bridges.iter().map(|name| (*name).to_owned()).collect();
        of_cluster(LINKS, &bridges).into_iter().map(|link| link.name).collect()
    }

    #[test]
    fn links_of_the_cluster_go_with_what_lies_on_them() {
        assert_eq!(names(&[]), ["veth1a2b3c4d", "cni0", "flannel.1"]);
        assert_eq!(names(&["br-lan", "eth0"]), ["veth1a2b3c4d", "vethuser", "br-lan", "cni0", "flannel.1"]);
    }

    #[test]
    fn the_kernels_own_tunnel_is_only_silenced() {
        let links =
            |flags: &str| format!(r#"[{{"ifname":"tunl0","flags":[{flags}],"linkinfo":{{"info_kind":"ipip"}}}}]"#);
        let quiet = vec![ClusterLink { name: "tunl0".to_owned(), quiet: true }];
        assert_eq!(of_cluster(&links(r#""NOARP","UP""#), &BTreeSet::new()), quiet);
        assert_eq!(of_cluster(&links(r#""NOARP""#), &BTreeSet::new()), []);
    }

    #[test]
    fn calicos_routes_go_and_the_kernels_stay() {
        let routes = routes_of_cluster(include_str!("../../tests/data/leaving/routes.json"));
        assert_eq!(routes, [["blackhole", "10.244.9.0/26", "proto", "80", "table", "main"]]);
        assert_eq!(routes_of_cluster("no JSON"), [[""; 0]; 0]);
    }
}
