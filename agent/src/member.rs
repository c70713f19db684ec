//! What a membership is worked on with: found out once, when the node is installed.

use std::time::Instant;

use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::{Membership, NodeSpec};
use bootstrap::plan::Bundle;
use bootstrap::version::Version;

use crate::board::Board;
use crate::cluster::{self, Ground, Proved};
use crate::config::Config;
use crate::host::Host;

/// Patches for what kubeadm writes, where an operator has any (kubeadm, `--patches`).
const PATCHES: &str = "/etc/cks-agent/patches";

/// Makes the installed node a member of its cluster.
///
/// # Errors
/// As [`cluster::carry_out`]; `MEDIA_LACKS_COMPONENT` without a Kubernetes version.
pub async fn join(
    host: &Host,
    settings: &Config,
    spec: &NodeSpec,
    bundle: &Bundle,
    board: &Board,
) -> Result<(), Failure> {
    let version = version(spec, bundle)?;
    let patches = host.path(PATCHES);
    let socket = settings.containerd.socket.clone().unwrap_or_else(|| host.path("/run/containerd/containerd.sock"));
    let ground = Ground {
        host,
        spec,
        settings,
        bundle,
        board,
        version,
        cri_socket: format!("unix://{}", socket.display()),
        socket,
        patches: patches.is_dir().then(|| patches.display().to_string()),
        ignored: cluster::ignored(settings, spec)?,
        began: Instant::now(),
        patience: settings.cluster.wait,
        proved: Proved::default(),
    };
    cluster::carry_out(&ground).await
}

fn version(spec: &NodeSpec, bundle: &Bundle) -> Result<Version, Failure> {
    let told = bundle.manifest.kubernetes.as_deref();
    let lacks = || {
        let what = format!("bundle {:?} does not say which Kubernetes it brings", bundle.manifest.name);
        Failure::new(Code::MediaLacksComponent, what)
    };
    match (told.and_then(Version::parse), &spec.membership) {
        (Some(version), _) => Ok(version),
        // An etcd node has nothing of Kubernetes.
        (None, Some(Membership::Etcd) | None) => Version::parse("v0.0.0").ok_or_else(lacks),
        (None, Some(_)) => Err(lacks()),
    }
}
