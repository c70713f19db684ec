//! The mount and PID namespace of a bed.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::mounts::{self, Mount};
use super::place::{self, Place};
use crate::leash::{Daemon, Heir};
use crate::process::Command;
use crate::scratch;

/// The machine's `/` with empty places where something is kept. What is made in `/etc` and `/var/lib` stays in memory.
/// Nothing is shared with the machine any more when this begins; inside, mounts propagate as they do on a host.
const SETUP: &str = r#"
set -e
mount -t tmpfs -o mode=755 bed "$1"
for place in etc var/lib; do
    mkdir -p "$1/$place" "$1/work/$place"
    mount -t overlay -o "lowerdir=/$place,upperdir=$1/$place,workdir=$1/work/$place" bed "/$place"
done
mkdir "$1/dev"
# As the kernel's own is mounted by distributions.
mount -t tmpfs -o mode=755,nosuid bed "$1/dev"
for node in null zero full random urandom tty loop-control fuse; do
    [ ! -e /dev/$node ] || cp -a /dev/$node "$1/dev/"
done
for place in pts shm mapper; do
    mkdir "$1/dev/$place"
    [ ! -d /dev/$place ] || mount --bind /dev/$place "$1/dev/$place"
done
ln -s pts/ptmx "$1/dev/ptmx"
ln -s /proc/self/fd "$1/dev/fd"
for stream in 0.stdin 1.stdout 2.stderr; do
    ln -s /proc/self/fd/${stream%.*} "$1/dev/${stream#*.}"
done
mkdir -p "$1/dev/disk/by-id"
mount --move "$1/dev" /dev
mount -t tmpfs -o mode=755 bed /run
for place in /etc/cks-agent /var/lib/cks-agent /var/lib/kubelet /run/cks-agent /sys/block /sys/dev/block; do
    [ -d $place ] || mkdir -p $place
    mount -t tmpfs -o mode=755 bed $place
done
mount --make-rshared /
echo ready
exec sleep infinity
"#;

/// The namespace. With this value go its processes, its mounts and its loop devices, and also when this program is killed.
#[derive(Debug)]
pub struct Namespace {
    holder: Daemon,
    _devices: Heir,
    directory: TempDir,
}

impl Namespace {
    /// Makes one.
    ///
    /// # Errors
    /// Without root.
    pub fn new() -> Result<Self> {
        let directory = scratch("csi")?;
        let memory = directory.path().join("memory");
        fs::create_dir(&memory).with_context(|| format!("Making {}", memory.display()))?;
        let devices = place::freeing(directory.path(), &[])?;
        let log = directory.path().join("namespace.log");
        let mut holder = Command::new("sh").args(["-c", SETUP, "setup"]).arg(&memory).daemon(&log)?;
        let made = || fs::read_to_string(&log).is_ok_and(|said| said.ends_with("ready\n"));
        holder.ready(Duration::from_secs(20), made).context("Making a mount namespace")?;
        Ok(Self { holder, _devices: devices, directory })
    }

    /// A directory that is the same inside and outside: for files of disks, sockets, logs.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where the namespace's absolute `path` is to be seen from outside.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        Path::new(&format!("/proc/{}/root", self.holder.pid())).join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The command, run inside. It is a child of what the returned command starts, and ends with the namespace at the latest.
    #[must_use]
    pub fn enter(&self, command: Command) -> Command {
        let ns = |name: &str| format!("/proc/{}/ns/{name}", self.holder.pid());
        let namespaces = [format!("--pid={}", ns("pid_for_children")), format!("--mount={}", ns("mnt"))];
        command.under("nsenter", namespaces.iter().map(OsStr::new).chain([OsStr::new("--wdns=/"), OsStr::new("--")]))
    }

    /// Runs a shell script inside and gives its standard output.
    ///
    /// # Errors
    /// When its exit code isn't 0: with what it said.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.enter(Command::new("sh").args(["-e", "-c", script])).ok()
    }

    /// What is mounted inside, oldest first.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn mounts(&self) -> Result<Vec<Mount>> {
        let table = format!("/proc/{}/mountinfo", self.holder.pid());
        mounts::parse(&fs::read_to_string(&table).with_context(|| format!("Reading {table}"))?)
    }
}

impl Place for Namespace {
    fn directory(&self) -> &Path {
        self.directory()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.path(path)
    }

    fn shows_others(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_hides_what_the_machine_keeps_and_shows_nothing_of_itself() {
        let namespace = Namespace::new().unwrap();
        let empty = "ls -A /var/lib/kubelet /var/lib/cks-agent /etc/cks-agent /run/cks-agent /sys/block /sys/dev/block";
        let listed = namespace.sh(empty).unwrap();
        assert!(listed.lines().all(|line| line.is_empty() || line.ends_with(':')), "{listed}");
        namespace.sh("mkdir /var/lib/kubelet/here /etc/cks-bed && mount -t tmpfs here /var/lib/kubelet/here").unwrap();
        let mounts = namespace.mounts().unwrap();
        let made = mounts.iter().find(|mount| mount.target == "/var/lib/kubelet/here").unwrap();
        assert!(made.shared, "{made:?}");
        assert!(namespace.path("/var/lib/kubelet/here").is_dir());
        let own = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!own.contains("/var/lib/kubelet/here") && !Path::new("/etc/cks-bed").exists());
        assert_eq!(
            namespace.sh("cat /dev/null; echo x >/dev/null; ls /dev/fd/0; test ! -e /dev/vda && echo no").unwrap(),
            "/dev/fd/0\nno\n"
        );
    }
}
