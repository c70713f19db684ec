//! The container runtime: its pods, and the images that are left when they are gone.

use std::cell::Cell;
use std::time::{Duration, Instant};

use bootstrap::failure::{Code, Failure};
use bootstrap::leaving::facts::Runtime;
use bootstrap::leaving::paths::{CNI_CONFIG, SILENT_CNI, SILENT_CNI_NAME};
use futures::{StreamExt as _, stream};
use serde::Deserialize;

use crate::board::Board;
use crate::containerd::Containerd;
use crate::files;
use crate::host::Host;
use crate::record::NodeRecord;
use crate::tool::{Call, Tool};

/// A container gets no time to end: who drained the node gave it some.
const PATIENCE: Duration = Duration::from_secs(120);
/// A runtime that is well answers at once.
const ANSWER: Duration = Duration::from_secs(10);
/// The runtime reads a changed network configuration by itself.
const SETTLE: Duration = Duration::from_millis(500);
/// How long all pods get together.
const ALL: Duration = Duration::from_secs(4 * 60);
/// Pods that are ended at once.
const SIDE_BY_SIDE: usize = 4;
const WAITS_FOR: &str = "pods to end";
const TASKS: &str = "/run/containerd/io.containerd.runtime.v2.task/k8s.io";

#[derive(Deserialize)]
struct Pods {
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Containers {
    #[serde(default)]
    containers: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    id: String,
}

/// The socket that the node's images came by.
fn socket(host: &Host) -> String {
    let named = NodeRecord::read(host).ok().flatten().and_then(|record| record.containerd);
    named.map_or_else(|| "/run/containerd/containerd.sock".to_owned(), |path| path.display().to_string())
}

/// The socket as kubeadm and crictl take it.
pub(super) fn endpoint(host: &Host) -> String {
    format!("unix://{}", socket(host))
}

pub(super) fn crictl(host: &Host, arguments: &[&str]) -> Call {
    let timeout = format!("{}s", PATIENCE.as_secs());
    let call = Tool::Crictl.call(host).args(["--runtime-endpoint", &endpoint(host), "--timeout", &timeout]);
    call.args(arguments).patience(PATIENCE)
}

/// What the runtime tells.
pub(super) async fn look(host: &Host) -> Runtime {
    let pods = match ids(host).await {
        Ok((pods, containers)) => Some(if pods.is_empty() { containers.len() } else { pods.len() }),
        Err(failure) => {
            tracing::debug!("{failure}");
            None
        }
    };
    let images = match containerd(host).await {
        Some(containerd) => containerd.unused_images().await.unwrap_or_default().len(),
        None => 0,
    };
    Runtime { pods, tasks: host.names(TASKS).len(), images }
}

/// Pods, and all containers.
async fn ids(host: &Host) -> Result<(Vec<String>, Vec<String>), Failure> {
    let failed = |e| Failure::new(Code::ContainerdUnavailable, "what crictl prints can't be read").with_source(e);
    let list =
        |arguments: &'static [&'static str]| crictl(host, arguments).patience(ANSWER).ok(Code::ContainerdUnavailable);
    let pods: Pods = serde_json::from_str(&list(&["pods", "-o", "json"]).await?).map_err(failed)?;
    let containers: Containers = serde_json::from_str(&list(&["ps", "-a", "-o", "json"]).await?).map_err(failed)?;
    let ids = |items: Vec<Item>| items.into_iter().map(|item| item.id).collect();
    Ok((ids(pods.items), ids(containers.containers)))
}

/// Stops and removes all pods and containers. Those in the host's network go last: among them are the ones that end
/// the others' networks.
///
/// # Errors
/// `CONTAINERD_UNAVAILABLE`, `TOOL_MISSING`; `LEAVE_INCOMPLETE` names the first refusal.
pub(super) async fn remove_pods(host: &Host, board: &Board) -> Result<(), Failure> {
    let (pods, _) = ids(host).await?;
    let looked = stream::iter(pods).map(|pod| async { (is_in_host_network(host, &pod).await, pod) });
    let looked: Vec<(bool, String)> = looked.buffered(SIDE_BY_SIDE).collect().await;
    let (last, first): (Vec<_>, Vec<_>) = looked.into_iter().partition(|(in_host_network, _)| *in_host_network);
    let mut removal = Removal { host, board, since: Instant::now(), refusal: None };
    for pods in [first, last] {
        removal.pods(pods.into_iter().map(|(_, pod)| pod).collect()).await?;
    }
    let (pods, containers) = ids(host).await?;
    removal.each(pods, true, |pod| async move { remove_pod(host, &pod).await }).await;
    removal
        .each(containers, true, |container| async move {
            crictl(host, &["rm", "-f", &container]).ok(Code::LeaveIncomplete).await.map(drop)
        })
        .await;
    match ids(host).await? {
        (pods, containers) if pods.is_empty() && containers.is_empty() => Ok(()),
        _ => Err(removal.refusal.take().unwrap_or_else(|| {
            Failure::new(Code::LeaveIncomplete, "new pods come while others are removed, or time is over")
        })),
    }
}

/// The end of all pods, within one time for all of them.
struct Removal<'a> {
    host: &'a Host,
    board: &'a Board,
    since: Instant,
    /// The first tells most: those after it are often its consequences.
    refusal: Option<Failure>,
}

impl Drop for Removal<'_> {
    fn drop(&mut self) {
        self.board.stop_waiting(WAITS_FOR);
    }
}

impl Removal<'_> {
    /// Removes `pods`; those that do not end by their own network's plugin without it.
    async fn pods(&mut self, pods: Vec<String>) -> Result<(), Failure> {
        let host = self.host;
        // Where the plugin can't end networks any more it fails for each pod, and each would take its time.
        let left = self.each(pods, false, |pod| async move { remove_pod(host, &pod).await }).await;
        if left.is_empty() || self.is_over() {
            return Ok(());
        }
        // A plugin that asks the API server, or a daemon that is gone by now, never ends these pods' networks. What they
        // left is taken away all the same, so nothing has to be done here.
        let path = host.prepare(&format!("{CNI_CONFIG}/00-{SILENT_CNI_NAME}.conflist"))?;
        if !path.exists() {
            files::write(&path, SILENT_CNI.as_bytes(), 0o600)?;
            tokio::time::sleep(SETTLE).await;
        }
        self.each(left, true, |pod| async move { remove_pod(host, &pod).await }).await;
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.since.elapsed() >= ALL
    }

    /// Works on a few at once; where one fails, `all` others are begun or none. Returns those that are left.
    async fn each<F: Future<Output = Result<(), Failure>>>(
        &mut self,
        objects: Vec<String>,
        all: bool,
        work: impl Fn(String) -> F,
    ) -> Vec<String> {
        let (since, until) = (self.since, self.since + ALL);
        let (failed, work) = (Cell::new(false), &work);
        let mut open = objects.len();
        // Each is begun when there is room for it, and looks then.
        let outcomes = stream::iter(objects).map(|object| {
            let begins = (all || !failed.get()) && Instant::now() < until;
            async move {
                let done = async { if begins { Some(work(object.clone()).await) } else { None } };
                let over = || Failure::new(Code::TimedOut, format!("pods do not end within {} s", ALL.as_secs()));
                let done = tokio::time::timeout_at(until.into(), done).await.unwrap_or_else(|_| Some(Err(over())));
                (object, done)
            }
        });
        let mut outcomes = std::pin::pin!(outcomes.buffer_unordered(SIDE_BY_SIDE));
        let mut left = Vec::new();
        while let Some((object, outcome)) = outcomes.next().await {
            open = open.saturating_sub(1);
            self.board.wait(WAITS_FOR, &format!("{} are left", open + left.len()), since, SETTLE, ALL);
            match outcome {
                Some(Ok(())) => continue,
                Some(Err(failure)) => {
                    tracing::debug!("{failure}");
                    failed.set(true);
                    self.refusal.get_or_insert(failure);
                }
                None => {}
            }
            left.push(object);
        }
        left
    }
}

async fn remove_pod(host: &Host, pod: &str) -> Result<(), Failure> {
    crictl(host, &["stopp", pod]).ok(Code::LeaveIncomplete).await?;
    crictl(host, &["rmp", "-f", pod]).ok(Code::LeaveIncomplete).await.map(drop)
}

async fn is_in_host_network(host: &Host, pod: &str) -> bool {
    let said = crictl(host, &["inspectp", "-o", "json", pod]).patience(ANSWER).ok(Code::Io).await.unwrap_or_default();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
    said.pointer("/status/linux/namespaces/options/network").and_then(serde_json::Value::as_str) == Some("NODE")
}

/// containerd, where it answers.
pub(super) async fn containerd(host: &Host) -> Option<Containerd> {
    let recorded = NodeRecord::read(host).ok().flatten().map(|record| record.snapshotter);
    let snapshotter = recorded.unwrap_or_else(|| "overlayfs".to_owned());
    Containerd::try_connect(&host.path(&socket(host)), &snapshotter).await.ok()
}

/// Removes the images that no container uses.
///
/// # Errors
/// `CONTAINERD_…`.
pub(super) async fn remove_images(host: &Host) -> Result<(), Failure> {
    match containerd(host).await {
        Some(containerd) => containerd.remove_unused_images().await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootstrap::bundle::Role;

    async fn worked(all: bool, since: Instant) -> (usize, Vec<String>, Option<String>) {
        let root = tempfile::tempdir().unwrap();
        let (host, board) = (Host::new(root.path()).unwrap(), Board::new(Role::Worker));
        let mut removal = Removal { host: &host, board: &board, since, refusal: None };
        let begun = Cell::new(0);
        let work = |object: String| {
            begun.set(begun.get() + 1);
            async move {
                let fails = ["2", "4"].contains(&&object[..]);
                if fails { Err(Failure::new(Code::LeaveIncomplete, object)) } else { Ok(()) }
            }
        };
        let left = removal.each((0..20).map(|number| number.to_string()).collect(), all, work).await;
        (begun.get(), left, removal.refusal.take().map(|failure| failure.what))
    }

    #[tokio::test]
    async fn the_first_refusal_is_kept_and_may_end_a_round() {
        let (begun, left, refusal) = worked(true, Instant::now()).await;
        assert_eq!((begun, &left[..], refusal.as_deref()), (20, &["2".to_owned(), "4".to_owned()][..], Some("2")));
        let (begun, left, refusal) = worked(false, Instant::now()).await;
        assert!(begun < 10 && left.len() > 10 && left[0] == "2", "{begun} {left:?}");
        assert_eq!(refusal.as_deref(), Some("2"));
    }

    #[tokio::test]
    async fn all_together_have_one_time() {
        let Some(since) = Instant::now().checked_sub(ALL) else { return };
        let (begun, left, _) = worked(true, since).await;
        assert_eq!((begun, left.len()), (0, 20));
    }
}
