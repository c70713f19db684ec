//! `cks-iso build` against `genisoimage` and `xorriso`, on the same bytes, in one run.

mod measure;
mod table;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use cks_tests::process::Command;
use cks_tests::{programs, spec};
use clap::{Parser, Subcommand};

use self::measure::{Measured, Program};
use self::tree::Tree;

/// Measures how fast cks-iso writes an ISO, beside genisoimage and xorriso.
///
/// Makes a tree as CKS ISOs have it, builds an ISO of it with each program in turns, and prints medians:
/// wall time, peak memory, size. Asserts nothing about times. Wants a release build of cks-iso beside it.
#[derive(Debug, Parser)]
struct Cli {
    /// Size of the ISO in MB; its inputs and the rivals' ISOs take five times that below --directory
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u64).range(10..))]
    size: u64,
    /// Rounds, each with every program once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Where trees and ISOs are made, and removed again
    #[arg(long, default_value = "/var/tmp")]
    directory: PathBuf,
    #[command(subcommand)]
    command: Option<Inner>,
}

#[derive(Debug, Subcommand)]
enum Inner {
    /// Run a program and print what it took: a process of its own, because the kernel tells the peak
    /// memory of all children together
    #[command(hide = true)]
    Measure {
        /// The program and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Some(Inner::Measure { command }) => measure::inner(command),
        None => run(&cli),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-iso: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let work = tempfile::Builder::new().prefix("cks-bench-").tempdir_in(&cli.directory);
    let work = work.with_context(|| format!("Making a directory in {}", cli.directory.display()))?;
    let path = |name: &str| work.path().join(name);
    eprintln!("bench-iso: making a tree for an ISO of {} MB", cli.size);
    let tree = Tree::make(&path("inputs"), &path("stock"), cli.size)?;
    let spec = spec::write(&tree.components, "bench")?;

    let (ours, packed) = (path("cks-iso.iso"), path("tree"));
    let build = Command::new(programs::built("cks-iso")?).arg("build").arg(&spec).arg("-o").arg(&ours);
    build.ok()?;
    // What the rivals pack is what our ISO holds: the same files with the same bytes.
    let extract = Command::new("xorriso").args(["-osirrox", "on", "-indev"]).arg(&ours);
    extract.args(["-extract", "/"]).arg(&packed).ok()?;
    let rival = |program: &str, args: &[&str], iso: &str| {
        let command = Command::new(program).args(args).args(["-quiet", "-J", "-R", "-l", "-V", "CDROM", "-o"]);
        command.arg(path(iso)).arg(&packed)
    };
    // What cks-iso has done when it ends: CloudStack wants the checksum of an ISO that it registers.
    let with_sums = |program: &str, iso: &str| {
        let script = "iso=$1; shift; \"$@\" -quiet -J -R -l -V CDROM -o \"$iso\" \"$tree\" || exit
            sha256sum \"$iso\" & sha512sum \"$iso\"; wait";
        let command = Command::new("sh").env("tree", &packed).args(["-c", script, "sh"]).arg(path(iso));
        command.args(program.split(' '))
    };
    let programs = [
        Program { name: "cks-iso build", command: build, output: ours, marker: Some("Hashing") },
        Program {
            name: "genisoimage -J -R -l",
            command: rival("genisoimage", &[], "genisoimage.iso"),
            output: path("genisoimage.iso"),
            marker: None,
        },
        Program {
            name: "xorriso -as mkisofs -J -R -l",
            command: rival("xorriso", &["-as", "mkisofs"], "xorriso.iso"),
            output: path("xorriso.iso"),
            marker: None,
        },
        Program {
            name: "genisoimage, then checksums",
            command: with_sums("genisoimage", "genisoimage.iso"),
            output: path("genisoimage.iso"),
            marker: None,
        },
    ];
    let mut measured: Vec<Vec<Measured>> = vec![Vec::new(); programs.len()];
    for round in 0..cli.rounds {
        // In another order each round: what one leaves to the disk, the next one pays for.
        for turn in 0..programs.len() {
            let index = (turn + round as usize) % programs.len();
            let one = programs[index].run()?;
            eprintln!("bench-iso: round {}: {}: {one}", round + 1, programs[index].name);
            measured[index].push(one);
        }
    }
    let stock = stock_size(&tree)?;
    ensure!(measured.iter().all(|runs| !runs.is_empty()), "nothing was measured");
    table::print(&programs.map(|program| program.name), &measured, &tree, stock);
    Ok(())
}

/// Bytes of the ISO that the stock script would make.
fn stock_size(tree: &Tree) -> Result<u64> {
    let print = Command::new("genisoimage").args(["-quiet", "-J", "-R", "-l", "-print-size"]).arg(&tree.stock);
    let told = print.ok()?;
    let sectors: u64 = told.trim().parse().with_context(|| format!("Reading genisoimage's {told:?}"))?;
    Ok(sectors * 2048)
}
