//! `cks-iso`: packs CKS ISOs, shows what is on them and proves them.

use std::process::ExitCode;

use clap::Parser;
use iso_builder::cli::{self, Cli};

fn main() -> ExitCode {
    cli::run(Cli::parse())
}
