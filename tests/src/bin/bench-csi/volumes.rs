//! Many volumes through their whole life.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use cks_tests::csi::{Bed, Disk};

use crate::calls::{Asked, Client};

/// What a cycle of all volumes took.
#[derive(Debug)]
pub(crate) struct Cycle {
    pub(crate) name: &'static str,
    pub(crate) took: Duration,
}

/// Stage, publish, stats, expand to the size that is there, unpublish, unstage, for each volume: one after the other and
/// four at once; on blank disks and on the same ones again.
pub(crate) fn cycles(bed: &Bed, volumes: u32, size: u64) -> Result<Vec<Cycle>> {
    let mut cycles = Vec::new();
    for (at_once, fresh, again) in
        [(1, "serial, blank disks", "serial, formatted"), (4, "4 at once, blank disks", "4 at once, formatted")]
    {
        let disks = (0..volumes).map(|_| bed.disk(size)).collect::<Result<Vec<Disk>>>()?;
        let asked = disks.iter().map(|disk| Asked::of(bed, disk, 1)).collect::<Result<Vec<_>>>()?;
        for name in [fresh, again] {
            cycles.push(Cycle { name, took: cycle(bed, &asked, at_once)? });
        }
    }
    Ok(cycles)
}

fn cycle(bed: &Bed, asked: &[Asked], at_once: usize) -> Result<Duration> {
    let clients = (0..at_once).map(|_| Client::new(bed)).collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(number, client)| {
                scope.spawn(move || {
                    asked.iter().skip(number).step_by(at_once).try_for_each(|asked| life(&client, asked))
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().ok().context("A worker panicked")?)
    })?;
    Ok(begun.elapsed())
}

fn life(client: &Client, asked: &Asked) -> Result<()> {
    client.stage(asked)?;
    client.publish(asked)?;
    client.stats(asked)?;
    client.expand(asked)?;
    client.unpublish(asked)?;
    client.unstage(asked)?;
    Ok(())
}
