//! Where a network's virtual router may be, from what this machine already knows: leases of the common DHCP
//! clients, and the kernel's routes. The server of the lease is the router itself; on a shared network the
//! gateway is another machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The route leads over a gateway (`RTF_GATEWAY` of `linux/route.h`).
const GATEWAY: u32 = 2;
/// What stands before the options of a DHCP packet (RFC 2131 §3), and where.
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const COOKIE_AT: usize = 236;
/// Option 54, the server identifier (RFC 2132 §9.7).
const SERVER_IDENTIFIER: u8 = 54;

/// The DHCP servers of a lease file, newest first. Read are the lines of systemd-networkd and of
/// NetworkManager's own client (`SERVER_ADDRESS=`), of dhclient (`option dhcp-server-identifier …;`, the newest
/// lease last), of dumps (`dhcp_server_identifier=`), and of the initramfs (`ROOTSERVER='…'`).
#[must_use]
pub fn servers_of_lease(text: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines().rev() {
        let line = line.trim();
        let value = match line.split_once('=') {
            Some(("SERVER_ADDRESS" | "dhcp_server_identifier" | "ROOTSERVER" | "DHCPSID", value)) => value,
            _ => match line.strip_prefix("option dhcp-server-identifier ") {
                Some(value) => value,
                None => continue,
            },
        };
        let value = value.trim_matches(|c: char| "'\"; ".contains(c));
        if let Ok(address) = value.parse::<IpAddr>()
            && usable(address)
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

/// The DHCP server of a packet as dhcpcd keeps it.
#[must_use]
pub fn server_of_packet(packet: &[u8]) -> Option<IpAddr> {
    let mut options = packet.get(COOKIE_AT..)?.strip_prefix(&COOKIE)?;
    loop {
        match options {
            // Padding.
            [0, rest @ ..] => options = rest,
            [255, ..] | [] | [_] => return None,
            [kind, length, rest @ ..] => {
                let (value, rest) = rest.split_at_checked(usize::from(*length))?;
                if *kind == SERVER_IDENTIFIER {
                    let address = IpAddr::from(<[u8; 4]>::try_from(value).ok()?);
                    return Some(address).filter(|address| usable(*address));
                }
                options = rest;
            }
        }
    }
}

/// The default gateways of `/proc/net/route`, the preferred one first.
#[must_use]
pub fn gateways(text: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, destination, gateway, flags, _, _, metric, mask, ..] = fields[..] else { continue };
        let (Some(gateway), Some(flags)) = (hex(gateway), hex(flags)) else { continue };
        if hex(destination) == Some(0) && hex(mask) == Some(0) && flags & GATEWAY != 0 {
            // As the kernel holds it: network order, printed as one number of this machine.
            let address = IpAddr::V4(Ipv4Addr::from(gateway.to_ne_bytes()));
            found.push((metric.parse::<u32>().unwrap_or(u32::MAX), address));
        }
    }
    in_order(found)
}

/// The default gateways of `/proc/net/ipv6_route`, the preferred one first; not those of one link alone, which
/// no URL can name.
#[must_use]
pub fn gateways_v6(text: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [destination, length, _, _, gateway, metric, _, _, flags, ..] = fields[..] else { continue };
        let (Ok(destination), Ok(gateway)) = (u128::from_str_radix(destination, 16), u128::from_str_radix(gateway, 16))
        else {
            continue;
        };
        if destination == 0 && hex(length) == Some(0) && hex(flags).is_some_and(|flags| flags & GATEWAY != 0) {
            found.push((hex(metric).unwrap_or(u32::MAX), IpAddr::V6(Ipv6Addr::from(gateway))));
        }
    }
    in_order(found)
}

/// Where the router at `host` serves the ISO: `http://10.1.1.1/cks-iso/`.
#[must_use]
pub fn url(host: IpAddr) -> String {
    match host {
        IpAddr::V4(host) => format!("http://{host}/cks-iso/"),
        IpAddr::V6(host) => format!("http://[{host}]/cks-iso/"),
    }
}

fn in_order(mut found: Vec<(u32, IpAddr)>) -> Vec<IpAddr> {
    found.sort_by_key(|(metric, _)| *metric);
    let mut addresses: Vec<IpAddr> = Vec::new();
    for (_, address) in found {
        if usable(address) && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

fn usable(address: IpAddr) -> bool {
    let one_link = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || one_link)
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORKD: &str = "# This is private data. Do not parse.\nADDRESS=10.1.1.23\nNETMASK=255.255.255.0\n\
        ROUTER=10.1.1.254\nSERVER_ADDRESS=10.1.1.1\nNEXT_SERVER=10.1.1.9\nT1=43200\nDNS=10.1.1.1\n";
    const DHCLIENT: &str = "lease {\n  interface \"eth0\";\n  fixed-address 10.1.1.23;\n  option routers 10.1.1.1;\n\
        \x20 option dhcp-server-identifier 10.1.1.7;\n}\nlease {\n  option dhcp-lease-time 86400;\n\
        \x20 option dhcp-server-identifier 10.1.1.1;\n  renew 4 2026/01/01 00:00:00;\n}\n";
    const INITRAMFS: &str = "DEVICE='eth0'\nPROTO='dhcp'\nIPV4ADDR='10.1.1.23'\nIPV4GATEWAY='10.1.1.254'\n\
        ROOTSERVER='10.1.1.1'\nDNSDOMAIN='cs2cloud.internal'\n";
    const MANAGER: &str =
        "[device]\nmanaged=managed\n\n[dhcp4]\ndhcp_server_identifier=10.1.1.1\nip_address=10.1.1.23\n";

    fn texts(addresses: Vec<IpAddr>) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_client_s_lease_names_the_server() {
        for (text, servers) in [
            (NETWORKD, vec!["10.1.1.1"]),
            (DHCLIENT, vec!["10.1.1.1", "10.1.1.7"]),
            (INITRAMFS, vec!["10.1.1.1"]),
            (MANAGER, vec!["10.1.1.1"]),
            ("SERVER_ADDRESS=\n", vec![]),
            ("SERVER_ADDRESS=0.0.0.0\nROOTSERVER='127.0.0.1'\n", vec![]),
            ("SERVER_ADDRESS=10.1.1.1/../../x\n", vec![]),
            ("\u{0}\u{7f}\noption dhcp-server-identifier", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(texts(servers_of_lease(text)), servers, "{text}");
        }
    }

    #[test]
    fn dhcpcd_s_packet_names_the_server() {
        let packet = |options: &[u8]| [&[0; COOKIE_AT], &COOKIE[..], options].concat();
        let server = [53, 1, 5, 0, 0, 51, 4, 0, 1, 0, 0, 54, 4, 10, 1, 1, 1, 255];
        assert_eq!(server_of_packet(&packet(&server)), Some(IpAddr::from([10, 1, 1, 1])));
        let others: [&[u8]; 6] = [&[], &[255], &[54], &[54, 4, 10], &[54, 3, 1, 1, 1, 255], &[53, 200, 5]];
        for options in others {
            assert_eq!(server_of_packet(&packet(options)), None, "{options:?}");
        }
        assert_eq!(server_of_packet(b"short"), None);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn routes_name_the_gateways_by_metric() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth1\t00000000\t0102A8C0\t0003\t0\t0\t200\t00000000\t0\t0\t0\n\
            eth0\t00000000\t0101010A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            eth0\t0001010A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n\
            tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth2\t00000000\t0101010A\t0003\t0\t0\t300\t00000080\t0\t0\t0\nbroken line\n";
        assert_eq!(texts(gateways(text)), ["10.1.1.1", "192.168.2.1"]);
        let none = "0".repeat(32);
        let line = |gateway: &str, length: &str, flags: &str| {
            format!("{none} {length} {none} 00 {gateway} 00000400 00000001 00000000 {flags}     eth0\n")
        };
        let far = "20010db8000000000000000000000001";
        let text = line(far, "00", "00450003") + &line("fe800000000000000000000000000001", "00", "00450003");
        assert_eq!(texts(gateways_v6(&text)), ["2001:db8::1"]);
        assert!(gateways_v6(&(line(far, "40", "00450003") + &line(&none, "00", "00200200"))).is_empty());
        assert_eq!(url(gateways_v6(&text)[0]), "http://[2001:db8::1]/cks-iso/");
    }
}
