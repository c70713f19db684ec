//! The network of a bed: one bridge with the virtual router and all machines at it, without a way out, and with
//! a count of what wanted one.

use anyhow::{Context as _, Result};

use crate::netns::Netns;
use crate::process::Command;

/// Runs in the router's namespace. The router's address moves from `lo`, where Apache has it from, to the bridge.
const BRIDGE: &str = r#"
# By itself a bridge has the lowest address of its cables, and another one when that one goes: machines would look for the
# router where it was.
ip link add br0 address 02:00:0a:01:01:01 type bridge forward_delay 0 mcast_snooping 0
ip address del "$1/24" dev lo
ip address add "$1/24" dev br0
ip link set br0 up
# What machines tell each other is not routed, so it is not the router's to filter.
sysctl -q -w net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0
# A route for all the world, so that a packet gets as far as the counter, and no further.
ip link add sink0 type veth peer name sink1
ip link set sink0 up
ip link set sink1 up
ip route add default dev sink0
nft -f - <<'NFT'
table inet outside {
    set wanted {
        type ipv4_addr . ipv4_addr . inet_proto . inet_service
        flags dynamic
        size 4096
    }
    counter tried { }
    chain arriving {
        type filter hook prerouting priority raw; policy accept;
        iifname != "br0" accept
        ip daddr { 10.1.1.0/24, 255.255.255.255, 224.0.0.0/4 } accept
        ip6 daddr { fe80::/10, ff00::/8 } accept
        # Services and pods, before a node knows the way to them: nobody outside is meant. Who hears that at once
        # tries again at once.
        ip daddr { 10.96.0.0/12, 10.244.0.0/16 } reject with icmp type net-unreachable
        meta nfproto { ipv4, ipv6 } jump refuse
    }
    chain refuse {
        counter name tried
        meta l4proto { tcp, udp } add @wanted { ip saddr . ip daddr . meta l4proto . th dport }
        drop
    }
    chain forwarding {
        type filter hook forward priority filter; policy drop;
    }
}
NFT
"#;

/// Makes the network of a virtual router a bridge.
pub(super) fn bridge(netns: &Netns, router: &str) -> Result<()> {
    let script = Command::new("sh").args(["-e", "-c", BRIDGE, "bridge", router]);
    netns.enter(script).ok().context("Making the bed's bridge").map(drop)
}

/// Ties the network namespace of the process `pid` to the bridge: its end is `eth0`.
pub(super) fn plug(netns: &Netns, pid: u32, cable: &str, mac: &str) -> Result<()> {
    // That of a machine which was switched off goes with its namespace, which the kernel clears up when it likes.
    netns.enter(Command::new("ip").args(["link", "delete", cable])).output()?;
    let pair = ["link", "add", cable, "type", "veth", "peer", "name", "eth0", "address", mac, "netns"];
    // The other end gets its name at once, so that nobody sees it half done.
    netns.enter(Command::new("ip").args(pair).arg(pid.to_string())).ok().context("Making a cable")?;
    netns.enter(Command::new("ip").args(["link", "set", cable, "master", "br0", "up"])).ok().map(drop)
}

/// Pulls a cable out, or puts it back.
pub(super) fn carry(netns: &Netns, cable: &str, carries: bool) -> Result<()> {
    let state = if carries { "up" } else { "down" };
    netns.enter(Command::new("ip").args(["link", "set", cable, state])).ok().map(drop)
}

/// What wanted to leave the bed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    /// Packets. None has left.
    pub packets: u64,
    /// From where to where: `10.1.1.10 . 93.184.216.34 . tcp . 443`.
    pub wanted: Vec<String>,
}

/// Asks the counter.
pub(super) fn outside(netns: &Netns) -> Result<Outside> {
    let list =
        |kind: &str, name: &str| netns.enter(Command::new("nft").args(["list", kind, "inet", "outside", name])).ok();
    let counter = list("counter", "tried")?;
    let packets = counter.split("packets ").filter_map(|rest| rest.split_whitespace().next()?.parse().ok()).next();
    let packets = packets.with_context(|| format!("nft tells no count of packets: {counter}"))?;
    let set = list("set", "wanted")?;
    let elements = set.split_once("elements = {").and_then(|(_, rest)| rest.split('}').next()).unwrap_or_default();
    let wanted = elements.split(',').map(|element| element.split_whitespace().collect::<Vec<_>>().join(" "));
    Ok(Outside { packets, wanted: wanted.filter(|element| !element.is_empty()).collect() })
}
