//! A wire between the virtual router's network and a node's: two ends of a veth pair, as fast as told.

use std::fs;

use anyhow::{Context as _, Result};

use crate::netns::{ADDRESS, Netns};
use crate::process::Command;

/// The node's address.
pub const NODE: &str = "10.1.1.12";

/// What a full Ethernet frame has of payload: 1448 of the 1514 bytes that the token bucket counts.
pub const PAYLOAD: f64 = 1448.0 / 1514.0;

/// Runs in the node's namespace, which has the router's address as every [`Netns`] has it.
const NODE_SIDE: &str = r#"
ip address del "$1/24" dev lo
ip address add "$2/24" dev eth0
ip link set eth0 up
"#;

/// Runs in the router's namespace. The router has its address on `lo` and answers for it on every interface.
const ROUTER_SIDE: &str = r#"
ip link set vr0 up
ip route add "$1/32" dev vr0
[ -z "$2" ] || tc qdisc replace dev vr0 root tbf rate "$2mbit" burst 128kb latency 50ms
"#;

/// The wire, gone with the namespaces at its ends.
#[derive(Debug)]
pub struct Link {
    /// The network of the node.
    pub node: Netns,
}

impl Link {
    /// Ties a new node's network to the router's. What the router sends is bounded to `megabits` per second
    /// (10⁶ bits) where told.
    ///
    /// # Errors
    /// Without root, without the kernel's `veth` or `sch_tbf`; when `router` has such a wire already.
    pub fn new(router: &Netns, megabits: Option<u32>) -> Result<Self> {
        let node = Netns::new()?;
        let pair = ["link", "add", "vr0", "type", "veth", "peer", "name", "eth0", "netns"];
        router.enter(Command::new("ip").args(pair).arg(node.path())).ok().context("Making a veth pair")?;
        let sh = |script: &str| Command::new("sh").args(["-e", "-c", script, "link"]);
        node.enter(sh(NODE_SIDE).args([ADDRESS, NODE])).ok().context("Setting up a node's end of a link")?;
        let rate = megabits.map(|megabits| megabits.to_string()).unwrap_or_default();
        let set_up = sh(ROUTER_SIDE).args([NODE, &rate]);
        router.enter(set_up).ok().context("Setting up the router's end of a link")?;
        Ok(Self { node })
    }

    /// Bytes that the node has received, frames counted as the kernel passes them on (with their headers).
    ///
    /// # Errors
    /// When the kernel doesn't tell.
    pub fn received(&self) -> Result<u64> {
        // The namespace's holder sees its own network there.
        let path = self.node.path().replace("ns/net", "net/dev");
        let text = fs::read_to_string(&path).with_context(|| format!("Reading {path}"))?;
        received(&text).with_context(|| format!("{path} tells nothing of eth0"))
    }
}

/// The first number of `eth0` (kernel, proc.rst: `/proc/PID/net/dev`).
fn received(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vr::Vr;

    #[test]
    fn what_the_kernel_tells_of_an_interface() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 1 2 3\n  eth0:  4711  5 6\n";
        assert_eq!(received(text), Some(4711));
        assert_eq!(received("lo: 1"), None);
    }

    #[test]
    fn a_node_fetches_over_it_at_its_rate() {
        let content = crate::scratch("link").unwrap();
        fs::write(content.path().join("file"), vec![7; 1 << 20]).unwrap();
        let vr = Vr::start(content.path()).unwrap();
        let link = Link::new(&vr.netns, Some(100)).unwrap();
        let url = format!("{}file", vr.url);
        let curl = Command::new("curl").args(["-sSf", "--max-time", "60", "-o", "/dev/null", url.as_str()]);
        link.node.enter(curl).ok().unwrap();
        assert!(link.received().unwrap() > 1 << 20);
        let bucket = Command::new("tc").args(["qdisc", "show", "dev", "vr0"]);
        let told = vr.netns.enter(bucket).ok().unwrap();
        assert!(told.contains("tbf") && told.contains("rate 100Mbit"), "{told}");
    }
}
