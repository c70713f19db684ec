//! The command line of `cks-iso`.

mod diff;
mod import;
mod keygen;
mod lint;
pub mod reach;
mod sbom;
mod serve;
mod sign;
mod verify;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use bootstrap::failure::{Code, Failure};
use bootstrap::text::plain;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use indicatif::HumanBytes;

use self::reach::Reach;
use crate::build::{self, Built, Options};
use crate::content::{failed, misnamed};
use crate::finding::{self, Finding};
use crate::inspect::Inspection;
use crate::opened::Opened;
use crate::progress::Progress;
use crate::report;
use crate::spec::{self, Spec};
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
    /// Build an ISO from a spec.
    ///
    /// The same spec and inputs give the same bytes. The ISO appears under its name when it is whole.
    #[command(after_help = "Examples:\n  \
        cks-iso build spec.toml -o v1.33.1-calico-x86_64.iso\n  \
        cks-iso build spec.toml -o out.iso --name v1.33.1-test --cache /var/cache/cks-iso\n  \
        SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) cks-iso build spec.toml -o out.iso --json")]
    Build {
        /// The spec, a TOML file (docs/iso-format.md).
        spec: PathBuf,
        /// The ISO to be made.
        #[arg(short, long, value_name = "OUT.iso")]
        output: PathBuf,
        /// The build's name, instead of the spec's.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        reach: Reach,
        /// The time that dates everything on the ISO, in seconds since 1970, instead of the spec's
        /// [env: SOURCE_DATE_EPOCH].
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=spec::MAX_EPOCH))]
        source_date_epoch: Option<u64>,
        /// Sign the ISO with this secret key.
        #[arg(long, value_name = "KEY")]
        sign: Option<PathBuf>,
        #[command(flatten)]
        password: keygen::PasswordOptions,
        /// Print the result as JSON; without --progress no progress.
        #[arg(long)]
        json: bool,
    },
    /// Show what is in a bundle: files, versions, images.
    #[command(after_help = "Examples:\n  \
        cks-iso inspect v1.33.1-calico-x86_64.iso\n  \
        cks-iso inspect /dev/sr0\n  \
        cks-iso inspect out.iso --json | jq -r '.manifest.images[].reference'")]
    Inspect {
        /// An ISO, a device with a disc, a directory with the content of one, or the URL of either.
        #[arg(value_name = "ISO|DIR|URL")]
        source: PathBuf,
        /// Print manifest and listing as JSON.
        #[arg(long)]
        json: bool,
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
            eprint!("{}", report::failure(&failure));
            ExitCode::from(failure.code.exit_code())
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Build { spec, output, name, reach, source_date_epoch, sign, password, json } => {
            let sign = sign.map(|key| password.open(&key)).transpose()?.map(Arc::new);
            let epoch = source_date_epoch.map_or_else(epoch_of_environment, |epoch| Ok(Some(epoch)))?;
            let (cache, access, progress) = (reach.cache(), reach.access()?, reach.progress(json));
            let options = Options { output, spec, cache, access, epoch, sign, progress };
            let built = build::build(&read_spec(&options.spec, name)?, &options)?;
            for warning in built.warnings.iter().filter(|_| !json) {
                eprintln!("warning: {}", plain(warning));
            }
            let printed = if json { report::print_json(&built) } else { report::print(&summary(&built)) };
            printed.map_err(unprinted)?;
        }
        Command::Inspect { source, json } => {
            let inspection = Inspection::of(&Opened::at(&source, Progress::choose(json))?)?;
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

fn read_text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| {
        let remedy = "name the spec, a TOML file; docs/iso-format.md has an example";
        match e.kind() {
            io::ErrorKind::InvalidData => Failure::new(Code::SpecInvalid, format!("{} is no text", path.display())),
            _ => misnamed("Reading", path, e),
        }
        .with_remedy(remedy)
    })
}

fn read_spec(path: &Path, name: Option<String>) -> Result<Spec, Failure> {
    let text = read_text(path)?;
    let naming = |failure| crate::bundle::named(&path.display().to_string(), failure);
    let mut spec = Spec::parse(&text).map_err(naming)?;
    if let Some(name) = name {
        spec::check_name(&name)?;
        spec.name = name;
    }
    Ok(spec)
}

fn summary(built: &Built) -> String {
    format!(
        "ISO      {path}\nSize     {human} ({size} bytes), {files} files, {images} images\nsha256   {sha256}\n\
         Verify   cks-iso verify {path}\n",
        path = plain(&built.path.to_string_lossy()),
        human = HumanBytes(built.size),
        size = built.size,
        files = built.files,
        images = built.images,
        sha256 = built.sha256.hex(),
    )
}

/// Prints the findings about `name`, one per line, and says how the program ends; of a bundle also who
/// signed it.
fn told(
    name: &str,
    findings: &[Finding],
    signatures: Option<&[Signature]>,
    strict: bool,
    json: bool,
) -> Result<ExitCode, Failure> {
    let refused = finding::refuse(findings, strict);
    let printed = if json {
        let mut told = serde_json::json!({ "path": name, "clean": !refused, "findings": findings });
        if let Some(signatures) = signatures {
            told["signatures"] = serde_json::json!(signatures);
        }
        report::print_json(&told)
    } else {
        let lines: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
        let signed = signatures.map(verify::signed).unwrap_or_default();
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
