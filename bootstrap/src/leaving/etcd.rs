//! The etcd member that runs on a control plane node: whether its cluster can do without it.

use serde::{Deserialize, Serialize};

use crate::failure::{Code, Failure};

/// What a control plane's `etcd.yaml` says of its member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stacked {
    /// The member's name.
    pub name: String,
    /// Where its data lies.
    pub data: String,
    /// When its static pod was written (seconds since 1970): tells it from one that came after it.
    #[serde(default)]
    pub made: i64,
}

/// A member as `etcdctl member list` tells it, and whether it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: u64,
    /// Its name; empty before it has started once.
    pub name: String,
    /// Counts for no majority yet.
    pub learner: bool,
    /// Answers.
    pub healthy: bool,
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

#[derive(Deserialize)]
struct Members {
    members: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(rename = "ID")]
    id: u64,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "clientURLs")]
    client_urls: Vec<String>,
    #[serde(default, rename = "isLearner")]
    learner: bool,
}

#[derive(Deserialize)]
struct Health {
    endpoint: String,
    #[serde(default)]
    health: bool,
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
    Some(Stacked { name: flag("--name=")?, data, made: 0 }).filter(|_| usable)
}

/// The members as `etcdctl member list -w json` and `etcdctl endpoint health --cluster -w json` tell them.
///
/// # Errors
/// `ETCD_UNAVAILABLE` when the list can't be read.
pub fn members(list: &str, health: &str) -> Result<Vec<Member>, Failure> {
    let list: Members = serde_json::from_str(list)
        .map_err(|e| Failure::new(Code::EtcdUnavailable, "etcd's list of members can't be read").with_source(e))?;
    let health: Vec<Health> = serde_json::from_str(health).unwrap_or_default();
    let healthy = |urls: &[String]| {
        health.iter().any(|seen| {
            seen.health && urls.iter().any(|url| url.trim_end_matches('/') == seen.endpoint.trim_end_matches('/'))
        })
    };
    let member = |listed: Listed| Member {
        healthy: healthy(&listed.client_urls),
        id: listed.id,
        name: listed.name,
        learner: listed.learner,
    };
    Ok(list.members.into_iter().map(member).collect())
}

/// The member to be removed so that this node, `own`, is none any more; none when it is none already. With `force` the
/// last member may go, which ends the cluster.
///
/// # Errors
/// `ETCD_QUORUM` when the others would have no majority, or this is the last member.
pub fn removal(members: &[Member], own: &str, force: bool) -> Result<Option<u64>, Failure> {
    let Some(member) = members.iter().find(|member| member.name == own) else { return Ok(None) };
    let others: Vec<&Member> = members.iter().filter(|other| other.id != member.id && !other.learner).collect();
    if others.is_empty() {
        let what = format!("{own} is the last member of etcd: without it the cluster and all its objects are gone");
        let remedy = "take a snapshot (cks-agent etcd snapshot); --force ends the cluster and keeps its data aside";
        return if force { Ok(None) } else { Err(Failure::new(Code::EtcdQuorum, what).with_remedy(remedy)) };
    }
    let healthy = others.iter().filter(|other| other.healthy).count();
    let wanted = others.len() / 2 + 1;
    if healthy < wanted && !member.learner {
        let down: Vec<&str> = others.iter().filter(|other| !other.healthy).map(|other| other.name.as_str()).collect();
        let what = format!(
            "without {own} etcd has {} members, of which {healthy} answer and {wanted} have to; not answering: {}",
            others.len(),
            down.join(", ")
        );
        return Err(Failure::new(Code::EtcdQuorum, what));
    }
    Ok(Some(member.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(states: &[(&str, bool, bool)]) -> Vec<Member> {
        let member = |(id, (name, healthy, learner)): (usize, &(&str, bool, bool))| Member {
            id: id as u64,
            name: (*name).to_owned(),
            learner: *learner,
            healthy: *healthy,
        };
        states.iter().enumerate().map(member).collect()
    }

    #[test]
    fn a_member_goes_when_the_others_stay_a_majority() {
        let (up, down) = (true, false);
        for (states, wanted) in [
            (vec![("a", up, false), ("b", up, false), ("c", up, false)], Some(Some(0))),
            (vec![("a", down, false), ("b", up, false), ("c", up, false)], Some(Some(0))),
            (vec![("a", up, false), ("b", up, false)], Some(Some(0))),
            (vec![("a", up, false), ("b", up, false), ("c", down, false)], None),
            (vec![("a", up, false), ("b", down, false)], None),
            (vec![("a", up, false), ("b", up, true)], None),
            (vec![("a", up, true), ("b", up, false)], Some(Some(0))),
            (vec![("a", up, false)], None),
            (vec![("b", up, false)], Some(None)),
            (vec![], Some(None)),
        ] {
            let removal = removal(&cluster(&states), "a", false);
            match &removal {
                Ok(id) => assert_eq!(Some(*id), wanted, "{states:?}"),
                Err(failure) => assert_eq!((failure.code, None), (Code::EtcdQuorum, wanted), "{states:?}"),
            }
        }
    }

    #[test]
    fn force_ends_a_cluster_but_breaks_no_quorum() {
        assert_eq!(removal(&cluster(&[("a", true, false)]), "a", true).unwrap(), None);
        let failure = removal(&cluster(&[("a", true, false), ("b", false, false)]), "a", true).unwrap_err();
        assert!(failure.what.contains("not answering: b"), "{}", failure.what);
    }

    #[test]
    fn members_are_read_as_etcdctl_prints_them() {
        // etcdctl 3.4.23, three members, one of them stopped; shortened.
        let list = r#"{"header":{"cluster_id":1},"members":[{"ID":9372538179322589801,"name":"c0","peerURLs":["https://10.1.1.5:2380"],"clientURLs":["https://10.1.1.5:2379"]},{"ID":10501334649042878790,"name":"c1","peerURLs":["https://10.1.1.6:2380"],"clientURLs":["https://10.1.1.6:2379"],"isLearner":true}]}"#;
        let health = r#"[{"endpoint":"https://10.1.1.5:2379","health":true,"took":"2ms"},{"endpoint":"https://10.1.1.6:2379","health":false,"took":"5s","error":"context deadline exceeded"}]"#;
        let members = members(list, health).unwrap();
        assert_eq!((members[0].id, members[0].healthy), (9_372_538_179_322_589_801, true));
        assert_eq!((members[1].learner, members[1].healthy), (true, false));
        assert_eq!(super::members("x", "").unwrap_err().code, Code::EtcdUnavailable);
    }

    #[test]
    fn a_static_pod_tells_its_member() {
        let manifest =
            "spec:\n  containers:\n  - command:\n    - etcd\n    - --data-dir=/var/lib/etcd\n    - --name=c0\n";
        assert_eq!(
            stacked(manifest),
            Some(Stacked { name: "c0".to_owned(), data: "/var/lib/etcd".to_owned(), made: 0 })
        );
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
