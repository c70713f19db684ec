//! The command line of `cks-iso`.

mod build;
mod lock;
pub mod reach;
mod start;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bootstrap::failure::{Code, Failure};
use bootstrap::text::plain;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::content::{failed, misnamed};
use crate::inspect::Inspection;
use crate::opened::Opened;
use crate::progress::Progress;
use crate::report;
use crate::spec;
use crate::verify::{self, Finding};

/// The exit code for a refused ISO (sysexits.h, `EX_DATAERR`).
const REFUSED: u8 = 65;

/// Packs CKS ISOs, shows what is on them and proves them.
#[derive(Debug, Parser)]
#[command(
    name = "cks-iso",
    version,
    after_help = "Exit codes: 0 done, 2 wrong usage, 65 the spec, an input or the ISO is at fault, 75 try again \
                  later, 78 this machine or a setting is at fault."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a first spec, with comments.
    #[command(after_help = "Examples:\n  \
        cks-iso init\n  \
        cks-iso init --kubernetes 1.33.1 --arch arm64 --profile cilium --profile etcd -o arm.toml")]
    Init(start::InitArgs),
    /// Find out which bytes a spec stands for, and write them down in its lock.
    ///
    /// What the lock says already stays, unless --update asks for it again.
    #[command(after_help = "Examples:\n  \
        cks-iso lock spec.toml\n  \
        cks-iso lock spec.toml --update\n  \
        cks-iso lock spec.toml --update network.yaml registry.k8s.io/pause:3.10")]
    Lock(lock::LockArgs),
    /// Build an ISO from a spec.
    ///
    /// The same spec and inputs give the same bytes. The ISO appears under its name when it is whole.
    #[command(after_help = "Examples:\n  \
        cks-iso build spec.toml -o v1.33.1-calico-x86_64.iso\n  \
        cks-iso build spec.toml -o out.iso --locked --offline\n  \
        cks-iso build spec.toml -o out.iso --name v1.33.1-test --cache /var/cache/cks-iso\n  \
        SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) cks-iso build spec.toml -o out.iso --json")]
    Build(build::BuildArgs),
    /// Turn the arguments of CloudStack's create-kubernetes-binaries-iso.sh into a spec.
    #[command(after_help = "Examples:\n  \
        cks-iso from-script ./ 1.33.1 1.7.1 1.33.0 https://…/calico.yaml 0.40.1 v1.33.1-calico arm64 3.5.21 > spec.toml\n  \
        cks-iso from-script --release 4.20 -o spec.toml ./ 1.32.1 1.6.2 1.32.0 https://…/calico.yaml https://…/recommended.yaml v1.32.1")]
    FromScript(start::ScriptArgs),
    /// Show what is on an ISO: files, versions, images.
    #[command(after_help = "Examples:\n  \
        cks-iso inspect v1.33.1-calico-x86_64.iso\n  \
        cks-iso inspect /dev/sr0\n  \
        cks-iso inspect out.iso --json | jq -r '.manifest.images[].reference'")]
    Inspect {
        /// An ISO, or a device with a disc.
        iso: PathBuf,
        /// Print manifest and listing as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check every byte of an ISO against its manifest, and the layout against the stock scripts.
    ///
    /// Prints one finding per line, with the rule's id; ends with 0 when there is none, else with 65.
    #[command(after_help = "Examples:\n  \
        cks-iso verify v1.33.1-calico-x86_64.iso\n  \
        cks-iso verify out.iso --json | jq -r '.findings[].rule'")]
    Verify {
        /// An ISO, or a device with a disc.
        iso: PathBuf,
        /// Print the findings as JSON, and no progress.
        #[arg(long)]
        json: bool,
    },
    /// Print the completions for a shell.
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the man pages into a directory.
    #[command(hide = true)]
    Man {
        /// A directory that exists.
        directory: PathBuf,
    },
}

/// Runs `cli` and says how it ended.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(failure) => {
            eprint!("{}", report::failure(&failure));
            ExitCode::from(failure.code.exit_code())
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Init(args) => start::init(args)?,
        Command::Lock(args) => lock::run(args)?,
        Command::Build(args) => build::run(args)?,
        Command::FromScript(args) => start::from_script(args)?,
        Command::Inspect { iso, json } => {
            let inspection = Inspection::of(&iso)?;
            let printed = if json { report::print_json(&inspection) } else { report::print(&inspection.to_string()) };
            printed.map_err(unprinted)?;
        }
        Command::Verify { iso, json } => return verify(&iso, json),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "cks-iso", &mut text);
            report::print(&String::from_utf8_lossy(&text)).map_err(unprinted)?;
        }
        Command::Man { directory } => {
            clap_mangen::generate_to(Cli::command(), &directory)
                .map_err(|e| misnamed("Writing into", &directory, e))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(path: &Path, json: bool) -> Result<ExitCode, Failure> {
    let findings = verify::verify(&Opened::open(path)?, Progress::choose(json))?;
    let printed = if json {
        report::print_json(&serde_json::json!({ "path": path, "clean": findings.is_empty(), "findings": findings }))
    } else {
        let lines: String = findings.iter().map(line).collect();
        let path = plain(&path.to_string_lossy());
        let end = match findings.len() {
            0 => format!("{path}: clean\n"),
            1 => format!("{path}: 1 finding\n"),
            count => format!("{path}: {count} findings\n"),
        };
        report::print(&(lines + &end))
    };
    printed.map_err(unprinted)?;
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

fn line(finding: &Finding) -> String {
    format!("{}: {} (remedy: {})\n", finding.rule, plain(&finding.what), finding.remedy)
}

fn unprinted(error: io::Error) -> Failure {
    failed("Writing to", Path::new("standard output"), error)
}

/// A variable of the environment; an empty one is none.
#[expect(clippy::disallowed_methods, reason = "the command line is where the environment is read")]
fn set(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn epoch_of_environment() -> Result<Option<u64>, Failure> {
    let Some(text) = set("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let text = text.to_string_lossy();
    match text.parse() {
        Ok(epoch) if epoch <= spec::MAX_EPOCH => Ok(Some(epoch)),
        _ => {
            let what = format!("SOURCE_DATE_EPOCH={text}: no number of seconds up to {}", spec::MAX_EPOCH);
            Err(Failure::new(Code::ConfigInvalid, what).with_remedy("correct or unset SOURCE_DATE_EPOCH"))
        }
    }
}
