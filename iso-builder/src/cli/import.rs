//! `cks-iso import`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use bootstrap::failure::Failure;
use bootstrap::text::plain;
use clap::Args;
use indicatif::HumanBytes;

use super::keygen::PasswordOptions;
use crate::import::{self, Imported, Options};
use crate::layers::Layers;
use crate::progress::Choice;
use crate::{report, spec};

/// The arguments of `cks-iso import`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cks-iso import setup-v1.33.1-calico-x86_64.iso -o v1.33.1-calico-x86_64.iso\n  \
    cks-iso import /dev/sr0 -o out.iso --name v1.33.1-calico --kubernetes 1.33.1\n  \
    cks-iso import stock.iso -o out.iso --sign release.key")]
pub(crate) struct Import {
    /// The stock ISO, or a device with its disc.
    stock: PathBuf,
    /// The ISO to be made.
    #[arg(short, long, value_name = "OUT.iso")]
    output: PathBuf,
    /// The build's name, instead of the stock ISO's file name.
    #[arg(long)]
    name: Option<String>,
    /// The Kubernetes version, where the images do not tell it.
    #[arg(long, value_name = "VERSION")]
    kubernetes: Option<String>,
    /// How the layers of images lie on the ISO: upstream's bytes, or compressed anew by zstd, which nodes
    /// unpack in half the time.
    #[arg(long, value_enum, default_value = "upstream")]
    layers: Layers,
    /// The time that dates everything on the ISO, in seconds since 1970 [env: SOURCE_DATE_EPOCH]
    /// [default: 1980-01-01].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=spec::MAX_EPOCH))]
    source_date_epoch: Option<u64>,
    /// Sign the ISO with this secret key.
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    #[command(flatten)]
    password: PasswordOptions,
    /// Print the result as JSON; without --progress no progress.
    #[arg(long)]
    json: bool,
    /// How progress is shown, on standard error.
    #[arg(long, value_name = "HOW", default_value = "auto")]
    progress: Choice,
}

pub(super) fn run(args: Import) -> Result<ExitCode, Failure> {
    let Import { stock, output, name, kubernetes, layers, source_date_epoch, sign, password, json, progress } = args;
    let sign = sign.map(|key| password.open(&key)).transpose()?.map(Arc::new);
    let epoch = source_date_epoch.map_or_else(super::epoch_of_environment, |epoch| Ok(Some(epoch)))?;
    let epoch = epoch.unwrap_or(spec::DEFAULT_EPOCH);
    let progress = progress.settle(json, super::reach::is_dumb());
    let options = Options { stock, output, name, kubernetes, epoch, layers, sign, progress };
    let imported = import::import(&options)?;
    for warning in imported.warnings.iter().filter(|_| !json) {
        report::say(&format!("warning: {}", plain(warning)));
    }
    let printed = if json { report::print_json(&imported) } else { report::print(&summary(&imported)) };
    printed.map_err(super::unprinted)?;
    Ok(ExitCode::SUCCESS)
}

fn summary(imported: &Imported) -> String {
    let mut text = format!(
        "ISO      {path}\nHolds    {name}, Kubernetes {kubernetes}, {arch}\n\
         Size     {human} ({size} bytes; the stock ISO {stock}), {files} files, {images} images\n\
         sha256   {sha256}\nVerify   cks-iso verify {path}\n",
        path = plain(&imported.path.to_string_lossy()),
        name = plain(&imported.name),
        kubernetes = imported.kubernetes,
        arch = imported.arch,
        human = HumanBytes(imported.size),
        size = imported.size,
        stock = HumanBytes(imported.stock_size),
        files = imported.files,
        images = imported.images,
        sha256 = imported.sha256.hex(),
    );
    if let Some(call) = &imported.register {
        text += &format!("Register {}\n", plain(call));
    }
    text
}
