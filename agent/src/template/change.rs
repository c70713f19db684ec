//! Makes edits.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

use bootstrap::failure::{Code, Failure};
use bootstrap::template::{Edit, Facts, HOME, LOGIN, Owner, SUDOERS};

use super::inside::Inside;
use super::{Done, facts, owner, packages};
use crate::files;
use crate::host::{Host, io_failure};
use crate::tool::Tool;

/// How each text of ours begins.
const HEAD: &str = "# Written by cks-agent";
/// Where a text for sudo lies until it is known to be one.
const SUDOERS_CANDIDATE: &str = "/var/cache/cks-agent/sudoers";

/// Makes the edits of one round, in their order, and says each.
///
/// # Errors
/// The first that can't be made: those of packages; `HOST_UNFIT` of a user or unit; `NO_SPACE`, `IO`.
pub(super) async fn make(
    host: &Host,
    inside: &Inside<'_>,
    known: &Facts,
    round: &[Done],
    mut say: impl FnMut(&str),
) -> Result<(), Failure> {
    let package = |done: &Done| match &done.edit {
        Edit::Install { package, again } => Some((package.clone(), *again)),
        _ => None,
    };
    let wanted: Vec<(String, bool)> = round.iter().filter_map(package).collect();
    if !wanted.is_empty() {
        let wanted: Vec<(&str, bool)> = wanted.iter().map(|(name, again)| (name.as_str(), *again)).collect();
        packages::install(host, inside, known, &wanted, &mut say).await?;
    }
    for done in round.iter().filter(|done| package(done).is_none()) {
        say(&super::show::edit(&done.edit));
        one(host, inside, &done.edit).await?;
    }
    Ok(())
}

async fn one(host: &Host, inside: &Inside<'_>, edit: &Edit) -> Result<(), Failure> {
    match edit {
        Edit::Install { .. } => Ok(()),
        Edit::AddUser { name, home, shell } => add_user(host, inside, name, home, shell).await,
        Edit::SetShell { name, shell } => {
            inside.ok(Tool::Usermod, &["--shell", shell, name], Code::HostUnfit).await.map(|_| ())
        }
        Edit::Directory { path, mode, owner } => directory(host, path, *mode, whose(host, *owner)?),
        Edit::Write { path, text, mode, owner } => {
            if path == SUDOERS || path == "/etc/sudoers" {
                check_sudoers(host, inside, text).await?;
            }
            write(host, path, text, *mode, whose(host, *owner)?)
        }
        Edit::Remove { path } => {
            // As for writing: its directory must not lead out of the root.
            let full = host.prepare(path)?;
            files::remove(&full)
        }
        Edit::Enable { unit, unmask } => {
            if *unmask {
                inside.ok(Tool::Systemctl, &["unmask", unit], Code::HostUnfit).await?;
            }
            inside.ok(Tool::Systemctl, &["enable", unit], Code::HostUnfit).await.map(|_| ())
        }
    }
}

/// The numbers of an owner. The user may have been made a moment ago.
fn whose(host: &Host, whose: Owner) -> Result<(u32, u32), Failure> {
    match whose {
        Owner::Root => Ok((0, 0)),
        Owner::Login => owner(host, LOGIN),
    }
}

/// A password that nobody can give, and that does not count as a locked account, which some sshd refuse altogether.
async fn add_user(host: &Host, inside: &Inside<'_>, name: &str, home: &str, shell: &str) -> Result<(), Failure> {
    let groups = facts::text(host, "/etc/group").unwrap_or_default();
    let has_group = groups.lines().any(|line| line.starts_with(&format!("{name}:")));
    let group = if has_group { vec!["--gid", name] } else { vec!["--user-group"] };
    let fixed = ["--create-home", "--home-dir", home, "--shell", shell, "--password", "*"];
    let args: Vec<&str> = fixed.into_iter().chain(group).chain([name]).collect();
    inside.ok(Tool::Useradd, &args, Code::HostUnfit).await.map(|_| ())
}

fn directory(host: &Host, path: &str, mode: u32, (user, group): (u32, u32)) -> Result<(), Failure> {
    let full = host.prepare(path)?;
    let made = match fs::create_dir(&full) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(e),
        _ => chown(&full, Some(user), Some(group))
            .and_then(|()| fs::set_permissions(&full, fs::Permissions::from_mode(mode))),
    };
    made.map_err(|e| io_failure("Making", &full, e))
}

/// Writes a file; what somebody else wrote there is kept beside it, unless all of it stays.
fn write(host: &Host, path: &str, text: &str, mode: u32, owner: (u32, u32)) -> Result<(), Failure> {
    let full = host.prepare(path)?;
    let before =
        facts::text(host, path).filter(|before| !text.starts_with(before.as_str()) && !before.starts_with(HEAD));
    if let (Some(before), Ok(meta)) = (before, fs::symlink_metadata(&full)) {
        let kept = host.prepare(&format!("{path}.cks-before"))?;
        if kept.symlink_metadata().is_err() && !path.starts_with(HOME) {
            files::write_for(&kept, before.as_bytes(), meta.mode() & 0o777, (meta.uid(), meta.gid()))?;
        }
    }
    files::write_for(&full, text.as_bytes(), mode, owner)
}

/// Whether sudo understands `text`: with one that it does not, nobody becomes root any more.
async fn check_sudoers(host: &Host, inside: &Inside<'_>, text: &str) -> Result<(), Failure> {
    if !inside.has(Tool::Visudo) {
        return Ok(());
    }
    let candidate = host.prepare(SUDOERS_CANDIDATE)?;
    files::write(&candidate, text.as_bytes(), 0o440)?;
    let checked = inside.ok(Tool::Visudo, &["-c", "-q", "-f", SUDOERS_CANDIDATE], Code::HostUnfit).await;
    files::remove(&candidate)?;
    checked.map(|_| ())
}
