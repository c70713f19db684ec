//! How far this machine is on its way into a cluster.

use bootstrap::cluster::{Facts, Record};
use bootstrap::failure::Failure;
use bootstrap::leaving::traces::MARKER;
use bootstrap::node_spec::Membership;

use super::identity::{self, KUBELET_CONF};
use super::objects::{self, ADMIN_CONF};
use super::{Ground, record};
use crate::host::Host;

/// What kubeadm and the kubelet leave when a try breaks off, besides the two identities.
const TRACES: [&str; 6] = [
    "/etc/kubernetes/bootstrap-kubelet.conf",
    "/etc/kubernetes/pki/ca.crt",
    "/etc/kubernetes/pki/ca.key",
    "/var/lib/kubelet/config.yaml",
    "/var/lib/kubelet/pki/kubelet-client-current.pem",
    "/var/lib/etcd/member",
];
const MANIFESTS: &str = "/etc/kubernetes/manifests";

/// Looks at what tells of a membership.
///
/// # Errors
/// `STATE_INVALID`, `IO`.
pub async fn gather(ground: &Ground<'_>) -> Result<Facts, Failure> {
    let host = ground.host;
    let there = |path: &str| host.path(path).exists();
    let kept = record::read(host)?;
    let mut facts = Facts {
        kubelet_conf: there(KUBELET_CONF),
        admin_conf: there(ADMIN_CONF),
        traces: traces(host),
        marker: there(MARKER),
        identity: identity::ask(host, &ground.spec.node_name).await,
        ..Facts::default()
    };
    facts.is_applied = is_applied(ground, kept.as_ref())?;
    facts.record = kept;
    ground.look(&mut facts);
    Ok(facts)
}

fn is_applied(ground: &Ground<'_>, kept: Option<&Record>) -> Result<bool, Failure> {
    let Some(Membership::FirstControlPlane(init)) = &ground.spec.membership else { return Ok(true) };
    let applied = kept.map(|record| record.applied.clone()).unwrap_or_default();
    Ok(objects::is_applied(&objects::wanted(ground.host, init)?, &applied))
}

/// The traces that are there; of the static pods the directory's content counts, not the directory.
fn traces(host: &Host) -> Vec<String> {
    let files = TRACES.iter().filter(|path| host.path(path).exists()).map(|path| (*path).to_owned());
    let pods = host.names(MANIFESTS).into_iter().filter(|name| name.ends_with(".yaml"));
    files.chain(pods.map(|name| format!("{MANIFESTS}/{name}"))).collect()
}
