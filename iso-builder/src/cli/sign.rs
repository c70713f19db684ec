//! `cks-iso sign`.

use std::path::PathBuf;

use bootstrap::failure::Failure;
use bootstrap::text::plain;
use clap::Args;

use super::keygen::PasswordOptions;
use crate::progress::Progress;
use crate::report;
use crate::sign::{self, Options};

/// Sign an ISO: its manifest, which vouches for every other byte, and the ISO as a whole.
///
/// The result has the bytes of a build with --sign. It appears under its name when it is whole; beside it
/// stand OUT.iso.sha256, .sha512, .minisig and .spdx.json.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cks-iso sign out.iso --key release.key\n  \
    cks-iso sign out.iso --key second.key --add -o signed.iso")]
pub(super) struct Sign {
    /// An ISO that cks-iso made.
    iso: PathBuf,
    /// The secret key; minisign's are taken, too.
    #[arg(long)]
    key: PathBuf,
    #[command(flatten)]
    password: PasswordOptions,
    /// The signed ISO [default: the ISO itself is replaced].
    #[arg(short, long, value_name = "OUT.iso")]
    output: Option<PathBuf>,
    /// Keep the signatures of other keys.
    #[arg(long)]
    add: bool,
    /// Print the result as JSON, and no progress.
    #[arg(long)]
    json: bool,
}

impl Sign {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { iso, key, password, output, add, json } = self;
        let key = password.open(&key)?;
        let signed = sign::sign(&Options { iso, output, add, progress: Progress::choose(json) }, &key)?;
        let printed = if json {
            report::print_json(&signed)
        } else {
            let path = plain(&signed.path.to_string_lossy());
            let keys = signed.keys.join(", ");
            report::print(&format!("ISO      {path}\nSigned   {keys}\nsha256   {}\n", signed.sha256.hex()))
        };
        printed.map_err(super::unprinted)
    }
}
