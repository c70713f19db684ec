//! Routes, addresses and names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bootstrap::node_spec::Endpoint;
use bootstrap::preflight::{HostFacts, read};
use rand::Rng as _;

use super::{Looking, text};
use crate::board::Board;
use crate::host::Host;

/// One question to a resolver: it may ask several servers, twice.
const QUESTION: Duration = Duration::from_secs(12);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// An address that is nobody's (RFC 5737): the way to it is the default route.
const ANYBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));

pub(super) async fn look(host: &Host, board: &Board, looking: &Looking<'_>, facts: &mut HostFacts) {
    let table = |path: &str| text(host, path).unwrap_or_default();
    facts.networks = read::routes(&table("/proc/net/route"));
    facts.networks.extend(read::routes_v6(&table("/proc/net/ipv6_route")));
    facts.addresses = read::addresses(&table("/proc/net/fib_trie"));
    facts.addresses.extend(read::addresses_v6(&table("/proc/net/if_inet6")));
    facts.reaches_default_from = local_address(SocketAddr::new(ANYBODY, 9));
    if let Some(endpoint) = looking.subject.endpoint() {
        let found = resolve(endpoint, board, looking.patience).await;
        let addresses = found.as_deref().unwrap_or_default();
        facts.reaches_endpoint_from =
            addresses.iter().find_map(|address| local_address(SocketAddr::new(*address, endpoint.port)));
        facts.endpoint_addresses = Some(found);
    }
    let hosts = table("/etc/hosts");
    let own = host.name();
    facts.host_name_resolves = Some(read::known_to_hosts(&hosts, &own).is_some() || is_known(&own).await);
    facts.localhost_resolves = match read::known_to_hosts(&hosts, "localhost") {
        Some(loopback) => Some(loopback),
        None => Some(is_known("localhost").await),
    };
}

/// The address that packets to `target` leave from: the kernel chooses it when a socket is connected, and sends nothing.
pub(super) fn local_address(target: SocketAddr) -> Option<IpAddr> {
    let any = if target.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(target).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_unspecified())
}

/// The endpoint's addresses; a name that is not known yet is asked for again, for `patience`.
async fn resolve(endpoint: &Endpoint, board: &Board, patience: Duration) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = endpoint.host.parse() {
        return Ok(vec![address]);
    }
    let waits_for = format!("the name {}", endpoint.host);
    let since = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match ask(&endpoint.host).await {
            Err(why) if since.elapsed() < patience => {
                let left = patience.saturating_sub(since.elapsed());
                let now = pause.mul_f64(rand::rng().random_range(0.5..1.5)).min(left);
                board.wait(&waits_for, &why, since, now, patience);
                tokio::time::sleep(now).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            answer => {
                board.stop_waiting(&waits_for);
                return answer;
            }
        }
    }
}

async fn ask(name: &str) -> Result<Vec<IpAddr>, String> {
    let asked = tokio::time::timeout(QUESTION, tokio::net::lookup_host((name, 0))).await;
    let found = asked.map_err(|_| format!("no answer within {} s", QUESTION.as_secs()))?.map_err(|e| e.to_string())?;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.dedup();
    if addresses.is_empty() { Err("it has no address".to_owned()) } else { Ok(addresses) }
}

async fn is_known(name: &str) -> bool {
    ask(name).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_ourselves_begins_at_ourselves() {
        let own = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(local_address(SocketAddr::new(own, 9)), Some(own));
    }
}
