//! The bed: the daemon in its namespace, the disks, and the controller beside it.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use super::client::Client;
use super::controller::Controller;
use super::daemon::Daemon;
use super::disk::{self, Disk};
use super::mounts::Mount;
use super::namespace::Namespace;
use super::proto::ProbeRequest;
use super::request::Kind;
use crate::leash::POLL;
use crate::process::Command;
use crate::programs;

/// The name of the driver.
pub const DRIVER: &str = "csi.cloudstack.apache.org";
/// Where kubelet keeps its files, inside.
pub const KUBELET: &str = "/var/lib/kubelet";
/// How long the daemon may take to be ready, on a machine with much to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked of a bed.
#[derive(Debug, Clone)]
pub struct Options {
    /// How volumes are asked for, unless a disk says otherwise. Its filesystem is the daemon's default too.
    pub kind: Kind,
    /// The node's id.
    pub node_id: String,
    /// The UUID of its zone.
    pub zone: String,
    /// Whether the daemon makes itself known to kubelet.
    pub register: bool,
    /// More lines of the section `[csi]` of the daemon's configuration.
    pub config: String,
    /// Another program than the workspace's own `cks-agent`.
    pub program: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            kind: Kind::filesystem("ext4"),
            node_id: "5b1ff5a4-0b66-4f27-95a1-2d0c2cbd6f4e".to_owned(),
            zone: "0f6c3a3e-4f0e-4c6b-9d2a-6a3b1c2d3e4f".to_owned(),
            register: false,
            config: String::new(),
            program: None,
        }
    }
}

/// A bed. All of it is gone when it and its disks are dropped.
#[derive(Debug)]
pub struct Bed {
    options: Options,
    program: PathBuf,
    daemon: Mutex<Option<Daemon>>,
    namespace: Arc<Namespace>,
}

impl Bed {
    /// Makes the namespace and starts the daemon; comes back when that is ready.
    ///
    /// # Errors
    /// When it is not: with what the daemon said.
    pub fn start(options: &Options) -> Result<Self> {
        let bed = Self::still(options)?;
        bed.restart()?;
        Ok(bed)
    }

    /// As [`Self::start`], with the daemon still to be started by [`Self::restart`].
    ///
    /// # Errors
    /// Without root.
    pub fn still(options: &Options) -> Result<Self> {
        let namespace = Arc::new(Namespace::new()?);
        let program = options.program.clone().map_or_else(|| programs::built("cks-agent"), Ok)?;
        let bed = Self { options: options.clone(), program, daemon: Mutex::default(), namespace };
        bed.configure("")?;
        Ok(bed)
    }

    /// Writes the daemon's configuration anew, with more lines of the section `[csi]`, for its next start.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn configure(&self, more: &str) -> Result<()> {
        let Options { kind, node_id, zone, register, config, .. } = &self.options;
        let mut text = format!(
            "[csi]\nenabled = true\nsocket = \"{}\"\nkubelet = \"{KUBELET}\"\nzone = \"{zone}\"\nnode-id = \"{node_id}\"\n\
             register = {register}\n{config}{more}",
            Self::socket()
        );
        match kind {
            Kind::Filesystem(kind) if !kind.is_empty() => writeln!(text, "default-filesystem = \"{kind}\"")?,
            _ => {}
        }
        let path = self.path("/etc/cks-agent/config.toml");
        fs::write(&path, text).with_context(|| format!("Writing {}", path.display()))
    }

    /// The daemon's CSI socket, inside.
    #[must_use]
    pub fn socket() -> String {
        format!("{KUBELET}/plugins/{DRIVER}/csi.sock")
    }

    /// A client of the daemon.
    ///
    /// # Errors
    /// When there are no more threads.
    pub fn client(&self) -> Result<Client> {
        Client::new(&self.path(Self::socket()))
    }

    /// Starts the daemon, after `kill -9` of the one that runs; comes back when it is ready.
    ///
    /// # Errors
    /// When it is not: with what it said.
    pub fn restart(&self) -> Result<()> {
        self.kill()?;
        self.launch()?;
        let client = self.client()?.within(Duration::from_secs(1));
        let deadline = Instant::now() + PATIENCE;
        loop {
            match client.probe(ProbeRequest {}) {
                Ok(answer) if answer.ready != Some(false) => return Ok(()),
                answer if Instant::now() > deadline => {
                    bail!("the daemon is not ready: {answer:?}\n{}", self.log())
                }
                _ => {}
            }
            if self.ended()? {
                bail!("the daemon ended\n{}", self.log());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Starts the daemon where none runs, and doesn't wait until it is ready.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn launch(&self) -> Result<()> {
        let command = self.enter(Command::new(&self.program).arg("serve"));
        *self.daemon() = Some(Daemon::start(&command, &self.log_path())?);
        Ok(())
    }

    /// `kill -9` of the daemon alone: programs that it has started go on. Does nothing where none runs.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&self) -> Result<()> {
        self.end(Signal::SIGKILL).map(drop)
    }

    /// Asks the daemon to end and gives its exit code; none where it doesn't run.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn stop(&self) -> Result<Option<i32>> {
        self.end(Signal::SIGTERM)
    }

    fn end(&self, signal: Signal) -> Result<Option<i32>> {
        let daemon = self.daemon().take();
        daemon.map(|daemon| daemon.end(signal)).transpose()
    }

    /// The daemon's process id, outside; none where it doesn't run.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.daemon().as_ref().map(Daemon::pid)
    }

    /// Whether the daemon is not there, or not any more.
    ///
    /// # Errors
    /// When the kernel doesn't tell.
    pub fn ended(&self) -> Result<bool> {
        self.daemon().as_mut().map_or(Ok(true), Daemon::ended)
    }

    /// The daemon's memory in bytes (`VmRSS`).
    ///
    /// # Errors
    /// When it doesn't run.
    pub fn rss(&self) -> Result<u64> {
        self.daemon().as_ref().context("The daemon does not run")?.rss()
    }

    /// All that the daemons of this bed have said.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.namespace.directory().join("daemon.log")
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Daemon>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new volume's disk of `size` bytes, attached and blank.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn disk(&self, size: u64) -> Result<Disk> {
        self.disk_of(&disk::uuid()?, size)
    }

    /// As [`Self::disk`], of the volume with this id.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn disk_of(&self, volume_id: &str, size: u64) -> Result<Disk> {
        Disk::new(&self.namespace, volume_id, self.options.kind.clone(), size)
    }

    /// As [`Self::disk`], still to be attached.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn detached_disk(&self, size: u64) -> Result<Disk> {
        Disk::detached(&self.namespace, &disk::uuid()?, self.options.kind.clone(), size)
    }

    /// A disk on a file that is there already, and stays: of a filesystem whose reads fail, for example.
    ///
    /// # Errors
    /// When it can't be attached.
    pub fn disk_on(&self, file: &Path, volume_id: &str) -> Result<Disk> {
        Disk::on(&self.namespace, volume_id, self.options.kind.clone(), file)
    }

    /// A controller that attaches disks to this node, at a socket of its own.
    ///
    /// # Errors
    /// When it can't listen.
    pub fn controller(&self) -> Result<Controller> {
        Controller::start(&self.namespace, &self.options.node_id, &self.options.zone)
    }

    /// What was asked of it.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// A directory that is the same inside and outside.
    #[must_use]
    pub fn directory_for_all(&self) -> &Path {
        self.namespace.directory()
    }

    /// Where the bed's absolute `path` is to be seen from outside.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.namespace.path(path)
    }

    /// The command, run inside.
    #[must_use]
    pub fn enter(&self, command: Command) -> Command {
        self.namespace.enter(command)
    }

    /// Runs a shell script inside and gives its standard output.
    ///
    /// # Errors
    /// When its exit code isn't 0: with what it said.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.namespace.sh(script)
    }

    /// What is mounted inside, oldest first.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn mounts(&self) -> Result<Vec<Mount>> {
        self.namespace.mounts()
    }

    /// Those of them that show a disk: its filesystem, or its node.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn mounts_of(&self, disk: &Disk) -> Result<Vec<Mount>> {
        let node = format!("/{}", disk.name());
        let shows = |mount: &Mount| {
            // btrfs has numbers of its own.
            let filesystem = mount.device == disk.number() || mount.source == disk.device();
            filesystem || (mount.root == node && mount.filesystem.ends_with("tmpfs"))
        };
        Ok(self.mounts()?.into_iter().filter(shows).collect())
    }

    /// Makes a directory inside, with those above it, as kubelet does.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn directory(&self, path: &str) -> Result<()> {
        let mut make = fs::DirBuilder::new();
        make.recursive(true).mode(0o750);
        make.create(self.path(path)).with_context(|| format!("Making {path}"))
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // The namespace may live on for its disks.
        drop(self.kill());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_killed_daemon_leaves_what_it_started_and_the_bed_takes_all_of_it() {
        let place = crate::scratch("daemon").unwrap();
        let program = place.path().join("daemon");
        let mark = format!("613.{}", std::process::id());
        fs::write(&program, format!("#!/bin/sh\nsleep {mark} &\necho \"$1 as told\"\nwait\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let alive = || crate::leash::mentioning(&format!("sleep {mark}")).unwrap().len();
        let bed = Bed::still(&Options { program: Some(program), ..Options::default() }).unwrap();
        for started in 1..=2 {
            bed.launch().unwrap();
            let deadline = Instant::now() + PATIENCE;
            while alive() < started || bed.log().lines().count() < started {
                assert!(Instant::now() < deadline, "{}", bed.log());
                std::thread::sleep(POLL);
            }
            assert!(bed.rss().unwrap() > 0 && !bed.ended().unwrap());
            bed.kill().unwrap();
            assert!(bed.ended().unwrap() && bed.pid().is_none());
        }
        assert_eq!((bed.log().as_str(), alive()), ("serve as told\nserve as told\n", 2));
        bed.launch().unwrap();
        assert_eq!(bed.stop().unwrap(), Some(128 + 15));
        drop(bed);
        assert_eq!(alive(), 0);
    }
}
