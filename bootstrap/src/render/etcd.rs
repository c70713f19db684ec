//! The etcd unit. Names, ports and options are those of CloudStack's etcd nodes (4.21 and later), so
//! that a control plane made by an unmodified management server reaches it; the data directory is not
//! (the stock unit leaves it in `/`).

use crate::node_spec::NodeSpec;

/// Where the unit keeps its data.
pub const DATA_DIR: &str = "/var/lib/etcd";

/// The text of `/etc/systemd/system/etcd.service`.
#[must_use]
pub fn unit(spec: &NodeSpec) -> String {
    let bind = spec.bind_address();
    let (peer, client) = (spec.peer_url(), spec.client_url());
    let clients = if bind.is_loopback() { client.clone() } else { format!("{client},http://127.0.0.1:2379") };
    let cluster = match &spec.etcd_members[..] {
        [] => format!("{}={peer}", spec.node_name),
        members => members.iter().map(|(name, url)| format!("{name}={url}")).collect::<Vec<_>>().join(","),
    };
    format!(
        "# Written by cks-agent. Changes are lost at the next bootstrap: use a drop-in.
[Unit]
Description=etcd
Documentation=https://etcd.io/docs/
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
ExecStart=/opt/bin/etcd \\
  --name {name} \\
  --data-dir {DATA_DIR} \\
  --initial-advertise-peer-urls {peer} \\
  --listen-peer-urls {peer} \\
  --advertise-client-urls {client} \\
  --listen-client-urls {clients} \\
  --initial-cluster-token etcd-cluster-1 \\
  --initial-cluster {cluster} \\
  --initial-cluster-state new
StateDirectory=etcd
StateDirectoryMode=0700
Restart=on-failure
RestartSec=5
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
",
        name = spec.node_name,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Role;

    fn flag<'a>(unit: &'a str, name: &str) -> &'a str {
        let line = unit.lines().find_map(|line| line.trim().strip_prefix(&format!("--{name} "))).unwrap();
        line.trim_end_matches(" \\")
    }

    #[test]
    fn a_single_member_without_address_stays_on_loopback() {
        let unit = unit(&NodeSpec::new(Role::Etcd, "e1", None, None).unwrap());
        assert_eq!(flag(&unit, "listen-client-urls"), "http://127.0.0.1:2379");
        assert_eq!(flag(&unit, "initial-cluster"), "e1=http://127.0.0.1:2380");
        assert_eq!(flag(&unit, "data-dir"), "/var/lib/etcd");
    }

    #[test]
    fn members_and_addresses_are_as_the_management_server_gives_them() {
        let members = "e1=http://10.1.1.2:2380,e2=http://10.1.1.3:2380";
        let spec = NodeSpec::new(Role::Etcd, "e2", "10.1.1.3".parse().ok(), Some(members)).unwrap();
        let unit = unit(&spec);
        assert_eq!(flag(&unit, "listen-client-urls"), "http://10.1.1.3:2379,http://127.0.0.1:2379");
        assert_eq!(flag(&unit, "listen-peer-urls"), "http://10.1.1.3:2380");
        assert_eq!(flag(&unit, "initial-cluster"), members);
        let six = NodeSpec::new(Role::Etcd, "e1", "fd00::1".parse().ok(), None).unwrap();
        assert_eq!(flag(&super::unit(&six), "advertise-client-urls"), "http://[fd00::1]:2379");
    }
}
