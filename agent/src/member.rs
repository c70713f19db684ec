//! What a membership is worked on with: found out once, when the node is installed; and whether there is one.

use std::time::Instant;

use bootstrap::cluster::Stage;
use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::{Membership, NodeSpec};
use bootstrap::plan::Bundle;
use bootstrap::state::Phase;
use bootstrap::version::Version;

use crate::board::Board;
use crate::cluster::identity::KUBELET_CONF;
use crate::cluster::{self, Ground, Proved, record};
use crate::config::Config;
use crate::host::Host;

/// Patches for what kubeadm writes, where an operator has any (kubeadm, `--patches`).
const PATCHES: &str = "/etc/cks-agent/patches";

/// What a node has only as long as it is a member: the kubelet's own credentials, etcd's data.
const IDENTITIES: [&str; 2] = [KUBELET_CONF, "/var/lib/etcd/member"];

/// Whether this machine is a member of a cluster: it has what only a member has, and no run of ours says that it has only
/// begun to become one.
#[must_use]
pub fn is_one(host: &Host) -> bool {
    let begun = || record::read(host).ok().flatten().is_some_and(|record| record.stage == Stage::Begun);
    IDENTITIES.iter().any(|path| host.path(path).exists()) && !begun()
}

/// Where a machine stands after a run that was asked for no membership: on a member, where that has got to.
#[must_use]
pub fn phase(host: &Host) -> Phase {
    match record::read(host) {
        Ok(Some(record)) if record.stage == Stage::Ready && is_one(host) => Phase::Ready,
        _ => Phase::Installed,
    }
}

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

#[cfg(test)]
mod tests {
    use bootstrap::bundle::Role;

    use super::*;

    #[test]
    fn a_member_has_an_identity_and_is_said_to_have_got_there() {
        for (identity, stage, is) in [
            (None, None, false),
            (None, Some(Stage::Ready), false),
            (Some(KUBELET_CONF), None, true),
            (Some(KUBELET_CONF), Some(Stage::Begun), false),
            (Some(KUBELET_CONF), Some(Stage::Member), true),
            (Some("/var/lib/etcd/member/wal"), Some(Stage::Ready), true),
        ] {
            let root = tempfile::tempdir().unwrap();
            let host = Host::new(root.path()).unwrap();
            let spec = NodeSpec::new(Role::Worker, "node-1", None, None).unwrap();
            if let Some(path) = identity {
                std::fs::write(host.prepare(path).unwrap(), "").unwrap();
            }
            if let Some(stage) = stage {
                record::reach(&host, &spec, stage).unwrap();
            }
            assert_eq!(is_one(&host), is, "{identity:?} {stage:?}");
            let ready = is && stage == Some(Stage::Ready);
            assert_eq!(phase(&host) == Phase::Ready, ready, "{identity:?} {stage:?}");
        }
    }
}
