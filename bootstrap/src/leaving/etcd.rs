//! The etcd member that runs on a control plane node: whether its cluster can do without it.

use serde::{Deserialize, Serialize};

use crate::etcd::answers::EndpointStatus;
use crate::etcd::members::{Cluster, Id};
use crate::etcd::quorum::{self, Health};
use crate::etcd::report;
use crate::etcd::standing::{Answer, Said};
use crate::failure::{Code, Failure};

/// kubeadm's static pod of the member.
pub const MANIFEST: &str = "/etc/kubernetes/manifests/etcd.yaml";

/// What a control plane's `etcd.yaml` says of its member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stacked {
    /// The member's name.
    pub name: String,
    /// Where its data lies, as it is told.
    pub data: String,
}

impl Stacked {
    /// Where its data lies, if that is a place that a leave touches. Whether this is a member does not depend on it.
    #[must_use]
    pub fn own_data(&self) -> Option<&str> {
        let usable = self.data.starts_with("/var/lib/") && !self.data.split('/').any(|part| part == "..");
        usable.then_some(&self.data[..])
    }
}

/// A member that is being removed: what has to be known when its own etcd has ended over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removing {
    /// Which member.
    pub id: Id,
    /// Where the others answer clients.
    pub clients: Vec<String>,
    /// Where the others answer their peers.
    pub peers: Vec<String>,
}

impl Removing {
    /// The member `id` of `cluster`.
    #[must_use]
    pub fn of(cluster: &Cluster, id: Id) -> Self {
        let others = || cluster.members.iter().filter(|member| member.id != id);
        Self {
            id,
            clients: others().flat_map(|member| member.client_urls.clone()).collect(),
            peers: others().flat_map(|member| member.peer_urls.clone()).collect(),
        }
    }

    /// That it is out of the cluster that one of the others tells: a member that was removed never comes back under its id.
    ///
    /// # Errors
    /// In words: what each of them says instead.
    pub fn is_over(&self, told: &[Answer]) -> Result<(), String> {
        let without =
            |cluster: &Cluster| cluster.is_formed() && cluster.members.iter().all(|member| member.id != self.id);
        if told.iter().filter_map(Answer::cluster).any(without) {
            return Ok(());
        }
        let says = |answer: &Answer| match &answer.said {
            Said::Nothing(why) => format!("{}: {why}", answer.url),
            Said::Waits => format!("{} waits for its cluster", answer.url),
            Said::Members(cluster) if cluster.is_formed() => format!("{} still lists it", answer.url),
            Said::Members(_) => format!("{} has not met its cluster yet", answer.url),
        };
        Err(told.iter().map(says).collect::<Vec<_>>().join(", "))
    }
}

/// What becomes of this node's member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It is taken out of its cluster, which holds all that it holds.
    Removed,
    /// It is the only one, or nobody knows what others hold: its data is moved aside.
    KeptAside,
}

/// The member of kubeadm's static pod `etcd.yaml`.
///
/// # Errors
/// In words, where it does not tell its member: that is no proof that there is none.
pub fn stacked(manifest: &str) -> Result<Stacked, String> {
    let flag = |name: &str| {
        let line = manifest.lines().map(|line| line.trim().trim_start_matches("- ").trim_matches(['"', '\'']));
        line.filter_map(|line| line.strip_prefix(name)).map(str::to_owned).find(|value| !value.is_empty())
    };
    let data = flag("--data-dir=").unwrap_or_else(|| "/var/lib/etcd".to_owned());
    let name = flag("--name=").ok_or("it does not name its member (--name=)")?;
    Ok(Stacked { name, data: data.trim_end_matches('/').to_owned() })
}

/// The refusal to leave with a member of which nothing is known but that there is one.
#[must_use]
pub fn unknown(why: &str) -> Failure {
    let what = format!("this node runs an etcd member by {MANIFEST}, which can't be read: {why}");
    let remedy = "correct the file; or leave with --force: the member then stays in etcd's list, and its data here";
    Failure::new(Code::EtcdUnavailable, what).with_remedy(remedy)
}

/// The member to be removed so that this node, `own`, is none any more; none when it is none already. With `force` the
/// last member may go, which ends the cluster, and one of two, where the other has to answer until the vote is over.
///
/// # Errors
/// `ETCD_QUORUM` when the others are too few, or this is the last member.
pub fn removal(cluster: &Cluster, answers: &[EndpointStatus], own: &str, force: bool) -> Result<Option<Id>, Failure> {
    let Some(member) = cluster.members.iter().find(|member| member.name == own) else { return Ok(None) };
    let last = cluster.voters().all(|voter| voter.id == member.id);
    if last && !member.learner {
        let what = format!("{own} is the last member of etcd: without it the cluster and all its objects are gone");
        let remedy = "take a snapshot (etcdctl snapshot save); --force ends the cluster and keeps its data aside";
        return if force { Ok(None) } else { Err(Failure::new(Code::EtcdQuorum, what).with_remedy(remedy)) };
    }
    let health = report::health(cluster, answers);
    match quorum::may_remove(&health, member.id) {
        Err(failure) if !(force && suffices(&health, member.id)) => {
            let remedy = "bring the other members back first, or add a control plane node; --force lets one of two healthy members go";
            Err(failure.with_remedy(remedy))
        }
        _ => Ok(Some(member.id)),
    }
}

/// Whether those that answer now can vote the member out, and those of them that stay are a quorum among themselves.
fn suffices(health: &[Health<'_>], id: Id) -> bool {
    let voters: Vec<&Health<'_>> = health.iter().filter(|voter| !voter.member.learner).collect();
    let healthy = voters.iter().filter(|voter| voter.healthy).count();
    let others = voters.iter().filter(|voter| voter.healthy && voter.member.id != id).count();
    healthy >= quorum::quorum(voters.len()) && others >= quorum::quorum(voters.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::answers;

    /// Members 1, 2, … of that many, the last ones learners; the answers are of those that are up.
    fn cluster(names: &[&str], learners: &[&str], up: &[&str]) -> (Cluster, Vec<EndpointStatus>) {
        let id = |name: &str| names.iter().position(|known| *known == name).unwrap() + 1;
        let member = |name: &&str| {
            let (id, learner) = (id(name), learners.contains(name));
            format!(
                r#"{{"ID":{id},"name":"{name}","peerURLs":["https://{name}:2380"],"clientURLs":["https://{name}:2379"],"isLearner":{learner}}}"#
            )
        };
        let members: Vec<String> = names.iter().map(member).collect();
        let list = format!(r#"{{"header":{{"cluster_id":9}},"members":[{}]}}"#, members.join(","));
        let answer = |name: &&str| {
            let id = id(name);
            format!(
                r#"{{"Endpoint":"https://{name}:2379","Status":{{"header":{{"cluster_id":9,"member_id":{id}}},"leader":1}}}}"#
            )
        };
        let told: Vec<String> = up.iter().map(answer).collect();
        (Cluster::of_list(&list).unwrap(), answers::endpoint_status(&format!("[{}]", told.join(","))).unwrap())
    }

    #[test]
    fn a_member_goes_when_the_others_decide_it() {
        for (names, learners, up, wanted) in [
            (vec!["a", "b", "c"], vec![], vec!["a", "b", "c"], Some(Some(1))),
            (vec!["a", "b", "c"], vec![], vec!["b", "c"], Some(Some(1))),
            (vec!["a", "b", "c"], vec![], vec!["a", "b"], None),
            (vec!["a", "b"], vec![], vec!["a", "b"], None),
            (vec!["a", "b"], vec!["b"], vec!["a", "b"], None),
            (vec!["a", "b"], vec!["a"], vec!["b"], Some(Some(1))),
            (vec!["a"], vec![], vec!["a"], None),
            (vec!["b"], vec![], vec!["b"], Some(None)),
        ] {
            let (members, answers) = cluster(&names, &learners, &up);
            match removal(&members, &answers, "a", false) {
                Ok(id) => assert_eq!(Some(id.map(|id| id.0)), wanted, "{names:?} {up:?}"),
                Err(failure) => assert_eq!((failure.code, None), (Code::EtcdQuorum, wanted), "{names:?} {up:?}"),
            }
        }
    }

    #[test]
    fn force_ends_a_cluster_but_breaks_no_quorum() {
        let (members, answers) = cluster(&["a"], &[], &["a"]);
        assert_eq!(removal(&members, &answers, "a", true).unwrap(), None);
        for (names, up, goes) in [
            (vec!["a", "b"], vec!["a", "b"], true),
            (vec!["a", "b"], vec!["a"], false),
            (vec!["a", "b", "c"], vec!["a", "b"], false),
            (vec!["a", "b", "c"], vec!["b", "c"], true),
        ] {
            let (members, answers) = cluster(&names, &[], &up);
            assert_eq!(removal(&members, &answers, "a", true).is_ok(), goes, "{names:?} {up:?}");
        }
    }

    #[test]
    fn others_tell_that_a_member_is_gone_or_what_they_tell_instead() {
        let (before, _) = cluster(&["a", "b"], &[], &[]);
        let removing = Removing::of(&before, Id(1));
        let mut after = before.clone();
        after.members.retain(|member| member.id != Id(1));
        let answer = |said: Said| Answer { url: "https://b:2380".to_owned(), said };
        let members = |cluster: &Cluster| answer(Said::Members(cluster.clone()));
        let refused = || answer(Said::Nothing("connection refused".to_owned()));
        assert_eq!(removing.is_over(&[refused(), members(&before), members(&after)]), Ok(()));
        let mut fresh = after.clone();
        fresh.members.iter_mut().for_each(|member| member.client_urls.clear());
        for (told, says) in [
            (refused(), "connection refused"),
            (answer(Said::Waits), "waits"),
            (members(&before), "still lists it"),
            (members(&fresh), "has not met"),
        ] {
            let told = removing.is_over(&[told]).unwrap_err();
            assert!(told.contains("https://b:2380") && told.contains(says), "{told}");
        }
    }

    #[test]
    fn a_static_pod_tells_its_member() {
        let manifest =
            "spec:\n  containers:\n  - command:\n    - etcd\n    - --data-dir=/var/lib/etcd\n    - --name=c0\n";
        let told = stacked(manifest).unwrap();
        assert_eq!((&told.name[..], told.own_data()), ("c0", Some("/var/lib/etcd")));
        for text in ["", "- --data-dir=/var/lib/etcd", "- --name="] {
            assert!(stacked(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_member_is_one_wherever_its_data_lies() {
        for (data, own) in [
            ("/data/etcd", None),
            ("/", None),
            ("/var/lib/", None),
            ("/var/lib/../etcd", None),
            ("/var/lib/etcd/", Some("/var/lib/etcd")),
            ("/var/lib/disk/etcd", Some("/var/lib/disk/etcd")),
        ] {
            let told = stacked(&format!("- --name=c0\n- --data-dir={data}\n")).unwrap();
            assert_eq!((&told.name[..], told.own_data()), ("c0", own), "{data}");
        }
    }
}
