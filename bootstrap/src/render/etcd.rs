//! The etcd unit, and what it is told. Names and ports are those of CloudStack's etcd nodes (4.21 and later), so that a
//! control plane made by an unmodified management server reaches it; the data directory is not (the stock unit leaves it
//! in `/`), nor is the user (root).

use crate::etcd::certificates::{DIRECTORY, Purpose};
use crate::node_spec::NodeSpec;

/// Where the data is.
pub const DATA_DIR: &str = "/var/lib/etcd";

/// Where the unit is.
pub const UNIT_PATH: &str = "/etc/systemd/system/etcd.service";

/// Where [`environment`] is. Without it the unit does not start: whether a node begins a cluster or joins one is decided
/// first, at every installation anew.
pub const ENVIRONMENT_PATH: &str = "/etc/etcd/etcd.env";

/// What an operator has to know of a cluster without TLS.
pub const PLAINTEXT: &str = "etcd speaks plain HTTP without authentication, as the management server's user data has it: \
                             whoever reaches ports 2379 and 2380 reads and writes all of Kubernetes' state; \
                             close them to all but the members and the control plane, or give an authority";

/// The text of [`UNIT_PATH`], the same for every node.
///
/// etcd tells that it is ready when its cluster has a leader, which may take until enough other members are up.
pub const UNIT: &str = "# Written by cks-agent. Changes are lost at the next bootstrap: use a drop-in.
[Unit]
Description=etcd
Documentation=https://etcd.io/docs/
After=network-online.target
Wants=network-online.target
# Written when it is known which cluster this node is a member of.
ConditionPathExists=/etc/etcd/etcd.env

[Service]
Type=notify
ExecStart=/opt/bin/etcd
EnvironmentFile=/etc/etcd/etcd.env
User=etcd
Group=etcd
StateDirectory=etcd
StateDirectoryMode=0700
Restart=on-failure
RestartSec=5
# Ready means that the cluster has a leader: the others may be long in coming.
TimeoutStartSec=15min
LimitNOFILE=65536
OOMScoreAdjust=-900
UMask=0077
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=true
ProtectSystem=strict
ProtectHome=true
ProtectClock=true
ProtectControlGroups=true
ProtectHostname=true
ProtectKernelLogs=true
ProtectKernelModules=true
ProtectKernelTunables=true
ProtectProc=invisible
PrivateDevices=true
PrivateTmp=true
RemoveIPC=true
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=true
RestrictRealtime=true
RestrictSUIDSGID=true
LockPersonality=true
MemoryDenyWriteExecute=true
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
";

/// How a member begins: flags that etcd looks at only while it has no data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beginning {
    /// The members as `NAME=URL,…`.
    pub cluster: String,
    /// Whether they are a cluster already.
    pub existing: bool,
}

impl Beginning {
    /// That of a member that has data, which tells it all that counts: without its data it must not start, whoever
    /// starts it. Told to begin a cluster it would come back empty while the others are down, told to join the others
    /// while they are up, both under its old id. So it is to join a cluster of which nobody is left to be asked, and
    /// what has to be done is decided anew.
    #[must_use]
    pub fn is_over(spec: &NodeSpec) -> Self {
        Self { cluster: format!("{}={}", spec.node_name, spec.peer_url()), existing: true }
    }
}

/// What tells one cluster from another where all else is the same. That of the stock unit is one for all clusters; where
/// there is an authority, there is nothing stock to get along with.
#[must_use]
pub fn token(spec: &NodeSpec) -> String {
    match &spec.etcd_authority {
        None => "etcd-cluster-1".to_owned(),
        Some(authority) => {
            format!("cks-{}", crate::digest::Digest::of(authority.certificate.trim().as_bytes()).short())
        }
    }
}

/// The text of [`ENVIRONMENT_PATH`]: etcd's flags, as environment variables.
#[must_use]
pub fn environment(spec: &NodeSpec, beginning: &Beginning) -> String {
    let (peer, client) = (spec.peer_url(), spec.client_url());
    let local = format!("{}://127.0.0.1:2379", spec.etcd_scheme());
    let clients = if spec.bind_address().is_loopback() { client.clone() } else { format!("{client},{local}") };
    let mut lines = vec![
        "# Written by cks-agent; settings of your own go into a drop-in of etcd.service.".to_owned(),
        format!("ETCD_NAME={}", spec.node_name),
        format!("ETCD_DATA_DIR={DATA_DIR}"),
        format!("ETCD_LISTEN_PEER_URLS={peer}"),
        format!("ETCD_INITIAL_ADVERTISE_PEER_URLS={peer}"),
        format!("ETCD_LISTEN_CLIENT_URLS={clients}"),
        format!("ETCD_ADVERTISE_CLIENT_URLS={client}"),
        format!("ETCD_INITIAL_CLUSTER={}", beginning.cluster),
        format!("ETCD_INITIAL_CLUSTER_STATE={}", if beginning.existing { "existing" } else { "new" }),
        format!("ETCD_INITIAL_CLUSTER_TOKEN={}", token(spec)),
    ];
    if spec.etcd_authority.is_some() {
        for (prefix, purpose) in [("ETCD", Purpose::Server), ("ETCD_PEER", Purpose::Peer)] {
            let file = purpose.file();
            lines.push(format!("{prefix}_CERT_FILE={DIRECTORY}/{file}.crt"));
            lines.push(format!("{prefix}_KEY_FILE={DIRECTORY}/{file}.key"));
            lines.push(format!("{prefix}_TRUSTED_CA_FILE={DIRECTORY}/ca.crt"));
            lines.push(format!("{prefix}_CLIENT_CERT_AUTH=true"));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Role;
    use crate::node_spec::Authority;

    fn environment(spec: &NodeSpec) -> String {
        let cluster = spec.etcd_cluster().iter().map(|(name, url)| format!("{name}={url}")).collect::<Vec<_>>();
        super::environment(spec, &Beginning { cluster: cluster.join(","), existing: false })
    }

    fn value<'a>(text: &'a str, name: &str) -> &'a str {
        text.lines().find_map(|line| line.strip_prefix(&format!("ETCD_{name}="))).unwrap_or_default()
    }

    #[test]
    fn a_single_member_without_address_stays_on_loopback() {
        let text = environment(&NodeSpec::new(Role::Etcd, "e1", None, None).unwrap());
        assert_eq!(value(&text, "LISTEN_CLIENT_URLS"), "http://127.0.0.1:2379");
        assert_eq!(value(&text, "INITIAL_CLUSTER"), "e1=http://127.0.0.1:2380");
        assert_eq!(value(&text, "DATA_DIR"), "/var/lib/etcd");
        assert!(UNIT.contains(&format!("ConditionPathExists={ENVIRONMENT_PATH}\n")));
        assert!(UNIT.contains(&format!("EnvironmentFile={ENVIRONMENT_PATH}\n")));
    }

    #[test]
    fn members_and_addresses_are_as_the_management_server_gives_them() {
        let members = "e1=http://10.1.1.2:2380,e2=http://10.1.1.3:2380";
        let spec = NodeSpec::new(Role::Etcd, "e2", "10.1.1.3".parse().ok(), Some(members)).unwrap();
        let text = environment(&spec);
        assert_eq!(value(&text, "LISTEN_CLIENT_URLS"), "http://10.1.1.3:2379,http://127.0.0.1:2379");
        assert_eq!(value(&text, "LISTEN_PEER_URLS"), "http://10.1.1.3:2380");
        assert_eq!(value(&text, "INITIAL_CLUSTER"), members);
        assert_eq!(value(&text, "INITIAL_CLUSTER_TOKEN"), "etcd-cluster-1");
        assert!(!text.contains("CERT"));
        let six = NodeSpec::new(Role::Etcd, "e1", "fd00::1".parse().ok(), None).unwrap();
        assert_eq!(value(&environment(&six), "ADVERTISE_CLIENT_URLS"), "http://[fd00::1]:2379");
    }

    #[test]
    fn a_member_that_has_begun_neither_begins_nor_joins_again() {
        let members = "e1=http://10.1.1.2:2380,e2=http://10.1.1.3:2380";
        let spec = NodeSpec::new(Role::Etcd, "e2", "10.1.1.3".parse().ok(), Some(members)).unwrap();
        let text = super::environment(&spec, &Beginning::is_over(&spec));
        assert_eq!(value(&text, "INITIAL_CLUSTER_STATE"), "existing");
        assert_eq!(value(&text, "INITIAL_CLUSTER"), "e2=http://10.1.1.3:2380", "nobody else is asked");
    }

    #[test]
    fn an_authority_brings_tls_on_every_side() {
        let mut spec = NodeSpec::new(Role::Etcd, "e1", "10.1.1.2".parse().ok(), None).unwrap();
        spec.etcd_authority = Some(Authority { certificate: "A".to_owned(), key: None });
        let text = environment(&spec);
        assert!(!text.contains("http://"), "{text}");
        for name in ["CLIENT_CERT_AUTH", "PEER_CLIENT_CERT_AUTH"] {
            assert_eq!(value(&text, name), "true");
        }
        assert_eq!(value(&text, "PEER_KEY_FILE"), "/etc/etcd/pki/peer.key");
        assert_eq!(value(&text, "TRUSTED_CA_FILE"), "/etc/etcd/pki/ca.crt");
        let token = |certificate: &str| {
            let authority = Authority { certificate: certificate.to_owned(), key: None };
            super::token(&NodeSpec { etcd_authority: Some(authority), ..spec.clone() })
        };
        assert_ne!(token("A"), token("B"));
    }
}
