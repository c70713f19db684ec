//! The containerd that runs, and whether it was started with what the disk says now.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bootstrap::digest::Digest;
use bootstrap::failure::Failure;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

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
    pub(super) async fn of_socket(socket: &Path) -> Option<Self> {
        let stream = UnixStream::connect(socket).await.ok()?;
        let pid = stream.peer_cred().ok()?.pid()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, started: started(&stat)? })
    }

    /// Whether it was started after the last change of what it reads: because that was written down, or because the
    /// files are older than it and its `socket` are.
    pub(super) fn has_read(&self, host: &Host, inputs: &Digest, socket: &Path) -> bool {
        if let Some(known) = self.known(host) {
            return known == inputs.to_string();
        }
        let (Some(age), Ok(bound)) = (self.age(), fs::symlink_metadata(socket).and_then(|meta| meta.modified())) else {
            return false;
        };
        let now = SystemTime::now();
        // What is not there did not change.
        let changes = places::inputs(host).into_iter().filter_map(|path| fs::symlink_metadata(path).ok());
        changes.map(|meta| changed(&meta)).all(|changed| changed.is_some_and(|at| was_before(at, bound, now, age)))
    }

    /// Whether it was written down that it was started with `inputs`.
    pub(super) fn was_started_with(&self, host: &Host, inputs: &Digest) -> bool {
        self.known(host).is_some_and(|known| known == inputs.to_string())
    }

    fn known(&self, host: &Host) -> Option<String> {
        let record = fs::read_to_string(host.path(RECORD)).ok()?;
        let record = serde_json::from_str::<Record>(&record).ok()?;
        (record.process == *self).then_some(record.inputs)
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

/// When a file was last changed in any way; none where that is no time.
fn changed(meta: &fs::Metadata) -> Option<SystemTime> {
    let seconds = u64::try_from(meta.ctime()).ok()?;
    let nanoseconds = u32::try_from(meta.ctime_nsec()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))
}

/// Whether `changed` was before a process of this `age` was started, which made its socket at `bound`. The clock may have
/// been set since: forward, and the age tells too late a start; back, and the socket does. The earlier of both counts.
fn was_before(changed: SystemTime, bound: SystemTime, now: SystemTime, age: Duration) -> bool {
    now.checked_sub(age).is_some_and(|started| changed < started.min(bound))
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

    #[tokio::test]
    async fn a_process_that_is_older_than_its_files_has_not_read_them() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        let socket = root.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let own = Process::of_socket(&socket).await.unwrap();
        assert_eq!(own.pid, std::process::id().cast_signed());
        let (one, other) = (Digest::of(b"1"), Digest::of(b"2"));
        assert!(own.has_read(&host, &one, &socket), "there is nothing to read");
        assert!(!own.was_started_with(&host, &one), "that was only found out");
        fs::write(host.prepare("/etc/containerd/conf.d/50-cks.toml").unwrap(), "").unwrap();
        assert!(!own.has_read(&host, &one, &socket));
        own.remember(&host, &one).unwrap();
        assert!(own.has_read(&host, &one, &socket) && !own.has_read(&host, &other, &socket));
        assert!(own.was_started_with(&host, &one) && !own.was_started_with(&host, &other));
        let next = Process { started: own.started + 1, ..own };
        assert!(!next.has_read(&host, &one, &socket), "what another process read tells nothing");
        drop(listener);
        assert_eq!(Process::of_socket(&socket).await, None);
    }

    #[test]
    fn a_clock_that_is_set_makes_no_file_older() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        // Started at 1000 by the clock of then, the socket a second later; looked at a minute after the start.
        for (changed, set_before_change, set_after_change, expected) in [
            (900, 0, 0, true),
            (1030, 0, 0, false),
            (1030, 3600, 0, false),
            (1030, 0, 3600, false),
            (1030, -3600, 0, false),
            (1030, 0, -3600, false),
            (900, 0, 3600, true),
        ] {
            let clock = |time: u64, set: i64| at(time.checked_add_signed(set + 10_000).unwrap());
            let now = clock(1060, set_before_change + set_after_change);
            let was = was_before(clock(changed, set_before_change), clock(1001, 0), now, Duration::from_secs(60));
            assert_eq!(was, expected, "{changed}, set by {set_before_change} and {set_after_change}");
        }
    }
}
