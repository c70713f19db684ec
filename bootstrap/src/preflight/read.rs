//! What the kernel tells as text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A socket that listens, of `/proc/net/tcp` or `/proc/net/tcp6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Socket {
    /// Where.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// What `/proc/PID/fd` names it by.
    pub inode: u64,
}

/// The state `TCP_LISTEN`.
const LISTEN: &str = "0A";

/// The sockets that listen.
#[must_use]
pub fn listening(text: &str) -> Vec<Socket> {
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, _, _, _, _, _, inode, ..] = fields[..] else { return None };
        let (address, port) = local.split_once(':').filter(|_| state == LISTEN)?;
        let port = u16::from_str_radix(port, 16).ok()?;
        Some(Socket { address: kernel_address(address)?, port, inode: inode.parse().ok()? })
    };
    text.lines().skip(1).filter_map(socket).collect()
}

/// As the kernel prints an address: words of 32 bits, each as one number of this machine.
fn kernel_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = text.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            let bytes: [u8; 16] = words.try_into().ok()?;
            let six = Ipv6Addr::from(bytes);
            Some(six.to_ipv4_mapped().map_or(IpAddr::V6(six), IpAddr::V4))
        }
        _ => None,
    }
}

/// Networks of `/proc/net/route` with their interfaces, the default route left out.
#[must_use]
pub fn routes(text: &str) -> Vec<(IpNet, String)> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [interface, destination, _, _, _, _, _, mask, ..] = fields[..] else { return None };
        let (IpAddr::V4(network), IpAddr::V4(mask)) = (kernel_address(destination)?, kernel_address(mask)?) else {
            return None;
        };
        let network = Ipv4Net::with_netmask(network, mask).ok().filter(|network| network.prefix_len() > 0)?;
        Some((IpNet::V4(network.trunc()), interface.to_owned()))
    };
    text.lines().skip(1).filter_map(route).collect()
}

/// Networks of `/proc/net/ipv6_route`, without the default route, loopback, multicast and those of one link.
#[must_use]
pub fn routes_v6(text: &str) -> Vec<(IpNet, String)> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [destination, length, .., interface] = fields[..] else { return None };
        let address = Ipv6Addr::from(u128::from_str_radix(destination, 16).ok()?);
        let length = u8::from_str_radix(length, 16).ok().filter(|length| *length > 0)?;
        let one_link = address.is_unicast_link_local() || address.is_multicast() || address.is_loopback();
        let network = Ipv6Net::new(address, length).ok().filter(|_| !one_link && interface != "lo")?;
        Some((IpNet::V6(network.trunc()), interface.to_owned()))
    };
    text.lines().filter_map(route).collect()
}

/// The machine's IPv4 addresses, of `/proc/net/fib_trie`.
#[must_use]
pub fn addresses(text: &str) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    let mut last = None;
    for line in text.lines() {
        match line.trim_start_matches([' ', '|', '+', '-']) {
            rest if rest.starts_with("/32 host LOCAL") => {
                found.extend(last.take().map(IpAddr::V4).filter(|address| !found.contains(address)));
            }
            rest => last = rest.parse::<Ipv4Addr>().ok().or(last),
        }
    }
    found
}

/// The machine's IPv6 addresses, of `/proc/net/if_inet6`; not those of one link.
#[must_use]
pub fn addresses_v6(text: &str) -> Vec<IpAddr> {
    let digits = text.lines().filter_map(|line| line.split_whitespace().next());
    let addresses = digits.filter_map(|digits| u128::from_str_radix(digits, 16).ok()).map(Ipv6Addr::from);
    addresses.filter(|address| !address.is_unicast_link_local()).map(IpAddr::V6).collect()
}

/// Whether `/etc/hosts` knows `name`, and if so whether by a loopback address.
#[must_use]
pub fn known_to_hosts(text: &str, name: &str) -> Option<bool> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    let found: Vec<IpAddr> = lines.filter_map(entry).collect();
    (!found.is_empty()).then(|| found.iter().any(IpAddr::is_loopback))
}

/// The devices and files of `/proc/swaps`.
#[must_use]
pub fn swaps(text: &str) -> Vec<String> {
    text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// The lines of `/etc/fstab` that bring swap, numbered from 1.
#[must_use]
pub fn swaps_of_fstab(text: &str) -> Vec<(usize, String)> {
    let is_swap = |line: &&str| !line.trim_start().starts_with('#') && line.split_whitespace().nth(2) == Some("swap");
    let lines = text.lines().enumerate().filter(|(_, line)| is_swap(line));
    lines.map(|(at, line)| (at + 1, line.trim().to_owned())).collect()
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
#[must_use]
pub fn memory(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib.saturating_mul(1024))
}

/// The modules of a `modules.builtin` or of `/proc/modules`, by name.
#[must_use]
pub fn modules(text: &str) -> Vec<String> {
    let name = |line: &str| {
        let first = line.split_whitespace().next()?;
        let file = first.rsplit('/').next()?;
        Some(file.split(".ko").next()?.replace('-', "_"))
    };
    text.lines().filter_map(name).collect()
}

/// The value of `KUBELET_EXTRA_ARGS` in a file of the environment.
#[must_use]
pub fn kubelet_arguments(text: &str) -> Option<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let value = lines.filter_map(|line| line.strip_prefix("KUBELET_EXTRA_ARGS=")).next_back()?;
    let value = value.trim().trim_matches(['"', '\'']).trim();
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn sockets_are_read_as_the_kernel_writes_them() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 00000000:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1652 1 0\n\
            \x20  1: 0100007F:094B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1 0\n\
            \x20  2: 020200C0:9E62 507100CB:01BB 01 00000000:00000000 02:0000002A 00000000     0        0 9 2 0\nbroken\n";
        let found: Vec<String> =
            listening(text).iter().map(|s| format!("{}:{} {}", s.address, s.port, s.inode)).collect();
        assert_eq!(found, ["0.0.0.0:6443 1652", "127.0.0.1:2379 7"]);
        let six = "  sl  local_address\n\
            \x20  0: 00000000000000000000000000000000:192B 0:0000 0A 0:0 0:0 0 0 0 3 1\n\
            \x20  1: 0000000000000000FFFF00000101010A:192B 0:0000 0A 0:0 0:0 0 0 0 4 1\n";
        let found: Vec<String> = listening(six).iter().map(|s| s.address.to_string()).collect();
        assert_eq!(found, ["::", "10.1.1.1"]);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn routes_are_networks_and_the_default_is_none() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0101010A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            eth0\t0001010A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n\
            tun0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\nx\n";
        let shown = |routes: Vec<(IpNet, String)>| -> Vec<String> {
            routes.iter().map(|(network, interface)| format!("{network} {interface}")).collect()
        };
        assert_eq!(shown(routes(text)), ["10.1.1.0/24 eth0", "10.0.0.0/8 tun0"]);
        let none = "0".repeat(32);
        let line = |net: &str, length: &str, interface: &str| {
            format!("{net} {length} {none} 00 {none} 00000100 00000001 00000000 00000001 {interface}\n")
        };
        let text = line("fd000000000000000000000000000000", "40", "eth0")
            + &line("fe800000000000000000000000000000", "40", "eth0")
            + &line(&none, "00", "eth0")
            + &line("00000000000000000000000000000001", "80", "lo")
            + &line("fd010000000000000000000000000005", "80", "lo")
            + &line("ff000000000000000000000000000000", "08", "eth0");
        assert_eq!(shown(routes_v6(&text)), ["fd00::/64 eth0"]);
    }

    #[test]
    fn a_machine_s_addresses_are_those_that_it_hosts() {
        let text = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 10.1.1.0/24 2 0 2\n\
            \x20       |-- 10.1.1.0\n           /24 link UNICAST\n        |-- 10.1.1.5\n           /32 host LOCAL\n\
            \x20       |-- 10.1.1.255\n           /32 link BROADCAST\n     |-- 127.0.0.1\n        /32 host LOCAL\n\
            Local:\n        |-- 10.1.1.5\n           /32 host LOCAL\n";
        let shown = |found: Vec<IpAddr>| found.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown(addresses(text)), ["10.1.1.5", "127.0.0.1"]);
        let text = "00000000000000000000000000000001 01 80 10 80       lo\n\
            fd000000000000000000000000000005 02 40 00 80     eth0\nfe80000000000000fc00feff00000001 02 40 20 80 eth0\n";
        assert_eq!(shown(addresses_v6(text)), ["::1", "fd00::5"]);
        let hosts = "127.0.0.1 localhost # n2\n10.1.1.5\tN1 n1.example\n::1 localhost ip6-localhost\n";
        for (name, known) in [("localhost", Some(true)), ("n1", Some(false)), ("n2", None), ("127.0.0.1", None)] {
            assert_eq!(known_to_hosts(hosts, name), known, "{name}");
        }
    }

    #[test]
    fn small_texts_are_read() {
        assert_eq!(swaps("Filename\tType\n/dev/vda2   partition 1 0 -2\n"), ["/dev/vda2"]);
        let fstab = "# a swap swap\nUUID=1 / ext4 defaults 0 1\n/swap.img none swap sw 0 0\n";
        assert_eq!(swaps_of_fstab(fstab), [(3, "/swap.img none swap sw 0 0".to_owned())]);
        assert_eq!(memory("MemTotal:        2048 kB\nMemFree: 1 kB\n"), Some(2 << 20));
        assert_eq!(modules("kernel/fs/overlayfs/overlay.ko\nkernel/net/x/ip-vs.ko.xz\n"), ["overlay", "ip_vs"]);
        assert_eq!(modules("br_netfilter 32768 0 - Live 0x0\n"), ["br_netfilter"]);
        let arguments = "#KUBELET_EXTRA_ARGS=a\nKUBELET_EXTRA_ARGS=--cgroup-driver=systemd\n";
        assert_eq!(kubelet_arguments(arguments).as_deref(), Some("--cgroup-driver=systemd"));
        assert_eq!(kubelet_arguments("KUBELET_EXTRA_ARGS=\"\"\n"), None);
    }
}
