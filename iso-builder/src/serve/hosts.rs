//! The addresses of this machine, as the kernel lists them under `/proc/net`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses that others reach a listener on `address` by: itself, unless it stands for all.
pub(super) fn hosts(address: IpAddr) -> Vec<IpAddr> {
    if !address.is_unspecified() {
        return vec![address];
    }
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let mut hosts = of_fib_trie(&read("/proc/net/fib_trie"));
    if address.is_ipv6() {
        hosts.extend(of_if_inet6(&read("/proc/net/if_inet6")));
    }
    hosts.retain(|host| !host.is_loopback());
    hosts.sort();
    hosts.dedup();
    if hosts.is_empty() { vec![Ipv4Addr::LOCALHOST.into()] } else { hosts }
}

/// `|-- 10.1.1.1`, and below it `/32 host LOCAL`.
fn of_fib_trie(text: &str) -> Vec<IpAddr> {
    let (mut hosts, mut leaf) = (Vec::new(), None);
    for line in text.lines().map(str::trim) {
        match line.strip_prefix("|-- ") {
            Some(address) => leaf = address.parse::<Ipv4Addr>().ok(),
            None if line.ends_with("host LOCAL") => hosts.extend(leaf.map(IpAddr::from)),
            None => {}
        }
    }
    hosts
}

/// `fd000000000000000000000000000001 02 40 00 80 eth0`; the fourth word is the scope, 00 the global one.
fn of_if_inet6(text: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [address, _, _, "00", ..] = words[..] else { return None };
        u128::from_str_radix(address, 16).ok().map(|bits| Ipv6Addr::from_bits(bits).into())
    };
    text.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lists_are_read() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.1.1.1\n        \
                    /32 host LOCAL\n     |-- 10.1.1.255\n        /32 link BROADCAST\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        assert_eq!(of_fib_trie(trie), ["10.1.1.1".parse::<IpAddr>().unwrap(), "127.0.0.1".parse().unwrap()]);
        let inet6 = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     fe800000000000000000000000000001 02 40 20 80     eth0\n\
                     fd000000000000000000000000000001 02 40 00 80     eth0\n";
        assert_eq!(of_if_inet6(inet6), ["fd00::1".parse::<IpAddr>().unwrap()]);
        assert_eq!(hosts("127.0.0.1".parse().unwrap()), ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        assert!(hosts("::".parse().unwrap()).iter().all(|host| !host.is_unspecified()));
    }
}
