//! `cks-iso verify`.

use std::path::PathBuf;
use std::process::ExitCode;

use bootstrap::failure::Failure;
use bootstrap::text::plain;
use clap::Args;

use super::told;
use crate::opened::Opened;
use crate::progress::Progress;
use crate::verify;

/// The arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cks-iso verify v1.33.1-calico-x86_64.iso\n  \
    cks-iso verify /mnt/cdrom --strict\n  \
    cks-iso verify http://10.1.1.1/cks-iso/\n  \
    cks-iso verify out.iso --json | jq -r '.findings[].rule'")]
pub(super) struct Verify {
    /// An ISO, a device with a disc, a directory with the content of one, or the URL of either.
    #[arg(value_name = "ISO|DIR|URL")]
    source: PathBuf,
    /// Count warnings as findings: end with 65 for one, too.
    #[arg(long)]
    strict: bool,
    /// Print the findings as JSON, and no progress.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Verify) -> Result<ExitCode, Failure> {
    let progress = Progress::choose(args.json);
    let bundle = Opened::at(&args.source, progress)?;
    let findings = verify::verify(&bundle, progress)?;
    told(&plain(&bundle.name), &findings, args.strict, args.json)
}
