//! A node's object in its cluster, as one that leaves writes it: a node may update its own status and nothing deletes it.

use serde_json::{Value, json};

/// The object with the condition that the node is not ready, since `at` (RFC 3339); none where `object` is no node.
///
/// All else stays, the resource version too: whoever changed the node meanwhile makes the server refuse this.
#[must_use]
pub fn not_ready(object: &str, at: &str) -> Option<String> {
    let mut node: Value = serde_json::from_str(object).ok()?;
    let status = node.as_object_mut()?.entry("status").or_insert_with(|| json!({})).as_object_mut()?;
    let conditions = status.entry("conditions").or_insert_with(|| json!([])).as_array_mut()?;
    conditions.retain(|condition| condition.get("type").and_then(Value::as_str) != Some("Ready"));
    conditions.push(json!({
        "type": "Ready",
        "status": "False",
        "reason": "NodeLeft",
        "message": "cks-agent leave took the node out of the cluster",
        "lastHeartbeatTime": at,
        "lastTransitionTime": at,
    }));
    Some(node.to_string())
}

/// Whether the cluster keeps pods away from a node because it is not ready.
#[must_use]
pub fn is_kept_away(object: &str) -> bool {
    let node: Value = serde_json::from_str(object).unwrap_or_default();
    let taints = node.pointer("/spec/taints").and_then(Value::as_array);
    let keys = taints.into_iter().flatten().filter_map(|taint| taint.get("key").and_then(Value::as_str));
    keys.into_iter().any(|key| key == "node.kubernetes.io/not-ready")
}

/// Says on a node that a leave cordoned it, and nobody else: only that is undone.
const CORDONED: &str = "cks-agent/cordoned-to-leave";

/// The merge patch that keeps the scheduler away from a node, or does so no longer.
#[must_use]
pub fn cordon(cordoned: bool) -> String {
    let (mark, away) = if cordoned { (json!("true"), json!(true)) } else { (Value::Null, Value::Null) };
    json!({"metadata": {"annotations": {CORDONED: mark}}, "spec": {"unschedulable": away}}).to_string()
}

/// Whether somebody else keeps the scheduler away from the node.
#[must_use]
pub fn is_cordoned_by_others(object: &str) -> bool {
    let node: Value = serde_json::from_str(object).unwrap_or_default();
    let marks = node.pointer("/metadata/annotations").and_then(Value::as_object);
    node.pointer("/spec/unschedulable") == Some(&Value::Bool(true))
        && !marks.is_some_and(|marks| marks.contains_key(CORDONED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_condition_changes() {
        let object = r#"{"kind":"Node","metadata":{"name":"w1","resourceVersion":"7"},"status":{"conditions":[{"type":"Ready","status":"True"},{"type":"DiskPressure","status":"False"}],"capacity":{"cpu":"2"}}}"#;
        let told = not_ready(object, "2026-01-01T00:00:00Z").unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["metadata"]["resourceVersion"], "7");
        assert_eq!(told["status"]["capacity"]["cpu"], "2");
        let conditions = told["status"]["conditions"].as_array().unwrap();
        assert_eq!((conditions.len(), &conditions[0]["type"]), (2, &json!("DiskPressure")));
        assert_eq!((&conditions[1]["status"], &conditions[1]["reason"]), (&json!("False"), &json!("NodeLeft")));
        assert!(not_ready("{}", "").is_some());
        for text in ["", "[]", r#"{"status":7}"#, r#"{"status":{"conditions":{}}}"#] {
            assert_eq!(not_ready(text, ""), None, "{text}");
        }
    }

    #[test]
    fn what_an_administrator_cordoned_is_known_from_what_a_leave_did() {
        assert_eq!(
            cordon(true),
            r#"{"metadata":{"annotations":{"cks-agent/cordoned-to-leave":"true"}},"spec":{"unschedulable":true}}"#
        );
        assert!(!is_cordoned_by_others(&cordon(true)) && !is_cordoned_by_others(&cordon(false)));
        assert!(is_cordoned_by_others(r#"{"spec":{"unschedulable":true}}"#));
        assert!(is_cordoned_by_others(r#"{"metadata":{"annotations":{"a":"b"}},"spec":{"unschedulable":true}}"#));
        assert!(!is_cordoned_by_others("{}") && !is_cordoned_by_others(""));
    }

    #[test]
    fn a_taint_tells_that_the_cluster_noticed() {
        let node = |key: &str| format!(r#"{{"spec":{{"taints":[{{"key":"a"}},{{"key":"{key}"}}]}}}}"#);
        assert!(is_kept_away(&node("node.kubernetes.io/not-ready")));
        assert!(!is_kept_away(&node("node.kubernetes.io/unschedulable")) && !is_kept_away("") && !is_kept_away("{}"));
    }
}
