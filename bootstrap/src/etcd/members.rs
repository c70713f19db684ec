//! The members of a cluster, as etcd tells them.

use serde::{Deserialize, Serialize, Serializer};

use crate::failure::{Code, Failure};
use crate::text;

/// etcd itself warns above seven members; a list of more than this is no etcd's.
const MOST_MEMBERS: usize = 100;

/// The id of a member or a cluster; etcd's logs show it in hexadecimal, and so do we.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u64);

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl Id {
    /// Reads the hexadecimal form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text.trim(), 16).ok().map(Self)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no hexadecimal id")))
    }
}

/// A member as the cluster has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its id, given by the cluster.
    pub id: Id,
    /// Its name; empty until it has been started for the first time.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has been part of a cluster with a leader.
    pub client_urls: Vec<String>,
    /// Whether it only listens: it has no vote yet.
    pub learner: bool,
}

impl Member {
    /// Whether it is the one at `peer_url`.
    #[must_use]
    pub fn is_at(&self, peer_url: &str) -> bool {
        let plain = |url: &str| url.trim_end_matches('/').to_ascii_lowercase();
        self.peer_urls.iter().any(|url| plain(url) == plain(peer_url))
    }

    /// Its name, or where it is when it has none yet.
    #[must_use]
    pub fn shown(&self) -> &str {
        match self.peer_urls.first() {
            Some(url) if self.name.is_empty() => url,
            _ => &self.name,
        }
    }
}

/// As etcd's peers tell it (`GET /members`; etcd, `api/etcdhttp/peer.go`), and as etcdctl prints it.
#[derive(Deserialize)]
struct Told {
    #[serde(alias = "ID")]
    id: u64,
    #[serde(default, rename = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "clientURLs")]
    client_urls: Vec<String>,
    #[serde(default, rename = "isLearner")]
    learner: bool,
}

/// What `etcdctl member list -w json` prints.
#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    header: Header,
    #[serde(default)]
    members: Vec<Told>,
}

#[derive(Default, Deserialize)]
struct Header {
    #[serde(default)]
    cluster_id: u64,
}

/// A cluster's id and members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its id, the same for as long as it lives.
    pub id: Id,
    /// Its members, by name.
    pub members: Vec<Member>,
}

impl Cluster {
    /// Reads what a peer answers to `GET /members`, with the header `X-Etcd-Cluster-Id`.
    ///
    /// # Errors
    /// In words: it is not etcd's.
    pub fn of_peer(id: Option<&str>, body: &[u8]) -> Result<Self, String> {
        let id = id.and_then(Id::parse).ok_or("the answer has no cluster id: it is not etcd's")?;
        let told: Vec<Told> = serde_json::from_slice(body).map_err(|e| format!("the answer is not etcd's: {e}"))?;
        Self::of(id, told)
    }

    /// Reads what `etcdctl member list -w json` prints.
    ///
    /// # Errors
    /// `ETCD_UNAVAILABLE`: it is not what etcdctl prints.
    pub fn of_list(json: &str) -> Result<Self, Failure> {
        let refuse = |why: String| Failure::new(Code::EtcdUnavailable, format!("etcdctl member list: {why}"));
        let listed: Listed = serde_json::from_str(json).map_err(|e| refuse(e.to_string()))?;
        Self::of(Id(listed.header.cluster_id), listed.members).map_err(refuse)
    }

    fn of(id: Id, told: Vec<Told>) -> Result<Self, String> {
        let member = |told: Told| Member {
            id: Id(told.id),
            name: told.name,
            peer_urls: told.peer_urls,
            client_urls: told.client_urls,
            learner: told.learner,
        };
        let mut members: Vec<Member> = told.into_iter().map(member).collect();
        if members.is_empty() || members.len() > MOST_MEMBERS {
            return Err(format!("{} members", members.len()));
        }
        let odd =
            |text: &String| text.len() > 512 || text::plain(text) != *text || text.contains([',', '"', '\'', ' ']);
        let texts = |member: &Member| {
            odd(&member.name) || member.peer_urls.iter().any(odd) || member.client_urls.iter().any(odd)
        };
        if let Some(member) = members.iter().find(|member| texts(member)) {
            return Err(format!("member {} has a name or URL that can't be one", member.id));
        }
        members.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        Ok(Self { id, members })
    }

    /// Whether it has ever had a leader. A cluster that is only about to begin knows its members, but none of them has
    /// told yet where clients reach it: that takes a leader.
    #[must_use]
    pub fn is_formed(&self) -> bool {
        self.members.iter().any(|member| !member.client_urls.is_empty())
    }

    /// The members with a vote.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.learner)
    }

    /// Whether the member `id` is the only one with a vote.
    #[must_use]
    pub fn is_alone(&self, id: Id) -> bool {
        self.voters().map(|voter| voter.id).eq([id])
    }

    /// Its members that have been started, by their names and where their peers reach them.
    #[must_use]
    pub fn named(&self) -> Vec<(String, String)> {
        let named = self.members.iter().filter(|member| !member.name.is_empty());
        named.filter_map(|member| Some((member.name.clone(), member.peer_urls.first()?.clone()))).collect()
    }

    /// Its members as `--initial-cluster` takes them. A member that has not been started has no name in the cluster;
    /// `own` is ours.
    #[must_use]
    pub fn initial(&self, own: &str, own_url: &str) -> String {
        let pairs = self.members.iter().flat_map(|member| {
            let unnamed = format!("unstarted-{}", member.id);
            let name = match &member.name[..] {
                _ if member.is_at(own_url) => own.to_owned(),
                "" => unnamed,
                name => name.to_owned(),
            };
            member.peer_urls.iter().map(move |url| format!("{name}={url}"))
        });
        pairs.collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: &str = r#"[{"id":13753698062994940501,"peerURLs":["http://10.1.1.3:2380"],"name":"b"},
        {"id":15384607655018781953,"peerURLs":["http://10.1.1.2:2380"],"name":"a"}]"#;
    /// etcdctl 3.6.
    const LIST: &str = r#"{"header":{"cluster_id":532490870631812654,"member_id":1,"raft_term":5},"members":[
        {"ID":13753698062994940501,"name":"b","peerURLs":["http://10.1.1.3:2380"],"clientURLs":["http://10.1.1.3:2379"]},
        {"ID":2,"peerURLs":["http://10.1.1.4:2380"],"isLearner":true}]}"#;

    #[test]
    fn peers_tell_a_cluster_that_is_about_to_begin() {
        let cluster = Cluster::of_peer(Some("763c9a02625ce2e"), FRESH.as_bytes()).unwrap();
        assert_eq!(cluster.id, Id(0x763_c9a0_2625_ce2e));
        assert!(!cluster.is_formed());
        assert_eq!(cluster.initial("a", "http://10.1.1.2:2380"), "a=http://10.1.1.2:2380,b=http://10.1.1.3:2380");
    }

    #[test]
    fn etcdctl_lists_learners_without_a_name() {
        let cluster = Cluster::of_list(LIST).unwrap();
        assert!(cluster.is_formed());
        let learner = &cluster.members[0];
        assert!(learner.learner && learner.name.is_empty() && learner.is_at("http://10.1.1.4:2380/"));
        assert_eq!(cluster.voters().count(), 1);
        assert!(cluster.is_alone(Id(13_753_698_062_994_940_501)) && !cluster.is_alone(Id(2)));
        assert_eq!(cluster.named(), [("b".to_owned(), "http://10.1.1.3:2380".to_owned())]);
        assert_eq!(cluster.initial("c", "http://10.1.1.4:2380"), "c=http://10.1.1.4:2380,b=http://10.1.1.3:2380");
        assert_eq!(serde_json::to_value(cluster.id).unwrap(), "763c9a02625ce2e");
    }

    #[test]
    fn what_no_etcd_says_is_refused() {
        for (id, body) in [
            (None, "[]"),
            (Some("x"), FRESH),
            (Some("1"), "[]"),
            (Some("1"), "<html>"),
            (Some("1"), r#"[{"id":1,"name":"a b","peerURLs":[]}]"#),
            (Some("1"), r#"[{"id":1,"name":"a","peerURLs":["http://x\n"]}]"#),
        ] {
            assert!(Cluster::of_peer(id, body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(Cluster::of_list("{}").unwrap_err().code, Code::EtcdUnavailable);
    }
}
