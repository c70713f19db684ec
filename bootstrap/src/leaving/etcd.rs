//! The etcd member that runs on a control plane node: whether its cluster can do without it.

use serde::{Deserialize, Serialize};

use crate::etcd::answers::EndpointStatus;
use crate::etcd::members::{Cluster, Id};
use crate::etcd::quorum::{self, Health};
use crate::etcd::report;
use crate::failure::{Code, Failure};

/// What a control plane's `etcd.yaml` says of its member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stacked {
    /// The member's name.
    pub name: String,
    /// Where its data lies.
    pub data: String,
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

/// The member of kubeadm's static pod `etcd.yaml`; none where that is no such thing.
#[must_use]
pub fn stacked(manifest: &str) -> Option<Stacked> {
    let flag = |name: &str| {
        let line = manifest.lines().map(|line| line.trim().trim_start_matches("- ").trim_matches(['"', '\'']));
        line.filter_map(|line| line.strip_prefix(name)).map(str::to_owned).find(|value| !value.is_empty())
    };
    let data = flag("--data-dir=").unwrap_or_else(|| "/var/lib/etcd".to_owned());
    let data = data.trim_end_matches('/').to_owned();
    let usable = data.starts_with("/var/lib/") && !data.split('/').any(|part| part == "..");
    Some(Stacked { name: flag("--name=")?, data }).filter(|_| usable)
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
    fn a_static_pod_tells_its_member() {
        let manifest =
            "spec:\n  containers:\n  - command:\n    - etcd\n    - --data-dir=/var/lib/etcd\n    - --name=c0\n";
        assert_eq!(stacked(manifest), Some(Stacked { name: "c0".to_owned(), data: "/var/lib/etcd".to_owned() }));
        for text in [
            "",
            "- --data-dir=/var/lib/etcd",
            "- --name=c0\n- --data-dir=/",
            "- --name=c0\n- --data-dir=/var/lib/../etc",
        ] {
            assert_eq!(stacked(text), None, "{text}");
        }
    }
}
