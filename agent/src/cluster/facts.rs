//! How far this machine is on its way into a cluster.

use bootstrap::bundle::Role;
use bootstrap::cluster::{Facts, Record};
use bootstrap::failure::Failure;
use bootstrap::leaving::traces::MARKER;
use bootstrap::node_spec::{Membership, NodeSpec};

use super::identity::{self, KUBELET_CONF};
use super::objects::{self, ADMIN_CONF};
use super::{Ground, record};
use crate::etcd;
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
        traces: traces(host, ground.spec),
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
fn traces(host: &Host, spec: &NodeSpec) -> Vec<String> {
    let files = TRACES.iter().filter(|path| host.path(path).exists()).map(|path| (*path).to_owned());
    let pods = host.names(MANIFESTS).into_iter().filter(|name| name.ends_with(".yaml"));
    let pods = pods.map(|name| format!("{MANIFESTS}/{name}"));
    // A member that the stock unit began is taken over, and runs until then.
    let stock = (spec.role == Role::Etcd).then(|| etcd::stock_member(host, spec)).flatten();
    files.chain(pods).chain(stock).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bytes of a log that etcd 3.4.23 wrote.
    const LOG: [u8; 56] = *include_bytes!("../../../bootstrap/src/etcd/testdata/0-0.wal");

    #[test]
    fn a_member_of_the_stock_unit_is_this_node_s_own() {
        for (role, name, log, known) in [
            (Role::Etcd, "e1", &LOG[..], true),
            (Role::Etcd, "e2", &LOG, false),
            (Role::Etcd, "e1", b"no log", false),
            (Role::Worker, "e1", &LOG, false),
        ] {
            let root = tempfile::tempdir().unwrap();
            let host = Host::new(root.path()).unwrap();
            std::fs::write(host.prepare("/e1.etcd/member/wal/0-0.wal").unwrap(), log).unwrap();
            let spec = NodeSpec::new(role, name, None, None).unwrap();
            let wanted: &[&str] = if known { &["/e1.etcd/member"] } else { &[] };
            assert_eq!(traces(&host, &spec), wanted, "{role:?} {name}");
        }
    }
}
