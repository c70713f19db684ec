//! How much memory the daemon has, and whether it grows.

use std::fs;

use anyhow::{Context as _, Result};
use cks_tests::csi::{Bed, Disk};

use crate::calls::{Asked, Client};

/// So many clients at once, each with a volume of its own.
const CLIENTS: usize = 4;
/// The memory is looked at after so many operations.
const STEP: u32 = 10_000;

/// What the kernel says of the daemon, in KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) operations: u32,
    pub(crate) rss: u64,
    pub(crate) shared_out: u64,
    pub(crate) anonymous: u64,
    pub(crate) threads: usize,
}

impl Memory {
    pub(crate) fn of(bed: &Bed, operations: u32) -> Result<Self> {
        let pid = bed.pid().context("The daemon does not run")?;
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("Reading the daemon's memory")?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
            line.with_context(|| format!("smaps_rollup lacks {name}"))?
                .parse::<u64>()
                .context("Reading the daemon's memory")
        };
        let threads = fs::read_dir(format!("/proc/{pid}/task")).context("Counting threads")?.count();
        let (rss, shared_out, anonymous) = (field("Rss:")?, field("Pss:")?, field("Anonymous:")?);
        Ok(Self { operations, rss, shared_out, anonymous, threads })
    }
}

/// Publishes, asks and unpublishes, and looks at the memory in between. The daemon is another one than before.
pub(crate) fn operations(bed: &Bed, operations: u32, size: u64, memory: &mut Vec<Memory>) -> Result<()> {
    if operations == 0 {
        return Ok(());
    }
    bed.restart()?;
    let disks = (0..CLIENTS).map(|_| bed.disk(size)).collect::<Result<Vec<Disk>>>()?;
    let mut workers = Vec::new();
    for disk in &disks {
        let (client, asked) = (Client::new(bed)?, Asked::of(bed, disk, 1)?);
        client.stage(&asked)?;
        workers.push((client, asked));
    }
    for done in (STEP..=operations).step_by(STEP as usize) {
        let each = STEP as usize / CLIENTS / 3;
        std::thread::scope(|scope| {
            let running: Vec<_> =
                workers.iter_mut().map(|(client, asked)| scope.spawn(move || cycle(client, asked, each))).collect();
            running.into_iter().try_for_each(|worker| worker.join().ok().context("A worker panicked")?)
        })?;
        memory.push(Memory::of(bed, done)?);
        eprintln!("bench-csi: {done} operations: {:?}", memory.last());
    }
    workers.iter().try_for_each(|(client, asked)| client.unstage(asked).map(drop))
}

fn cycle(client: &Client, asked: &Asked, times: usize) -> Result<()> {
    for _ in 0..times {
        client.publish(asked)?;
        client.stats(asked)?;
        client.unpublish(asked)?;
    }
    Ok(())
}
