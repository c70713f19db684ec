//! The CSI Node service against the plain system calls that its work needs, in one run.

mod calls;
mod floor;
mod memory;
mod samples;
mod table;
mod volumes;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use cks_tests::csi::{Bed, Options};
use clap::{Parser, Subcommand};

use self::samples::Samples;

/// Measures cks-agent's Node service: time per RPC beside the system calls alone, cycles of many volumes, memory.
///
/// Runs the daemon on the CSI bed, with ext4 on sparse files behind loop devices, and asks it over one kept connection.
/// What the kernel's calls take by themselves is measured in the same namespace, in turns. Prints medians, ratios and
/// goals, and asserts nothing about times. Wants root and a release build of cks-agent beside it.
#[derive(Debug, Parser)]
struct Cli {
    /// Rounds, each with every RPC once
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Volumes of the full cycle
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    volumes: u32,
    /// Operations after which the daemon's memory is looked at; 0 leaves that out
    #[arg(long, default_value_t = 100_000)]
    operations: u32,
    /// Size of a disk in MiB
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(16..))]
    size: u64,
    #[command(subcommand)]
    command: Option<Inner>,
}

#[derive(Debug, Subcommand)]
enum Inner {
    /// The system calls alone: a process inside the bed
    #[command(hide = true)]
    Floor {
        /// A device with ext4
        device: PathBuf,
        /// How often
        rounds: u32,
    },
    /// mkfs.ext4 alone, as the agent calls it
    #[command(hide = true)]
    Mkfs {
        /// A blank device
        device: PathBuf,
    },
}

/// All that was measured.
#[derive(Debug, Default)]
struct Measured {
    calls: calls::Calls,
    floor: floor::Floor,
    /// Stage of a blank disk, and mkfs of another one.
    fresh: Samples,
    mkfs: Samples,
    cycles: Vec<volumes::Cycle>,
    memory: Vec<memory::Memory>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Some(Inner::Floor { device, rounds }) => floor::inside(device, *rounds),
        Some(Inner::Mkfs { device }) => floor::mkfs_inside(device),
        None => run(&cli),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-csi: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    /// The daemon and the calls alone take turns of so many rounds.
    const TURN: u32 = 10;
    let mut measured = Measured::default();
    let size = cli.size << 20;
    let bed = Bed::start(&Options::default())?;
    measured.memory.push(memory::Memory::of(&bed, 0)?);
    let (ours, theirs) = (bed.disk(size)?, bed.disk(size)?);
    let client = calls::Client::new(&bed)?;
    let asked = calls::Asked::of(&bed, &ours, 1)?;
    client.stage(&asked).context("The first stage")?;
    client.unstage(&asked)?;
    floor::mkfs(&bed, &theirs)?;
    eprintln!("bench-csi: {} rounds of each RPC", cli.rounds);
    for done in (0..cli.rounds).step_by(TURN as usize) {
        let rounds = TURN.min(cli.rounds - done);
        calls::rounds(&client, &asked, rounds, &mut measured.calls)?;
        measured.floor.add(floor::run(&bed, &theirs, rounds)?);
    }
    eprintln!("bench-csi: blank disks");
    for round in 0..cli.rounds.div_ceil(2) {
        let mkfs_first = round % 2 == 0;
        for turn in [mkfs_first, !mkfs_first] {
            let disk = bed.disk(size)?;
            if turn {
                measured.mkfs.push(floor::mkfs(&bed, &disk)?);
                continue;
            }
            let asked = calls::Asked::of(&bed, &disk, 1)?;
            measured.fresh.push(client.stage(&asked)?);
            client.unstage(&asked)?;
        }
    }
    eprintln!("bench-csi: {} volumes", cli.volumes);
    measured.cycles = volumes::cycles(&bed, cli.volumes, size)?;
    drop((ours, theirs, client));
    memory::operations(&bed, cli.operations, size, &mut measured.memory)?;
    table::print(&measured, cli.volumes);
    Ok(())
}
