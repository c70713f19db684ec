//! What a node is meant to become.

pub mod cni;
mod membership;
mod registration;
mod wishes;

use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;

pub use self::membership::{
    API_PORT, Authority, CaTrust, CertificateKey, Endpoint, ExternalEtcd, Init, Join, Membership, Network, Token,
};
pub use self::registration::{Taint, check_label};
pub use self::wishes::{Delivery, Proxy, Registration, Registry, Runtime};
use crate::bundle::Role;
use crate::failure::{Code, Failure};

/// A validated wish: what the node is installed as, and what it does in its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeSpec {
    /// What the node is in its cluster.
    pub role: Role,
    /// Lower-case host name; CloudStack's management server knows the node by it.
    pub node_name: String,
    /// The address that others reach this node at. Without one, etcd listens on loopback only.
    pub address: Option<IpAddr>,
    /// Members of a new etcd cluster as `(name, peer URL)`; empty means this node alone.
    pub etcd_members: Vec<(String, String)>,
    /// The authority of the etcd cluster's certificates; none: its members speak plain HTTP.
    pub etcd_authority: Option<Authority>,
    /// What it does in its cluster; none: it is installed, and nothing more.
    pub membership: Option<Membership>,
    /// How the bundle comes to it.
    pub delivery: Delivery,
    /// What its container runtime is told.
    pub runtime: Runtime,
    /// What its kubelet registers it with.
    pub registration: Registration,
}

impl NodeSpec {
    /// Validates a wish.
    ///
    /// # Errors
    /// `CONFIG_INVALID` names the value and the rule.
    pub fn new(
        role: Role,
        node_name: &str,
        address: Option<IpAddr>,
        initial_cluster: Option<&str>,
    ) -> Result<Self, Failure> {
        let refuse = |what: String| Failure::new(Code::ConfigInvalid, what);
        let label = |part: &str| {
            let inner = part.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
            inner && !part.is_empty() && part.len() <= 63 && !part.starts_with('-') && !part.ends_with('-')
        };
        // RFC 1123 as Kubernetes applies it to node names.
        let node_name = node_name.trim().to_ascii_lowercase();
        if node_name.len() > 253 || !node_name.split('.').all(label) {
            return Err(refuse(format!("node name {node_name:?} is no host name (a-z, 0-9, '-' and '.')")));
        }
        let etcd_members = match initial_cluster {
            None => Vec::new(),
            Some(text) => members(text).map_err(refuse)?,
        };
        if !etcd_members.is_empty() && !etcd_members.iter().any(|(name, _)| *name == node_name) {
            return Err(refuse(format!("the etcd members do not name this node, {node_name}")));
        }
        if etcd_members.len() > 1 && address.is_none() {
            return Err(refuse("an etcd cluster of several members needs --node-ip".to_owned()));
        }
        let spec = Self {
            role,
            node_name,
            address,
            etcd_members,
            etcd_authority: None,
            membership: None,
            delivery: Delivery::default(),
            runtime: Runtime::default(),
            registration: Registration::default(),
        };
        // etcd itself refuses to start otherwise, at the next boot and out of sight.
        let own = spec.etcd_members.iter().find(|(name, _)| *name == spec.node_name);
        let (listens, told) = (spec.peer_url(), own.map(|(_, url)| url.trim_end_matches('/')));
        match told {
            // Whether they speak TLS is told elsewhere, and later.
            Some(told) if told != listens && told.strip_prefix("https") != listens.strip_prefix("http") => {
                let what =
                    format!("the etcd members say that {} is at {told}, but it listens at {listens}", spec.node_name);
                Err(refuse(what))
            }
            _ => Ok(spec),
        }
    }

    /// The same member, speaking TLS with certificates of `authority`: its peers are at https then, too.
    #[must_use]
    pub fn with_etcd_authority(mut self, authority: Authority) -> Self {
        for (_, url) in &mut self.etcd_members {
            *url = secured(url);
        }
        self.etcd_authority = Some(authority);
        self
    }

    /// All members of its etcd cluster as `(name, peer URL)`, itself among them; all speak TLS where there is an
    /// authority, and none does otherwise.
    #[must_use]
    pub fn etcd_cluster(&self) -> Vec<(String, String)> {
        let told = |(name, url): &(String, String)| {
            let place = url.split_once("://").map_or(&url[..], |(_, place)| place).trim_end_matches('/');
            (name.clone(), format!("{}://{place}", self.etcd_scheme()))
        };
        match &self.etcd_members[..] {
            [] => vec![(self.node_name.clone(), self.peer_url())],
            members => members.iter().map(told).collect(),
        }
    }

    /// Refuses members that speak TLS where no authority is told.
    ///
    /// # Errors
    /// `CONFIG_INVALID` names the member.
    pub fn check_etcd(&self) -> Result<(), Failure> {
        let tls = self.etcd_members.iter().find(|(_, url)| url.starts_with("https://"));
        match (tls, &self.etcd_authority) {
            (Some((name, url)), None) => {
                let what = format!("the etcd member {name} is at {url}, and no authority is told for its certificates");
                Err(Failure::new(Code::ConfigInvalid, what)
                    .with_remedy("give the cluster's authority in the user data, or http:// for plain HTTP"))
            }
            _ => Ok(()),
        }
    }

    /// `https`, or `http` without an authority.
    #[must_use]
    pub fn etcd_scheme(&self) -> &'static str {
        if self.etcd_authority.is_some() { "https" } else { "http" }
    }

    /// Where etcd listens for its peers (CloudStack 4.21: port 2380).
    #[must_use]
    pub fn peer_url(&self) -> String {
        self.url(2380)
    }

    /// Where etcd listens for its clients.
    #[must_use]
    pub fn client_url(&self) -> String {
        self.url(2379)
    }

    fn url(&self, port: u16) -> String {
        let scheme = self.etcd_scheme();
        match self.bind_address() {
            IpAddr::V4(address) => format!("{scheme}://{address}:{port}"),
            IpAddr::V6(address) => format!("{scheme}://[{address}]:{port}"),
        }
    }

    /// The address to bind to: the node's own, or loopback.
    #[must_use]
    pub fn bind_address(&self) -> IpAddr {
        self.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }
}

/// Reads etcd's own spelling: `h1=http://10.1.1.2:2380,h2=http://10.1.1.3:2380`.
fn members(text: &str) -> Result<Vec<(String, String)>, String> {
    let member = |part: &str| match part.trim().split_once('=') {
        Some((name, url)) if !name.is_empty() && is_url(url) => Ok((name.to_ascii_lowercase(), url.to_owned())),
        _ => Err(format!("etcd member {part:?} is not of the form NAME=http://ADDRESS:2380")),
    };
    text.split(',').map(member).collect()
}

/// An URL of etcd as it is with TLS.
#[must_use]
pub fn secured(url: &str) -> String {
    url.strip_prefix("http://").map_or_else(|| url.to_owned(), |rest| format!("https://{rest}"))
}

fn is_url(text: &str) -> bool {
    text.strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
        .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_graphic() && !"\"'\\$%".contains(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused_with_its_name() {
        let address = Some(IpAddr::from([10, 1, 1, 2]));
        for (name, address, cluster, part) in [
            ("", None, None, "node name"),
            ("a_b", None, None, "a_b"),
            ("a b; rm", None, None, "a b; rm"),
            ("-a", None, None, "-a"),
            ("a", address, Some("b=http://h:2380"), "do not name this node"),
            ("a", address, Some("a=http://10.1.1.3:2380"), "listens at http://10.1.1.2:2380"),
            ("a", address, Some("a=https://10.1.1.3:2380"), "listens at http://10.1.1.2:2380"),
            ("a", address, Some("a"), "not of the form"),
            ("a", address, Some("a=ftp://h"), "not of the form"),
            ("a", address, Some("a=http://h x"), "not of the form"),
            ("a", None, Some("a=http://127.0.0.1:2380,b=http://i:2380"), "--node-ip"),
        ] {
            let failure = NodeSpec::new(Role::Etcd, name, address, cluster).unwrap_err();
            assert_eq!(failure.code, Code::ConfigInvalid);
            assert!(failure.what.contains(part), "{}", failure.what);
        }
    }

    #[test]
    fn a_member_with_an_authority_is_at_https() {
        let cluster = Some("a=http://10.1.1.2:2380,b=http://10.1.1.3:2380");
        let spec = NodeSpec::new(Role::Etcd, "a", Some(IpAddr::from([10, 1, 1, 2])), cluster).unwrap();
        assert_eq!(spec.client_url(), "http://10.1.1.2:2379");
        let spec = spec.with_etcd_authority(Authority { certificate: String::new(), key: None });
        assert_eq!(
            (spec.client_url(), spec.peer_url()),
            ("https://10.1.1.2:2379".into(), "https://10.1.1.2:2380".into())
        );
        assert!(spec.etcd_members.iter().all(|(_, url)| url.starts_with("https://")));
    }

    #[test]
    fn an_authority_makes_all_members_speak_tls() {
        let members = "a=https://10.1.1.2:2380,b=http://10.1.1.3:2380/";
        let mut spec = NodeSpec::new(Role::Etcd, "a", Some(IpAddr::from([10, 1, 1, 2])), Some(members)).unwrap();
        assert!(spec.check_etcd().unwrap_err().what.contains("no authority"));
        spec.etcd_authority = Some(Authority { certificate: String::new(), key: None });
        spec.check_etcd().unwrap();
        let urls: Vec<String> = spec.etcd_cluster().into_iter().map(|(_, url)| url).collect();
        assert_eq!(urls, ["https://10.1.1.2:2380", "https://10.1.1.3:2380"]);
        assert_eq!(spec.client_url(), "https://10.1.1.2:2379");
    }

    #[test]
    fn names_are_lower_cased_as_the_management_server_does() {
        let spec = NodeSpec::new(Role::Etcd, "C1-etcd-1\n", None, None).unwrap();
        assert_eq!(spec.node_name, "c1-etcd-1");
        assert_eq!(spec.bind_address().to_string(), "127.0.0.1");
    }
}
