//! Unmounts, and says who holds what can't be unmounted.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bootstrap::failure::{Code, Failure};
use bootstrap::leaving::mounts::{self, Mount, MountPoint};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use crate::host::{Host, io_failure};

/// Processes that were ended let go of what they held a moment later; all mounts of a leave share this time.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);
/// Each gets so long for itself.
const AT_LEAST: Duration = Duration::from_secs(1);
/// So many holders are named.
const MAX_NAMED: usize = 4;

/// The mounts that this process sees.
///
/// # Errors
/// `IO`: without all of them nobody can tell what may be removed.
pub(super) fn mounts(host: &Host) -> Result<Vec<Mount>, Failure> {
    let path = host.path("/proc/self/mountinfo");
    let text = fs::read(&path).map_err(|e| io_failure("Reading", &path, e))?;
    mounts::parse(&text).map_err(|why| {
        let what = format!("{} can't be read: {why}", path.display());
        Failure::new(Code::Io, what).with_remedy("nothing is removed without it; see what is mounted: findmnt")
    })
}

/// Where a mount point is on this machine.
pub(super) fn full(host: &Host, path: &MountPoint) -> PathBuf {
    let path = path.as_path();
    host.root().join(path.strip_prefix("/").unwrap_or(path))
}

/// Unmounts what lies on top at `path`; never lazily, for a lazy one only hides what is still written to. What is busy is
/// tried again until `deadline`, and so long is waited for a server of the mount's that is gone.
///
/// # Errors
/// In words: who holds it.
pub(super) async fn unmount(host: &Host, mount: &Mount, deadline: Instant) -> Result<(), String> {
    loop {
        let at = full(host, &mount.path);
        // Those before may have used up the time of all.
        let until = deadline.max(Instant::now() + AT_LEAST);
        match on_own_thread(move || umount2(&at, MntFlags::UMOUNT_NOFOLLOW), until).await {
            Some(Ok(())) => return Ok(()),
            // Somebody else was faster, or another mount lies over it: the next look tells.
            Some(Err(Errno::EINVAL | Errno::ENOENT)) => return Ok(()),
            Some(Err(Errno::EBUSY)) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            Some(Err(Errno::EBUSY)) => return Err(format!("busy: {}", holders(host, mount.path.as_path()))),
            Some(Err(errno)) => return Err(errno.desc().to_owned()),
            None => {
                let Mount { source, kind, .. } = mount;
                let why = format!("the kernel does not end it in time: {source} ({kind}) does not answer");
                return Err(bootstrap::text::plain(&why));
            }
        }
    }
}

/// What `call` returns, where it does until then. The kernel may hold it without end, and then its thread alone.
async fn on_own_thread<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static, until: Instant) -> Option<T> {
    let (told, tells) = tokio::sync::oneshot::channel();
    // Nobody may be there to be told any more.
    let thread = std::thread::Builder::new().name("unmount".to_owned()).spawn(move || drop(told.send(call())));
    thread.ok()?;
    tokio::time::timeout_at(until.into(), tells).await.ok()?.ok()
}

/// Who holds the mount at `path`: processes by their number and name, mounts and loop devices by theirs.
pub(crate) fn holders(host: &Host, path: &Path) -> String {
    let mut named = Vec::new();
    for (process, name) in processes(host) {
        if let Some(how) = holds(host, process, path) {
            named.push(format!("process {process} ({name}) has {how}"));
        }
    }
    let mounts = mounts(host).unwrap_or_default();
    let above = mounts.iter().filter(|mount| mount.path.as_path() != path && mount.path.as_path().starts_with(path));
    named.extend(above.map(|mount| format!("mount {}", mount.path)));
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

fn holds(host: &Host, process: u32, path: &Path) -> Option<String> {
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

fn within(at: &Path, path: &Path) -> Option<String> {
    at.starts_with(path).then(|| at.display().to_string())
}

/// Loop devices whose file lies there.
fn loops(host: &Host, path: &Path) -> Vec<String> {
    let devices = host.names("/sys/block").into_iter().filter(|name| name.starts_with("loop"));
    let named = devices.filter_map(|name| {
        let file = fs::read_to_string(host.path(&format!("/sys/block/{name}/loop/backing_file"))).ok()?;
        within(Path::new(file.trim_end()), path).map(|file| format!("loop device {name} of {file}"))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_that_never_returns_is_not_waited_for() {
        let (ends, waits) = std::sync::mpsc::channel::<()>();
        let stuck = move || waits.recv().is_err();
        assert_eq!(on_own_thread(stuck, Instant::now() + Duration::from_millis(20)).await, None);
        drop(ends);
        let until = Instant::now() + Duration::from_secs(60);
        assert_eq!(on_own_thread(|| 7, until).await, Some(7));
    }

    #[test]
    fn mounts_that_nobody_can_read_are_no_empty_list() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        assert_eq!(mounts(&host).unwrap_err().code, Code::Io);
        let table = host.prepare("/proc/self/mountinfo").unwrap();
        fs::write(&table, b"33 30 0:41 / /var/lib/kubelet/pods/\xff/x rw - tmpfs tmpfs rw\n").unwrap();
        assert_eq!(mounts(&host).unwrap().len(), 1);
        fs::write(&table, "").unwrap();
        assert_eq!(mounts(&host).unwrap_err().code, Code::Io);
    }
}
