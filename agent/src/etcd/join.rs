//! Into a cluster that is there: the own past is removed, a learner added, and promoted when it has all data. A learner
//! does not count for the quorum, so one that never comes costs nothing.

use bootstrap::etcd::members::{Cluster, Id, Member};
use bootstrap::etcd::quorum::{self, Health};
use bootstrap::etcd::report::health;
use bootstrap::etcd::standing::joining;
use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::NodeSpec;

use super::ctl::Ctl;

/// Makes the cluster expect this node, and gives its members then.
///
/// # Errors
/// `ETCD_QUORUM`: the others are too few; `ETCD_FOREIGN`: another machine serves under this name; `ETCD_UNAVAILABLE`:
/// the cluster can't change its members now.
pub(super) async fn expect(others: &Ctl<'_>, spec: &NodeSpec) -> Result<Cluster, Failure> {
    let (name, url) = (&spec.node_name, spec.peer_url());
    let cluster = members(others).await?;
    let joining = joining(name, &url, &cluster);
    for id in &joining.replaces {
        remove(others, &cluster, *id).await?;
    }
    if joining.add {
        others.add_learner(name, &url).await?;
    }
    if joining.add || !joining.replaces.is_empty() { others.members().await } else { Ok(cluster) }
}

/// The members, or the failure of a cluster without a quorum.
async fn members(others: &Ctl<'_>) -> Result<Cluster, Failure> {
    others.members().await.map_err(|failure| match failure.code {
        // What it waits for is that enough members come back.
        Code::EtcdUnavailable => Failure::new(failure.code, format!("the cluster has no quorum: {}", failure.what)),
        _ => failure,
    })
}

/// Whether the cluster lets this node join in the place of what it was: before anything of that is given up.
///
/// # Errors
/// As [`expect`].
pub(super) async fn may_replace(others: &Ctl<'_>, spec: &NodeSpec) -> Result<(), Failure> {
    let cluster = members(others).await?;
    for id in joining(&spec.node_name, &spec.peer_url(), &cluster).replaces {
        spares(others, &cluster, id).await?;
    }
    Ok(())
}

async fn spares(others: &Ctl<'_>, cluster: &Cluster, id: Id) -> Result<(), Failure> {
    let urls = cluster.members.iter().flat_map(|member| member.client_urls.clone()).collect();
    let answers = others.at(urls).status().await?;
    may_go(&health(cluster, &answers), id)
}

/// Removes the member `id` of `cluster`, if it may go.
async fn remove(others: &Ctl<'_>, cluster: &Cluster, id: Id) -> Result<(), Failure> {
    spares(others, cluster, id).await?;
    let name = cluster.members.iter().find(|member| member.id == id).map_or("", Member::shown);
    tracing::info!("removing member {name} of etcd");
    others.remove(id).await
}

/// May the member `id` be removed by others: it does not serve, and they have a quorum without it?
///
/// # Errors
/// `ETCD_FOREIGN`, `ETCD_QUORUM`.
pub(super) fn may_go(members: &[Health<'_>], id: Id) -> Result<(), Failure> {
    if let Some(alive) = members.iter().find(|health| health.member.id == id && health.healthy) {
        let what = format!("member {} serves at {}", alive.member.shown(), alive.member.client_urls.join(", "));
        return Err(Failure::new(Code::EtcdForeign, what).with_remedy(
            "if it is another machine with this name or address, stop its etcd, or give this one another name; \
             a member that shall go leaves by itself: cks-agent etcd member remove NAME, on that node",
        ));
    }
    quorum::may_remove(members, id)
}

/// Gives the learner its vote; why not yet otherwise.
pub(super) async fn promote(others: &Ctl<'_>, id: Id) -> Result<(), String> {
    others.promote(id).await.map_err(|failure| failure.what)
}
