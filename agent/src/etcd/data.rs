//! The data directory: whose data it holds, and how it is put aside. Nothing in it is ever deleted.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use bootstrap::etcd::account::Ids;
use bootstrap::etcd::members::Id;
use bootstrap::etcd::wal::{self, Identity};
use bootstrap::failure::{Code, Failure};
use bootstrap::render::etcd::{DATA_DIR, ENVIRONMENT_PATH};

use crate::board;
use crate::host::{Host, io_failure};

/// Below [`DATA_DIR`]: what etcd writes.
const MEMBER: &str = "member";

/// Whose data the data directory holds; none where it holds none.
///
/// # Errors
/// `ETCD_FOREIGN`: it holds something, and no log tells whose; `IO`.
pub(super) fn identity(host: &Host) -> Result<Option<Identity>, Failure> {
    identity_at(host, &format!("{DATA_DIR}/{MEMBER}"))
}

/// As [`identity`], of the directory `member` that etcd writes.
pub(super) fn identity_at(host: &Host, member: &str) -> Result<Option<Identity>, Failure> {
    let logs = host.path(&format!("{member}/wal"));
    let Some(first) = first_log(&logs)? else { return Ok(None) };
    let failed = |e| io_failure("Reading", &first, e);
    let mut head = Vec::new();
    File::open(&first).and_then(|file| file.take(wal::HEAD_BYTES as u64).read_to_end(&mut head)).map_err(failed)?;
    match wal::identity(&head) {
        Some(identity) => Ok(Some(identity)),
        None => {
            let what = format!("{} is no log of etcd: it does not tell whose data it is", first.display());
            Err(Failure::new(Code::EtcdForeign, what)
                .with_remedy("cks-agent etcd member replace moves the data aside and joins anew"))
        }
    }
}

/// The member whose data lies in the data directory `directory`, where its log tells.
#[must_use]
pub fn member_at(host: &Host, directory: &str) -> Option<Id> {
    identity_at(host, &format!("{directory}/{MEMBER}")).ok().flatten().map(|identity| identity.member)
}

/// The oldest log. etcd makes a log under another name and renames the directory when it is whole.
fn first_log(logs: &Path) -> Result<Option<PathBuf>, Failure> {
    let entries = match fs::read_dir(logs) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_failure("Reading", logs, e)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(|e| io_failure("Reading", logs, e)));
    let mut paths = paths.collect::<Result<Vec<_>, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    Ok(paths.into_iter().min())
}

/// Makes the data directory; systemd does, too.
pub(super) fn prepare(host: &Host, ids: Ids) -> Result<(), Failure> {
    let directory = host.prepare(&format!("{DATA_DIR}/{MEMBER}"))?;
    let directory = directory.parent().unwrap_or(&directory);
    let own = || {
        chown(directory, Some(ids.user), Some(ids.group))?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
    };
    own().map_err(|e| io_failure("Making", directory, e))
}

/// Moves what etcd wrote aside, within the data directory: that may be a filesystem of its own. Returns where it is.
///
/// What etcd was told goes first, and is gone for good before anything moves: with it, at the next boot, etcd would start
/// by itself without its data. Who goes on tells it anew.
pub(super) fn set_aside(host: &Host) -> Result<String, Failure> {
    forget_told(host)?;
    let time: String =
        board::timestamp(std::time::Duration::ZERO).chars().filter(char::is_ascii_alphanumeric).collect();
    let from = host.path(&format!("{DATA_DIR}/{MEMBER}"));
    let place = (0..100)
        .map(|count| format!("{DATA_DIR}/aside-{time}{}", if count == 0 { String::new() } else { format!("-{count}") }))
        .find(|place| fs::symlink_metadata(host.path(place)).is_err())
        .unwrap_or_else(|| format!("{DATA_DIR}/aside-{time}"));
    let to = host.path(&place);
    let moved = fs::rename(&from, &to).and_then(|()| sync(&to));
    match moved {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io_failure("Moving aside", &from, e)),
        _ => Ok(place),
    }
}

/// Removes what etcd was told; without it the unit does not start.
pub(super) fn forget_told(host: &Host) -> Result<(), Failure> {
    let told = host.path(ENVIRONMENT_PATH);
    match fs::remove_file(&told).and_then(|()| sync(&told)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io_failure("Removing", &told, e)),
        _ => Ok(()),
    }
}

/// A rename within the data directory outlives a power cut.
pub(super) fn sync(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Removes a data directory that nobody has used: what a restore makes, by name.
pub(super) fn clear(directory: &Path) -> Result<(), Failure> {
    for part in ["member/snap", "member/wal.tmp", "member/wal", "member", ""] {
        let part = directory.join(part);
        let Ok(entries) = fs::read_dir(&part) else { continue };
        let mut files = entries.filter_map(Result::ok);
        let cleared = files.try_for_each(|entry| fs::remove_file(entry.path()));
        cleared.and_then(|()| fs::remove_dir(&part)).map_err(|e| io_failure("Removing", &part, e))?;
    }
    Ok(())
}

/// Gives all below `path` to etcd's user.
pub(super) fn give(path: &Path, ids: Ids) -> Result<(), Failure> {
    let failed = |e| io_failure("Giving to etcd", path, e);
    std::os::unix::fs::lchown(path, Some(ids.user), Some(ids.group)).map_err(failed)?;
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) {
        for entry in fs::read_dir(path).map_err(failed)? {
            give(&entry.map_err(failed)?.path(), ids)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_a_log_holds_no_data_and_nonsense_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        assert_eq!(identity(&host).unwrap(), None);
        let wal = host.prepare("/var/lib/etcd/member/wal/0-0.wal").unwrap();
        assert_eq!(identity(&host).unwrap(), None);
        fs::write(&wal, "no log").unwrap();
        assert_eq!(identity(&host).unwrap_err().code, Code::EtcdForeign);
        fs::write(host.prepare(ENVIRONMENT_PATH).unwrap(), "ETCD_NAME=e1\n").unwrap();
        let place = set_aside(&host).unwrap();
        assert_eq!(identity(&host).unwrap(), None);
        assert!(!host.path(ENVIRONMENT_PATH).exists(), "nobody starts etcd without its data");
        assert_eq!(fs::read_to_string(host.path(&format!("{place}/wal/0-0.wal"))).unwrap(), "no log");
        // Nothing there: nothing to move.
        set_aside(&host).unwrap();
    }
}
