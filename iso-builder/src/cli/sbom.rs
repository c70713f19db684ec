//! `cks-iso sbom`.

use std::io::Write;
use std::path::PathBuf;

use bootstrap::bundle::MANIFEST_PATH;
use bootstrap::failure::Failure;
use clap::Args;

use crate::content::failed;
use crate::partial::Partial;
use crate::{output, report, sbom};

/// Write the bill of materials of an ISO: SPDX 2.3, as JSON.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cks-iso sbom out.iso -o out.iso.spdx.json\n  \
    cks-iso sbom /mnt/cks-iso | jq -r '.packages[].name'")]
pub(super) struct Sbom {
    /// An ISO, a device with a disc, or a directory with the content of one.
    #[arg(value_name = "ISO|DIR")]
    source: PathBuf,
    /// The file to be written [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Sbom {
    pub(super) fn run(self) -> Result<(), Failure> {
        // The bill of an ISO must not take its place.
        if let Some(output) = &self.output {
            let checked = output::check(output, &[self.source.clone(), self.source.join(MANIFEST_PATH)]);
            checked.map_err(|failure| failure.with_remedy("name the file to be made with -o FILE"))?;
        }
        let bill = sbom::of(&self.source)?;
        let Some(output) = self.output else { return report::print(&bill).map_err(super::unprinted) };
        let partial = Partial::begin(&output)?;
        partial.file().write_all(bill.as_bytes()).map_err(|e| failed("Writing", &output, e))?;
        partial.finish()
    }
}
