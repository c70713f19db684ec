//! What the certificates of a member say, and when they are renewed.

use std::net::IpAddr;

use crate::node_spec::NodeSpec;

/// Where members keep them.
pub const DIRECTORY: &str = "/etc/etcd/pki";

/// How long one is valid, in seconds: a year, as kubeadm's are.
pub const LIFE_SECONDS: u64 = 365 * 24 * 3600;

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// For the members' clients.
    Server,
    /// Among members.
    Peer,
    /// For programs of the node that ask its member.
    Client,
}

impl Purpose {
    /// Those of a member.
    pub const OF_A_MEMBER: [Self; 3] = [Self::Server, Self::Peer, Self::Client];

    /// The name of its files, without `.crt` and `.key`.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Peer => "peer",
            Self::Client => "client",
        }
    }

    /// Whether servers show it. They are clients, too: of their peers, and etcd's HTTP gateway of its own server.
    #[must_use]
    pub fn serves(self) -> bool {
        matches!(self, Self::Server | Self::Peer)
    }

    /// Whether etcd reads its key; the others are root's.
    #[must_use]
    pub fn is_etcds(self) -> bool {
        self.serves()
    }
}

/// What a certificate has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The common name.
    pub common_name: String,
    /// Names that it is valid for.
    pub names: Vec<String>,
    /// Addresses that it is valid for.
    pub addresses: Vec<IpAddr>,
}

impl Wanted {
    /// Without names: servers compare those of a client with where it comes from.
    #[must_use]
    pub fn of_client(name: &str) -> Self {
        Self { common_name: common_name(name), names: Vec::new(), addresses: Vec::new() }
    }
}

/// What the certificate of `spec`'s node for `purpose` has to say.
#[must_use]
pub fn wanted(spec: &NodeSpec, purpose: Purpose) -> Wanted {
    if !purpose.serves() {
        return Wanted::of_client(&format!("cks-agent {}", spec.node_name));
    }
    let mut addresses =
        vec![spec.bind_address(), IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)];
    addresses.sort();
    addresses.dedup();
    let names = vec![spec.node_name.clone(), "localhost".to_owned()];
    Wanted { common_name: common_name(&spec.node_name), names, addresses }
}

/// At most 64 characters (RFC 5280, `ub-common-name`); nobody looks at more than its names.
fn common_name(text: &str) -> String {
    text.chars().take(64).collect()
}

/// When a certificate is valid, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From here on.
    pub from: i64,
    /// Up to here.
    pub to: i64,
}

impl Validity {
    /// Whether less than a third of its life is left, or its life has not begun by more than it has: a clock was wrong.
    #[must_use]
    pub fn is_due(self, now: i64) -> bool {
        let life = self.to.saturating_sub(self.from);
        self.to.saturating_sub(now) < life / 3 || now < self.from
    }

    /// Whole days that are left; negative after its end.
    #[must_use]
    pub fn days_left(self, now: i64) -> i64 {
        self.to.saturating_sub(now).div_euclid(24 * 3600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Role;

    #[test]
    fn a_certificate_is_renewed_in_the_last_third_of_its_life() {
        let validity = Validity { from: 0, to: 300 };
        for (now, due) in [(-1, true), (0, false), (200, false), (201, true), (301, true)] {
            assert_eq!(validity.is_due(now), due, "{now}");
        }
        let day = 24 * 3600;
        let days = |to| Validity { from: 0, to }.days_left(10 * day);
        assert_eq!((days(11 * day), days(11 * day - 1), days(10 * day - 1)), (1, 0, -1));
    }

    #[test]
    fn servers_are_known_by_all_that_they_are_asked_at() {
        let spec = NodeSpec::new(Role::Etcd, "e1", "10.1.1.2".parse().ok(), None).unwrap();
        let wanted = wanted(&spec, Purpose::Peer);
        let addresses: Vec<String> = wanted.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.1.1.2", "127.0.0.1", "::1"]);
        assert_eq!(wanted.names, ["e1", "localhost"]);
        assert!(super::wanted(&spec, Purpose::Client).names.is_empty());
    }
}
