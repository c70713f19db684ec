//! Disks that are exchanged while the agent looks at them.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use cks_tests::csi::{Bed, Disk};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use rand::Rng as _;
use rand::rngs::StdRng;

/// What is exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Swap {
    /// One is unplugged, and the other gets its name and its number, if nobody holds them.
    Disks,
    /// The volume's disk's node leads to the other one.
    Nodes,
    /// Each says that it is the other one.
    Serials,
}

/// Exchanges a volume's disk with another one again and again, until it is told to stop. Then all is as it was.
pub(crate) fn exchange(
    bed: &Bed,
    swap: Swap,
    [ours, other]: [&mut Disk; 2],
    chance: &mut StdRng,
    stop: &AtomicBool,
) -> Result<u64> {
    let mut done = 0;
    let pause = |chance: &mut StdRng| std::thread::sleep(Duration::from_micros(chance.random_range(0..4000)));
    while !stop.load(Ordering::Relaxed) {
        match swap {
            Swap::Disks => {
                ours.detach()?;
                // It has another number now, or the same: whichever is free.
                other.detach()?;
                other.attach()?;
                pause(chance);
                other.detach()?;
                ours.attach()?;
                other.attach()?;
            }
            Swap::Nodes => {
                node(bed, ours.name(), other.number())?;
                pause(chance);
                node(bed, ours.name(), ours.number())?;
            }
            Swap::Serials => {
                let (first, second) = (ours.serial().map(str::to_owned), other.serial().map(str::to_owned));
                // At no time are there two.
                ours.set_serial(None)?;
                other.set_serial(first.as_deref())?;
                pause(chance);
                other.set_serial(second.as_deref())?;
                ours.set_serial(first.as_deref())?;
            }
        }
        pause(chance);
        done += 1;
    }
    Ok(done)
}

/// Puts a node of this number at the name, in one step.
fn node(bed: &Bed, name: &str, number: &str) -> Result<()> {
    let (major, minor) = number.split_once(':').context("A number has two parts")?;
    let (node, new): (PathBuf, PathBuf) = (bed.path(format!("/dev/{name}")), bed.path(format!("/dev/.{name}")));
    let device = makedev(major.parse()?, minor.parse()?);
    mknod(&new, SFlag::S_IFBLK, Mode::from_bits_truncate(0o660), device).context("Making a node")?;
    fs::rename(&new, &node).context("Exchanging a node")
}
