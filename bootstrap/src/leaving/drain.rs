//! Pods of a node that leaves: which have to go elsewhere, and what an API server's answer to that means.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::failure::{Code, Failure};

/// A pod that has to be evicted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Tells it from one that took its name.
    #[serde(skip)]
    pub uid: String,
    /// Nobody would start it elsewhere.
    #[serde(skip)]
    pub alone: bool,
    /// It is ending already.
    #[serde(skip)]
    pub ending: bool,
}

#[derive(Deserialize)]
struct List {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    namespace: String,
    name: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    owner_references: Vec<Owner>,
    #[serde(default)]
    deletion_timestamp: Option<String>,
}

#[derive(Deserialize)]
struct Owner {
    kind: String,
    #[serde(default)]
    controller: bool,
}

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    phase: String,
}

impl Pod {
    /// Where it is evicted: a path of the API server.
    #[must_use]
    pub fn eviction_path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}/eviction", self.namespace, self.name)
    }

    /// What is sent there.
    #[must_use]
    pub fn eviction(&self) -> String {
        let Self { namespace, name, uid, .. } = self;
        let metadata = serde_json::json!({ "name": name, "namespace": namespace });
        // Only this pod, not a later one of the same name: a stateful set's.
        let options = serde_json::json!({ "preconditions": { "uid": uid } });
        serde_json::json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata, "deleteOptions": options })
            .to_string()
    }
}

impl std::fmt::Display for Pod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The pods of a list (`v1.PodList`) that a drain has to wait for: not those that belong to the node itself (static
/// pods, daemon sets), nor those that are over.
///
/// # Errors
/// `API_UNREACHABLE` when it is no list of pods.
pub fn to_evict(list: &str) -> Result<Vec<Pod>, Failure> {
    let list: List = serde_json::from_str(list).map_err(|e| {
        Failure::new(Code::ApiUnreachable, "the API server's list of pods can't be read").with_source(e)
    })?;
    let stays = |item: &Item| {
        let controller = item.metadata.owner_references.iter().find(|owner| owner.controller);
        item.metadata.annotations.contains_key("kubernetes.io/config.mirror")
            || controller.is_some_and(|owner| owner.kind == "DaemonSet")
            || ["Succeeded", "Failed"].contains(&item.status.phase.as_str())
            || ![&item.metadata.namespace, &item.metadata.name].into_iter().all(|name| is_plain(name))
    };
    let pod = |item: Item| Pod {
        alone: !item.metadata.owner_references.iter().any(|owner| owner.controller),
        ending: item.metadata.deletion_timestamp.is_some(),
        namespace: item.metadata.namespace,
        name: item.metadata.name,
        uid: item.metadata.uid,
    };
    let mut pods: Vec<Pod> = list.items.into_iter().filter(|item| !stays(item)).map(pod).collect();
    pods.sort();
    Ok(pods)
}

/// Names of objects go into paths and arguments.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-.".contains(&c))
}

/// What an API server's refusal means for one who leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is gone already.
    Gone,
    /// A disruption budget does not allow it now.
    Budget,
    /// This identity may not.
    Forbidden,
    /// Nobody answers, or not as an API server does.
    Unreachable,
    /// Anything else.
    Other,
}

impl Refusal {
    /// Of what kubectl says on its standard error: `Error from server (NotFound): …`.
    #[must_use]
    pub fn of(stderr: &str) -> Self {
        let reason = stderr.rsplit_once("Error from server (").and_then(|(_, rest)| rest.split(')').next());
        match reason {
            Some("NotFound" | "Conflict") => Self::Gone,
            Some("TooManyRequests") => Self::Budget,
            Some("Forbidden" | "Unauthorized") => Self::Forbidden,
            Some("ServiceUnavailable" | "Timeout" | "InternalError" | "ServerTimeout") => Self::Unreachable,
            Some(_) => Self::Other,
            None if stderr.contains("must be logged in") => Self::Forbidden,
            None => Self::Unreachable,
        }
    }
}

/// Why a drain that ended in vain did, for people: `default/web-1 (its disruption budget allows no eviction)`.
#[must_use]
pub fn named(pods: &[(Pod, &str)]) -> String {
    let shown: Vec<String> = pods.iter().take(5).map(|(pod, why)| format!("{pod} ({why})")).collect();
    let more = pods.len().saturating_sub(shown.len());
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_the_node_stays_and_what_is_over_is_not_waited_for() {
        let item = |name: &str, annotations: &str, owner: &str, phase: &str, rest: &str| {
            format!(
                r#"{{"metadata":{{"namespace":"a","name":"{name}","uid":"u","annotations":{{{annotations}}},"ownerReferences":[{owner}]{rest}}},"status":{{"phase":"{phase}"}}}}"#
            )
        };
        let owner =
            |kind: &str| format!(r#"{{"kind":"{kind}","controller":true,"apiVersion":"v1","name":"x","uid":"y"}}"#);
        let items = [
            item("mirror", r#""kubernetes.io/config.mirror":"x""#, &owner("Node"), "Running", ""),
            item("daemon", "", &owner("DaemonSet"), "Running", ""),
            item("done", "", &owner("Job"), "Succeeded", ""),
            item("web", "", &owner("ReplicaSet"), "Running", ""),
            item("ending", "", &owner("ReplicaSet"), "Running", r#","deletionTimestamp":"2026-01-01T00:00:00Z""#),
            item("alone", "", "", "Pending", ""),
            item("a/../b", "", "", "Running", ""),
        ];
        let pods = to_evict(&format!(r#"{{"kind":"PodList","items":[{}]}}"#, items.join(","))).unwrap();
        let seen: Vec<_> = pods.iter().map(|pod| (pod.name.as_str(), pod.alone, pod.ending)).collect();
        assert_eq!(seen, [("alone", true, false), ("ending", false, true), ("web", false, false)]);
        assert_eq!(pods[2].eviction_path(), "/api/v1/namespaces/a/pods/web/eviction");
        assert!(pods[2].eviction().contains(r#""preconditions":{"uid":"u"}"#));
    }

    #[test]
    fn an_answer_that_is_no_list_is_refused() {
        for text in ["", "{}", "[]", r#"{"items":[{}]}"#] {
            assert_eq!(to_evict(text).unwrap_err().code, Code::ApiUnreachable, "{text}");
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        for (said, refusal) in [
            (
                "Error from server (TooManyRequests): Cannot evict pod as it would violate the pod's disruption budget.",
                Refusal::Budget,
            ),
            ("Warning: x\nError from server (NotFound): pods \"x\" not found", Refusal::Gone),
            ("Error from server (Forbidden): nodes \"b\" is forbidden", Refusal::Forbidden),
            ("error: You must be logged in to the server (Unauthorized)", Refusal::Forbidden),
            (
                "The connection to the server 10.1.1.5:6443 was refused - did you specify the right host or port?",
                Refusal::Unreachable,
            ),
            ("Unable to connect to the server: dial tcp: i/o timeout", Refusal::Unreachable),
            ("Error from server (BadRequest): x", Refusal::Other),
        ] {
            assert_eq!(Refusal::of(said), refusal, "{said}");
        }
    }
}
