//! `cks-iso lint`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bootstrap::failure::Failure;
use bootstrap::text::plain;
use clap::Args;

use super::told;
use crate::lint::{self, Given};
use crate::project;

/// The arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cks-iso lint spec.toml\n  \
    cks-iso lint spec.toml --strict --json | jq -r '.findings[] | \"\\(.file):\\(.line): \\(.rule)\"'")]
pub(super) struct Lint {
    /// The spec, a TOML file (docs/building.md).
    spec: PathBuf,
    /// The lock, which tells the digests that the spec does not [default: cks-iso.lock beside the spec].
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Count warnings as findings: end with 65 for one, too.
    #[arg(long)]
    strict: bool,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Lint) -> Result<ExitCode, Failure> {
    let text = project::read_text(&args.spec)?;
    let directory = args.spec.parent().unwrap_or(Path::new(""));
    let name = args.spec.display().to_string();
    let locked = args.lock.clone().unwrap_or_else(|| directory.join("cks-iso.lock")).is_file();
    let findings = lint::lint(Given { name: &name, text: &text, directory, locked })?;
    told(&plain(&name), &findings, None, args.strict, args.json)
}
