//! A machine of the bed: namespaces with a disk, a cable and a first process.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::disk::{self, Template};
use super::{ROUTER, network};
use crate::leash::{Daemon, POLL, Running};
use crate::netns::Netns;
use crate::process::Command;

const BOOT: &str = include_str!("boot.sh");
const WARDEN: &str = include_str!("warden.sh");

/// Kills what has the name `$program`. A process is gone when it has no directory, or is a zombie and its only thread.
const KILL: &str = r#"
pids=$(pgrep -x "$program" || true)
for pid in $pids; do kill -KILL "$pid" 2>/dev/null || true; done
for pid in $pids; do
    tries=0
    while threads=$(ls "/proc/$pid/task" 2>/dev/null) && [ -n "$threads" ]; do
        [ "$threads" = "$pid" ] && grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null && break
        tries=$((tries + 1))
        [ $tries -le 1000 ] || { echo "process $pid of $program does not end" >&2; exit 1; }
        sleep 0.01
    done
done
echo "$pids" | wc -w
"#;

/// What commands find in a machine.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("PATH", "/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
    ("KUBECONFIG", "/etc/kubernetes/admin.conf"),
];

/// A machine. It is gone, with all that runs on it, when this value is dropped.
#[derive(Debug)]
pub struct Machine {
    /// Its host name, and its node's.
    pub name: String,
    /// Its address at `eth0`.
    pub address: String,
    cgroup: String,
    cable: String,
    number: u8,
    running: Option<(Daemon, u32)>,
    disk: TempDir,
    boots: u32,
}

impl Machine {
    /// A machine that is switched off. `bed` names the bed, `number` is the last part of its address.
    pub(super) fn new(bed: &str, within: &Path, name: &str, number: u8, template: &Template) -> Result<Self> {
        let cgroup = format!("/bed/{bed}/{name}");
        Ok(Self {
            name: name.to_owned(),
            address: format!("10.1.1.{number}"),
            disk: disk::make(within, name, &cgroup, template).with_context(|| format!("Making the disk of {name}"))?,
            cgroup,
            cable: format!("node{number}"),
            number,
            running: None,
            boots: 0,
        })
    }

    /// Switches it on, at the bridge in `netns`.
    pub(super) fn boot(&mut self, netns: &Netns) -> Result<()> {
        self.boots += 1;
        let log = self.log();
        // As files, so that the list of processes stays readable.
        let [boot, warden] = ["boot.sh", "warden.sh"].map(|script| self.disk.path().join(script));
        disk::write(&boot, BOOT)?;
        disk::write(&warden, WARDEN)?;
        let script = Command::new("sh").arg(boot).arg(self.disk.path());
        let script = script.args([&self.name, &self.address, &self.cgroup, ROUTER]);
        let namespaces = ["--mount", "--pid", "--fork", "--uts", "--ipc", "--kill-child", "--propagation", "private"];
        let warden = [warden.as_os_str(), self.cgroup.as_ref()];
        let booting = script.under("unshare", namespaces).under("sh", warden);
        let mut daemon = booting.daemon_with_network(&log)?;
        // The leash enters its network a moment after it has been started.
        let own = fs::read_link("/proc/self/ns/net").context("Reading the own network namespace")?;
        let pid = daemon.pid();
        daemon.ready(Duration::from_secs(10), || {
            fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|theirs| theirs != own)
        })?;
        network::plug(netns, pid, &self.cable, &format!("02:00:0a:01:01:{:02x}", self.number))?;
        let mut first = None;
        let ready = daemon.ready(Duration::from_secs(30), || {
            first = first.or_else(|| first_process(&self.cgroup));
            first.is_some_and(|first| Path::new(&format!("/proc/{first}/root/run/systemd/bed")).exists())
        });
        ready.with_context(|| format!("Booting {}", self.name))?;
        self.running = first.map(|first| (daemon, first));
        Ok(())
    }

    /// Cuts its power: all processes end by SIGKILL, what is in memory is lost.
    pub fn power_off(&mut self) {
        drop(self.running.take());
    }

    /// Whether its power is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.running.is_some()
    }

    fn log(&self) -> PathBuf {
        self.disk.path().join(format!("boot-{}.log", self.boots))
    }

    pub(super) fn number(&self) -> u8 {
        self.number
    }

    pub(super) fn cable(&self) -> &str {
        &self.cable
    }

    fn first(&self) -> Result<u32> {
        let (_, first) = self.running.as_ref().with_context(|| format!("{} is switched off", self.name))?;
        Ok(*first)
    }

    /// The command, run as root on the machine, with an environment of its own.
    ///
    /// # Errors
    /// When the machine is switched off.
    pub fn enter(&self, command: Command) -> Result<Command> {
        let target = self.first()?.to_string();
        let namespaces = ["--target", &target, "--mount", "--pid", "--net", "--uts", "--ipc", "--wdns=/", "--"];
        // With nsenter goes what it runs.
        let command = command.under("setpriv", ["--pdeathsig", "KILL", "--"]).under("nsenter", namespaces).bare();
        Ok(ENVIRONMENT.iter().fold(command, |command, (name, value)| command.env(name, value)))
    }

    /// The program with its arguments, run as root on the machine: as [`Self::enter`].
    ///
    /// # Errors
    /// When the machine is switched off.
    pub fn command<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Result<Command> {
        let mut words = words.into_iter();
        self.enter(Command::new(words.next().unwrap_or_default()).args(words))
    }

    /// Runs a shell script on the machine and gives its standard output.
    ///
    /// # Errors
    /// When its exit code isn't 0.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.command(["sh", "-e", "-c", script])?.ok().with_context(|| format!("On {}", self.name))
    }

    /// Starts a shell script on the machine; what it says goes to `/var/log/bed/LOG.log`. It is killed when dropped.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(&self, script: &str, log: &str) -> Result<Running> {
        self.command(["sh", "-e", "-c", script])?.start(&self.path(&format!("/var/log/bed/{log}.log"))?)
    }

    /// Sends SIGKILL to every process of the machine whose program has this name, waits until they hold nothing any more (a
    /// thread that still ends keeps files open, and locks), and tells how many there were.
    ///
    /// # Errors
    /// When the machine is switched off, or a process is there after 10 seconds.
    pub fn kill(&self, program: &str) -> Result<usize> {
        self.sh(&format!("program={program}\n{KILL}"))?.trim().parse().context("Reading how many processes were killed")
    }

    /// A path of the machine, as it is to be seen from here; absolute links of the machine lead astray.
    ///
    /// # Errors
    /// When the machine is switched off.
    pub fn path(&self, path: &str) -> Result<PathBuf> {
        Ok(PathBuf::from(format!("/proc/{}/root{path}", self.first()?)))
    }

    /// A text file of the machine.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read(&self, path: &str) -> Result<String> {
        let here = self.path(path)?;
        let bytes = fs::read(&here).with_context(|| format!("Reading {path} of {}", self.name))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Writes a file of the machine, and the directories above it.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        disk::write(&self.path(path)?, text).with_context(|| format!("Writing {path} of {}", self.name))
    }

    /// What a unit has said so far: `containerd`, `kubelet`; also `journal`, `console` and `systemd`, the first
    /// process itself.
    ///
    /// # Errors
    /// When the machine is switched off.
    pub fn log_of(&self, unit: &str) -> Result<String> {
        let file = if unit == "journal" { "journal.bin".to_owned() } else { format!("{unit}.log") };
        Ok(self.read(&format!("/var/log/bed/{file}")).unwrap_or_default())
    }

    /// Waits until `holds`, at most `limit`.
    ///
    /// # Errors
    /// With what `holds` said last.
    pub fn wait(&self, what: &str, limit: Duration, holds: impl FnMut() -> Result<bool>) -> Result<()> {
        wait(&format!("{} on {}", what, self.name), limit, holds)
    }
}

/// Waits until `holds`, at most `limit`.
///
/// # Errors
/// With what `holds` said last.
pub fn wait(what: &str, limit: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let last = match holds() {
            Ok(true) => return Ok(()),
            Ok(false) => "it does not hold".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() > deadline {
            bail!("{what}: not within {} s; at last: {last}", limit.as_secs());
        }
        thread::sleep(POLL * 10);
    }
}

/// The first process of the machine with this cgroup, by its number here.
fn first_process(cgroup: &str) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut numbers = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    numbers.find(|number| {
        let line = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        words.get(1..3).is_some_and(|words| words == [b"init".as_slice(), cgroup.as_bytes()])
    })
}
