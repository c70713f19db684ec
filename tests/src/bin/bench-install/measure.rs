//! What a run takes: of the tools that do it, of the containerd that it works with, of the disk.
//!
//! The same for both ways. Of the tools the kernel tells CPU time and peak memory of all children that were
//! waited for (`getrusage`), and the bytes that they made the page cache hold for the disk (`write_bytes`
//! without `cancelled_write_bytes` of `/proc/self/io`, into which those of ended children are added). Of containerd, which
//! was there before and lives on, it is what these counters gained (`/proc/PID/{stat,io,status}`).

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cks_tests::containerd::Containerd;
use cks_tests::process::Command;
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

/// The longest run: the stock way at 100 Mbit/s takes two minutes.
const LIMIT: Duration = Duration::from_secs(3600);

/// Ticks per second of `/proc/PID/stat`, the kernel's `USER_HZ` on amd64 and arm64.
const TICKS: f64 = 100.0;

/// One run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Measured {
    /// Seconds until the command ended.
    pub(crate) wall: f64,
    /// Seconds that `sync` took after that.
    pub(crate) sync: f64,
    /// CPU seconds of the command.
    pub(crate) tools_cpu: f64,
    /// CPU seconds of containerd meanwhile.
    pub(crate) containerd_cpu: f64,
    /// Bytes that the command and containerd gave to the page cache for the disk.
    pub(crate) written: u64,
    /// Of these, containerd's.
    pub(crate) containerd_written: u64,
    /// Bytes that reached the disk until the `sync` was over, by whomever: the disk's own count.
    pub(crate) disk: u64,
    /// Peak memory in KiB of the command's largest process.
    pub(crate) peak_kib: u64,
    /// Peak memory in KiB of containerd.
    pub(crate) containerd_peak_kib: u64,
    /// Bytes that the web server sent, with headers.
    pub(crate) fetched: u64,
    /// Bytes that the link brought, frames counted with their headers.
    pub(crate) received: u64,
    /// Bytes that the link brought a second time; only known after a kill.
    pub(crate) again: u64,
}

impl Measured {
    /// CPU seconds of both.
    pub(crate) fn cpu(&self) -> f64 {
        self.tools_cpu + self.containerd_cpu
    }

    /// As JSON.
    pub(crate) fn json(&self) -> Value {
        json!({
            "wall_s": self.wall, "sync_s": self.sync, "tools_cpu_s": self.tools_cpu,
            "containerd_cpu_s": self.containerd_cpu, "written": self.written, "containerd_written": self.containerd_written, "disk": self.disk,
            "peak_kib": self.peak_kib, "containerd_peak_kib": self.containerd_peak_kib,
            "fetched": self.fetched, "received": self.received, "fetched_again": self.again,
        })
    }
}

/// Runs a command to its end, nothing left to be written by others before it.
pub(crate) fn run(command: &Command, containerd: Option<&Containerd>, disk: &Path) -> Result<Measured> {
    Command::new("sync").limit(LIMIT).ok()?;
    // Not by its path, where a new build may have put another program meanwhile.
    let own = format!("/proc/{}/exe", std::process::id());
    let process = containerd.map(Process::of).transpose()?;
    let counters = || process.as_ref().map_or_else(|| Ok(Counters::default()), Process::counters);
    let (before, sectors) = (counters()?, sectors_written(disk)?);
    let told = command.clone().limit(LIMIT).under(&own, ["measure", "--"]).ok()?;
    let after = counters()?;
    let begun = Instant::now();
    Command::new("sync").limit(LIMIT).ok()?;
    let sync = begun.elapsed().as_secs_f64();
    let told: Value = serde_json::from_str(&told).context("Reading what was measured")?;
    let containerd_written = after.written.saturating_sub(before.written);
    let number = |key: &str| told[key].as_u64().with_context(|| format!("{key} is missing in {told}"));
    Ok(Measured {
        wall: number("wall_us")? as f64 / 1e6,
        sync,
        tools_cpu: number("cpu_us")? as f64 / 1e6,
        containerd_cpu: (after.ticks - before.ticks) as f64 / TICKS,
        written: number("written")? + containerd_written,
        containerd_written,
        disk: (sectors_written(disk)? - sectors) * 512,
        peak_kib: number("memory_kib")?,
        containerd_peak_kib: after.peak_kib,
        ..Measured::default()
    })
}

/// The inner process: runs `command` and prints one line of JSON. A process of its own, because the kernel
/// tells what all children took together.
pub(crate) fn inner(command: &[String]) -> Result<()> {
    let (program, args) = command.split_first().context("no program")?;
    let begun = Instant::now();
    let (code, lines) = Command::new(program).args(args).limit(LIMIT).timed_lines()?;
    let wall = begun.elapsed();
    let last: Vec<&str> = lines.iter().rev().take(20).rev().map(|(_, line)| line.as_str()).collect();
    ensure!(code == 0, "{program}: exit code {code}\n{}", last.join("\n"));
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("Asking for the children's usage")?;
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    let told = json!({
        "wall_us": wall.as_micros() as u64,
        "cpu_us": micros(usage.user_time()) + micros(usage.system_time()),
        "memory_kib": usage.max_rss(),
        "written": written("self")?,
    });
    println!("{told}");
    Ok(())
}

/// A containerd's process.
struct Process(String);

#[derive(Debug, Default)]
struct Counters {
    ticks: u64,
    written: u64,
    peak_kib: u64,
}

impl Process {
    /// By its command line: it runs in a namespace of its own, behind a leash with the same words.
    fn of(containerd: &Containerd) -> Result<Self> {
        let place = containerd.directory().to_string_lossy().into_owned();
        let own = |id: &String| {
            let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            let program = line.split('\0').next().unwrap_or_default();
            program.ends_with("/containerd") && line.contains(&place)
        };
        let all = fs::read_dir("/proc").context("Reading /proc")?.flatten();
        let mut ids = all.map(|entry| entry.file_name().to_string_lossy().into_owned());
        ids.find(own).map(Self).context("The private containerd has no process")
    }

    fn counters(&self) -> Result<Counters> {
        let read = |name: &str| {
            let path = format!("/proc/{}/{name}", self.0);
            fs::read_to_string(&path).with_context(|| format!("Reading {path}"))
        };
        let peak_kib = value(&read("status")?, "VmHWM:").unwrap_or_default();
        let ticks = ticks(&read("stat")?).context("Reading containerd's CPU time")?;
        Ok(Counters { ticks, written: written(&self.0)?, peak_kib })
    }
}

/// `utime`, `stime`, `cutime`, `cstime`: fields 14 to 17 (proc_pid_stat(5)); what runs before field 3 may
/// hold blanks and ends in `)`.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<u64> = rest.split_whitespace().skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
    (fields.len() == 4).then(|| fields.iter().sum())
}

/// What was given to the page cache for the disk, without what was deleted before it was on its way there.
fn written(process: &str) -> Result<u64> {
    let path = format!("/proc/{process}/io");
    let text = fs::read_to_string(&path).with_context(|| format!("Reading {path}"))?;
    let (given, taken_back) = (value(&text, "write_bytes:"), value(&text, "cancelled_write_bytes:"));
    let given = given.with_context(|| format!("{path} has no write_bytes"))?;
    Ok(given.saturating_sub(taken_back.unwrap_or_default()))
}

/// The number behind a key at the start of a line.
fn value(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Sectors of 512 bytes written to the device of the filesystem that `path` lies on; 0 where it has none.
fn sectors_written(path: &Path) -> Result<u64> {
    let device = fs::metadata(path).with_context(|| format!("Reading {}", path.display()))?.dev();
    let (major, minor) = (nix::sys::stat::major(device).to_string(), nix::sys::stat::minor(device).to_string());
    let text = fs::read_to_string("/proc/diskstats").context("Reading /proc/diskstats")?;
    // Field 10 is sectors written (kernel, admin-guide/iostats.rst).
    let sectors = text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(..2)? == [major.as_str(), minor.as_str()]).then(|| fields.get(9)?.parse().ok())?
    });
    Ok(sectors.unwrap_or(0))
}
