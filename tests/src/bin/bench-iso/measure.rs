//! One run of one program: wall time, and the kernel's word on its peak memory.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cks_tests::process::Command;
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

/// A program that makes an ISO.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// What the table calls it.
    pub(crate) name: &'static str,
    /// Its command line.
    pub(crate) command: Command,
    /// The ISO it makes.
    pub(crate) output: PathBuf,
    /// The line on its standard error with which the writing begins, by its first word.
    pub(crate) marker: Option<&'static str>,
}

/// What it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Until it ended.
    pub(crate) wall: Duration,
    /// Until its ISO was on the disk as well.
    pub(crate) durable: Duration,
    /// Of that: from the end of the hashing on.
    pub(crate) writing: Option<Duration>,
    /// User and system time.
    pub(crate) cpu: Duration,
    /// Peak memory in KiB.
    pub(crate) memory_kib: u64,
    /// Bytes of the ISO.
    pub(crate) size: u64,
}

impl Program {
    /// Runs it: its inputs in the page cache, nothing left to be written by others, no ISO there.
    pub(crate) fn run(&self) -> Result<Measured> {
        if self.output.exists() {
            fs::remove_file(&self.output).with_context(|| format!("Removing {}", self.output.display()))?;
        }
        Command::new("sync").ok()?;
        let own = std::env::current_exe().context("Finding this program")?;
        let own = own.to_string_lossy().into_owned();
        let begun = Instant::now();
        let told = self.command.clone().under(&own, ["measure", "--"]).ok()?;
        Command::new("sync").arg(&self.output).ok()?;
        let durable = begun.elapsed();
        let told: Value = serde_json::from_str(&told).context("Reading what was measured")?;
        let number = |key: &str| told[key].as_u64().with_context(|| format!("{key} is missing in {told}"));
        let wall = Duration::from_micros(number("wall_us")?);
        let lines = told["lines"].as_array().map_or(&[][..], Vec::as_slice);
        let marked = self.marker.and_then(|marker| {
            let line =
                lines.iter().find(|line| line["text"].as_str().unwrap_or_default().trim().starts_with(marker))?;
            line["at_us"].as_u64().map(Duration::from_micros)
        });
        Ok(Measured {
            wall,
            durable,
            writing: marked.map(|at| wall.saturating_sub(at)),
            cpu: Duration::from_micros(number("cpu_us")?),
            memory_kib: number("memory_kib")?,
            size: size_of(&self.output)?,
        })
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wall, durable, cpu, memory_kib, .. } = self;
        write!(f, "{wall:.2?}, {durable:.2?} until it is on the disk, {cpu:.2?} of CPU, {memory_kib} KiB")
    }
}

fn size_of(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| format!("Reading {}", path.display()))?.len())
}

/// The inner process: runs `command` and prints one line of JSON.
pub(crate) fn inner(command: &[String]) -> Result<()> {
    let (program, args) = command.split_first().context("no program")?;
    let begun = Instant::now();
    let (code, lines) = Command::new(program).args(args).timed_lines()?;
    let wall = begun.elapsed();
    ensure!(code == 0, "{program}: exit code {code}\n{lines:?}");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("Asking for the children's usage")?;
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    let lines: Vec<Value> =
        lines.iter().map(|(at, text)| json!({ "at_us": at.as_micros() as u64, "text": text })).collect();
    let told = json!({
        "wall_us": wall.as_micros() as u64,
        "cpu_us": micros(usage.user_time()) + micros(usage.system_time()),
        "memory_kib": usage.max_rss(),
        "lines": lines,
    });
    println!("{told}");
    Ok(())
}
