//! The command line of `cks-iso`.

mod build;
mod diff;
mod import;
mod keygen;
mod lint;
mod lock;
pub mod reach;
mod sbom;
mod serve;
mod sign;
mod start;
mod verify;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bootstrap::failure::{Code, Failure};
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::content::{failed, misnamed};
use crate::finding::{self, Finding};
use crate::inspect::Inspection;
use crate::report;
use crate::spec;
use crate::verify::signature::Signature;

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
    /// Show what is in a bundle: files, versions, images.
    #[command(after_help = "Examples:\n  \
        cks-iso inspect v1.33.1-calico-x86_64.iso\n  \
        cks-iso inspect /dev/sr0\n  \
        cks-iso inspect out.iso --json | jq -r '.manifest.images[].reference'")]
    Inspect {
        /// An ISO, a device with a disc, a directory with the content of one, or the URL of either.
        #[arg(value_name = "ISO|DIR|URL")]
        source: PathBuf,
        /// Print manifest and listing as JSON; without --progress no progress.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        line: reach::Line,
    },
    /// Check every byte of a bundle against its manifest, and the layout against the stock scripts.
    ///
    /// Prints one finding per line, with the rule's id; ends with 0 when there is none but warnings, else with 65.
    Verify(verify::Verify),
    /// Look at a spec before it is built, without a network.
    ///
    /// Prints one finding per line, as verify does; ends with 0 when there is none but warnings, else with 65.
    Lint(lint::Lint),
    /// Show what one bundle brings over another, and what nodes fetch for it.
    Diff(diff::Diff),
    /// Serve an ISO and its content over HTTP, as CloudStack's virtual router does.
    ///
    /// Serves /NAME.iso, and the content under /cks-iso/, until SIGTERM or SIGINT. SIGHUP makes it look again.
    Serve(serve::Serve),
    /// Make an ISO with a manifest, each image blob once, out of a stock one.
    ///
    /// Everything is checked as by a build. The ISO appears under its name when it is whole.
    Import(import::Import),
    Keygen(keygen::Keygen),
    Sign(sign::Sign),
    Sbom(sbom::Sbom),
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
            report::say(report::failure(&failure).trim_end());
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
        Command::Inspect { source, json, line } => {
            let inspection = Inspection::of(&line.open(&source, json)?)?;
            let printed = if json { report::print_json(&inspection) } else { report::print(&inspection.to_string()) };
            printed.map_err(unprinted)?;
        }
        Command::Keygen(keygen) => keygen.run()?,
        Command::Sign(sign) => sign.run()?,
        Command::Sbom(sbom) => sbom.run()?,
        Command::Serve(args) => return serve::run(args),
        Command::Import(args) => return import::run(args),
        Command::Verify(args) => return verify::run(&args),
        Command::Lint(args) => return lint::run(&args),
        Command::Diff(args) => return diff::run(&args),
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

/// Prints the findings about `name`, one per line, and says how the program ends; of a bundle also who
/// signed it.
fn told(
    name: &str,
    findings: &[Finding],
    signatures: Option<(&[Signature], String)>,
    strict: bool,
    json: bool,
) -> Result<ExitCode, Failure> {
    let refused = finding::refuse(findings, strict);
    let printed = if json {
        let mut told = serde_json::json!({ "path": name, "clean": !refused, "findings": findings });
        if let Some((signatures, _)) = signatures {
            told["signatures"] = serde_json::json!(signatures);
        }
        report::print_json(&told)
    } else {
        let lines: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
        let signed = signatures.map(|(_, text)| text).unwrap_or_default();
        report::print(&format!("{lines}{name}: {}{signed}\n", finding::summary(findings)))
    };
    printed.map_err(unprinted)?;
    Ok(if refused { ExitCode::from(REFUSED) } else { ExitCode::SUCCESS })
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
