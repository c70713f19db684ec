//! Sends the node's pods elsewhere, by evictions, so that disruption budgets are kept.
//!
//! `kubectl drain` can't do it with the node's own identity: it asks for the daemon sets of pods, which a node may not
//! see. A node may see its own pods, evict them, and keep the scheduler away from itself (Kubernetes, node authorization and
//! the admission plugin NodeRestriction); what belongs to a daemon set its pods tell by their owner.

use std::time::{Duration, Instant};

use bootstrap::failure::{Code, Failure};
use bootstrap::leaving::drain::{Pod, Refusal, named, to_evict};
use bootstrap::leaving::node;
use futures::StreamExt as _;

use super::api::Api;
use super::unmount;
use crate::board::Board;
use crate::host::Host;

/// Evictions that are under way at once.
const SIDE_BY_SIDE: usize = 4;
/// How often is looked whether the pods are gone, and a budget asked again.
const PAUSE: Duration = Duration::from_secs(2);
/// Pods that are deleted by force get this long to end.
const ENDING: Duration = Duration::from_secs(35);
/// How long kubelet gets to unmount and detach the volumes of pods that are gone.
const SETTLING: Duration = Duration::from_secs(60);

/// How a drain is done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// For how long pods are waited for.
    pub(super) timeout: Duration,
    /// What is not gone by then is deleted, and pods go that nobody starts elsewhere.
    pub(super) force: bool,
}

/// Keeps the scheduler away from the node. False where the cluster does not know the node any more.
///
/// # Errors
/// `API_UNREACHABLE` with the answer.
pub(super) async fn cordon(api: &Api, name: &str, cordoned: bool) -> Result<bool, Failure> {
    match api.ask(&["patch", "node", name, "--type", "merge", "-p", &node::cordon(cordoned)], None).await {
        Ok(_) => Ok(true),
        Err(refused) if refused.kind == Refusal::Gone => Ok(false),
        Err(refused) => Err(Failure::new(Code::ApiUnreachable, format!("cordoning {name}: {}", refused.said))),
    }
}

/// The pods that have to go elsewhere.
///
/// # Errors
/// `API_UNREACHABLE` with the answer.
pub(super) async fn pods(api: &Api, node: &str) -> Result<Vec<Pod>, Failure> {
    let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}");
    let list = api.ask(&["get", "--raw", &path], None).await;
    let list =
        list.map_err(|refused| Failure::new(Code::ApiUnreachable, format!("pods of {node}: {}", refused.said)))?;
    to_evict(&list)
}

/// Evicts the node's pods and waits until they are gone. Returns how many there were.
///
/// # Errors
/// `LEAVE_INCOMPLETE` names pods that nobody would start elsewhere; `TIMED_OUT` those that are still there, and why.
pub(super) async fn drain(api: &Api, node: &str, terms: Terms, board: &Board) -> Result<usize, Failure> {
    let first = pods(api, node).await?;
    let alone: Vec<(Pod, &str)> =
        first.iter().filter(|pod| pod.alone).map(|pod| (pod.clone(), "has no controller")).collect();
    if !(terms.force || alone.is_empty()) {
        let what = format!("pods of {node} that nobody starts elsewhere: {}", named(&alone));
        let remedy = "delete them when they are not needed, or let them end with --force";
        return Err(Failure::new(Code::LeaveIncomplete, what).with_remedy(remedy));
    }
    let (since, waits_for) = (Instant::now(), format!("pods of {node} to go"));
    loop {
        let there = match pods(api, node).await {
            Ok(there) => there,
            // An API server that restarts is waited for as long as pods are.
            Err(failure) if since.elapsed() >= terms.timeout => return Err(failure),
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if there.is_empty() {
            board.stop_waiting(&waits_for);
            return Ok(first.len());
        }
        let left = evict(api, there).await;
        if since.elapsed() >= terms.timeout {
            board.stop_waiting(&waits_for);
            return match terms.force {
                true => delete(api, node, left).await.map(|()| first.len()),
                false => Err(timed_out(node, terms.timeout, &left)),
            };
        }
        if !left.is_empty() {
            board.wait(&waits_for, &named(&left), since, PAUSE, terms.timeout);
            tokio::time::sleep(PAUSE.min(terms.timeout.saturating_sub(since.elapsed()))).await;
        }
    }
}

fn timed_out(node: &str, timeout: Duration, left: &[(Pod, &str)]) -> Failure {
    let what = format!("{node} still has pods after {} s: {}", timeout.as_secs(), named(left));
    let remedy = "run again with a longer --drain-timeout, or let them end with --force";
    Failure::new(Code::TimedOut, what).with_remedy(remedy)
}

/// Asks for every pod to be evicted; those that are still there, and why.
async fn evict(api: &Api, pods: Vec<Pod>) -> Vec<(Pod, &'static str)> {
    let asked = futures::stream::iter(pods).map(|pod| async move {
        if pod.ending {
            return Some((pod, "is ending"));
        }
        let arguments = ["create", "--raw", &pod.eviction_path(), "-f", "-"];
        match api.ask(&arguments, Some(pod.eviction())).await.map_err(|refused| refused.kind) {
            Ok(_) => Some((pod, "is ending")),
            Err(Refusal::Gone) => None,
            Err(Refusal::Budget) => Some((pod, "its disruption budget allows no eviction now")),
            Err(Refusal::Forbidden) => Some((pod, "this identity may not evict it")),
            Err(Refusal::Unreachable | Refusal::Other) => Some((pod, "the API server refuses to evict it")),
        }
    });
    asked.buffer_unordered(SIDE_BY_SIDE).filter_map(std::future::ready).collect().await
}

/// Deletes pods that could not be evicted, and waits for their end a little; what is left then ends with the node.
async fn delete(api: &Api, node: &str, left: Vec<(Pod, &str)>) -> Result<(), Failure> {
    for (pod, _) in &left {
        let path = format!("/api/v1/namespaces/{}/pods/{}", pod.namespace, pod.name);
        if let Err(refused) = api.ask(&["delete", "--raw", &path], None).await {
            tracing::warn!(pod = %pod, "{}", refused.said);
        }
    }
    let since = Instant::now();
    while since.elapsed() < ENDING && !pods(api, node).await?.is_empty() {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Waits until kubelet has unmounted the volumes of pods that are gone: it tells the cluster, and nothing else does.
pub(super) async fn settle(host: &Host, board: &Board) {
    let (since, waits_for) = (Instant::now(), "kubelet to unmount volumes");
    let volumes = || {
        // Where they can't be read, nothing is removed later on.
        let paths = unmount::mounts(host).unwrap_or_default().into_iter().map(|mount| mount.path.to_string());
        let of_csi = |path: &String| path.contains("/kubernetes.io~csi/") || path.contains("/kubernetes.io/csi/");
        paths.filter(of_csi).count()
    };
    loop {
        let count = volumes();
        if count == 0 || since.elapsed() >= SETTLING {
            board.stop_waiting(waits_for);
            return;
        }
        board.wait(waits_for, &format!("{count} are mounted"), since, PAUSE, SETTLING);
        tokio::time::sleep(PAUSE).await;
    }
}
