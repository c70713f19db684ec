//! Which user data was carried out on this node: its digest, no word of it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::SystemTime;

use bootstrap::adoption::standing::{Departure, Past, Recorded, Standing};
use bootstrap::digest::Digest;
use bootstrap::failure::Failure;
use serde::{Deserialize, Serialize};

use super::MARKER;
use crate::board::timestamp;
use crate::cluster;
use crate::files;
use crate::host::{Host, STATE_DIR};
use crate::leave;
use crate::metadata::Found;

const SCHEMA: u32 = 1;
/// What a node has only as long as it is a member: the kubelet's own credentials, etcd's data.
const MEMBERSHIPS: [&str; 2] = ["/etc/kubernetes/kubelet.conf", "/var/lib/etcd/member"];
/// cloud-init writes one file for each module that it ran for this instance.
const SEMAPHORES: &str = "/var/lib/cloud/instance/sem";
/// Those that carry out what the management server asks for.
const MODULES: [&str; 3] = ["config_write_files", "config_runcmd", "config_scripts_user"];

/// The document `/var/lib/cks-agent/user-data.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserDataRecord {
    /// The format of the document.
    pub schema: u32,
    /// The instance that it was for.
    pub instance_id: Option<String>,
    /// The digest of the user data.
    pub user_data: Digest,
    /// Where it came from.
    pub source: String,
    /// Whether it was carried out to its end.
    pub ended: bool,
    /// When this was written (RFC 3339, UTC).
    pub at: String,
}

impl UserDataRecord {
    /// What was written down; none before the first user data.
    ///
    /// # Errors
    /// `STATE_INVALID` and `IO` name the file.
    pub fn read(host: &Host) -> Result<Option<Self>, Failure> {
        files::read_json(&host.path(&path()))
    }

    /// Writes down that `found` is about to be carried out; before anything is done for it. What other user data asked for before
    /// and did not come to is forgotten first.
    ///
    /// # Errors
    /// `STATE_INVALID`, `IO`, `NO_SPACE` name the file.
    pub fn begin(host: &Host, found: &Found) -> Result<(), Failure> {
        if Self::read(host)?.is_some_and(|known| !known.is_of(found)) {
            cluster::record::forget_try(host)?;
        }
        write(host, found, false)
    }

    /// Writes down that `found` was carried out.
    ///
    /// # Errors
    /// `IO`, `NO_SPACE` name the file.
    pub fn end(host: &Host, found: &Found) -> Result<(), Failure> {
        write(host, found, true)
    }

    fn is_of(&self, found: &Found) -> bool {
        // A source that tells no instance id (a file) can't tell two machines apart.
        let ids = self.instance_id.as_ref().zip(found.metadata.instance_id.as_ref());
        self.user_data == Digest::of(&found.user_data) && ids.is_none_or(|(recorded, found)| recorded == found)
    }
}

/// Whether `found` is to be carried out on this machine, whatever cloud-init's semaphores say.
///
/// # Errors
/// `STATE_INVALID` and `IO` name the file.
pub fn standing(host: &Host, found: &Found) -> Result<Standing, Failure> {
    let record = UserDataRecord::read(host)?;
    let left = leave::left_at(host).filter(|left| !is_begun_since(record.as_ref(), *left));
    let past = Past {
        left: left.map(|left| Departure { asked_again: latest_run(host).is_some_and(|at| at > left) }),
        recorded: record.map(|record| Recorded { same: record.is_of(found), ended: record.ended }),
        member: MEMBERSHIPS.iter().any(|path| host.path(path).exists()),
        marker: host.path(MARKER).exists(),
        rerun: ran_in_this_boot(host),
    };
    Ok(past.standing())
}

fn write(host: &Host, found: &Found, ended: bool) -> Result<(), Failure> {
    let record = UserDataRecord {
        schema: SCHEMA,
        instance_id: found.metadata.instance_id.clone(),
        user_data: Digest::of(&found.user_data),
        source: found.source.clone(),
        ended,
        at: timestamp(std::time::Duration::ZERO),
    };
    let same = |known: &UserDataRecord| known.is_of(found) && known.ended == ended;
    if UserDataRecord::read(host).ok().flatten().is_some_and(|known| same(&known)) {
        return Ok(());
    }
    files::write_json(&host.prepare(&path())?, &record, 0o600)
}

/// Whether cloud-init carried something out for this instance since the machine started.
fn ran_in_this_boot(host: &Host) -> bool {
    let stat = fs::read_to_string(host.path("/proc/stat")).unwrap_or_default();
    let booted = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<i64>().ok());
    let written = |name: &str| fs::metadata(host.path(&format!("{SEMAPHORES}/{name}"))).ok().map(|meta| meta.mtime());
    booted.is_some_and(|booted| MODULES.iter().filter_map(|name| written(name)).any(|at| at >= booted))
}

/// When cloud-init carried something out for this instance the last time; each module once for an instance, until somebody
/// removes its semaphore.
fn latest_run(host: &Host) -> Option<SystemTime> {
    let written =
        |name: &&str| fs::metadata(host.path(&format!("{SEMAPHORES}/{name}"))).and_then(|meta| meta.modified()).ok();
    MODULES.iter().filter_map(written).max()
}

/// Whether user data was begun after the machine left: it was added again since.
fn is_begun_since(record: Option<&UserDataRecord>, left: SystemTime) -> bool {
    let begun = record.and_then(|record| humantime::parse_rfc3339(&record.at).ok());
    begun.is_some_and(|begun| begun > left)
}

fn path() -> String {
    format!("{STATE_DIR}/user-data.json")
}
