//! `cks-agent etcd restore`: a cluster begins anew from a snapshot, after its quorum is lost.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bootstrap::etcd::account::Ids;
use bootstrap::etcd::answers::SnapshotStatus;
use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::NodeSpec;
use bootstrap::render::etcd::{Beginning, DATA_DIR, token};

use super::command::recorded;
use super::ctl::refusal;
use super::known::Known;
use super::record::Record;
use super::service::Service;
use super::snapshot::{offline_tool, status_of};
use super::{account, certificates, data};
use crate::host::{Host, io_failure};
use crate::run::print_text;

const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// Where the data is made, on the filesystem that it will be on.
const STAGING: &str = "/var/lib/etcd/.restore";

/// How a snapshot is restored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// With this node as the only member; the others join it afterwards.
    pub(super) alone: bool,
    /// Also while the cluster has a quorum.
    pub(super) force: bool,
    /// By how much revisions go up, so that no client that has seen later ones takes old ones for new.
    pub(super) bump_revision: Option<u64>,
}

pub(super) async fn restore(host: &Host, snapshot: &Path, manner: Manner) -> Result<u8, Failure> {
    let mut spec = recorded(host)?;
    // All that can be refused is refused before anything is touched.
    let status = status_of(host, snapshot).await?;
    refuse_a_living_cluster(host, &spec, manner.force).await?;
    if manner.alone {
        spec.etcd_members = spec.etcd_cluster().into_iter().filter(|(name, _)| *name == spec.node_name).collect();
    }
    let ids = account::user(host).await?;
    certificates::of_member(host, &spec, ids, certificates::Renew::WhenDue)?;
    data::prepare(host, ids)?;
    let staged = stage(host, &spec, snapshot, &status, manner).await?;
    let place = publish(host, &spec, ids, &staged)?;
    let (hash, revision) = (status.hash, status.revision);
    print_text(&format!(
        "{} is restored: revision {revision}, hash {hash:08x}; what was there before is in {place}, where there was anything\n",
        spec.node_name
    ));
    print_text(if manner.alone {
        "next: cks-agent etcd start here, then cks-agent etcd member replace on each other node\n"
    } else {
        "next: restore the same file on every other member, then cks-agent etcd start on all of them\n"
    });
    Ok(0)
}

async fn refuse_a_living_cluster(host: &Host, spec: &NodeSpec, force: bool) -> Result<(), Failure> {
    if Service::new(host).is_active().await {
        return Err(Failure::new(
            Code::EtcdQuorum,
            "etcd.service runs on this node: its data can't be changed below it",
        )
        .with_remedy("systemctl stop etcd, on all members"));
    }
    match Known::of_spec(host, spec.clone()).await {
        Ok(known) if known.report().await.quorum && !force => {
            let what = format!("cluster {} has a quorum: restoring loses what was written since", known.cluster.id);
            Err(Failure::new(Code::EtcdQuorum, what).with_remedy(
                "cks-agent etcd member replace brings this member back with all data; --force restores nevertheless",
            ))
        }
        _ => Ok(()),
    }
}

/// Makes the data of the snapshot beside what is there.
async fn stage(
    host: &Host,
    spec: &NodeSpec,
    snapshot: &Path,
    status: &SnapshotStatus,
    manner: Manner,
) -> Result<String, Failure> {
    let staging = host.path(STAGING);
    data::clear(&staging)?;
    let cluster = spec.etcd_cluster().into_iter().map(|(name, url)| format!("{name}={url}"));
    // Another token than the cluster's own: members of the old cluster that come back are strangers to the new one. It
    // is the same on every node that restores this snapshot.
    let token = format!("{}-{:08x}-{}", token(spec), status.hash, status.revision);
    let tool = offline_tool(host);
    let args = ["snapshot", "restore"];
    let mut call = tool.call(host).env("ETCDCTL_API", "3").patience(PATIENCE).args(args).arg(snapshot);
    call = call.arg("--name").arg(&spec.node_name);
    call = call.arg("--initial-cluster").arg(cluster.collect::<Vec<_>>().join(","));
    call = call.arg("--initial-cluster-token").arg(token);
    call = call.arg("--initial-advertise-peer-urls").arg(spec.peer_url());
    call = call.arg("--data-dir").arg(&staging);
    if let Some(bump) = manner.bump_revision {
        call = call.arg("--bump-revision").arg(bump.to_string()).arg("--mark-compacted");
    }
    let said = call.output().await?;
    if said.code != Some(0) {
        let why = refusal(tool.name(), &args, &said).what;
        return Err(Failure::new(Code::ContentInvalid, format!("{} can't be restored: {why}", snapshot.display()))
            .with_remedy("take another snapshot, or copy this one again: its digest may be wrong"));
    }
    Ok(format!("{STAGING}/member"))
}

/// Puts the new data in the old one's place. Killed in between, this node refuses to start what it has: the record is of
/// the new member.
fn publish(host: &Host, spec: &NodeSpec, ids: Ids, staged: &str) -> Result<String, Failure> {
    let from = host.path(staged);
    data::give(&from, ids)?;
    let identity = data::identity_at(host, staged)?;
    let identity = identity.ok_or_else(|| {
        Failure::new(Code::ContentInvalid, format!("{} was restored and holds no log", from.display()))
    })?;
    Record::member(spec, identity, spec.etcd_members.clone()).write(host)?;
    let place = data::set_aside(host)?;
    let to = host.path(&format!("{DATA_DIR}/member"));
    let moved = fs::rename(&from, &to).and_then(|()| data::sync(&to));
    moved.map_err(|e| io_failure("Restoring", &to, e))?;
    data::clear(&host.path(STAGING))?;
    // Last: until now nobody starts etcd by itself.
    Service::new(host).tell(spec, &Beginning::is_over(spec), ids)?;
    Ok(place)
}
