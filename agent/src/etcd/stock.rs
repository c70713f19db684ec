//! Members that CloudStack's own etcd unit began: their data lies in `/<name>.etcd`, and root owns it.

use std::fs;

use bootstrap::etcd::account::Ids;
use bootstrap::etcd::quorum;
use bootstrap::failure::Failure;
use bootstrap::node_spec::NodeSpec;
use bootstrap::render::etcd::DATA_DIR;

use super::data;
use super::known::Known;
use super::service::Service;
use crate::host::{Host, io_failure};

/// Where the stock unit has the data of the member that this node is, where there is any.
#[must_use]
pub fn stock_member(host: &Host, spec: &NodeSpec) -> Option<String> {
    let theirs = place(spec);
    data::identity_at(host, &theirs).ok().flatten().map(|_| theirs)
}

fn place(spec: &NodeSpec) -> String {
    format!("/{}.etcd/member", spec.node_name)
}

/// Moves what the stock unit left to where ours looks for it, where ours has nothing yet.
///
/// # Errors
/// `ETCD_QUORUM`: its etcd can't be stopped for that now; `SERVICE_FAILED`, `IO`.
pub(super) async fn adopt(host: &Host, spec: &NodeSpec, ids: Ids) -> Result<(), Failure> {
    let theirs = place(spec);
    if data::identity(host)?.is_some() || data::identity_at(host, &theirs)?.is_none() {
        return Ok(());
    }
    let service = Service::new(host);
    if service.is_active().await {
        if let Ok(known) = Known::of_spec(host, spec.clone()).await
            && let Some(own) = known.own().filter(|_| known.cluster.voters().count() > 1)
        {
            quorum::may_stop(&known.health(), own.id)?;
        }
        service.stop().await?;
    }
    data::prepare(host, ids)?;
    let (from, to) = (host.path(&theirs), host.path(&format!("{DATA_DIR}/member")));
    data::give(&from, ids)?;
    let moved = fs::rename(&from, &to).and_then(|()| data::sync(&to));
    moved.map_err(|e| {
        io_failure("Moving the data of the stock unit to", &to, e)
            .with_remedy(format!("stop etcd and move {theirs} to {DATA_DIR}/member by hand"))
    })
}
