//! The etcd member of a control plane node, taken out of its cluster before it ends.

use std::time::{Duration, Instant};

use bootstrap::etcd::answers::{self, EndpointStatus};
use bootstrap::etcd::members::Cluster;
use bootstrap::failure::{Code, Failure};
use bootstrap::leaving::etcd::{Fate, Removing, Stacked, removal};
use futures::future::join_all;

use super::{record, runtime};
use crate::board::Board;
use crate::etcd::{Files, ask_peers};
use crate::host::Host;
use crate::tool::{Call, Said, Tool};

/// etcd itself gives up after 5 s.
const ANSWER: Duration = Duration::from_secs(20);
/// etcd wants its members connected for 5 s before it changes their list, and elects a leader in about one.
const REMOVAL: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(2);
/// A member that answers at all has learned of a removal within a second; one that elects a leader takes some more.
const NEWS: Duration = Duration::from_secs(10);
const OWN: &str = "https://127.0.0.1:2379";
const PKI: &str = "/etc/kubernetes/pki/etcd";

/// What is decided of the member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is removed.
    Remove(Removing),
    /// It is no member any more.
    Gone,
    /// It ends with its cluster, or nobody knows; its data is kept aside.
    KeepAside,
}

/// Whether the member may go, before anything is changed. An etcd whose member was removed ends: then the others tell, whom
/// an `earlier` run wrote down.
///
/// # Errors
/// `ETCD_QUORUM`; `ETCD_UNAVAILABLE` without `force`.
pub(super) async fn decide(
    host: &Host,
    stacked: &Stacked,
    earlier: Option<&Removing>,
    force: bool,
    board: &Board,
) -> Result<Decision, Failure> {
    let (cluster, answers) = match ask(host, earlier).await {
        Ok(asked) => asked,
        Err(failure) => {
            let Err(others) = others_forgot(host, earlier, board).await else { return Ok(Decision::Gone) };
            let failure = Failure { what: format!("{}{others}", failure.what), ..failure };
            if force {
                tracing::warn!("{failure}");
                return Ok(Decision::KeepAside);
            }
            let remedy = "start etcd and the API server again, or leave with --force: the member then stays in etcd's list, \
                          and has to be removed there (etcdctl member remove)";
            return Err(failure.with_remedy(remedy));
        }
    };
    let is_member = cluster.members.iter().any(|member| member.name == stacked.name);
    Ok(match removal(&cluster, &answers, &stacked.name, force)? {
        Some(id) => Decision::Remove(Removing::of(&cluster, id)),
        None if is_member => Decision::KeepAside,
        None => Decision::Gone,
    })
}

/// Removes the member, where it was decided so. etcd refuses for some seconds after a member was not connected.
///
/// # Errors
/// `ETCD_UNAVAILABLE` with etcd's answer; `NO_SPACE` and `IO` name the record of the leave.
pub(super) async fn remove(host: &Host, decision: &Decision, board: &Board) -> Result<Fate, Failure> {
    let Decision::Remove(removing) = decision else {
        return Ok(if *decision == Decision::Gone { Fate::Removed } else { Fate::KeptAside });
    };
    // Once it is removed its own etcd ends, and with it all that it could tell a run after a kill.
    record::change(host, |begun| begun.removing = Some(removing.clone()))?;
    let (since, waits_for) = (Instant::now(), "etcd to let its member go");
    loop {
        let Err(failure) = remove_at_any(host, removing).await else {
            board.stop_waiting(waits_for);
            return Ok(Fate::Removed);
        };
        if since.elapsed() >= REMOVAL {
            board.stop_waiting(waits_for);
            return Err(failure);
        }
        board.wait(waits_for, &failure.what, since, PAUSE, REMOVAL);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks the node's own etcd first: of two members both have to vote. Its answer may be lost with its end.
async fn remove_at_any(host: &Host, removing: &Removing) -> Result<(), Failure> {
    let id = removing.id.to_string();
    let mut refused = None;
    for endpoint in endpoints(Some(removing)) {
        let said = etcdctl(host, endpoint, &["member", "remove", &id]).await;
        match said {
            Ok(said) if said.code == Some(0) || said.stderr.contains("member not found") => return Ok(()),
            Ok(said) => drop(refused.get_or_insert(said.failure("etcdctl member remove", Code::EtcdUnavailable))),
            Err(failure) => drop(refused.get_or_insert(failure)),
        }
    }
    if is_removed(host, removing).await.is_ok() {
        return Ok(());
    }
    Err(refused.unwrap_or_else(|| Failure::new(Code::EtcdUnavailable, "no member of etcd answers")))
}

/// Waits a while until others tell that the member that an `earlier` run removed is out of their list.
///
/// # Errors
/// What they tell instead, to stand behind why the node's own etcd can't be asked; nothing without an earlier run.
async fn others_forgot(host: &Host, earlier: Option<&Removing>, board: &Board) -> Result<(), String> {
    let removing = earlier.ok_or_else(String::new)?;
    let (since, waits_for) = (Instant::now(), "the other members to tell whether this one is removed");
    loop {
        let told = is_removed(host, removing).await;
        let (Err(others), true) = (&told, since.elapsed() < NEWS) else {
            board.stop_waiting(waits_for);
            return told.map_err(|others| format!("; the others: {others}"));
        };
        board.wait(waits_for, others, since, PAUSE, NEWS);
        tokio::time::sleep(PAUSE).await;
    }
}

/// That others tell that the member is out of their list. They are asked as peers, for which no etcdctl is needed: the one
/// of the static pod's image ended with it.
async fn is_removed(host: &Host, removing: &Removing) -> Result<(), String> {
    let [authority, certificate, key] = ["ca.crt", "peer.crt", "peer.key"].map(|name| format!("{PKI}/{name}"));
    let files = Files { authority: &authority, certificate: &certificate, key: &key };
    match ask_peers(host, &files, &removing.peers).await {
        Ok(told) => removing.is_over(&told),
        Err(failure) => Err(failure.to_string()),
    }
}

fn endpoints(earlier: Option<&Removing>) -> impl Iterator<Item = &str> {
    [OWN].into_iter().chain(earlier.into_iter().flat_map(|removing| &removing.clients).map(String::as_str))
}

/// The members, and what each of those that answer says of itself.
async fn ask(host: &Host, earlier: Option<&Removing>) -> Result<(Cluster, Vec<EndpointStatus>), Failure> {
    let mut refused = None;
    for endpoint in endpoints(earlier) {
        match list(host, endpoint).await {
            Ok(cluster) => {
                let answers = statuses(host, &cluster).await;
                return Ok((cluster, answers));
            }
            Err(failure) => drop(refused.get_or_insert(failure)),
        }
    }
    Err(refused.unwrap_or_else(|| Failure::new(Code::EtcdUnavailable, "no member of etcd answers")))
}

async fn list(host: &Host, endpoint: &str) -> Result<Cluster, Failure> {
    let listed = etcdctl(host, endpoint, &["member", "list", "-w", "json"]).await?;
    if listed.code != Some(0) {
        return Err(listed.failure("etcdctl member list", Code::EtcdUnavailable));
    }
    Cluster::of_list(&listed.stdout)
}

async fn statuses(host: &Host, cluster: &Cluster) -> Vec<EndpointStatus> {
    // Each by itself: one that does not answer makes etcdctl fail for all.
    let asked = cluster.members.iter().filter_map(|member| member.client_urls.first()).map(|url| async move {
        let said = etcdctl(host, url, &["endpoint", "status", "-w", "json"]).await.ok()?;
        answers::endpoint_status(&said.stdout).ok()
    });
    join_all(asked).await.into_iter().flatten().flatten().collect()
}

/// The machine's own etcdctl, or the one in the static pod's image.
async fn etcdctl(host: &Host, endpoint: &str, arguments: &[&str]) -> Result<Said, Failure> {
    let certificates = [format!("--cacert={PKI}/ca.crt"), format!("--cert={PKI}/healthcheck-client.crt")];
    let with = |call: Call| {
        let call = call.args(&certificates).arg(format!("--key={PKI}/healthcheck-client.key"));
        call.args(["--endpoints", endpoint]).args(arguments).patience(ANSWER)
    };
    if Tool::Etcdctl.find(host).is_some() {
        // 3.6 warns of it, 3.3 needs it.
        return with(Tool::Etcdctl.call(host).env("ETCDCTL_API", "3")).output().await;
    }
    let containers = runtime::crictl(host, &["ps", "--name", "^etcd$", "-q"]).patience(ANSWER);
    let containers = containers.ok(Code::EtcdUnavailable).await?;
    match containers.lines().next() {
        Some(id) => with(runtime::crictl(host, &["exec", id.trim(), "etcdctl"])).output().await,
        None => Err(Failure::new(Code::EtcdUnavailable, "etcd does not run on this node")),
    }
}
