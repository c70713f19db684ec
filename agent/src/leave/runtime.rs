//! The container runtime: its pods, and the images that are left when they are gone.

use std::time::Duration;

use bootstrap::failure::{Code, Failure};
use bootstrap::leaving::facts::Runtime;
use bootstrap::leaving::paths::{CNI_CONFIG, SILENT_CNI, SILENT_CNI_NAME};
use serde::Deserialize;

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
/// `CONTAINERD_UNAVAILABLE`, `TOOL_MISSING`; `LEAVE_INCOMPLETE` names the last refusal.
pub(super) async fn remove_pods(host: &Host) -> Result<(), Failure> {
    let (pods, _) = ids(host).await?;
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for pod in pods {
        if is_in_host_network(host, &pod).await { last.push(pod) } else { first.push(pod) }
    }
    let mut refusal = None;
    for pod in first.iter().chain(&last) {
        if let Err(failure) = remove_pod(host, pod).await {
            tracing::debug!("{failure}");
            refusal = Some(failure);
        }
    }
    let (pods, _) = ids(host).await?;
    if !pods.is_empty() {
        // A plugin that asks the API server, or a daemon that is gone by now, never ends these pods' networks. What they
        // left is taken away all the same, so nothing has to be done here.
        let path = host.prepare(&format!("{CNI_CONFIG}/00-{SILENT_CNI_NAME}.conflist"))?;
        files::write(&path, SILENT_CNI.as_bytes(), 0o600)?;
        tokio::time::sleep(SETTLE).await;
        for pod in &pods {
            refusal = remove_pod(host, pod).await.err();
        }
    }
    let (_, containers) = ids(host).await?;
    for container in &containers {
        refusal = crictl(host, &["rm", "-f", container]).ok(Code::LeaveIncomplete).await.err().or(refusal);
    }
    match ids(host).await? {
        (pods, containers) if pods.is_empty() && containers.is_empty() => Ok(()),
        _ => {
            Err(refusal
                .unwrap_or_else(|| Failure::new(Code::LeaveIncomplete, "new pods come while others are removed")))
        }
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
