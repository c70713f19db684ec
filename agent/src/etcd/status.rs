//! `cks-agent etcd status`, `member list` and `certificates`: what there is to see.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bootstrap::etcd::certificates::Validity;
use bootstrap::etcd::report::{MemberReport, Report};
use bootstrap::failure::{Code, Failure};
use serde::Serialize;

use super::account;
use super::certificates::{self, Renew};
use super::command::recorded;
use super::known::Known;
use crate::host::Host;
use crate::run::{print_json, print_text};
use crate::view;

/// Certificates that end sooner are warned of: renewal has not worked for months by then.
const SOON_DAYS: i64 = 30;

/// What `status --json` prints (docs/etcd.md).
#[derive(Debug, Serialize)]
struct Document {
    /// The name of the member that this node is.
    node: String,
    #[serde(flatten)]
    report: Report,
    /// Days that this node's certificates are still valid.
    certificates: BTreeMap<&'static str, i64>,
}

/// Shows the cluster. Without a quorum it is shown, too, and the exit code tells.
pub(super) async fn status(host: &Host, json: bool) -> Result<u8, Failure> {
    let known = Known::of(host).await?;
    let mut report = known.report().await;
    let certificates = days(host);
    for (name, days) in certificates.iter().filter(|(_, days)| **days < SOON_DAYS) {
        report
            .warnings
            .push(format!("the certificate {name} ends in {days} days: cks-agent etcd certificates --renew"));
    }
    let quorum = report.quorum;
    let document = Document { node: known.spec.node_name.clone(), report, certificates };
    if json {
        print_json(&document);
    } else {
        print_text(&text(&document));
    }
    if quorum {
        return Ok(0);
    }
    Err(Failure::new(Code::EtcdUnavailable, "etcd has no quorum")
        .with_remedy("bring members back; docs/etcd.md tells what to do when they are lost"))
}

/// Shows the members.
pub(super) async fn list(host: &Host, json: bool) -> Result<u8, Failure> {
    let known = Known::of(host).await?;
    if json {
        print_json(&known.cluster.members);
        return Ok(0);
    }
    let rows = known.cluster.members.iter().map(|member| {
        let name = if member.name.is_empty() { "(never started)" } else { &member.name };
        let role = if member.learner { "learner" } else { "voter" };
        let urls = (member.peer_urls.join(","), member.client_urls.join(","));
        [member.id.to_string(), name.to_owned(), role.to_owned(), urls.0, urls.1]
    });
    print_text(&table(&["ID", "NAME", "ROLE", "PEERS", "CLIENTS"], rows));
    Ok(0)
}

/// Shows how long certificates are valid, after renewing them where told.
pub(super) async fn certificates(host: &Host, renew: bool, json: bool) -> Result<u8, Failure> {
    let spec = recorded(host)?;
    if spec.etcd_authority.is_none() {
        return Err(Failure::new(Code::ConfigInvalid, "this cluster speaks plain HTTP: it has no certificates"));
    }
    let renew = if renew { Renew::All } else { Renew::WhenDue };
    certificates::of_member(host, &spec, account::user(host).await?, renew)?;
    if json {
        print_json(&days(host));
        return Ok(0);
    }
    let rows = days(host).into_iter().map(|(name, days)| [name.to_owned(), days.to_string()]);
    print_text(&table(&["CERTIFICATE", "DAYS LEFT"], rows));
    Ok(0)
}

fn days(host: &Host) -> BTreeMap<&'static str, i64> {
    let now = certificates::now();
    let left = |(name, validity): (&'static str, Validity)| (name, validity.days_left(now));
    certificates::validities(host).into_iter().map(left).collect()
}

fn text(document: &Document) -> String {
    let report = &document.report;
    let quorum = if report.quorum { "quorum" } else { "NO QUORUM" };
    let (count, tolerates) = (report.members.len(), report.tolerates);
    let s = if count == 1 { "" } else { "s" };
    let mut text = format!("cluster {}: {count} member{s}, {quorum}, {tolerates} may fail\n", report.cluster);
    let rows = report.members.iter().map(row);
    text.push_str(&table(&["NAME", "SERVES", "ROLE", "VERSION", "DATABASE", "IN USE", "BEHIND", "ALARMS"], rows));
    if !document.certificates.is_empty() {
        let days = document.certificates.iter().map(|(name, days)| format!("{name} {days}"));
        let _ = writeln!(text, "certificates of {}, days left: {}", document.node, days.collect::<Vec<_>>().join(", "));
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

fn row(member: &MemberReport) -> [String; 8] {
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), view::bytes);
    let role = match (member.leader, member.learner) {
        (true, _) => "leader",
        (_, true) => "learner",
        _ => "follower",
    };
    let alarms = if member.alarms.is_empty() { "-".to_owned() } else { member.alarms.join(",") };
    [
        member.name.clone(),
        if member.healthy { "yes" } else { "NO" }.to_owned(),
        if member.healthy { role } else { "-" }.to_owned(),
        member.version.clone().unwrap_or_else(|| "-".to_owned()),
        size(member.db_bytes),
        size(member.used_bytes),
        member.behind.map_or_else(|| "-".to_owned(), |behind| behind.to_string()),
        alarms,
    ]
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(heads: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut all = vec![heads.map(str::to_owned)];
    all.extend(rows.map(|row| row.map(|cell| bootstrap::text::plain(&cell))));
    let width = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootstrap::etcd::members::Id;

    #[test]
    fn a_cluster_is_seen_at_a_glance() {
        let member = |name: &str, healthy| MemberReport {
            id: Id(1),
            name: name.to_owned(),
            client_urls: Vec::new(),
            healthy,
            learner: false,
            leader: healthy,
            version: healthy.then(|| "3.6.1".to_owned()),
            db_bytes: healthy.then_some(20480),
            used_bytes: healthy.then_some(16384),
            behind: healthy.then_some(0),
            alarms: Vec::new(),
        };
        let report = Report {
            cluster: Id(0xc1),
            leader: None,
            quorum: false,
            tolerates: 0,
            members: vec![member("e1", true), member("long-name", false)],
            warnings: vec!["no quorum".to_owned()],
        };
        let document = Document { node: "e1".to_owned(), report, certificates: BTreeMap::from([("server", 364)]) };
        let text = text(&document);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "cluster c1: 2 members, NO QUORUM, 0 may fail");
        assert!(lines[1].starts_with("NAME       SERVES  ROLE"), "{text}");
        assert!(lines[2].starts_with("e1         yes     leader"), "{text}");
        assert!(lines[3].starts_with("long-name  NO      -"), "{text}");
        assert_eq!(lines[4..], ["certificates of e1, days left: server 364", "warning: no quorum"]);
    }
}
