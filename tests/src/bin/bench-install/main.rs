//! The stock way of installing a node against `cks-agent`, on the same parts, in one run.

mod content;
mod fresh;
mod large;
mod measure;
mod rounds;
mod table;
mod way;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use bootstrap::bundle::Role;
use clap::{Parser, Subcommand, ValueEnum};
use tempfile::TempDir;

use self::content::{Content, Layers};
use self::rounds::Results;

/// Measures what installing a node takes: the stock scripts beside cks-agent, over the virtual router.
///
/// Makes the tree of a stock ISO and our ISO of the same parts, serves them by Apache set up as the virtual
/// router, and installs nodes of each role in turns: with wget, tar and ctr as setup-kube-system does (without
/// its sleeps), and with cks-agent; each time into a fresh containerd. Prints medians, ratios and goals, and
/// asserts nothing about times. Wants root and release builds beside it; 8 GB below /var/tmp and the cache.
#[derive(Debug, Parser)]
struct Cli {
    /// Rounds, each with every way once; links slower than 1000 Mbit/s get one
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// What nodes become
    #[arg(long, value_enum, value_delimiter = ',', default_value = "worker,control-plane,etcd")]
    roles: Vec<RoleName>,
    /// containerd's versions: those that tests/tools/build knows, or `debian` for the one of the distribution
    #[arg(long, value_delimiter = ',', default_value = "1.7,2.3")]
    containerd: Vec<String>,
    /// How our ISO holds the images' layers; what this cks-iso can't build is left out
    #[arg(long, value_enum, value_delimiter = ',', default_value = "upstream,zstd")]
    layers: Vec<Layers>,
    /// Mbit/s of the link between router and node; 0 is as fast as the machine
    #[arg(long, value_delimiter = ',', default_value = "0,1000,100")]
    links: Vec<u32>,
    /// Only the cases whose name has this text: `worker/1000/`; a name is ROLE/LINK/CONTAINERD
    #[arg(long, value_name = "CASE")]
    only: Option<String>,
    /// Also the agent's memory with an ISO of 8 GB; takes 7 GB of disk meanwhile
    #[arg(long)]
    large: bool,
    /// Write every single measurement there
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Inner>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleName {
    Worker,
    ControlPlane,
    Etcd,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Worker => Self::Worker,
            RoleName::ControlPlane => Self::ControlPlane,
            RoleName::Etcd => Self::Etcd,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Inner {
    /// Run a program and print what it took
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
            eprintln!("bench-install: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    fresh::alone()?;
    let work = cks_tests::scratch("bench-install")?;
    let content = Content::make(work.path(), &cli.layers)?;
    let mut results = Results::default();
    let measured = everything(cli, &content, work, &mut results);
    if let Some(path) = &cli.json {
        std::fs::write(path, format!("{:#}\n", results.json()))
            .with_context(|| format!("Writing {}", path.display()))?;
    }
    // What was measured before something failed may have taken an hour.
    table::print(&results);
    measured
}

fn everything(cli: &Cli, content: &Content, work: TempDir, results: &mut Results) -> Result<()> {
    for case in rounds::cases(cli)? {
        rounds::measure(&case, content, cli.rounds, results)?;
    }
    // Its disk is wanted next; the stock tree stays in the cache.
    drop(work);
    if cli.large
        && let Some(version) = cli.containerd.first()
    {
        large::measure(&content.stock, version, results)?;
    }
    Ok(())
}
