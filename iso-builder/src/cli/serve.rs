//! `cks-iso serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bootstrap::failure::Failure;
use clap::Args;

use crate::serve::{self, Format, Options};

/// The arguments of `cks-iso serve`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cks-iso serve v1.33.1-calico-x86_64.iso\n  \
    cks-iso serve /srv/isos --listen '[::]:80' --log json\n  \
    cks-iso serve /mnt/cdrom --listen 127.0.0.1:0\n\n\
    On a node: cks-agent bootstrap --role worker --source http://ADDRESS:8080/cks-iso/")]
pub(crate) struct Serve {
    /// An ISO, a device with its disc, a directory of ISOs, or an extracted ISO.
    #[arg(value_name = "ISO|DIR")]
    path: PathBuf,
    /// The address and port; port 0 takes a free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// The access log on standard output.
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Format::Common)]
    log: Format,
    /// How long running answers may go on after SIGTERM or SIGINT; a second signal ends them at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    grace: u32,
}

pub(super) fn run(args: Serve) -> Result<ExitCode, Failure> {
    let Serve { path, listen, log, grace } = args;
    serve::serve(&Options { path, listen, log, grace: Duration::from_secs(grace.into()) })?;
    Ok(ExitCode::SUCCESS)
}
