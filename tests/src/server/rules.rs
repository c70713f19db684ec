//! The virtual router's port forwarding: a public address, and from its ports the ways to machines. As on CloudStack's
//! router the kernel does it, and machines of the network get to the public address, too.

use anyhow::{Context as _, Result};

use crate::netns::Netns;
use crate::process::Command;

/// The public address of the bed's network.
pub const PUBLIC: &str = "198.51.100.10";

/// Makes room for rules. The bed lets nothing out, and this address is not out.
const TABLE: &str = r#"
ip address add "$1/32" dev lo
nft -f - <<NFT
table ip public {
    map forwards {
        type inet_service : ipv4_addr . inet_service
    }
    chain arriving {
        type nat hook prerouting priority dstnat
        ip daddr $1 dnat ip to tcp dport map @forwards
    }
    chain own {
        type nat hook output priority -100
        ip daddr $1 dnat ip to tcp dport map @forwards
    }
    chain leaving {
        type nat hook postrouting priority srcnat
        ct status dnat masquerade
    }
}
insert rule inet outside arriving ip daddr $1 accept
insert rule inet outside forwarding ct status dnat accept
NFT
"#;

/// The rules of a bed's router.
#[derive(Debug)]
pub struct Rules {
    network: String,
}

impl Rules {
    /// None yet.
    ///
    /// # Errors
    /// When the router's network is none of a bed, or has rules already.
    pub fn new(router: &Netns) -> Result<Self> {
        let script = Command::new("sh").args(["-e", "-c", TABLE, "rules", PUBLIC]);
        router.enter(script).ok().context("Giving the router a public address")?;
        Ok(Self { network: router.path() })
    }

    /// From a port of the public address to a port of a machine.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn forward(&self, port: u16, address: &str, to: u16) -> Result<()> {
        self.nft("add", &format!("{{ {port} : {address} . {to} }}"))
    }

    /// Takes that back.
    ///
    /// # Errors
    /// When there is no such rule.
    pub fn unforward(&self, port: u16) -> Result<()> {
        self.nft("delete", &format!("{{ {port} }}"))
    }

    fn nft(&self, verb: &str, element: &str) -> Result<()> {
        let nft = Command::new("nft").args([verb, "element", "ip", "public", "forwards", element]);
        nft.network(&self.network).ok().map(drop).context("Changing the router's rules")
    }
}
