//! `etcd.service` as the server writes it.

use std::net::IpAddr;

use crate::failure::Failure;
use crate::text::plain;
use crate::user_data::place::{Findings, Place};
use crate::user_data::{placeholder, refused_at, shell, unfilled};

/// What the unit says of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::user_data) struct Etcd {
    /// Its name.
    pub(in crate::user_data) name: String,
    /// Its address.
    pub(in crate::user_data) address: Option<IpAddr>,
    /// All members, as etcd spells them: `a=http://10.1.1.2:2380,b=…`.
    pub(in crate::user_data) cluster: String,
    /// Where it stands.
    pub(in crate::user_data) place: Place,
}

/// Reads the unit, whose first line is at `place`.
///
/// # Errors
/// `USER_DATA_INVALID` names the flag.
pub(in crate::user_data) fn etcd(unit: &str, place: Place, findings: &mut Findings) -> Result<Option<Etcd>, Failure> {
    let lines = shell::lines(unit);
    let call = lines.iter().find_map(|line| {
        let first = line.words.first()?.strip_prefix("ExecStart=")?;
        let is_etcd = first == "etcd" || first.ends_with("/etcd");
        is_etcd.then(|| (place.down(line.number - 1), line.words.get(1..).unwrap_or_default()))
    });
    let Some((at, words)) = call else { return Ok(None) };
    let mut flags = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let flag = word.trim_start_matches('-');
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (flag, words.next().cloned().unwrap_or_default()),
        };
        flags.push((name, value));
    }
    let get = |name: &str| -> Result<Option<&str>, Failure> {
        let Some((_, value)) = flags.iter().rfind(|(flag, _)| *flag == name) else { return Ok(None) };
        match placeholder::first(value) {
            Some(token) => Err(refused_at(at, unfilled(&format!("etcd --{name}"), token))),
            None => Ok(Some(value.as_str()).filter(|value| !value.is_empty())),
        }
    };
    let missing = |name: &str| refused_at(at, format!("etcd without --{name}"));
    let peer = get("initial-advertise-peer-urls")?.or(get("listen-peer-urls")?);
    let known = [
        "name",
        "initial-advertise-peer-urls",
        "listen-peer-urls",
        "advertise-client-urls",
        "listen-client-urls",
        "initial-cluster",
        "initial-cluster-token",
        "initial-cluster-state",
    ];
    for (name, _) in flags.iter().filter(|(name, _)| !known.contains(name)) {
        findings.ignore(at, format!("etcd --{}", plain(name)), "etcd gets a unit of ours");
    }
    Ok(Some(Etcd {
        name: get("name")?.ok_or_else(|| missing("name"))?.to_ascii_lowercase(),
        address: peer.and_then(address_of),
        cluster: get("initial-cluster")?.ok_or_else(|| missing("initial-cluster"))?.to_owned(),
        place: at,
    }))
}

/// The address of an URL: `http://10.1.1.2:2380`.
fn address_of(url: &str) -> Option<IpAddr> {
    let (_, rest) = url.split_once("://")?;
    let host = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => rest.split([':', '/']).next()?,
    };
    host.parse().ok()
}
