//! Who listens at which port.

use std::collections::BTreeMap;
use std::fs;

use bootstrap::preflight::facts::Listener;
use bootstrap::preflight::read;

use super::text;
use crate::host::Host;

pub(super) fn listeners(host: &Host) -> Vec<Listener> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().filter_map(|path| text(host, path));
    let sockets: Vec<read::Socket> = tables.flat_map(|table| read::listening(&table)).collect();
    let holders = holders(host, &sockets);
    let listener = |socket: &read::Socket| Listener {
        address: socket.address,
        port: socket.port,
        program: holders.get(&socket.inode).cloned(),
    };
    sockets.iter().map(listener).collect()
}

/// The programs that have these sockets open, by inode.
fn holders(host: &Host, sockets: &[read::Socket]) -> BTreeMap<u64, (String, u32)> {
    let mut holders = BTreeMap::new();
    for pid in host.processes() {
        // A process may end meanwhile, or belong to somebody else.
        let open = fs::read_dir(host.path(&format!("/proc/{pid}/fd"))).into_iter().flatten().flatten();
        for link in open.filter_map(|entry| fs::read_link(entry.path()).ok()) {
            let inode = link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            let Some(inode) = inode.filter(|inode| sockets.iter().any(|socket| socket.inode == *inode)) else {
                continue;
            };
            let name = text(host, &format!("/proc/{pid}/comm")).unwrap_or_default();
            // Of several, systemd's socket units among them, the one that began last does the work.
            holders.insert(inode, (name.trim().to_owned(), pid));
        }
    }
    holders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_ours_is_held_by_us() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let host = Host::new("/".as_ref()).unwrap();
        let found = listeners(&host).into_iter().find(|listener| listener.port == port).unwrap();
        assert_eq!(found.address.to_string(), "127.0.0.1");
        assert_eq!(found.program.map(|(_, pid)| pid), Some(std::process::id()));
        drop(held);
        assert!(listeners(&host).iter().all(|listener| listener.port != port));
    }
}
