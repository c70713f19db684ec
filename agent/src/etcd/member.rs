//! `cks-agent etcd member replace` and `member remove`, and what others ask before they stop a member.

use std::time::{Duration, Instant};

use bootstrap::etcd::members::Id;
use bootstrap::etcd::quorum;
use bootstrap::failure::{Code, Failure};

use super::command::{recorded, with_board};
use super::ctl::Ctl;
use super::join::may_go;
use super::known::Known;
use super::record::Record;
use super::service::Service;
use super::{PAUSE, Patience, data, ensure_within};
use crate::files;
use crate::host::Host;
use crate::run::print_text;

/// Members that have just been added, removed or started count as unsteady for five seconds (etcd, `HealthInterval`).
const SETTLES: Duration = Duration::from_secs(30);

/// May this node stop for a while (a reboot, an upgrade)? A node that is no member may.
///
/// # Errors
/// `ETCD_QUORUM`: the cluster would stop with it. `ETCD_UNAVAILABLE`: nobody answers, so nobody can tell.
pub async fn may_stop(host: &Host) -> Result<(), Failure> {
    if Record::read(host)?.is_none() {
        return Ok(());
    }
    let known = Known::of(host).await?;
    let Some(own) = known.own() else { return Ok(()) };
    quorum::may_stop(&known.health(), own.id)
}

/// Ends this node's membership for good: etcd stops, the others forget it, its data is moved aside.
///
/// # Errors
/// `ETCD_QUORUM`: the others need it, and nothing was changed; `ETCD_UNAVAILABLE`, `SERVICE_FAILED`, `IO`.
pub async fn leave(host: &Host) -> Result<(), Failure> {
    let Some(record) = Record::read(host)? else { return Ok(()) };
    let known = match Known::with_others(host).await? {
        // The last of several stays.
        None if !record.is_told_alone() => Some(Known::of(host).await?),
        // Who was always alone takes the cluster along.
        known => known,
    };
    if let Some(known) = &known
        && let Some(own) = known.own()
    {
        quorum::may_leave(&known.health(), own.id)?;
        // While it serves: of two members both have to vote.
        remove_in_time(&known.others(own.id), own.id).await?;
    }
    Service::new(host).stop().await?;
    data::set_aside(host)?;
    files::remove(&host.path(&super::record::path()))
}

/// Starts this node's member again and waits until it serves.
pub(super) async fn restart(host: &Host, patience: Patience) -> Result<u8, Failure> {
    let spec = recorded(host)?;
    // Whoever is alone has no other way.
    if let Some(known) = Known::with_others(host).await? {
        let own = known.own().map(|own| own.id);
        own.map_or(Ok(()), |own| quorum::may_stop(&known.health(), own))?;
    }
    Service::new(host).stop().await?;
    with_board(|board| async move { ensure_within(host, &spec, &board, patience).await }).await?;
    tell(host)?;
    Ok(0)
}

/// Says who this node is now.
pub(super) fn tell(host: &Host) -> Result<(), Failure> {
    if let Some(Record { name, identity: Some(identity), .. }) = Record::read(host)? {
        print_text(&format!("{name} serves as member {} of cluster {}\n", identity.member, identity.cluster));
    }
    Ok(())
}

/// For a few seconds after any change among its members etcd lets nobody go.
async fn remove_in_time(others: &Ctl<'_>, id: Id) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        match others.remove(id).await {
            Err(failure) if failure.code == Code::EtcdUnavailable && began.elapsed() < SETTLES => {
                tokio::time::sleep(PAUSE).await;
            }
            ended => return ended,
        }
    }
}

/// Gives this node's place in the cluster to the same node without its data, which it fetches anew.
pub(super) async fn replace(host: &Host, name: Option<&str>, patience: Patience) -> Result<u8, Failure> {
    let spec = recorded(host)?;
    if let Some(name) = name.filter(|name| *name != spec.node_name) {
        let what = format!("this node is {}: {name} is replaced on {name} itself", spec.node_name);
        return Err(Failure::new(Code::ConfigInvalid, what).with_remedy(format!(
            "run cks-agent etcd member replace on {name}; or here cks-agent etcd member remove {name}, if it never comes back"
        )));
    }
    // Before anything is stopped: can the others do without it?
    let Some(known) = Known::with_others(host).await? else {
        let what = format!("{} is the only member: nobody has its data", spec.node_name);
        return Err(Failure::new(Code::EtcdQuorum, what).with_remedy("restore a snapshot: cks-agent etcd restore"));
    };
    let spec = known.spec_now();
    let own = known.own().map(|own| own.id);
    check_others(&known, own)?;
    let before = own.map(|own| known.others(own));
    Service::new(host).stop().await?;
    let place = data::set_aside(host)?;
    print_text(&format!("what was in /var/lib/etcd is in {place}, where there was anything\n"));
    with_board(|board| async move { ensure_within(host, &spec, &board, patience).await }).await?;
    let after = Known::of(host).await?;
    same_data(&after, before.as_ref()).await?;
    Ok(0)
}

fn check_others(known: &Known<'_>, own: Option<Id>) -> Result<(), Failure> {
    let health = known.health();
    match own {
        Some(own) if known.cluster.voters().any(|voter| voter.id == own) => quorum::may_remove(&health, own),
        _ => {
            let (healthy, voters) = (
                health.iter().filter(|health| health.healthy && !health.member.learner).count(),
                known.cluster.voters().count(),
            );
            if healthy >= quorum::quorum(voters) {
                return Ok(());
            }
            Err(Failure::new(Code::EtcdQuorum, format!("{healthy} of {voters} members are healthy: no quorum")))
        }
    }
}

/// The proof: the new member has what the others have.
async fn same_data(known: &Known<'_>, others: Option<&Ctl<'_>>) -> Result<(), Failure> {
    let Some(own) = known.own() else {
        return Err(Failure::new(Code::EtcdUnavailable, "the cluster does not list this node as a member"));
    };
    let others = others.cloned().unwrap_or_else(|| known.others(own.id));
    let mine = known.ctl.at(own.client_urls.clone());
    let answers = mine.status().await?;
    let revision = answers.first().map_or(0, |status| status.revision);
    let (mine, theirs) = (mine.key_hash(revision).await?, others.key_hash(revision).await?);
    if mine.hash != theirs.hash {
        let what = format!("{} and the others differ at revision {revision}", known.spec.node_name);
        return Err(Failure::new(Code::EtcdForeign, what).with_remedy("run cks-agent etcd member replace again"));
    }
    print_text(&format!(
        "{} is member {} again: revision {revision}, hash {:08x} as the others'\n",
        known.spec.node_name, own.id, mine.hash
    ));
    Ok(())
}

fn has_left(name: &str) -> Result<u8, Failure> {
    print_text(&format!("{name} has left: its data is in /var/lib/etcd/aside-*, where there was any\n"));
    Ok(0)
}

/// Removes a member that never comes back; or this node, which leaves.
pub(super) async fn remove(host: &Host, name: &str) -> Result<u8, Failure> {
    if recorded(host)?.node_name == name && Known::with_others(host).await?.is_none() {
        leave(host).await?;
        return has_left(name);
    }
    let known = Known::of(host).await?;
    let gone = known.find(name)?;
    if known.own().is_some_and(|own| own.id == gone.id) {
        leave(host).await?;
        return has_left(name);
    }
    may_go(&known.health(), gone.id)?;
    remove_in_time(&known.others(gone.id), gone.id).await?;
    print_text(&format!("{} ({}) is no member any more\n", gone.shown(), gone.id));
    Ok(0)
}
