//! The end of a run: absolute values, and ratios beside the goals.

use std::time::Duration;

use crate::measure::Measured;
use crate::tree::Tree;

/// The goals: of the faster rival's wall time, of memory in KiB, of the stock ISO's size.
const WALL: f64 = 1.10;
const MEMORY_KIB: u64 = 64 << 10;
const SIZE: f64 = 0.45;

/// Prints everything; the first of `names` is ours, the last the rival that does what ours does. `stock` is the size of the stock ISO.
pub(crate) fn print(names: &[&str; 4], measured: &[Vec<Measured>], tree: &Tree, stock: u64) {
    let seconds = |duration: Duration| format!("{:.2}", duration.as_secs_f64());
    println!("\n{:31} {:>8} {:>8} {:>8} {:>8} {:>9}", "MEDIANS", "WALL s", "+SYNC s", "CPU s", "PEAK MiB", "ISO MB");
    let row = |name: &str, wall: Duration, durable: Duration, cpu: Option<Duration>, memory: Option<u64>, size: u64| {
        let cpu = cpu.map_or_else(String::new, seconds);
        let memory = memory.map_or_else(String::new, |kib| format!("{:.1}", kib as f64 / 1024.0));
        let (wall, durable, size) = (seconds(wall), seconds(durable), size as f64 / 1e6);
        println!("{name:31} {wall:>8} {durable:>8} {cpu:>8} {memory:>8} {size:>9.1}");
    };
    for (name, runs) in names.iter().zip(measured) {
        let size = runs.first().map_or(0, |run| run.size);
        row(name, wall(runs), durable(runs), Some(median(runs, |run| run.cpu)), Some(memory(runs)), size);
        if runs.iter().any(|run| run.writing.is_some()) {
            let writing = median(runs, |run| run.writing.unwrap_or_default());
            let end = durable(runs).saturating_sub(wall(runs));
            row("  of it: writing, to the disk", writing, writing + end, None, None, size);
        }
    }
    let [ours, rivals @ .., whole_rival] = measured else { return };
    let faster = |of: fn(&[Measured]) -> Duration| rivals.iter().map(|runs| of(runs)).min().unwrap_or_default();
    let size = ours.first().map_or(0, |run| run.size);
    println!("\n{:62} {:>6}  {:>6}", "RATIOS", "", "GOAL");
    let ratio = |what: &str, value: f64, goal: f64| println!("{what:62} {value:>6.2}  {goal:>6.2}");
    let of = |ours: Duration, rival: Duration| ours.as_secs_f64() / rival.as_secs_f64();
    let writing = median(ours, |run| run.writing.unwrap_or_default());
    let same = of(durable(ours), durable(whole_rival));
    ratio("whole build / genisoimage, sha256sum and sha512sum side by side", same, WALL);
    ratio("whole build / faster rival, each until its ISO is on the disk", of(durable(ours), faster(durable)), WALL);
    ratio("writing / faster rival, each until its ISO is on the disk", of(writing, faster(durable)), WALL);
    ratio("whole build / faster rival as it ends (ISO in the page cache)", of(wall(ours), faster(wall)), WALL);
    ratio("writing / faster rival as it ends (ISO in the page cache)", of(writing, faster(wall)), WALL);
    ratio("peak memory / 64 MiB", memory(ours) as f64 / MEMORY_KIB as f64, 1.0);
    ratio("ISO / stock ISO with an archive of docker save per image", size as f64 / stock as f64, SIZE);
    let (saved, exported) = tree.archives;
    println!(
        "\nThe stock ISO has {:.1} MB, its image archives {:.1} MB; gzip'd, one archive per image, these have {:.1} MB.\n\
         cks-iso checks and hashes each input, writes, hashes the ISO and waits for the disk; the rivals only write.",
        stock as f64 / 1e6,
        saved as f64 / 1e6,
        exported as f64 / 1e6
    );
}

fn median(runs: &[Measured], of: impl Fn(&Measured) -> Duration) -> Duration {
    let mut all: Vec<Duration> = runs.iter().map(of).collect();
    all.sort();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

fn wall(runs: &[Measured]) -> Duration {
    median(runs, |run| run.wall)
}

fn durable(runs: &[Measured]) -> Duration {
    median(runs, |run| run.durable)
}

fn memory(runs: &[Measured]) -> u64 {
    runs.iter().map(|run| run.memory_kib).max().unwrap_or_default()
}
