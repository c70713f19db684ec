//! `cks-agent leave`: takes this node out of its cluster, so that it can be added again.
//!
//! ```text
//! look ─► in the cluster: drain, kubelet off, node and etcd member out ─► on the machine: look, plan, act, look again ─► report
//! ```
//! The machine is cleaned by the same loop whether it left, was reset by somebody else, or a leave was killed.

mod act;
mod api;
mod cluster;
mod drain;
mod etcd;
mod facts;
mod filters;
mod local;
mod record;
mod runtime;
pub(crate) mod tree;
mod unmount;

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use bootstrap::bundle::Role;
use bootstrap::failure::{Code, Failure};
use bootstrap::leaving::facts::Facts;
use bootstrap::leaving::{Action, Report, Standing, Wishes, paths, plan, traces};

use bootstrap::state::Phase;

pub use self::record::{forget_unfinished, is_under_way, left_at};
pub(crate) use self::unmount::holders;
use crate::board::{self, Board};
use crate::cli;
use crate::host::{Host, STATUS_PATH};
use crate::journal::Journal;
use crate::record::NodeRecord;
use crate::run::{print_json, print_text, signal};
use crate::{metrics, progress, report};

/// Leaves, and prints what came of it. Returns the exit code.
pub async fn leave(arguments: &cli::Leave) -> u8 {
    let outcome = run(arguments).await;
    if let Ok(report) = &outcome {
        if arguments.json { print_json(report) } else { print_text(&report.text(arguments.dry_run)) }
    }
    match outcome.and_then(|report| report.failure().map_or(Ok(()), Err)) {
        Ok(()) => 0,
        Err(failure) => {
            eprint!("{}", report::lines(&report::state_of(&failure)));
            failure.code.exit_code()
        }
    }
}

async fn run(arguments: &cli::Leave) -> Result<Report, Failure> {
    // Pods, links and rules are those of the machine that runs: there is no other root.
    let host = Host::new(Path::new("/"))?;
    let facts = facts::gather(&host).await?;
    let standing = facts.traces.standing();
    if facts.traces.dedicated_etcd {
        let what = "this machine is a member of a dedicated etcd cluster, and no node of Kubernetes";
        let remedy = "cks-agent etcd member remove NAME, with the name of this node, takes it out of its cluster";
        return Err(Failure::new(Code::ConfigInvalid, what).with_remedy(remedy));
    }
    let wishes = Wishes { keep_images: arguments.keep_images };
    let mut report = Report::new(facts.node.clone().filter(|_| standing != Standing::Stranger), standing);
    if standing == Standing::Stranger {
        report.actions = plan(&facts, wishes);
        report.clean = report.actions.is_empty();
        if !arguments.dry_run {
            forget_try(&host, arguments.rejoin, &mut report).await?;
        }
        return Ok(report);
    }
    if arguments.dry_run {
        report.actions = plan(&facts, wishes);
        report.warnings.extend(facts.unread.iter().map(|left| format!("{}: {}", left.object, left.why)));
        return Ok(report);
    }
    let _journal = lock(&host)?;
    let board = Board::new(role(&host, &facts));
    let shown = progress::show(board.subscribe(), arguments.json, cli::terminal(std::io::stderr()));
    let outcome = watched(&host, &board, work(&host, arguments, &mut report, &board)).await;
    drop(board);
    shown.finish().await;
    outcome.map(|()| report)
}

fn lock(host: &Host) -> Result<Journal, Failure> {
    Journal::open(host).map_err(|failure| match failure.code {
        Code::AlreadyRunning => failure.with_remedy("wait for it, or end it: systemctl stop cks-bootstrap"),
        _ => failure,
    })
}

/// What a machine that is in no cluster has of a try that became nothing. One that has left already may be let in again
/// afterwards, too.
async fn forget_try(host: &Host, rejoin: bool, report: &mut Report) -> Result<(), Failure> {
    let mut again = if rejoin { vec![paths::LEFT, paths::USER_DATA] } else { Vec::new() };
    again.retain(|path| host.path(path).exists());
    if report.actions.is_empty() && again.is_empty() {
        return Ok(());
    }
    let _journal = lock(host)?;
    // Under the lock: another run may have changed everything.
    let facts = facts::gather(host).await?;
    if facts.traces.standing() != Standing::Stranger {
        let what = "another run has begun to make this machine a node meanwhile";
        return Err(Failure::new(Code::AlreadyRunning, what).with_remedy("run cks-agent leave again"));
    }
    report.actions.clear();
    for action in plan(&facts, Wishes::default()) {
        let Action::RemoveFile { path } = &action else { continue };
        match tree::file(&host.path(path)) {
            Some(left) => report.left.push(left),
            None => report.actions.push(action),
        }
    }
    report.clean = report.left.is_empty();
    if !again.is_empty() {
        forget_user_data(host, report);
        again.retain(|path| !host.path(path).exists());
        report.actions.extend(again.into_iter().map(|path| Action::RemoveFile { path: path.to_owned() }));
    }
    Ok(())
}

async fn work(host: &Host, arguments: &cli::Leave, report: &mut Report, board: &Board) -> Result<(), Failure> {
    board.phase(Phase::Leave);
    // Under the lock: another run may have changed everything.
    let facts = facts::gather(host).await?;
    let in_cluster =
        facts.traces.signs.iter().any(|sign| [traces::KUBELET_CONF, traces::ADMIN_CONF].contains(&sign.as_str()));
    if in_cluster || facts.stacked.is_some() || facts.unknown_member.is_some() {
        cluster::leave(host, arguments, &facts, report, board).await?;
    }
    local::clean(host, Wishes { keep_images: arguments.keep_images }, SystemTime::now(), report, board).await?;
    if report.clean && arguments.rejoin {
        forget_user_data(host, report);
    }
    report.warnings.iter().for_each(|warning| board.warn(format!("LEAVE: {warning}")));
    match report.failure() {
        Some(failure) => board.fail(&report::state_of(&failure)),
        None => board.phase(Phase::Left),
    }
    Ok(())
}

/// Finishes, at boot, what somebody else or a killed leave left undone: a node that says that it has joined and has no
/// identity any more (the management server's `remove-node-from-cluster` runs `kubeadm reset -f` and nothing else), or one
/// whose own leave was interrupted. None where there is nothing to finish. The caller holds the journal's lock.
///
/// Images stay: whoever reset the node did not ask for them to go.
///
/// # Errors
/// `NO_SPACE` and `IO` name the record of the leave.
pub async fn finish_foreign_reset(host: &Host, board: &Board) -> Result<Option<Report>, Failure> {
    if host.root() != Path::new("/") {
        // A template that is being made: its links and rules are none of ours.
        return Ok(None);
    }
    let mut found = facts::traces(host);
    found.begun = record::read(host).is_some();
    let interrupted = found.begun && !found.signs.iter().any(|sign| sign == traces::KUBELET_CONF);
    if !(found.was_reset_by_others() || interrupted) {
        return Ok(None);
    }
    board.phase(Phase::Leave);
    let facts = facts::gather(host).await?;
    let mut report = Report::new(facts.node.clone(), facts.traces.standing());
    local::clean(host, Wishes { keep_images: true }, reset_at(host), &mut report, board).await?;
    Ok(Some(report))
}

/// When somebody reset the node: the last file that `kubeadm reset` removes is one of this directory.
fn reset_at(host: &Host) -> SystemTime {
    let changed = |path: &str| fs::metadata(host.path(path)).and_then(|meta| meta.modified()).ok();
    let told = changed("/etc/kubernetes").or_else(|| traces::MARKERS.iter().find_map(|marker| changed(marker)));
    told.unwrap_or(SystemTime::UNIX_EPOCH).min(SystemTime::now())
}

/// The same user data makes the machine a node again at its next boot.
fn forget_user_data(host: &Host, report: &mut Report) {
    let left = [paths::LEFT, paths::USER_DATA].into_iter().filter_map(|path| tree::file(&host.path(path)));
    report.left.extend(left);
    report.clean = report.left.is_empty();
}

fn role(host: &Host, facts: &Facts) -> Role {
    let recorded = NodeRecord::read(host).ok().flatten().map(|record| record.role);
    let control =
        facts.traces.signs.iter().any(|sign| sign == traces::ADMIN_CONF || sign.starts_with(traces::MANIFESTS));
    recorded.unwrap_or(if control { Role::ControlPlane } else { Role::Worker })
}

/// Works with the status document kept up to date, and its last version on disk before the lock is free.
async fn watched(host: &Host, board: &Board, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let path = host.prepare(STATUS_PATH)?;
    let writer = tokio::spawn(board::write_status(board.clone(), host.clone(), path.clone()));
    let outcome = tokio::select! {
        outcome = work => outcome,
        signal = signal() => Err(Failure::new(Code::Interrupted, format!("stopped by {signal}"))),
    };
    writer.abort();
    // It may be in the middle of a write; the last state is written after it.
    let _ = writer.await;
    if let Err(failure) = &outcome {
        board.fail(&report::state_of(failure));
    }
    let state = board.snapshot();
    if let Err(failure) = board::write(&path, &state).and_then(|()| metrics::write(host, &state)) {
        tracing::warn!("{failure}");
    }
    outcome
}

#[cfg(test)]
mod tests {
    use bootstrap::leaving::links::ClusterLink;
    use bootstrap::leaving::{Filter, Left, nft};

    use super::*;

    #[test]
    fn the_document_is_as_its_schema_says() {
        let schema = include_str!("../../../docs/schema/leave.schema.json");
        let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
        let text = || "x".to_owned();
        let mut report = Report::new(Some(text()), Standing::Member);
        report.left.push(Left { object: text(), why: text() });
        report.actions = vec![
            Action::StopKubelet,
            Action::RemovePods { pods: 1 },
            Action::Unmount { path: "x".into() },
            Action::ResetKubeadm,
            Action::KeepAside { path: text() },
            Action::RemoveTree { path: text(), stays: true },
            Action::RemoveEmpty { path: text() },
            Action::RemoveFile { path: text() },
            Action::DeleteLink { link: ClusterLink { name: text(), quiet: false } },
            Action::DeleteRoute { arguments: vec![text()] },
            Action::RemoveNamespace { name: text() },
            Action::CleanFilter { filter: Filter::Legacy6, chains: 1, rules: 1, text: text() },
            Action::DeleteTable { table: nft::Table { family: text(), name: text(), chains: Vec::new() } },
            Action::DeleteTable { table: nft::Table { family: text(), name: text(), chains: vec![text()] } },
            Action::ClearIpvs,
            Action::DestroySet { name: text() },
            Action::RemoveImages { images: 1 },
            Action::Forget,
        ];
        let ranks: std::collections::BTreeSet<u8> = report.actions.iter().map(Action::rank).collect();
        assert_eq!(ranks.len(), report.actions.len() - 1, "an action is missing here, or two have one place");
        let document = serde_json::to_value(&report).unwrap();
        let errors: Vec<String> =
            jsonschema::validator_for(&schema).unwrap().iter_errors(&document).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
}
