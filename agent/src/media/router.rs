//! The virtual router of this network: looks at the files that [`bootstrap::router`] reads.

use std::fs;
use std::net::IpAddr;

use bootstrap::router::{gateways, gateways_v6, server_of_packet, servers_of_lease, url};

use crate::host::Host;

/// Directories of leases as text, and what the names of theirs end in.
const LEASES: [(&str, &str); 6] = [
    ("/run/systemd/netif/leases", ""),
    ("/run/NetworkManager/devices", ""),
    ("/var/lib/NetworkManager", ".lease"),
    ("/var/lib/dhcp", ".leases"),
    ("/var/lib/dhclient", ".leases"),
    ("/run", ".conf"),
];
/// Directories of dhcpcd's packets.
const PACKETS: [&str; 2] = ["/var/lib/dhcpcd", "/run/dhcpcd"];
/// The name that CloudStack's DNS gives the router.
const BY_NAME: &str = "http://data-server/cks-iso/";
/// A lease is some hundred bytes, dhclient's file of old ones some ten thousand.
const MAX_BYTES: u64 = 1 << 20;

/// Where the router may serve the ISO, most likely first: the servers of the DHCP leases, the default gateways,
/// the name `data-server`.
#[must_use]
pub fn candidates(host: &Host) -> Vec<String> {
    let mut found: Vec<IpAddr> = Vec::new();
    for (directory, suffix) in LEASES {
        for (name, bytes) in files(host, directory, suffix) {
            if directory != "/run" || name.starts_with("net-") {
                found.extend(servers_of_lease(&String::from_utf8_lossy(&bytes)));
            }
        }
    }
    for directory in PACKETS {
        found.extend(files(host, directory, ".lease").iter().filter_map(|(_, bytes)| server_of_packet(bytes)));
    }
    let text = |path: &str| fs::read_to_string(host.path(path)).unwrap_or_default();
    found.extend(gateways(&text("/proc/net/route")));
    found.extend(gateways_v6(&text("/proc/net/ipv6_route")));
    let mut urls: Vec<String> = Vec::new();
    for url in found.into_iter().map(url).chain([BY_NAME.to_owned()]) {
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    urls
}

/// The router's web server wherever it may be, in the same order: `http://10.1.1.1/`.
#[must_use]
pub fn servers(host: &Host) -> Vec<String> {
    let server = |url: String| url.strip_suffix("cks-iso/").map(str::to_owned);
    candidates(host).into_iter().filter_map(server).collect()
}

/// The small files of a directory whose names end in `suffix`, by name. What can't be read names no router.
fn files(host: &Host, directory: &str, suffix: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(host.path(directory)).into_iter().flatten().flatten();
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let small = entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_BYTES);
        if name.ends_with(suffix)
            && small
            && let Ok(bytes) = fs::read(entry.path())
        {
            found.push((name, bytes));
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_come_before_gateways_and_the_name() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        assert_eq!(candidates(&host), [BY_NAME]);
        for (path, text) in [
            ("/run/systemd/netif/leases/2", "SERVER_ADDRESS=10.1.1.1\n"),
            ("/run/net-eth0.conf", "ROOTSERVER='10.1.1.2'\n"),
            ("/run/other.conf", "ROOTSERVER='10.1.1.3'\n"),
            ("/var/lib/dhcp/dhclient.eth0.leases", "  option dhcp-server-identifier 10.1.1.1;\n"),
            ("/proc/net/route", "head\neth0 00000000 FE01010A 0003 0 0 0 00000000 0 0 0\n"),
        ] {
            fs::write(host.prepare(path).unwrap(), text).unwrap();
        }
        let hosts = ["10.1.1.1", "10.1.1.2", "10.1.1.254", "data-server"];
        assert_eq!(candidates(&host), hosts.map(|host| format!("http://{host}/cks-iso/")));
        assert_eq!(servers(&host), hosts.map(|host| format!("http://{host}/")));
    }
}
