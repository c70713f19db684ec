//! A slow network: one rate for everything inside a namespace, and sockets that hold little, so that a
//! transfer lasts long enough to be broken and what is under way at that moment is known.

use anyhow::{Context as _, Result};

use crate::netns::Netns;
use crate::process::Command;

/// What the kernel holds of one connection at most after [`small_sockets`]: handed over by the server,
/// not yet read by the client. Two buffers, each of which may be overrun by one packet of loopback.
pub const SOCKET_BYTES: u64 = 2 * (BUFFER_BYTES + PACKET_BYTES);

const BUFFER_BYTES: u64 = 64 << 10;
const PACKET_BYTES: u64 = 64 << 10;

/// Lets all connections inside `netns` share `megabytes` per second (10⁶ bytes): a token bucket on `lo`.
///
/// # Errors
/// Without the kernel's `sch_tbf` or without root.
pub fn slow(netns: &Netns, megabytes: u64) -> Result<()> {
    let rate = format!("{}mbit", megabytes * 8);
    // The bucket must hold one packet of loopback, 64 KiB; what queues is still in the sender's buffer.
    let bucket = ["tbf", "rate", rate.as_str(), "burst", "128kb", "latency", "500ms"];
    let tc = Command::new("tc").args(["qdisc", "replace", "dev", "lo", "root"]).args(bucket);
    netns.enter(tc).ok().context("Slowing a namespace's network down").map(drop)
}

/// Takes the limit of [`slow`] away again.
///
/// # Errors
/// When there was none.
pub fn full_speed(netns: &Netns) -> Result<()> {
    let tc = Command::new("tc").args(["qdisc", "delete", "dev", "lo", "root"]);
    netns.enter(tc).ok().context("Giving a namespace's network its speed back").map(drop)
}

/// Bounds both buffers of every connection that is made inside `netns` from now on; the kernel would
/// let each grow to megabytes.
///
/// # Errors
/// Without root.
pub fn small_sockets(netns: &Netns) -> Result<()> {
    let limits = format!("4096 {BUFFER_BYTES} {BUFFER_BYTES}");
    let script = r#"for name in tcp_rmem tcp_wmem; do echo "$0" >/proc/sys/net/ipv4/$name; done"#;
    let set = Command::new("sh").args(["-e", "-c", script, limits.as_str()]);
    netns.enter(set).ok().context("Bounding the socket buffers of a namespace").map(drop)
}
