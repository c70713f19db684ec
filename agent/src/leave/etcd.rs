//! The etcd member of a control plane node, taken out of its cluster before it ends.

use std::time::{Duration, Instant};

use bootstrap::etcd::answers::{self, EndpointStatus};
use bootstrap::etcd::members::{Cluster, Id};
use bootstrap::failure::{Code, Failure};
use bootstrap::leaving::etcd::{Fate, Stacked, removal};
use futures::future::join_all;

use super::runtime;
use crate::board::Board;
use crate::host::Host;
use crate::tool::{Call, Said, Tool};

/// etcd itself gives up after 5 s.
const ANSWER: Duration = Duration::from_secs(20);
/// etcd wants its members connected for 5 s before it changes their list, and elects a leader in about one.
const REMOVAL: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(2);
const OWN: &str = "https://127.0.0.1:2379";
const PKI: &str = "/etc/kubernetes/pki/etcd";

/// What is decided of the member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is removed, by its number.
    Remove(Id),
    /// It is no member any more.
    Gone,
    /// It ends with its cluster, or nobody knows; its data is kept aside.
    KeepAside,
}

/// Whether the member may go, before anything is changed.
///
/// # Errors
/// `ETCD_QUORUM`; `ETCD_UNAVAILABLE` without `force`.
pub(super) async fn decide(host: &Host, stacked: &Stacked, force: bool) -> Result<Decision, Failure> {
    let (cluster, answers) = match ask(host).await {
        Ok(asked) => asked,
        Err(failure) if force => {
            tracing::warn!("{failure}");
            return Ok(Decision::KeepAside);
        }
        Err(failure) => {
            let remedy = "start etcd and the API server again, or leave with --force: the member then stays in etcd's list, \
                          and has to be removed there (etcdctl member remove)";
            return Err(failure.with_remedy(remedy));
        }
    };
    let is_member = cluster.members.iter().any(|member| member.name == stacked.name);
    Ok(match removal(&cluster, &answers, &stacked.name, force)? {
        Some(id) => Decision::Remove(id),
        None if is_member => Decision::KeepAside,
        None => Decision::Gone,
    })
}

/// Removes the member, where it was decided so. etcd refuses for some seconds after a member was not connected.
///
/// # Errors
/// `ETCD_UNAVAILABLE` with etcd's answer.
pub(super) async fn remove(host: &Host, decision: Decision, board: &Board) -> Result<Fate, Failure> {
    let Decision::Remove(id) = decision else {
        return Ok(if decision == Decision::Gone { Fate::Removed } else { Fate::KeptAside });
    };
    let (since, waits_for) = (Instant::now(), "etcd to let its member go");
    loop {
        let said = etcdctl(host, OWN, &["member", "remove", &id.to_string()]).await?;
        if said.code == Some(0) || said.stderr.contains("member not found") {
            board.stop_waiting(waits_for);
            return Ok(Fate::Removed);
        }
        let failure = said.failure("etcdctl member remove", Code::EtcdUnavailable);
        if since.elapsed() >= REMOVAL {
            board.stop_waiting(waits_for);
            return Err(failure);
        }
        board.wait(waits_for, &failure.what, since, PAUSE, REMOVAL);
        tokio::time::sleep(PAUSE).await;
    }
}

/// The members, and what each of those that answer says of itself.
async fn ask(host: &Host) -> Result<(Cluster, Vec<EndpointStatus>), Failure> {
    let listed = etcdctl(host, OWN, &["member", "list", "-w", "json"]).await?;
    if listed.code != Some(0) {
        return Err(listed.failure("etcdctl member list", Code::EtcdUnavailable));
    }
    let cluster = Cluster::of_list(&listed.stdout)?;
    // Each by itself: one that does not answer makes etcdctl fail for all.
    let asked = cluster.members.iter().filter_map(|member| member.client_urls.first()).map(|url| async move {
        let said = etcdctl(host, url, &["endpoint", "status", "-w", "json"]).await.ok()?;
        answers::endpoint_status(&said.stdout).ok()
    });
    let answers = join_all(asked).await.into_iter().flatten().flatten().collect();
    Ok((cluster, answers))
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
