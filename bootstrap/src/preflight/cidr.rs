//! A network that nobody is in.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

/// Private networks (RFC 1918, RFC 6598), those first that guest networks seldom lie in.
const PRIVATE: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];

/// The upper half of each is looked at first: guest networks begin from below.
const FIRST: u32 = 128;

/// Whether two networks share an address.
pub(super) fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// A private IPv4 network of `length` bits that shares no address with `taken`; none where all are taken.
#[must_use]
pub fn free(length: u8, taken: &[IpNet]) -> Option<IpNet> {
    let candidates = PRIVATE.iter().filter(|(_, outer)| length >= *outer && length <= 30).flat_map(|(base, outer)| {
        let step = 1_u64 << (32 - u32::from(length));
        // Of a long list of small networks, as many as anybody will have taken.
        let count = (1_u64 << (length - outer)).min(1 << 12);
        let offset = if length - outer >= 8 { u64::from(FIRST) } else { count / 2 };
        (0..count).map(move |at| u64::from(u32::from(*base)) + ((at + offset) % count) * step)
    });
    candidates.filter_map(|at| Ipv4Net::new(Ipv4Addr::from(u32::try_from(at).ok()?), length).ok()).map(IpNet::V4).find(
        |network| {
            let own = |address: IpAddr| network.contains(&address);
            // The same answer for a network and for a single address in it.
            !taken.iter().any(|other| overlap(network, other) || own(other.addr()))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_suggested_is_free() {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        for (length, taken, found) in [
            (16, vec![], Some("10.128.0.0/16")),
            (16, vec!["10.128.0.0/9"], Some("10.0.0.0/16")),
            (16, vec!["10.0.0.0/8"], Some("172.24.0.0/16")),
            (12, vec!["10.96.0.0/12"], Some("10.128.0.0/12")),
            (8, vec!["10.1.1.0/24"], None),
            (24, vec!["0.0.0.0/0"], None),
            (31, vec![], None),
        ] {
            let taken = nets(&taken);
            let network = free(length, &taken);
            assert_eq!(network.map(|network| network.to_string()).as_deref(), found, "/{length} beside {taken:?}");
        }
    }
}
