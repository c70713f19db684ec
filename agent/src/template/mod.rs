//! `prepare`, `check`, `seal`: a machine, or an image's tree, becomes a template that nodes are made of
//! (`bootstrap::template` decides).

mod change;
mod facts;
mod inside;
mod live;
mod packages;
mod seal;
mod show;
#[cfg(test)]
mod tests;

use std::path::Path;

use bootstrap::bundle::Role;
use bootstrap::failure::{Code, Failure};
use bootstrap::template::{Edit, Item, KEPT_KEYS, Outcome, Owner, accounts, examine, select};
use serde::Serialize;

use crate::cli;
use crate::host::{Host, io_failure};
use crate::journal::Journal;
use inside::Inside;

pub use self::seal::seal;

/// Packages bring units, and units want to be enabled: more rounds than that change nothing more.
const ROUNDS: usize = 6;

/// What `check --json` prints (`docs/schema/check.schema.json`).
#[derive(Debug, Serialize)]
pub struct Checked {
    schema: u32,
    root: String,
    distribution: String,
    /// Whether it is a machine that runs.
    live: bool,
    failed: usize,
    warnings: usize,
    items: Vec<Item>,
}

/// What `prepare --json` prints (`docs/schema/prepare.schema.json`).
#[derive(Debug, Serialize)]
pub struct Prepared {
    schema: u32,
    root: String,
    distribution: String,
    dry_run: bool,
    /// What was changed, or would be first.
    edits: Vec<Done>,
    /// Items that are not as they should be after it.
    left: Vec<Item>,
}

/// An edit, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Done {
    item: String,
    #[serde(flatten)]
    edit: Edit,
}

impl Done {
    fn installs(&self) -> bool {
        matches!(self.edit, Edit::Install { .. })
    }
}

/// Looks, and tells. Returns the exit code: 0, or that of `HOST_UNFIT`.
///
/// # Errors
/// `ROOT_NOT_FOUND`; `HOST_UNFIT` without root's rights; `CONFIG_INVALID` names an item that there is not; `IO` and `TOOL_MISSING` where packages can't be read.
pub async fn check(arguments: &cli::Check) -> Result<u8, Failure> {
    as_root()?;
    let host = Host::new(&arguments.root)?;
    let facts = facts::gather(&host, arguments.role.into()).await?;
    let items = select(examine(&facts), &arguments.skip, &arguments.only)?;
    let count = |result| items.iter().filter(|item| item.result == result).count();
    let checked = Checked {
        schema: 1,
        root: host.root().display().to_string(),
        distribution: bootstrap::text::plain(&facts.distribution.name),
        live: facts.live.is_some(),
        failed: count(Outcome::Failed),
        warnings: count(Outcome::Warning),
        items,
    };
    show::checked(&checked, arguments.json, arguments.verbose);
    let wrong = checked.failed + if arguments.strict { checked.warnings } else { 0 };
    Ok(if wrong == 0 { 0 } else { Code::HostUnfit.exit_code() })
}

/// Makes the machine what `check` wants. Returns the exit code: 0, or that of `HOST_UNFIT` where something is left.
///
/// # Errors
/// As [`check`]; `ALREADY_RUNNING`; `SOURCE_UNREACHABLE` where no package repository answers; `HOST_UNFIT` where a package or a
/// user can't be had; `NO_SPACE`, `IO`.
pub async fn prepare(arguments: &cli::Prepare) -> Result<u8, Failure> {
    as_root()?;
    let host = Host::new(&arguments.root)?;
    let inside = Inside::new(&host);
    let (mut edits, mut lock) = (Vec::new(), None);
    if let Some(keys) = &arguments.authorized_keys {
        edits.extend(keep_keys(&host, keys, arguments.dry_run)?);
    }
    let mut facts = facts::gather(&host, Role::Worker).await?;
    for _ in 0..ROUNDS {
        let items = select(examine(&facts), &arguments.skip, &[])?;
        let mut round = wanted(&items);
        let is_new = |done: &Done| !edits.contains(done);
        if arguments.dry_run || !round.iter().any(is_new) {
            if arguments.dry_run {
                edits.extend(round);
            }
            break;
        }
        if lock.is_none() {
            lock = Some(Journal::open(&host)?);
        }
        // What packages bring is looked at before anything else is changed.
        if round.iter().any(Done::installs) {
            round.retain(Done::installs);
        }
        change::make(&host, &inside, &facts, &round, |line| show::progress(arguments.json, line)).await?;
        edits.extend(round);
        facts = facts::gather(&host, Role::Worker).await?;
    }
    let left = select(examine(&facts), &arguments.skip, &[])?.into_iter().filter(Item::is_finding).collect();
    let prepared = Prepared {
        schema: 1,
        root: host.root().display().to_string(),
        distribution: bootstrap::text::plain(&facts.distribution.name),
        dry_run: arguments.dry_run,
        edits,
        left,
    };
    show::prepared(&prepared, &facts, arguments.json);
    let failed = prepared.left.iter().any(|item| item.result == Outcome::Failed);
    Ok(if failed && !arguments.dry_run { Code::HostUnfit.exit_code() } else { 0 })
}

/// The edits that these items ask for, each once, in the order in which they are made.
fn wanted(items: &[Item]) -> Vec<Done> {
    let mut round: Vec<Done> = Vec::new();
    for item in items {
        for edit in &item.edits {
            if !round.iter().any(|done| done.edit == *edit) {
                round.push(Done { item: item.name.clone(), edit: edit.clone() });
            }
        }
    }
    round.sort_by_key(|done| done.edit.turn());
    round
}

/// No file of public keys is larger.
const MOST_KEYS: u64 = 256 << 10;

/// Keeps public keys where `seal` lets them be, and from where they come to the login user. Tells the edit, where it is one.
fn keep_keys(host: &Host, from: &Path, dry_run: bool) -> Result<Option<Done>, Failure> {
    let read = |path: &Path| crate::files::small(path, MOST_KEYS).map_err(|e| io_failure("Reading", path, e));
    let missing = || Failure::new(Code::ConfigInvalid, format!("{}: there is no such file", from.display()));
    let text = String::from_utf8_lossy(&read(from)?.ok_or_else(missing)?).into_owned();
    if text.contains("PRIVATE KEY") {
        let what = format!("{} holds a private key; the public one is meant", from.display());
        return Err(Failure::new(Code::ConfigInvalid, what));
    }
    let there = read(&host.path(KEPT_KEYS))?.unwrap_or_default();
    if there == text.as_bytes() {
        return Ok(None);
    }
    if !dry_run {
        crate::files::write(&host.prepare(KEPT_KEYS)?, text.as_bytes(), 0o644)?;
    }
    let edit = Edit::Write { path: KEPT_KEYS.to_owned(), text, mode: 0o644, owner: Owner::Root };
    Ok(Some(Done { item: "cloud-authorized-keys".to_owned(), edit }))
}

/// Signs that a machine is a member of a cluster.
fn membership(host: &Host) -> Vec<String> {
    let signs = bootstrap::leaving::traces::SIGNS.into_iter().chain(["/var/lib/etcd/member"]);
    signs.filter(|path| host.path(path).symlink_metadata().is_ok()).map(str::to_owned).collect()
}

/// The numbers of a user of the root.
fn owner(host: &Host, name: &str) -> Result<(u32, u32), Failure> {
    let passwd = facts::text(host, "/etc/passwd").unwrap_or_default();
    let numbers = |fields: Vec<&str>| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?));
    let found = accounts(&passwd).find(|fields| fields.first() == Some(&name)).and_then(numbers);
    found.ok_or_else(|| Failure::new(Code::HostUnfit, format!("there is no user {name}")))
}

/// Whoever else looks finds things missing that he may not see.
fn as_root() -> Result<(), Failure> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::new(Code::HostUnfit, "only root sees all that is looked at").with_remedy("run it with sudo"))
}
