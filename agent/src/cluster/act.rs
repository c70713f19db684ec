//! One action after the other: each proves what it did before the next begins.

use std::time::{Duration, Instant};

use bootstrap::cluster::{Action, Facts, Identity, Stage};
use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::{CaTrust, Init, Join, Membership, Network, NodeSpec};
use bootstrap::render::kubeadm::{Context, init_arguments, init_config, join_arguments, join_config};

use super::redact::Redactor;
use super::{Ground, api, identity, kubeadm, objects, record};
use crate::files;
use crate::host::{Host, io_failure};
use crate::tool::Tool;
use crate::{adopt, etcd, leave};

/// How often a node that is not ready yet is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The token, for as long as the kubelet has no identity of its own.
const BOOTSTRAP_CONF: &str = "/etc/kubernetes/bootstrap-kubelet.conf";

pub(super) async fn act(ground: &Ground<'_>, action: &Action, facts: &Facts) -> Result<(), Failure> {
    match (action, &ground.spec.membership) {
        (Action::TakeBack { why }, _) => {
            tracing::warn!("taking back what an earlier try left: {why}");
            kubeadm::reset(ground.host, &ground.cri_socket).await?;
            ground.proved.taken_back.set(Some(Instant::now()));
            Ok(())
        }
        (Action::Init { again }, Some(Membership::FirstControlPlane(init))) => {
            begin_cluster(ground, init, *again).await
        }
        (Action::Join, Some(Membership::ControlPlane(wish) | Membership::Worker(wish))) => join(ground, wish).await,
        (Action::FinishJoin, _) => finish_join(ground.host, ground.spec, &ground.cri_socket).await,
        (Action::Apply, Some(Membership::FirstControlPlane(init))) => apply(ground, init, facts).await,
        (Action::AwaitReady, _) => await_ready(ground).await,
        (Action::PrepareHost, _) => ground.prepare_host(facts).await,
        (Action::ConfigureRuntime, _) => ground.configure_runtime().await,
        (Action::ServeEtcd, _) => ground.serve_etcd().await,
        (Action::HandOver, _) => ground.hand_over(),
        _ => Ok(()),
    }
}

async fn begin_cluster(ground: &Ground<'_>, init: &Init, again: bool) -> Result<(), Failure> {
    // What is missing is told before anything is begun.
    objects::wanted(ground.host, init)?;
    if let Some(etcd) = &init.etcd {
        etcd::client_certificates(ground.host, etcd)?;
    }
    let mut ignored = ground.ignored.clone();
    if again {
        ignored.extend(AGAIN.map(str::to_owned));
    }
    let config = init_config(ground.spec, init, &Context { ignored_errors: &ignored, ..ground.context()? })?;
    leave::forget_unfinished(ground.host)?;
    record::begin(ground.host, ground.spec)?;
    run(ground, &config, |path| init_arguments(init, path)).await?;
    pin_own_authority(ground)?;
    record::reach(ground.host, ground.spec, Stage::Member)
}

/// What an earlier try leaves and kubeadm would stop at. It takes keys, kubeconfigs and etcd's data over, and writes
/// the rest anew.
const AGAIN: [&str; 14] = [
    "FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml",
    "FileAvailable--etc-kubernetes-manifests-kube-controller-manager.yaml",
    "FileAvailable--etc-kubernetes-manifests-kube-scheduler.yaml",
    "FileAvailable--etc-kubernetes-manifests-etcd.yaml",
    "DirAvailable--etc-kubernetes-manifests",
    "DirAvailable--var-lib-etcd",
    "FileAvailable--etc-kubernetes-kubelet.conf",
    "FileAvailable--etc-kubernetes-bootstrap-kubelet.conf",
    "Port-6443",
    "Port-10259",
    "Port-10257",
    "Port-10250",
    "Port-2379",
    "Port-2380",
];

async fn join(ground: &Ground<'_>, wish: &Join) -> Result<(), Failure> {
    let wish = with_known_authority(ground, wish)?;
    let found = api::discover(&wish).await?;
    if wish.trust == CaTrust::TokenOnly {
        let hashes = found.hashes.join(", ");
        ground.board.warn(format!(
            "CA_NOT_PINNED: the user data names no authority; the holder of the token vouches for {hashes}: pin it by ca-hashes in a cks: section"
        ));
    }
    let context = Context { ca_hashes: &found.hashes, ..ground.context()? };
    let config = join_config(ground.spec, &wish, &context)?;
    // Whom this node met once it meets again: also where this try fails.
    leave::forget_unfinished(ground.host)?;
    record::begin_join(ground.host, ground.spec, found.hashes.clone())?;
    run(ground, &config, join_arguments).await?;
    record::reach(ground.host, ground.spec, Stage::Member)
}

/// What a kubeadm that was killed after the kubelet had got its identity did not come to: the node's annotation, and the end of
/// the token's file.
async fn finish_join(host: &Host, spec: &NodeSpec, socket: &str) -> Result<(), Failure> {
    identity::tell_socket(host, &spec.node_name, socket).await?;
    files::remove(&host.path(BOOTSTRAP_CONF))?;
    record::reach(host, spec, Stage::Member)
}

/// The wish, pinned to the authority that an earlier try of this node met.
fn with_known_authority(ground: &Ground<'_>, wish: &Join) -> Result<Join, Failure> {
    let mut wish = wish.clone();
    let kept = record::read(ground.host)?.map(|record| record.authority).unwrap_or_default();
    if wish.trust == CaTrust::TokenOnly && !kept.is_empty() {
        wish.trust = CaTrust::Pinned(kept);
    }
    Ok(wish)
}

async fn run(ground: &Ground<'_>, config: &str, arguments: impl FnOnce(&str) -> Vec<String>) -> Result<(), Failure> {
    let redactor = Redactor::of(ground.spec);
    // kubeadm starts the kubelet itself once its configuration is there; it has to know the unit.
    Tool::Systemctl.call(ground.host).arg("daemon-reload").ok(Code::ServiceFailed).await?;
    let each = |line: &str| tracing::debug!(target: "kubeadm", "{line}");
    kubeadm::run(ground.host, config, arguments, &redactor, ground.left(), each).await
}

fn pin_own_authority(ground: &Ground<'_>) -> Result<(), Failure> {
    let path = ground.host.path("/etc/kubernetes/pki/ca.crt");
    let pem = std::fs::read_to_string(&path).map_err(|e| io_failure("Reading", &path, e))?;
    let hashes = bootstrap::cluster::discovery::hashes(&pem)
        .map_err(|why| Failure::new(Code::KubeadmFailed, format!("{}: {why}", path.display())))?;
    record::change(ground.host, ground.spec, |record| record.authority = hashes)
}

async fn apply(ground: &Ground<'_>, init: &Init, facts: &Facts) -> Result<(), Failure> {
    if matches!(init.network, Network::UserData(_)) {
        // The user's own commands look for what the stock scripts leave before they run.
        adopt::hand_over_to_commands(ground.host, ground.spec, &ground.bundle.directory())?;
    }
    let parts = objects::wanted(ground.host, init)?;
    let applied = facts.record.as_ref().map(|record| record.applied.clone()).unwrap_or_default();
    objects::apply(ground.host, &parts, &applied, ground.left(), |name, digest| {
        record::change(ground.host, ground.spec, |record| {
            record.applied.insert(name, digest);
        })
    })
    .await
}

/// Waits until the cluster says that the node is ready.
async fn await_ready(ground: &Ground<'_>) -> Result<(), Failure> {
    let waits_for = "the node to be ready";
    loop {
        let (code, why) = match identity::ask(ground.host, &ground.spec.node_name).await {
            Identity::Known { ready: true, .. } => {
                ground.board.stop_waiting(waits_for);
                return Ok(());
            }
            Identity::Known { why, .. } => (Code::NodeNotReady, why),
            Identity::Unreachable { why } => (Code::ApiUnreachable, why),
            Identity::Refused { why } => (Code::NodeNotReady, why),
            Identity::Unknown => (Code::NodeNotReady, "the kubelet has not registered it yet".to_owned()),
            Identity::None => (Code::NodeNotReady, "the kubelet has no identity".to_owned()),
        };
        if ground.left().is_zero() {
            ground.board.stop_waiting(waits_for);
            return Err(Failure::new(code, format!("node {} is not ready: {why}", ground.spec.node_name)));
        }
        ground.board.wait_because(code, waits_for, &why, ground.began, LOOK_EVERY, ground.patience);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use bootstrap::bundle::Role;

    use super::*;
    use crate::files;

    #[tokio::test]
    async fn a_join_that_was_killed_at_its_end_is_finished() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        let put = |path: &str, text: &str| files::write(&host.prepare(path).unwrap(), text.as_bytes(), 0o755).unwrap();
        let said = host.path("/said");
        put("/opt/bin/kubectl", &format!("#!/bin/sh\necho \"$@\" >{}\nexit 1\n", said.display()));
        put(BOOTSTRAP_CONF, "a token");
        let spec = NodeSpec::new(Role::Worker, "w1", None, None).unwrap();
        record::begin_join(&host, &spec, vec!["sha256:a".to_owned()]).unwrap();
        // The token's file is the sign that a join is not over.
        let failure = finish_join(&host, &spec, "unix:///run/c.sock").await.unwrap_err();
        assert_eq!((failure.code, host.path(BOOTSTRAP_CONF).exists()), (Code::ApiUnreachable, true));
        put("/opt/bin/kubectl", &format!("#!/bin/sh\necho \"$@\" >{}\n", said.display()));
        for _ in 0..2 {
            finish_join(&host, &spec, "unix:///run/c.sock").await.unwrap();
        }
        let said = std::fs::read_to_string(said).unwrap();
        let told = "annotate --overwrite node w1 kubeadm.alpha.kubernetes.io/cri-socket=unix:///run/c.sock";
        assert!(said.contains("/etc/kubernetes/kubelet.conf") && said.trim_end().ends_with(told), "{said}");
        assert!(!host.path(BOOTSTRAP_CONF).exists());
        assert_eq!(record::read(&host).unwrap().unwrap().stage, Stage::Member);
    }
}
