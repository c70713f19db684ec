//! `cks-iso lint`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bootstrap::failure::{Code, Failure};
use bootstrap::text::plain;
use clap::Args;

use super::told;
use crate::lint::{self, Given, GivenLock};
use crate::lock::LOCK_PATH;
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
    let path = args.lock.clone().unwrap_or_else(|| directory.join(LOCK_PATH));
    let lock = match project::read_lock(&path) {
        Ok(None) if args.lock.is_some() => return Err(absent(&path)),
        Ok(None) => None,
        Ok(Some(lock)) => Some(Some(lock)),
        Err(failure) if failure.code == Code::LockStale => Some(None),
        Err(failure) => return Err(failure),
    };
    let is_named = args.lock.is_some();
    let lock = lock.as_ref().map(|lock| GivenLock { path: &path, lock: lock.as_ref(), is_named });
    let findings = lint::lint(Given { name: &name, text: &text, directory, lock })?;
    told(&plain(&name), &findings, None, args.strict, args.json)
}

fn absent(path: &Path) -> Failure {
    Failure::new(Code::ConfigInvalid, format!("{} is not there", path.display()))
        .with_remedy("correct --lock, or leave it out")
}
