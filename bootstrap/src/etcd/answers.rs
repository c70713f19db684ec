//! What `etcdctl` (3.4 to 3.6) and `etcdutl` print with `--write-out json`.

use serde::{Deserialize, Serialize};

use super::members::Id;
use super::wal::Identity;
use crate::failure::{Code, Failure};

/// What one member says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointStatus {
    /// Where it was asked.
    pub endpoint: String,
    /// Who it is.
    pub identity: Identity,
    /// Its version: `3.6.1`.
    pub version: String,
    /// Bytes of its database file.
    pub db_bytes: u64,
    /// Bytes of it that are in use; the rest is given back by a defragmentation.
    pub used_bytes: u64,
    /// The leader that it follows; none without a quorum.
    pub leader: Option<Id>,
    /// Whether it has no vote yet.
    pub learner: bool,
    /// The last entry of its log, and the last that it has applied.
    pub raft: (u64, u64),
    /// The revision of its keys.
    pub revision: u64,
    /// What it says is wrong.
    pub errors: Vec<String>,
}

#[derive(Deserialize)]
struct Endpoint<T> {
    #[serde(rename = "Endpoint")]
    endpoint: String,
    #[serde(alias = "Status", alias = "HashKV")]
    answer: T,
}

#[derive(Deserialize)]
struct Header {
    cluster_id: u64,
    member_id: u64,
    #[serde(default)]
    revision: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    header: Header,
    #[serde(default)]
    version: String,
    #[serde(default)]
    db_size: u64,
    #[serde(default)]
    db_size_in_use: u64,
    #[serde(default)]
    leader: u64,
    #[serde(default)]
    raft_index: u64,
    #[serde(default)]
    raft_applied_index: u64,
    #[serde(default)]
    is_learner: bool,
    #[serde(default)]
    errors: Vec<String>,
}

/// A hash of all keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct KeyHash {
    /// The hash.
    pub hash: u32,
    /// The revision that it is of.
    pub revision: u64,
}

#[derive(Deserialize)]
struct HashKv {
    header: Header,
    hash: u32,
    #[serde(default)]
    hash_revision: u64,
}

#[derive(Deserialize)]
struct Alarms {
    #[serde(default)]
    alarms: Vec<Alarm>,
}

#[derive(Deserialize)]
struct Alarm {
    #[serde(default, rename = "memberID")]
    member: u64,
    #[serde(default)]
    alarm: i32,
}

/// What a snapshot file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotStatus {
    /// The hash of its keys.
    pub hash: u32,
    /// The revision that it is of.
    pub revision: u64,
    /// Its keys, of all revisions.
    #[serde(rename = "totalKey")]
    pub keys: u64,
    /// Its bytes.
    #[serde(rename = "totalSize")]
    pub bytes: u64,
}

fn read<'de, T: Deserialize<'de>>(command: &str, json: &'de str) -> Result<T, Failure> {
    serde_json::from_str(json.trim())
        .map_err(|e| Failure::new(Code::EtcdUnavailable, format!("{command} prints no JSON that is known: {e}")))
}

/// Reads `etcdctl endpoint status`; members that do not answer are missing.
///
/// # Errors
/// `ETCD_UNAVAILABLE`: it is not what etcdctl prints.
pub fn endpoint_status(json: &str) -> Result<Vec<EndpointStatus>, Failure> {
    let told: Vec<Endpoint<Status>> = read("etcdctl endpoint status", json)?;
    let status = |Endpoint { endpoint, answer }: Endpoint<Status>| EndpointStatus {
        endpoint,
        identity: Identity { cluster: Id(answer.header.cluster_id), member: Id(answer.header.member_id) },
        version: answer.version,
        db_bytes: answer.db_size,
        used_bytes: answer.db_size_in_use,
        leader: Some(Id(answer.leader)).filter(|leader| leader.0 != 0),
        learner: answer.is_learner,
        raft: (answer.raft_index, answer.raft_applied_index),
        revision: answer.header.revision,
        errors: answer.errors,
    };
    Ok(told.into_iter().map(status).collect())
}

/// Reads `etcdctl endpoint hashkv` of one endpoint.
///
/// # Errors
/// `ETCD_UNAVAILABLE`: it is not what etcdctl prints.
pub fn key_hash(json: &str) -> Result<KeyHash, Failure> {
    let told: Vec<Endpoint<HashKv>> = read("etcdctl endpoint hashkv", json)?;
    let first = told.into_iter().next().map(|endpoint| endpoint.answer);
    let first = first.ok_or_else(|| Failure::new(Code::EtcdUnavailable, "etcdctl endpoint hashkv: no answer"))?;
    // Before 3.6 the header's revision is the one that was hashed.
    let revision = if first.hash_revision == 0 { first.header.revision } else { first.hash_revision };
    Ok(KeyHash { hash: first.hash, revision })
}

/// Reads `etcdctl alarm list`: the member, and what it raised.
///
/// # Errors
/// `ETCD_UNAVAILABLE`: it is not what etcdctl prints.
pub fn alarms(json: &str) -> Result<Vec<(Id, String)>, Failure> {
    let told: Alarms = read("etcdctl alarm list", json)?;
    let name = |alarm| match alarm {
        1 => "NOSPACE".to_owned(),
        2 => "CORRUPT".to_owned(),
        other => format!("alarm {other}"),
    };
    Ok(told.alarms.into_iter().map(|alarm| (Id(alarm.member), name(alarm.alarm))).collect())
}

/// Reads `etcdutl snapshot status`, or that of etcdctl 3.4.
///
/// # Errors
/// `CONTENT_INVALID`: it is not what they print.
pub fn snapshot_status(json: &str) -> Result<SnapshotStatus, Failure> {
    serde_json::from_str(json.trim())
        .map_err(|e| Failure::new(Code::ContentInvalid, format!("snapshot status prints no JSON that is known: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_endpoints_is_read_as_every_release_prints_it() {
        let old = r#"[{"Endpoint":"http://10.1.1.2:2379","Status":{"header":{"cluster_id":532490870631812654,
            "member_id":15384607655018781953,"revision":7,"raft_term":5},"version":"3.4.23","dbSize":20480,
            "leader":15384607655018781953,"raftIndex":7,"raftTerm":5,"raftAppliedIndex":6,"dbSizeInUse":16384}}]"#;
        let status = endpoint_status(old).unwrap().remove(0);
        assert_eq!((status.db_bytes, status.used_bytes, status.raft, status.revision), (20480, 16384, (7, 6), 7));
        assert_eq!(status.leader, Some(status.identity.member));
        let new = r#"[{"Endpoint":"e","Status":{"header":{"cluster_id":1,"member_id":2,"raft_term":3},"version":"3.6.16",
            "dbSize":1,"leader":0,"raftIndex":1,"raftTerm":1,"raftAppliedIndex":1,"isLearner":true,
            "errors":["etcdserver: no leader"],"storageVersion":"3.6.0","downgradeInfo":{}}}]"#;
        let status = endpoint_status(new).unwrap().remove(0);
        assert!(status.learner && status.leader.is_none() && status.errors.len() == 1);
        assert_eq!(endpoint_status("[]").unwrap(), []);
        assert_eq!(endpoint_status("").unwrap_err().code, Code::EtcdUnavailable);
    }

    #[test]
    fn hashes_alarms_and_snapshots_are_read() {
        let hash = r#"[{"Endpoint":"e","HashKV":{"header":{"cluster_id":1,"member_id":2,"revision":9},"hash":1084519789,
            "compact_revision":-1}}]"#;
        assert_eq!(key_hash(hash).unwrap(), KeyHash { hash: 1_084_519_789, revision: 9 });
        assert!(key_hash("[]").is_err());
        assert_eq!(alarms("{}").unwrap(), []);
        let told = alarms(r#"{"header":{},"alarms":[{"memberID":10,"alarm":1}]}"#).unwrap();
        assert_eq!(told, [(Id(10), "NOSPACE".to_owned())]);
        let snapshot = snapshot_status(r#"{"hash":465011968,"revision":2,"totalKey":6,"totalSize":20480}"#).unwrap();
        assert_eq!((snapshot.hash, snapshot.revision, snapshot.keys, snapshot.bytes), (465_011_968, 2, 6, 20480));
        let newer = r#"{"hash":1,"revision":2,"totalKey":6,"totalSize":20480,"version":"3.6.0"}"#;
        assert_eq!(snapshot_status(newer).unwrap().hash, 1);
    }
}
