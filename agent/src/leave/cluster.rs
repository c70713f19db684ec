//! What is done in the cluster before the machine is cleaned: pods elsewhere, member and node out of it.

use std::time::{Duration, Instant, SystemTime};

use bootstrap::failure::{Code, Failure};
use bootstrap::leaving::drain::Refusal;
use bootstrap::leaving::etcd::{Fate, Stacked, unknown};
use bootstrap::leaving::facts::Facts;
use bootstrap::leaving::node::{self, not_ready};
use bootstrap::leaving::{Action, Left, Report, fate};

use super::api::{Api, Refused};
use super::drain::{self, Terms};
use super::etcd::{self, Decision};
use super::{act, local, record};
use crate::board::{self, Board};
use crate::cli;
use crate::host::Host;

/// How long the cluster gets to notice that a node is not ready, so that it can be uncordoned.
const NOTICING: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(500);
/// Another writer of the node's status may be faster.
const TRIES: usize = 5;

/// What is to be done, decided before anything is changed.
struct Way {
    /// None where nobody answers: the machine is cleaned all the same.
    api: Option<Api>,
    node: String,
    member: Option<Decision>,
    /// The node is known to the cluster.
    known: bool,
    /// Somebody else keeps the scheduler away from it, and may have reasons that outlive this.
    cordoned: bool,
}

/// Takes the node out of its cluster; what was done there is told in `report`.
///
/// # Errors
/// `ETCD_QUORUM`, `ETCD_UNAVAILABLE`, `TIMED_OUT` or `LEAVE_INCOMPLETE` before the node is out of its cluster: it is still a
/// member then, and schedulable again.
pub(super) async fn leave(
    host: &Host,
    arguments: &cli::Leave,
    facts: &Facts,
    report: &mut Report,
    board: &Board,
) -> Result<(), Failure> {
    let way = look(host, arguments, facts, report, board).await?;
    if let Some(api) = way.api.as_ref().filter(|_| way.known && !arguments.skip_drain) {
        drained(api, &way, arguments, report, board).await?;
        if facts.kubelet.runs {
            drain::settle(host, board).await;
        }
    }
    // From here on there is no way back: what is not to be found out afterwards is kept.
    local::note(host, facts, SystemTime::now())?;
    if facts.kubelet.runs || facts.kubelet.enabled {
        let left = act::act(host, &Action::StopKubelet, facts, Instant::now(), board).await;
        if let Some(Left { why, .. }) = left.into_iter().next() {
            return Err(Failure::new(Code::ServiceFailed, format!("stopping kubelet: {why}")));
        }
        report.actions.push(Action::StopKubelet);
    }
    if let Some(api) = way.api.as_ref().filter(|_| way.known && !ends_cluster(&way)) {
        forget_node(api, &way, report).await;
    }
    member_leaves(host, &way, facts, report, board).await
}

fn ends_cluster(way: &Way) -> bool {
    way.member == Some(Decision::KeepAside)
}

async fn look(
    host: &Host,
    arguments: &cli::Leave,
    facts: &Facts,
    report: &mut Report,
    board: &Board,
) -> Result<Way, Failure> {
    let node = facts.node.clone().unwrap_or_default();
    // Already decided by a leave that was killed.
    let decided = fate(facts).is_some();
    if let Some(why) = facts.unknown_member.as_ref().filter(|_| !decided) {
        let failure = unknown(why);
        if !arguments.force {
            return Err(failure);
        }
        report.warnings.push(format!("{}: {}", failure.code, failure.what));
    }
    let member = match facts.stacked.as_ref().filter(|_| !decided) {
        Some(stacked) => {
            let earlier = facts.begun.as_ref().and_then(|begun| begun.removing.as_ref());
            Some(etcd::decide(host, stacked, earlier, arguments.force, board).await?)
        }
        None => None,
    };
    let mut way =
        Way { api: Api::of(host, arguments.kubeconfig.as_deref()), node, member, known: true, cordoned: false };
    let Some(api) = &way.api else {
        report.warnings.push("no identity in the cluster is left here: nothing is done there".to_owned());
        return Ok(way);
    };
    if let Err(failure) = api.wait(board).await {
        let text = format!("{}: {}; {}", failure.code, failure.what, todo(&way.node));
        report.warnings.push(text);
        way.api = None;
        return Ok(way);
    }
    match node_object(api, &way.node).await {
        Ok(object) => way.cordoned = node::is_cordoned_by_others(&object),
        Err(refused) if refused.kind == Refusal::Gone => {
            report.cluster.push(format!("node {} is not in the cluster any more", way.node));
            way.known = false;
        }
        // It is drained all the same: an answer that failed says nothing about the node.
        Err(refused) => report.warnings.push(format!("node {} can't be read: {}", way.node, refused.said)),
    }
    Ok(way)
}

/// The node as the cluster has it. An API server that answered a moment ago is asked again.
async fn node_object(api: &Api, node: &str) -> Result<String, Refused> {
    let mut tries = 1;
    loop {
        match api.ask(&["get", "--raw", &format!("/api/v1/nodes/{node}")], None).await {
            Err(refused) if tries < TRIES && !matches!(refused.kind, Refusal::Gone | Refusal::Forbidden) => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}

fn todo(node: &str) -> String {
    format!("kubectl delete node {node} is left to an administrator, or to the management server's removal")
}

async fn drained(
    api: &Api,
    way: &Way,
    arguments: &cli::Leave,
    report: &mut Report,
    board: &Board,
) -> Result<(), Failure> {
    let terms = Terms { timeout: arguments.drain_timeout, force: arguments.force };
    let cordoned = if way.cordoned { Ok(true) } else { drain::cordon(api, &way.node, true).await };
    match cordoned {
        Ok(true) => {}
        Ok(false) => return Ok(()),
        // What is evicted could come back here.
        Err(failure) => {
            report.warnings.push(format!("{}: {}: the node was not drained", failure.code, failure.what));
            return Ok(());
        }
    }
    match drain::drain(api, &way.node, terms, board).await {
        Ok(count) => report.cluster.push(format!("drained with {}: {count} pods went", api.shown)),
        Err(failure) if failure.code == Code::ApiUnreachable => {
            report.warnings.push(format!("{}: {}: the node was not drained to its end", failure.code, failure.what));
        }
        Err(failure) => {
            // It stays a member, as it was.
            if !way.cordoned
                && let Err(refused) = drain::cordon(api, &way.node, false).await
            {
                tracing::warn!("{refused}");
            }
            return Err(failure);
        }
    }
    Ok(())
}

/// Deletes the node's object, or says there that it is gone: a node may not delete itself.
async fn forget_node(api: &Api, way: &Way, report: &mut Report) {
    let node = &way.node[..];
    if api.may_delete {
        match api.ask(&["delete", "--raw", &format!("/api/v1/nodes/{node}")], None).await {
            Ok(_) => return report.cluster.push(format!("node {node} deleted")),
            Err(refused) if refused.kind == Refusal::Gone => return,
            Err(refused) => report.warnings.push(format!("node {node} is not deleted: {}", refused.said)),
        }
    }
    match tell_not_ready(api, node).await {
        Ok(()) => report.cluster.push(format!("node {node} is told as not ready")),
        Err(why) => report.warnings.push(format!("node {node} can't be told as not ready: {why}")),
    }
    if way.cordoned {
        report.warnings.push(format!("node {node} stays cordoned, as it was before"));
    } else if is_kept_away(api, node).await {
        // Or it would come back as one that nothing is scheduled to.
        if let Err(failure) = drain::cordon(api, node, false).await {
            report.warnings.push(format!("node {node} stays cordoned: {}", failure.what));
        }
    } else {
        report.warnings.push(format!("node {node} stays cordoned: the cluster did not notice in time that it left"));
    }
    report.warnings.push(todo(node));
}

/// Says in the node's status that it left. kubectl's own patch of a status reads it first, which a node may not.
async fn tell_not_ready(api: &Api, node: &str) -> Result<(), String> {
    let path = format!("/api/v1/nodes/{node}");
    let mut said = String::new();
    for _ in 0..TRIES {
        let object = api.ask(&["get", "--raw", &path], None).await.map_err(|refused| refused.said)?;
        let told = not_ready(&object, &board::timestamp(Duration::ZERO)).ok_or("its object can't be read")?;
        match api.ask(&["replace", "--raw", &format!("{path}/status"), "-f", "-"], Some(told)).await {
            Ok(_) => return Ok(()),
            // kubelet's last words, or the controllers', came in between.
            Err(refused) => said = refused.said,
        }
    }
    Err(said)
}

/// Whether the cluster keeps pods away from the node because it is not ready.
async fn is_kept_away(api: &Api, node: &str) -> bool {
    let since = Instant::now();
    while since.elapsed() < NOTICING {
        let said = api.ask(&["get", "--raw", &format!("/api/v1/nodes/{node}")], None).await.unwrap_or_default();
        if node::is_kept_away(&said) {
            return true;
        }
        tokio::time::sleep(PAUSE).await;
    }
    false
}

async fn member_leaves(
    host: &Host,
    way: &Way,
    facts: &Facts,
    report: &mut Report,
    board: &Board,
) -> Result<(), Failure> {
    let Some(decision) = &way.member else { return Ok(()) };
    let fate = etcd::remove(host, decision, board).await?;
    record::change(host, |begun| begun.fate = Some(fate))?;
    let name = facts.stacked.as_ref().map(|stacked| stacked.name.clone()).unwrap_or_default();
    if let Some(Stacked { data, .. }) = facts.stacked.as_ref().filter(|stacked| stacked.own_data().is_none()) {
        report.warnings.push(format!("etcd's data in {data} stays: it lies outside of /var/lib"));
    }
    report.cluster.push(match fate {
        Fate::Removed => format!("etcd member {name} removed"),
        Fate::KeptAside => format!("etcd member {name} ends, its data is moved aside"),
    });
    Ok(())
}
