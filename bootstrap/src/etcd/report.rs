//! A cluster as `cks-agent etcd status` shows it: all members at one sight, and what is wrong.

use serde::Serialize;

use super::answers::EndpointStatus;
use super::members::{Cluster, Id, Member};
use super::quorum::{self, Health};

/// As much of a database may be unused before a defragmentation is advised, in bytes and as a share of it.
const SLACK: (u64, u64) = (100 << 20, 2);
/// etcd's own limit of its database unless it is told otherwise (`--quota-backend-bytes`).
const QUOTA: u64 = 2 << 30;
/// Members are upgraded before this share of the quota is in use, in percent.
const NEARLY_FULL: u64 = 80;

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Its id.
    pub cluster: Id,
    /// Its leader's name; none without a quorum.
    pub leader: Option<String>,
    /// Whether enough members are healthy to decide anything.
    pub quorum: bool,
    /// How many more members may fail.
    pub tolerates: usize,
    /// The members, by name.
    pub members: Vec<MemberReport>,
    /// What an operator should do something about.
    pub warnings: Vec<String>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberReport {
    /// Its id.
    pub id: Id,
    /// Its name, or where it is when it was never started.
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it answers and follows a leader.
    pub healthy: bool,
    /// Whether it has no vote.
    pub learner: bool,
    /// Whether it leads.
    pub leader: bool,
    /// Its version.
    pub version: Option<String>,
    /// Bytes of its database.
    pub db_bytes: Option<u64>,
    /// Bytes of it in use.
    pub used_bytes: Option<u64>,
    /// Entries of its log that it has not applied.
    pub behind: Option<u64>,
    /// Alarms that it raised: `NOSPACE`, `CORRUPT`.
    pub alarms: Vec<String>,
}

/// Puts together what the members say.
#[must_use]
pub fn report(cluster: &Cluster, answers: &[EndpointStatus], alarms: &[(Id, String)]) -> Report {
    let members: Vec<MemberReport> =
        cluster.members.iter().map(|member| member_report(member, answers, alarms)).collect();
    let voters: Vec<&MemberReport> = members.iter().filter(|member| !member.learner).collect();
    let healthy = voters.iter().filter(|member| member.healthy).count();
    let needed = quorum::quorum(voters.len());
    let mut report = Report {
        cluster: cluster.id,
        leader: members.iter().find(|member| member.leader && member.healthy).map(|member| member.name.clone()),
        quorum: healthy >= needed,
        tolerates: healthy.saturating_sub(needed),
        warnings: Vec::new(),
        members,
    };
    report.warnings = warnings(&report);
    report
}

/// Which members are healthy, for the rules of [`quorum`].
#[must_use]
pub fn health<'a>(cluster: &'a Cluster, answers: &[EndpointStatus]) -> Vec<Health<'a>> {
    let healthy = |member: &Member| answer(member, answers).is_some_and(|status| status.leader.is_some());
    cluster.members.iter().map(|member| Health { member, healthy: healthy(member) }).collect()
}

fn answer<'a>(member: &Member, answers: &'a [EndpointStatus]) -> Option<&'a EndpointStatus> {
    answers.iter().find(|status| status.identity.member == member.id)
}

fn member_report(member: &Member, answers: &[EndpointStatus], alarms: &[(Id, String)]) -> MemberReport {
    let status = answer(member, answers);
    MemberReport {
        id: member.id,
        name: member.shown().to_owned(),
        client_urls: member.client_urls.clone(),
        healthy: status.is_some_and(|status| status.leader.is_some()),
        learner: member.learner,
        leader: status.is_some_and(|status| status.leader == Some(member.id)),
        version: status.map(|status| status.version.clone()),
        db_bytes: status.map(|status| status.db_bytes),
        used_bytes: status.map(|status| status.used_bytes),
        behind: status.map(|status| status.raft.0.saturating_sub(status.raft.1)),
        alarms: alarms.iter().filter(|(id, _)| *id == member.id).map(|(_, alarm)| alarm.clone()).collect(),
    }
}

fn warnings(report: &Report) -> Vec<String> {
    let mut warnings = Vec::new();
    let voters = report.members.iter().filter(|member| !member.learner).count();
    if !report.quorum {
        warnings.push("no quorum: nothing can be written; bring members back, or restore a snapshot".to_owned());
    } else if report.tolerates == 0 && voters > 1 {
        warnings.push("no further member may fail".to_owned());
    }
    if voters % 2 == 0 {
        let fewer = voters - 1;
        warnings.push(format!("{voters} members survive no more failures than {fewer}: use an odd number"));
    }
    for member in &report.members {
        let name = &member.name;
        if !member.healthy {
            warnings.push(format!("{name} does not serve"));
        }
        if member.learner {
            warnings.push(format!("{name} is a learner: it has no vote yet"));
        }
        for alarm in &member.alarms {
            let remedy = match &alarm[..] {
                "NOSPACE" => "compact and defragment, then: etcdctl alarm disarm",
                _ => "its data differs from the others': cks-agent etcd member replace, on that node",
            };
            warnings.push(format!("{name} raised {alarm}: {remedy}"));
        }
        let (bytes, used) = (member.db_bytes.unwrap_or_default(), member.used_bytes.unwrap_or_default());
        if used > 0 && bytes.saturating_sub(used) > SLACK.0 && bytes / SLACK.1 > used {
            warnings.push(format!("more than half of {name}'s database is unused: cks-agent etcd defragment"));
        }
        if bytes > QUOTA / 100 * NEARLY_FULL {
            warnings.push(format!("{name}'s database nears 2 GiB, where etcd stops writing unless told otherwise"));
        }
    }
    let mut versions: Vec<&str> = report.members.iter().filter_map(|member| member.version.as_deref()).collect();
    versions.sort_unstable();
    versions.dedup();
    if versions.len() > 1 {
        warnings.push(format!("the members run different versions: {}", versions.join(", ")));
    }
    warnings
}

/// In which order members are defragmented: a member does not serve meanwhile, so the leader comes last.
///
/// # Errors
/// As [`quorum::may_stop`], for the first that may not stop; `ETCD_QUORUM` when a member is not healthy.
pub fn defragment_order(report: &Report) -> Result<Vec<&MemberReport>, crate::failure::Failure> {
    if let Some(member) = report.members.iter().find(|member| !member.healthy) {
        let what = format!("member {} does not serve: another one must not be kept busy now", member.name);
        return Err(crate::failure::Failure::new(crate::failure::Code::EtcdQuorum, what));
    }
    let mut members: Vec<&MemberReport> = report.members.iter().collect();
    members.sort_by_key(|member| member.leader);
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::wal::Identity;

    fn cluster(count: u64) -> Cluster {
        let member = |at: u64| Member {
            id: Id(at),
            name: format!("e{at}"),
            peer_urls: vec![format!("http://10.1.1.{at}:2380")],
            client_urls: vec![format!("http://10.1.1.{at}:2379")],
            learner: false,
        };
        Cluster { id: Id(0xc1), members: (1..=count).map(member).collect() }
    }

    fn status(at: u64, leader: Option<u64>) -> EndpointStatus {
        EndpointStatus {
            endpoint: format!("http://10.1.1.{at}:2379"),
            identity: Identity { cluster: Id(0xc1), member: Id(at) },
            version: "3.6.1".to_owned(),
            db_bytes: 1 << 20,
            used_bytes: 1 << 19,
            leader: leader.map(Id),
            learner: false,
            raft: (10, 9),
            revision: 5,
            errors: Vec::new(),
        }
    }

    #[test]
    fn a_healthy_cluster_needs_no_words() {
        let answers: Vec<EndpointStatus> = (1..=3).map(|at| status(at, Some(2))).collect();
        let report = report(&cluster(3), &answers, &[]);
        assert_eq!((report.leader.as_deref(), report.quorum, report.tolerates), (Some("e2"), true, 1));
        assert_eq!(report.warnings, Vec::<String>::new());
        let order: Vec<&str> = defragment_order(&report).unwrap().iter().map(|member| &member.name[..]).collect();
        assert_eq!(order, ["e1", "e3", "e2"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let one_down: Vec<EndpointStatus> = (1..=2).map(|at| status(at, Some(1))).collect();
        let shown = report(&cluster(3), &one_down, &[(Id(1), "NOSPACE".to_owned())]);
        assert_eq!((shown.quorum, shown.tolerates), (true, 0));
        let all = shown.warnings.join("\n");
        for part in ["no further member may fail", "e3 does not serve", "e1 raised NOSPACE"] {
            assert!(all.contains(part), "{all}");
        }
        assert!(defragment_order(&shown).is_err());

        let alone = report(&cluster(3), &[status(1, None)], &[]);
        assert_eq!((alone.quorum, alone.leader.clone()), (false, None));
        assert!(alone.warnings[0].contains("no quorum"));

        let even = report(&cluster(4), &(1..=4).map(|at| status(at, Some(1))).collect::<Vec<_>>(), &[]);
        assert_eq!(even.warnings, ["4 members survive no more failures than 3: use an odd number"]);

        let mut answers: Vec<EndpointStatus> = (1..=3).map(|at| status(at, Some(1))).collect();
        answers[1].version = "3.5.9".to_owned();
        (answers[2].db_bytes, answers[2].used_bytes) = (1 << 30, 1 << 28);
        let warnings = report(&cluster(3), &answers, &[]).warnings.join("\n");
        assert!(warnings.contains("half of e3's") && warnings.contains("3.5.9, 3.6.1"), "{warnings}");
    }
}
