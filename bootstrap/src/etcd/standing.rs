//! What a node has to do to be a member of its cluster: from what its disk holds and what its peers answer.
//!
//! Two things must never happen: that a node whose data was lost begins a second cluster beside the one that it was a
//! member of, and that it comes back under its old id, having forgotten what it voted for and what it confirmed. Silence
//! is no proof that there is no cluster, so a cluster is begun only when enough of its members say that they have no data
//! either; a node that waits tells the others that it does.

use super::members::{Cluster, Id, Member};
use super::quorum::quorum;
use super::wal::Identity;
use crate::failure::{Code, Failure};

/// What is known about a node and its peers.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where its peers reach it.
    pub peer_url: &'a str,
    /// All members of the cluster as it is wanted, `(name, peer URL)`.
    pub wanted: &'a [(String, String)],
    /// Whose data the data directory holds, where it holds any.
    pub data: Option<Identity>,
    /// What an earlier run left written.
    pub past: Past,
    /// What its own etcd answers, where it serves.
    pub serves: Option<Serves>,
    /// What the other wanted members answer.
    pub others: Vec<Answer>,
    /// Whether it has been waited long enough for all others to come, or for its own etcd to serve.
    pub waited: bool,
}

/// What an earlier run left written about this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// Nothing.
    Unknown,
    /// It was being made a member; nobody has seen it serve.
    Begun,
    /// It was seen to serve as this member.
    Member(Identity),
}

/// What its own etcd answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serves {
    /// Which member of which cluster it is.
    pub identity: Identity,
    /// Whether it has no vote yet.
    pub learner: bool,
}

/// What another wanted member answers.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Where it was asked.
    pub url: String,
    /// What it said.
    pub said: Said,
}

/// What a member says.
#[derive(Debug, Clone)]
pub enum Said {
    /// Nothing: why.
    Nothing(String),
    /// It has no data, and waits as this node does.
    Waits,
    /// Its etcd knows these members.
    Members(Cluster),
}

impl Answer {
    /// The cluster that its etcd knows.
    #[must_use]
    pub fn cluster(&self) -> Option<&Cluster> {
        if let Said::Members(cluster) = &self.said { Some(cluster) } else { None }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: it serves, and it votes.
    Serves,
    /// It serves; it gets its vote as soon as it has all data.
    Learner(Id),
    /// The data directory says who it is: etcd is started.
    Data,
    /// A new cluster is begun, with all others of the list.
    New,
    /// Nobody can say yet whether there is a cluster: why.
    Undecided(String),
    /// It joins a cluster that is there.
    Joins(Joining),
    /// What lies in the data directory never became a member's; it is moved aside: why.
    SetAside(String),
}

/// How a node joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    /// The members that it takes the place of: its own past, without the data.
    pub replaces: Vec<Id>,
    /// Whether the cluster does not expect it yet.
    pub add: bool,
}

/// What a node with these `facts` has to do.
///
/// # Errors
/// `ETCD_FOREIGN`: its data, or its peers, are of another cluster. `ETCD_QUORUM`: its data is lost, and with it the
/// quorum.
pub fn standing(facts: &Facts<'_>) -> Result<Standing, Failure> {
    let formed = formed(&facts.others)?;
    if let Some(serves) = facts.serves {
        return match formed {
            Some(cluster) if cluster.id != serves.identity.cluster => Err(foreign(facts, serves.identity, cluster)),
            _ if serves.learner => Ok(Standing::Learner(serves.identity.member)),
            _ => Ok(Standing::Serves),
        };
    }
    match (facts.data, formed) {
        (Some(data), formed) => with_data(facts, data, formed),
        (None, Some(cluster)) if is_awaited(facts, cluster) => Ok(Standing::New),
        (None, Some(cluster)) => Ok(Standing::Joins(joining(facts.name, facts.peer_url, cluster))),
        (None, None) => begin(facts),
    }
}

/// The cluster that the others are members of, where they have ever been.
fn formed(others: &[Answer]) -> Result<Option<&Cluster>, Failure> {
    let mut all = others.iter().filter_map(|answer| Some((&answer.url, answer.cluster()?)));
    let Some((url, first)) = all.find(|(_, cluster)| cluster.is_formed()) else { return Ok(None) };
    match all.find(|(_, cluster)| cluster.is_formed() && cluster.id != first.id) {
        None => Ok(Some(first)),
        Some((other, cluster)) => {
            let what = format!("the members are of two clusters: {url} of {}, {other} of {}", first.id, cluster.id);
            Err(Failure::new(Code::EtcdForeign, what).with_remedy("name members of one cluster only"))
        }
    }
}

fn with_data(facts: &Facts<'_>, data: Identity, formed: Option<&Cluster>) -> Result<Standing, Failure> {
    let Some(cluster) = formed else {
        return match facts.past {
            Past::Member(past) if past != data => {
                let what = format!(
                    "the data directory is of member {} of cluster {}, and this node is member {} of cluster {}",
                    data.member, data.cluster, past.member, past.cluster
                );
                Err(Failure::new(Code::EtcdForeign, what))
            }
            _ => Ok(Standing::Data),
        };
    };
    let begun = facts.past == Past::Begun;
    if cluster.id != data.cluster {
        return if begun {
            Ok(Standing::SetAside(format!("it was begun while cluster {} did not answer", cluster.id)))
        } else {
            Err(foreign(facts, data, cluster))
        };
    }
    match cluster.members.iter().find(|member| member.id == data.member) {
        None if begun => Ok(Standing::SetAside(format!("the cluster has no member {}", data.member))),
        None => {
            let what = format!("{} was member {}, which the cluster removed", facts.name, data.member);
            Err(Failure::new(Code::EtcdForeign, what)
                .with_remedy("cks-agent etcd member replace moves the data aside and joins anew"))
        }
        Some(member) => same_member(facts, member),
    }
}

/// The data is of `member`: is that us?
fn same_member(facts: &Facts<'_>, member: &Member) -> Result<Standing, Failure> {
    if !member.name.is_empty() && member.name != facts.name {
        let what = format!("the data directory is of member {}, and this node is {}", member.name, facts.name);
        return Err(Failure::new(Code::EtcdForeign, what));
    }
    if !member.is_at(facts.peer_url) {
        let at = member.peer_urls.join(", ");
        let what = format!("the cluster knows {} at {at}, and it listens at {}", facts.name, facts.peer_url);
        return Err(Failure::new(Code::EtcdForeign, what)
            .with_remedy("give the node the address and the TLS settings that its cluster knows"));
    }
    // Was it begun here while the cluster was out of reach? Then it has its old id and none of its data, and etcd ends
    // again and again. A cluster that has just begun looks the same for as long as it takes to serve.
    if facts.past == Past::Begun && !member.learner && !member.name.is_empty() && facts.waited {
        return Ok(Standing::SetAside(
            "the cluster is up, and what was begun here does not become part of it".to_owned(),
        ));
    }
    Ok(Standing::Data)
}

/// Whether the cluster was begun with this node, which has not been there yet: the others were faster.
fn is_awaited(facts: &Facts<'_>, cluster: &Cluster) -> bool {
    let never_served = |member: &Member| {
        // etcd's own criterion for a member that may begin with no data.
        member.name == facts.name && member.is_at(facts.peer_url) && member.client_urls.is_empty() && !member.learner
    };
    !matches!(facts.past, Past::Member(_)) && is_wanted(facts, cluster) && cluster.members.iter().any(never_served)
}

/// Whether its members are those that are wanted.
fn is_wanted(facts: &Facts<'_>, cluster: &Cluster) -> bool {
    cluster.members.len() == facts.wanted.len()
        && facts.wanted.iter().all(|(_, url)| cluster.members.iter().any(|member| member.is_at(url)))
}

/// How the node `name` at `peer_url` joins `cluster`, which it serves in no longer, or not yet.
#[must_use]
pub fn joining(name: &str, peer_url: &str, cluster: &Cluster) -> Joining {
    let expected = |member: &&Member| member.name.is_empty() && member.is_at(peer_url);
    // Whoever has our name or our address, and has been started, is what we were.
    let past = |member: &&Member| !member.name.is_empty() && (member.name == name || member.is_at(peer_url));
    let replaces = cluster.members.iter().filter(past).map(|member| member.id).collect();
    Joining { replaces, add: !cluster.members.iter().any(|member| expected(&member)) }
}

/// No data, and nobody knows of a cluster.
fn begin(facts: &Facts<'_>) -> Result<Standing, Failure> {
    if let Past::Member(past) = facts.past {
        let what =
            format!("{} was member {} of cluster {}, and its data is gone", facts.name, past.member, past.cluster);
        return if facts.others.is_empty() {
            let name = facts.name;
            Err(Failure::new(Code::EtcdQuorum, what).with_remedy(format!(
                "restore a snapshot: cks-agent etcd restore; or begin anew: cks-agent etcd member remove {name}, then start it again"
            )))
        } else {
            Ok(Standing::Undecided(format!("{what}; the others have to answer: {}", silence(facts))))
        };
    }
    for (url, cluster) in facts.others.iter().filter_map(|answer| Some((&answer.url, answer.cluster()?))) {
        if !is_wanted(facts, cluster) {
            let theirs: Vec<&str> = cluster.members.iter().map(Member::shown).collect();
            let what = format!("{url} begins a cluster of other members: {}", theirs.join(", "));
            return Err(Failure::new(Code::EtcdForeign, what)
                .with_remedy("give all members the same list (--etcd-initial-cluster, etcd.members)"));
        }
    }
    let silent = facts.others.iter().filter(|answer| matches!(answer.said, Said::Nothing(_))).count();
    let ready = facts.wanted.len().saturating_sub(silent);
    if silent == 0 || (facts.waited && ready >= quorum(facts.wanted.len())) {
        return Ok(Standing::New);
    }
    Ok(Standing::Undecided(silence(facts)))
}

fn silence(facts: &Facts<'_>) -> String {
    let why = facts.others.iter().find_map(|answer| match &answer.said {
        Said::Nothing(why) => Some(format!("{}: {why}", answer.url)),
        _ => None,
    });
    why.unwrap_or_default()
}

fn foreign(facts: &Facts<'_>, data: Identity, cluster: &Cluster) -> Failure {
    let what =
        format!("{} has data of cluster {}, and the other members are of {}", facts.name, data.cluster, cluster.id);
    Failure::new(Code::EtcdForeign, what)
}

#[cfg(test)]
mod tests;
