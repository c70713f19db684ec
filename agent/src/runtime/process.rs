//! The containerd that runs, and whether it was started with what the disk says now.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bootstrap::digest::Digest;
use bootstrap::failure::Failure;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::{Deserialize, Serialize};

use super::places;
use crate::files;
use crate::host::Host;

/// What the containerd that runs was started with; gone with the boot.
const RECORD: &str = "/run/cks-agent/containerd.json";

/// `USER_HZ`, in which the kernel tells times of processes; the same on every Linux that CKS runs on.
const TICKS: u64 = 100;

/// A process, told from all others of this boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pid: i32,
    /// Since boot, in ticks.
    started: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    process: Process,
    inputs: String,
}

impl Process {
    /// The one that listens at `socket`, in as far as it is to be seen from here.
    pub(super) fn of_socket(socket: &Path) -> Option<Self> {
        let stream = UnixStream::connect(socket).ok()?;
        let pid = getsockopt(&stream, PeerCredentials).ok()?.pid();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, started: started(&stat)? })
    }

    /// Whether it was started after the last change of what it reads: because that was written down, or because the
    /// files are older than it is.
    pub(super) fn has_read(&self, host: &Host, inputs: &Digest) -> bool {
        let record = fs::read_to_string(host.path(RECORD)).ok();
        let record = record.and_then(|text| serde_json::from_str::<Record>(&text).ok());
        match record.filter(|record| record.process == *self) {
            Some(record) => record.inputs == inputs.to_string(),
            None => self.age().is_some_and(|age| places::inputs(host).iter().all(|path| is_older(path, age))),
        }
    }

    /// Writes down that it was started with `inputs`.
    pub(super) fn remember(&self, host: &Host, inputs: &Digest) -> Result<(), Failure> {
        let record = Record { process: self.clone(), inputs: inputs.to_string() };
        // Two numbers and a digest always make JSON.
        let text = serde_json::to_vec(&record).unwrap_or_default();
        files::write(&host.prepare(RECORD)?, &text, 0o600)
    }

    fn age(&self) -> Option<Duration> {
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let seconds = uptime.split_whitespace().next()?.parse().ok()?;
        let uptime = Duration::try_from_secs_f64(seconds).ok()?;
        uptime.checked_sub(Duration::from_millis(self.started * (1000 / TICKS)))
    }
}

/// Field 22 of `/proc/PID/stat`; the name, field 2, may hold anything.
fn started(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// Whether `path` was last changed more than `age` ago; what is not there did not change.
fn is_older(path: &Path, age: Duration) -> bool {
    let Ok(meta) = fs::symlink_metadata(path) else { return true };
    let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(meta.ctime()), u32::try_from(meta.ctime_nsec())) else {
        return false;
    };
    let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
    changed.elapsed().is_ok_and(|ago| ago > age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_read_behind_any_name() {
        let fields = (3..=22).map(|field| field.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(started(&format!("7 (a) S ) {fields} 23")), Some(22));
        assert_eq!(started("7 (a) S 1"), None);
        assert_eq!(started(""), None);
    }

    #[test]
    fn a_process_that_is_older_than_its_files_has_not_read_them() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(root.path().join("s")).unwrap();
        let own = Process::of_socket(&root.path().join("s")).unwrap();
        assert_eq!(own.pid, std::process::id().cast_signed());
        let (one, other) = (Digest::of(b"1"), Digest::of(b"2"));
        assert!(own.has_read(&host, &one), "there is nothing to read");
        fs::write(host.prepare("/etc/containerd/conf.d/50-cks.toml").unwrap(), "").unwrap();
        assert!(!own.has_read(&host, &one));
        own.remember(&host, &one).unwrap();
        assert!(own.has_read(&host, &one) && !own.has_read(&host, &other));
        let next = Process { started: own.started + 1, ..own };
        assert!(!next.has_read(&host, &one), "what another process read tells nothing");
        drop(listener);
        assert_eq!(Process::of_socket(&root.path().join("s")), None);
    }
}
