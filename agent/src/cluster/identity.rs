//! What the cluster says of this node, asked with the node's own identity (`kubelet.conf`).

use std::time::Duration;

use bootstrap::cluster::Identity;
use bootstrap::failure::{Code, Failure};
use serde::Deserialize;

use crate::host::Host;
use crate::tool::{Said, Tool};

/// Where kubeadm leaves the node's identity.
pub const KUBELET_CONF: &str = "/etc/kubernetes/kubelet.conf";
/// What kubeadm keeps at each node's object.
const CRI_SOCKET: &str = "kubeadm.alpha.kubernetes.io/cri-socket";
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks for the node `name`.
pub async fn ask(host: &Host, name: &str) -> Identity {
    if !host.path(KUBELET_CONF).exists() {
        return Identity::None;
    }
    let call = Tool::Kubectl.call(host).arg("--kubeconfig").arg(host.path(KUBELET_CONF));
    let call = call.args(["--request-timeout=10s", "get", "node", name, "--output=json"]).patience(PATIENCE);
    match call.output().await {
        Ok(said) => read(&said),
        Err(failure) => Identity::Unreachable { why: failure.what },
    }
}

/// Tells the cluster where the container runtime of the node `name` listens, as `kubeadm join` does at its end. `kubeadm upgrade
/// node` asks for it (until Kubernetes 1.33; later ones look into the kubelet's own settings first). A node may say it of itself.
///
/// # Errors
/// `API_UNREACHABLE` with what kubectl said.
pub async fn tell_socket(host: &Host, name: &str, socket: &str) -> Result<(), Failure> {
    let call = Tool::Kubectl.call(host).arg("--kubeconfig").arg(host.path(KUBELET_CONF));
    let told = format!("{CRI_SOCKET}={socket}");
    let call = call.args(["--request-timeout=10s", "annotate", "--overwrite", "node", name, &told]);
    call.patience(PATIENCE).ok(Code::ApiUnreachable).await.map(drop)
}

#[derive(Deserialize)]
struct Node {
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    r#type: String,
    status: String,
    #[serde(default)]
    message: String,
}

/// What kubectl's words mean.
fn read(said: &Said) -> Identity {
    if said.code == Some(0) {
        return match serde_json::from_str::<Node>(&said.stdout) {
            Ok(node) => {
                let ready = node.status.conditions.into_iter().find(|condition| condition.r#type == "Ready");
                match ready {
                    Some(ready) => Identity::Known { ready: ready.status == "True", why: ready.message },
                    None => Identity::Known { ready: false, why: "the kubelet has not told its state yet".to_owned() },
                }
            }
            Err(e) => Identity::Unreachable { why: format!("kubectl printed no node: {e}") },
        };
    }
    let words = said.stderr.trim();
    let why = words.lines().last().unwrap_or_default().to_owned();
    let says = |text: &str| words.contains(text);
    if says("(NotFound)") {
        Identity::Unknown
    } else if says("unable to read client-cert") || says("unable to read client-key") || says("invalid configuration") {
        Identity::None
    } else if says("Unauthorized") || says("(Forbidden)") || says("unknown authority") || says("must be logged in") {
        Identity::Refused { why }
    } else {
        Identity::Unreachable { why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: i32, stdout: &str, stderr: &str) -> Said {
        Said { code: Some(code), stdout: stdout.to_owned(), stderr: stderr.to_owned() }
    }

    #[test]
    fn kubectl_s_words_are_understood() {
        let node = r#"{"status":{"conditions":[{"type":"MemoryPressure","status":"False"},{"type":"Ready","status":"STATUS","message":"M"}]}}"#;
        let known = |ready| Identity::Known { ready, why: "M".to_owned() };
        assert_eq!(read(&said(0, &node.replace("STATUS", "True"), "")), known(true));
        assert_eq!(read(&said(0, &node.replace("STATUS", "Unknown"), "")), known(false));
        let refused = |text: &str| matches!(read(&said(1, "", text)), Identity::Refused { .. });
        assert!(refused("error: You must be logged in to the server (Unauthorized)"));
        assert!(refused(
            "Unable to connect to the server: tls: failed to verify certificate: x509: certificate signed by unknown authority"
        ));
        let unreachable = |text: &str| matches!(read(&said(1, "", text)), Identity::Unreachable { .. });
        assert!(unreachable(
            "The connection to the server 10.1.1.5:6443 was refused - did you specify the right host or port?"
        ));
        assert!(unreachable("Unable to connect to the server: dial tcp 10.1.1.5:6443: i/o timeout"));
        assert_eq!(read(&said(1, "", "Error from server (NotFound): nodes \"w1\" not found")), Identity::Unknown);
        let unreadable = "error: unable to read client-cert /var/lib/kubelet/pki/kubelet-client-current.pem for default-auth due to open: no such file";
        assert_eq!(read(&said(1, "", unreadable)), Identity::None);
    }
}
