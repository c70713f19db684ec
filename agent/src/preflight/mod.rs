//! Looks at the machine for what keeps it from becoming its node, and tells it (`bootstrap::preflight` decides).

pub mod clock;
mod kernel;
mod network;
mod sockets;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bootstrap::failure::Failure;
use bootstrap::preflight::facts::Room;
use bootstrap::preflight::{Check, HostFacts, Subject, examine, judge, programs_looked_for, read};
use nix::sys::statvfs::statvfs;

pub(crate) use self::kernel::modules;
use crate::board::Board;
use crate::host::Host;

/// Where programs are looked for, as the kubelet's unit and root's shell do.
const DIRECTORIES: [&str; 7] =
    ["/opt/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What is looked at, and for how long.
#[derive(Debug, Clone)]
pub struct Looking<'a> {
    /// What the machine is to become.
    pub subject: Subject<'a>,
    /// Another clock and whose it is ([`clock::of_server`]).
    pub reference: Option<(SystemTime, String)>,
    /// Checks that are left out, by name: those of the user data, and those of the settings.
    pub skipped: Vec<String>,
    /// How long a name may take to be known; at boot that takes a while.
    pub patience: Duration,
}

/// Checks the machine. What the operator should know is shown on `board`; what was seen is given back.
///
/// # Errors
/// What refuses, with evidence and remedy; `CONFIG_INVALID` names a check to leave out that there is not.
pub async fn check(host: &Host, board: &Board, looking: &Looking<'_>) -> Result<HostFacts, Failure> {
    let skipped = Check::named(&looking.skipped)?;
    let facts = gather(host, board, looking).await;
    let findings = examine(&looking.subject, &facts);
    judge(&findings, &skipped)?.into_iter().for_each(|told| board.warn(told));
    Ok(facts)
}

/// Looks at everything that a check asks about. What can't be seen is none.
pub async fn gather(host: &Host, board: &Board, looking: &Looking<'_>) -> HostFacts {
    let mut facts = HostFacts {
        now: Some(SystemTime::now()),
        reference: looking.reference.clone(),
        processors: std::thread::available_parallelism().ok().map(usize::from),
        host_name: Some(host.name()),
        missing_programs: missing_programs(host),
        ..HostFacts::default()
    };
    let text = |path: &str| text(host, path);
    facts.memory = text("/proc/meminfo").as_deref().and_then(read::memory);
    facts.swaps = text("/proc/swaps").as_deref().map(read::swaps).unwrap_or_default();
    facts.swaps_of_fstab = text("/etc/fstab").as_deref().map(read::swaps_of_fstab).unwrap_or_default();
    for path in ["/etc/default/kubelet", "/etc/sysconfig/kubelet"] {
        let arguments = text(path).as_deref().and_then(read::kubelet_arguments);
        facts.kubelet_arguments = facts.kubelet_arguments.or(arguments.map(|given| (path.to_owned(), given)));
    }
    for path in ["/var/lib/kubelet", "/var/lib/etcd"] {
        facts.room.extend(room(&host.path(path)).map(|room| (path.to_owned(), room)));
    }
    kernel::look(host, &looking.subject, &mut facts);
    facts.listeners = sockets::listeners(host);
    network::look(host, board, looking, &mut facts).await;
    facts
}

/// A text of the kernel or of the machine; none where it can't be read.
fn text(host: &Host, path: &str) -> Option<String> {
    let bytes = std::fs::read(host.path(path)).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// None below a root that has no programs at all.
fn missing_programs(host: &Host) -> Option<BTreeSet<String>> {
    let is_there = |name: &str| DIRECTORIES.iter().any(|place| host.path(&format!("{place}/{name}")).exists());
    let (there, missing): (Vec<&str>, Vec<&str>) = programs_looked_for().partition(|name| is_there(name));
    (!there.is_empty()).then(|| missing.into_iter().map(str::to_owned).collect())
}

/// The room where `path` lies, or will.
fn room(path: &Path) -> Option<Room> {
    let there = path.ancestors().find(|ancestor| ancestor.exists())?;
    let filesystem = statvfs(there).ok()?;
    let unit = filesystem.fragment_size();
    Some(Room { total: filesystem.blocks() * unit, free: filesystem.blocks_available() * unit })
}
