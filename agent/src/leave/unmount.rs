//! Unmounts, and says who holds what can't be unmounted.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bootstrap::leaving::mounts::{self, Mount};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use crate::host::Host;

/// Processes that were ended let go of what they held a moment later; all mounts of a leave share this time.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);
/// So many holders are named.
const MAX_NAMED: usize = 4;

/// The mounts that this process sees.
pub(super) fn mounts(host: &Host) -> Vec<Mount> {
    mounts::parse(&fs::read_to_string(host.path("/proc/self/mountinfo")).unwrap_or_default())
}

/// Unmounts what lies on top at `path`; never lazily, for a lazy one only hides what is still written to. What is busy is
/// tried again until `deadline`.
///
/// # Errors
/// In words: who holds it.
pub(super) async fn unmount(host: &Host, path: &str, deadline: Instant) -> Result<(), String> {
    let full = host.path(path);
    loop {
        match umount2(&full, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => return Ok(()),
            // Somebody else was faster, or another mount lies over it: the next look tells.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(Errno::EBUSY) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            Err(Errno::EBUSY) => return Err(format!("busy: {}", holders(host, path))),
            Err(errno) => return Err(errno.desc().to_owned()),
        }
    }
}

/// Who holds the mount at `path`: processes by their number and name, mounts and loop devices by theirs.
pub(super) fn holders(host: &Host, path: &str) -> String {
    let mut named = Vec::new();
    for (process, name) in processes(host) {
        if let Some(how) = holds(host, process, path) {
            named.push(format!("process {process} ({name}) has {how}"));
        }
    }
    let above = mounts::below(&mounts(host), path).into_iter().map(|mount| format!("mount {mount}"));
    named.extend(above);
    named.extend(loops(host, path));
    if named.is_empty() {
        return "nobody who can be seen from here; perhaps another mount namespace or the kernel".to_owned();
    }
    let more = named.len().saturating_sub(MAX_NAMED);
    named.truncate(MAX_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    bootstrap::text::plain(&format!("{}{more}", named.join(", ")))
}

/// The processes that can be seen, with their names.
pub(super) fn processes(host: &Host) -> Vec<(u32, String)> {
    let named = host.processes().into_iter().filter_map(|process| {
        let name = fs::read_to_string(host.path(&format!("/proc/{process}/comm"))).ok()?;
        Some((process, name.trim_end().to_owned()))
    });
    named.collect()
}

fn holds(host: &Host, process: u32, path: &str) -> Option<String> {
    let leads_there = |link: &Path| fs::read_link(link).ok().and_then(|at| within(&at, path));
    let of = |part: &str| host.path(&format!("/proc/{process}/{part}"));
    for (part, how) in [("cwd", "its working directory"), ("root", "its root"), ("exe", "its program")] {
        if let Some(at) = leads_there(&of(part)) {
            return Some(format!("{how} {at}"));
        }
    }
    let open = fs::read_dir(of("fd")).into_iter().flatten().flatten();
    if let Some(at) = open.filter_map(|fd| leads_there(&fd.path())).next() {
        return Some(format!("{at} open"));
    }
    let maps = fs::read_to_string(of("maps")).unwrap_or_default();
    let mapped = maps.lines().filter_map(|line| line.split_once('/').map(|(_, at)| PathBuf::from(format!("/{at}"))));
    mapped.filter_map(|at| within(&at, path)).next().map(|at| format!("{at} mapped"))
}

fn within(at: &Path, path: &str) -> Option<String> {
    at.starts_with(path).then(|| at.display().to_string())
}

/// Loop devices whose file lies there.
fn loops(host: &Host, path: &str) -> Vec<String> {
    let devices = host.names("/sys/block").into_iter().filter(|name| name.starts_with("loop"));
    let named = devices.filter_map(|name| {
        let file = fs::read_to_string(host.path(&format!("/sys/block/{name}/loop/backing_file"))).ok()?;
        within(Path::new(file.trim_end()), path).map(|file| format!("loop device {name} of {file}"))
    });
    named.collect()
}
