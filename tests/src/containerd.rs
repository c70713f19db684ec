//! A private containerd with its CRI plugin: own root, state and socket, own mount and PID namespace.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::leash::{Daemon, POLL, mentioning};
use crate::netns::Netns;
use crate::process::Command;
use crate::{programs, scratch_below};

/// A running containerd. It ends, with its shims and mounts, when this value is dropped.
#[derive(Debug)]
pub struct Containerd {
    /// The gRPC socket.
    pub socket: PathBuf,
    /// Where its `ctr` lies.
    pub programs: PathBuf,
    serve: Command,
    disk: Option<PathBuf>,
    daemon: Daemon,
    directory: TempDir,
}

/// Mounts the filesystem in a file, inside the daemon's own mount namespace, then runs the daemon. Whoever enters
/// that namespace sees another boot each time, since a machine that lost its power has one.
const ON_DISK: &str = r#"mount -o loop "$0" "$1" && shift &&
cat /proc/sys/kernel/random/uuid > "$0.boot" && mount --bind "$0.boot" /proc/sys/kernel/random/boot_id && exec "$@""#;

impl Containerd {
    /// Starts the containerd whose programs lie in `programs` (see [`programs::containerd`]), inside
    /// `netns` where one is given.
    ///
    /// # Errors
    /// When it doesn't answer within 30 s.
    pub fn start(programs: &Path, netns: Option<&Netns>) -> Result<Self> {
        Self::start_on("/var/tmp".as_ref(), programs, netns, None)
    }

    /// As [`Containerd::start`], with all that is its own in the directory `within`.
    ///
    /// # Errors
    /// When it doesn't answer within 30 s.
    pub fn start_below(within: &Path, programs: &Path) -> Result<Self> {
        Self::start_on(within, programs, None, None)
    }

    /// As [`Containerd::start`], with its data on a disk of its own, an ext4 filesystem of `mebibytes` MiB,
    /// which can lose its power.
    ///
    /// # Errors
    /// When it doesn't answer within 30 s; without root or e2fsprogs.
    pub fn start_on_disk(programs: &Path, mebibytes: u64) -> Result<Self> {
        let containerd = Self::start_on("/var/tmp".as_ref(), programs, None, Some(mebibytes))?;
        // As one that has run for a while: its own first files are on the disk.
        Command::new("sync").arg("--file-system").arg(containerd.data()).ok()?;
        Ok(containerd)
    }

    fn start_on(within: &Path, programs: &Path, netns: Option<&Netns>, mebibytes: Option<u64>) -> Result<Self> {
        let directory = scratch_below(within, "containerd")?;
        let socket = directory.path().join("containerd.sock");
        let config = directory.path().join("config.toml");
        fs::write(&config, render(directory.path())).context("Writing containerd's configuration")?;
        // containerd looks for its shim and for runc on PATH.
        let path = format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", programs.display());
        let mut serve = Command::new(programs.join("containerd")).arg("--config").arg(&config).env("PATH", path);
        if let Some(netns) = netns {
            serve = netns.enter(serve);
        }
        let disk = mebibytes.map(|mebibytes| make_disk(directory.path(), mebibytes)).transpose()?;
        if let Some(disk) = &disk {
            let root = directory.path().join("root");
            serve = serve.under("sh", ["-c".as_ref(), ON_DISK.as_ref(), disk.as_os_str(), root.as_os_str()]);
        }
        let daemon = serve.daemon(&directory.path().join("containerd.log"))?;
        let mut containerd = Self { socket, programs: programs.to_owned(), serve, disk, daemon, directory };
        containerd.ready()?;
        Ok(containerd)
    }

    /// Ends it as a crash does, by SIGKILL, with its shims and mounts. Its data stays.
    ///
    /// # Errors
    /// When it can't be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon.kill().context("Killing the private containerd")?;
        // The namespace dies a moment after its leash; until then the data is in use.
        let deadline = Instant::now() + Duration::from_secs(10);
        while !mentioning(&self.directory.path().to_string_lossy())?.is_empty() {
            ensure!(Instant::now() < deadline, "The private containerd outlives SIGKILL by 10 s");
            thread::sleep(POLL);
        }
        // A crash leaves the socket. Nobody shall take it, as long as it is still open, for the next one's.
        fs::remove_file(&self.socket).context("Removing the socket of a killed containerd")
    }

    /// Starts it on the same data after [`Containerd::kill`].
    ///
    /// # Errors
    /// When it doesn't answer within 30 s.
    pub fn start_again(&mut self) -> Result<()> {
        self.daemon = self.serve.daemon(&self.directory.path().join("containerd.log"))?;
        self.ready()
    }

    /// What a power cut does to a containerd on a disk: it is killed, and its disk has only what was written
    /// to it until now, nothing of what the kernel still kept in memory.
    ///
    /// # Errors
    /// Without a disk; when it can't be copied, or is written to all the time.
    pub fn lose_power(&mut self) -> Result<()> {
        let disk = self.disk.clone().context("This containerd has no disk of its own")?;
        let as_it_is = disk.with_extension("now");
        let told =
            Command::new("losetup").args(["--noheadings", "--output", "NAME", "--associated"]).arg(&disk).ok()?;
        let statistics = Path::new("/sys/block").join(told.trim().trim_start_matches("/dev/")).join("stat");
        let written = || {
            // Columns 5 to 8 are about writes, 9 is what is under way (kernel, Documentation/block/stat.rst).
            let columns =
                fs::read_to_string(&statistics).with_context(|| format!("Reading {}", statistics.display()))?;
            Ok::<_, anyhow::Error>(columns.split_whitespace().skip(4).take(5).map(str::to_owned).collect::<Vec<_>>())
        };
        for _ in 0..50 {
            let before = written()?;
            Command::new("cp").arg("--sparse=always").arg(&disk).arg(&as_it_is).ok()?;
            // Only a copy during which nothing was written is the disk at one moment.
            if before.last().is_some_and(|under_way| under_way == "0") && written()? == before {
                // The kernel writes the rest when the filesystem goes away, to the file that is replaced.
                self.kill()?;
                return fs::rename(&as_it_is, &disk).with_context(|| format!("Replacing {}", disk.display()));
            }
            thread::sleep(POLL);
        }
        bail!("{} is written to all the time", disk.display())
    }

    fn ready(&mut self) -> Result<()> {
        let socket = &self.socket;
        self.daemon
            .ready(Duration::from_secs(30), || UnixStream::connect(socket).is_ok())
            .context("Starting a private containerd")?;
        // The socket is there before the plugins are.
        self.ctr(["version"]).ok().context("Asking the private containerd for its version").map(drop)
    }

    /// `ctr` for this containerd, in the namespace of Kubernetes.
    pub fn ctr<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let ctr = Command::new(self.programs.join("ctr")).arg("--address").arg(&self.socket);
        ctr.args(["--namespace", "k8s.io"]).args(args)
    }

    /// `crictl` for this containerd.
    ///
    /// # Errors
    /// When there is no crictl and it can't be built.
    pub fn crictl<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Result<Command> {
        let endpoint = format!("unix://{}", self.socket.display());
        let crictl = Command::new(programs::tool("crictl", None)?.join("crictl"));
        // An empty file: the machine's own /etc/crictl.yaml is not meant.
        let config = self.directory.path().join("crictl.yaml");
        fs::write(&config, "").context("Writing crictl's configuration")?;
        let crictl = crictl.arg("--config").arg(config).args(["--timeout", "30s"]);
        Ok(crictl.args(["--runtime-endpoint", endpoint.as_str(), "--image-endpoint", endpoint.as_str()]).args(args))
    }

    /// The references of the images in the namespace of Kubernetes, sorted, without the digests that
    /// the CRI plugin adds as names.
    ///
    /// # Errors
    /// When containerd doesn't answer.
    pub fn images(&self) -> Result<Vec<String>> {
        let listed = self.ctr(["images", "list", "-q"]).ok()?;
        let mut names: Vec<String> =
            listed.lines().filter(|name| !name.contains("sha256:")).map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// Where its log and data lie.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The path that stands for its mount namespace: `/proc/PID/ns/mnt`.
    #[must_use]
    pub fn mounts(&self) -> String {
        format!("/proc/{}/ns/mnt", self.daemon.pid())
    }

    /// Its data, as it is to be seen from here: a disk is mounted in its own namespace only.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        let root = self.directory.path().join("root");
        match &self.disk {
            Some(_) => PathBuf::from(format!("/proc/{}/root{}", self.daemon.pid(), root.display())),
            None => root,
        }
    }
}

fn make_disk(directory: &Path, mebibytes: u64) -> Result<PathBuf> {
    let disk = directory.join("disk");
    let file = File::create(&disk).with_context(|| format!("Creating {}", disk.display()))?;
    file.set_len(mebibytes << 20).with_context(|| format!("Making {} larger", disk.display()))?;
    Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk).ok()?;
    fs::create_dir(directory.join("root")).context("Making a directory for containerd's data")?;
    Ok(disk)
}

/// Version 2 of the format, which 1.6 and 1.7 read and 2.x converts.
fn render(directory: &Path) -> String {
    let place = directory.display();
    format!(
        r#"version = 2
root = "{place}/root"
state = "{place}/state"
[grpc]
  address = "{place}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{place}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  # The kernel refuses to lower the score without CAP_SYS_RESOURCE, which containers often lack.
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{place}/cni/bin"
  conf_dir = "{place}/cni/net.d"
"#
    )
}
