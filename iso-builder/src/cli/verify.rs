//! `cks-iso verify`.

use std::path::PathBuf;
use std::process::ExitCode;

use bootstrap::failure::Failure;
use bootstrap::text::plain;
use clap::Args;

use super::reach::Line;
use super::told;
use crate::verify;
use crate::verify::signature::{Signature, Trust};

/// The arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cks-iso verify v1.33.1-calico-x86_64.iso\n  \
    cks-iso verify /mnt/cdrom --strict\n  \
    cks-iso verify http://10.1.1.1/cks-iso/\n  \
    cks-iso verify out.iso --key release.pub --key second.pub\n  \
    cks-iso verify out.iso --json | jq -r '.findings[].rule'")]
pub(super) struct Verify {
    /// An ISO, a device with a disc, a directory with the content of one, or the URL of either.
    #[arg(value_name = "ISO|DIR|URL")]
    source: PathBuf,
    /// A public key; one of those given must have signed. May be given several times.
    #[arg(long = "key", value_name = "PUB")]
    keys: Vec<PathBuf>,
    /// Find a bundle that nobody signed, even without --key.
    #[arg(long)]
    require_signature: bool,
    /// Count warnings as findings: end with 65 for one, too.
    #[arg(long)]
    strict: bool,
    /// Print the findings as JSON; without --progress no progress.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    line: Line,
}

pub(super) fn run(args: &Verify) -> Result<ExitCode, Failure> {
    let trust = Trust::read(&args.keys, args.require_signature)?;
    let progress = args.line.progress(args.json);
    let bundle = args.line.open(&args.source, args.json)?;
    let (signatures, mut findings) = trust.check_bundle(&bundle)?;
    findings.extend(verify::verify(&bundle, progress)?);
    let (beside, proven) = trust.check_beside(&bundle, &args.source, progress)?;
    findings.extend(beside);
    let findings: Vec<_> = findings.into_iter().map(|finding| trust.weighed(finding, proven)).collect();
    // An ISO of another version is signed as well as this one: its name is to be read.
    let what = bundle.manifest().ok().flatten().map(|(manifest, _)| format!("{} for {}", manifest.name, manifest.arch));
    let text = signed(&signatures, &what.unwrap_or_default());
    told(&plain(&bundle.name), &findings, Some((&signatures, text)), args.strict, args.json)
}

/// What is to be said of the signatures: `, signed by …`.
fn signed(signatures: &[Signature], what: &str) -> String {
    let ids = |proven| -> Vec<&str> {
        signatures.iter().filter(|found| found.proven == proven).map(|found| found.key.as_str()).collect()
    };
    let (proven, claimed) = (ids(true).join(", "), ids(false).join(", "));
    match (proven.is_empty(), claimed.is_empty()) {
        (true, true) => String::new(),
        (false, _) => format!(", signed by {proven} as {}", plain(what)),
        (true, false) => format!(", says it is signed by {claimed}; nothing proves it without --key"),
    }
}
