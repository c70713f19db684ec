//! `cks-iso diff`.

use std::path::PathBuf;
use std::process::ExitCode;

use bootstrap::failure::Failure;
use clap::Args;

use super::reach::Line;
use super::unprinted;
use crate::{diff, report};

/// The arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cks-iso diff v1.33.1.iso v1.34.0.iso\n  \
    cks-iso diff old.iso new.iso --json | jq '.fetches'")]
pub(super) struct Diff {
    /// The older one: an ISO, a device, a directory or a URL.
    #[arg(value_name = "A")]
    old: PathBuf,
    /// The newer one.
    #[arg(value_name = "B")]
    new: PathBuf,
    /// Print the difference as JSON; without --progress no progress.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    line: Line,
}

pub(super) fn run(args: &Diff) -> Result<ExitCode, Failure> {
    let Diff { old, new, json, line } = args;
    let difference = diff::diff(&line.open(old, *json)?, &line.open(new, *json)?)?;
    let printed = if args.json { report::print_json(&difference) } else { report::print(&difference.to_string()) };
    printed.map_err(unprinted)?;
    Ok(ExitCode::SUCCESS)
}
