//! The command line of `cks-iso`.

mod keygen;
mod sbom;
mod sign;

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

use crate::build::{self, Built, Options};
use crate::content::{failed, misnamed};
use crate::inspect::Inspection;
use crate::opened::Opened;
use crate::progress::Progress;
use crate::report;
use crate::spec::{self, Spec};
use crate::verify::signature::{Signature, Trust};
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
        /// Where downloads are kept [env: CKS_ISO_CACHE] [default: $XDG_CACHE_HOME/cks-iso or ~/.cache/cks-iso].
        #[arg(long, value_name = "DIR")]
        cache: Option<PathBuf>,
        /// The time that dates everything on the ISO, in seconds since 1970, instead of the spec's
        /// [env: SOURCE_DATE_EPOCH].
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=spec::MAX_EPOCH))]
        source_date_epoch: Option<u64>,
        /// Sign the ISO with this secret key.
        #[arg(long, value_name = "KEY")]
        sign: Option<PathBuf>,
        #[command(flatten)]
        password: keygen::PasswordOptions,
        /// Print the result as JSON, and no progress.
        #[arg(long)]
        json: bool,
    },
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
        cks-iso verify out.iso --key release.pub --key second.pub\n  \
        cks-iso verify out.iso --json | jq -r '.findings[].rule'")]
    Verify {
        /// An ISO, or a device with a disc.
        iso: PathBuf,
        /// A public key; one of those given must have signed. May be given several times.
        #[arg(long = "key", value_name = "PUB")]
        keys: Vec<PathBuf>,
        /// Find an ISO that nobody signed, even without --key.
        #[arg(long)]
        require_signature: bool,
        /// Print the findings as JSON, and no progress.
        #[arg(long)]
        json: bool,
    },
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
        Command::Build { spec, output, name, cache, source_date_epoch, sign, password, json } => {
            let sign = sign.map(|key| password.open(&key)).transpose()?.map(Arc::new);
            let cache = cache.unwrap_or_else(default_cache);
            let epoch = source_date_epoch.map_or_else(epoch_of_environment, |epoch| Ok(Some(epoch)))?;
            let options = Options { output, spec, cache, epoch, sign, progress: Progress::choose(json) };
            let built = build::build(&read_spec(&options.spec, name)?, &options)?;
            for warning in built.warnings.iter().filter(|_| !json) {
                eprintln!("warning: {}", plain(warning));
            }
            let printed = if json { report::print_json(&built) } else { report::print(&summary(&built)) };
            printed.map_err(unprinted)?;
        }
        Command::Inspect { iso, json } => {
            let inspection = Inspection::of(&iso)?;
            let printed = if json { report::print_json(&inspection) } else { report::print(&inspection.to_string()) };
            printed.map_err(unprinted)?;
        }
        Command::Verify { iso, keys, require_signature, json } => {
            return verify(&iso, &Trust::read(&keys, require_signature)?, json);
        }
        Command::Keygen(keygen) => keygen.run()?,
        Command::Sign(sign) => sign.run()?,
        Command::Sbom(sbom) => sbom.run()?,
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

fn read_spec(path: &Path, name: Option<String>) -> Result<Spec, Failure> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        let remedy = "name the spec, a TOML file; docs/iso-format.md has an example";
        match e.kind() {
            io::ErrorKind::InvalidData => Failure::new(Code::SpecInvalid, format!("{} is no text", path.display())),
            _ => misnamed("Reading", path, e),
        }
        .with_remedy(remedy)
    })?;
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

fn verify(path: &Path, trust: &Trust, json: bool) -> Result<ExitCode, Failure> {
    let (iso, progress) = (Opened::open(path)?, Progress::choose(json));
    let (signatures, mut findings) = trust.check_iso(&iso)?;
    findings.extend(verify::verify(&iso, progress)?);
    findings.extend(trust.check_beside(path, progress)?);
    let printed = if json {
        report::print_json(&serde_json::json!({
            "path": path, "clean": findings.is_empty(), "signatures": signatures, "findings": findings,
        }))
    } else {
        let lines: String = findings.iter().map(line).collect();
        let path = plain(&path.to_string_lossy());
        let end = match findings.len() {
            0 => "clean".to_owned(),
            1 => "1 finding".to_owned(),
            count => format!("{count} findings"),
        };
        report::print(&format!("{lines}{path}: {end}{}\n", signed(&signatures)))
    };
    printed.map_err(unprinted)?;
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

/// What is to be said of the signatures: `, signed by …`.
fn signed(signatures: &[Signature]) -> String {
    let ids = |proven| -> Vec<&str> {
        signatures.iter().filter(|found| found.proven == proven).map(|found| found.key.as_str()).collect()
    };
    let (proven, claimed) = (ids(true).join(", "), ids(false).join(", "));
    match (proven.is_empty(), claimed.is_empty()) {
        (true, true) => String::new(),
        (false, _) => format!(", signed by {proven}"),
        (true, false) => format!(", says it is signed by {claimed}; nothing proves it without --key"),
    }
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

fn default_cache() -> PathBuf {
    if let Some(cache) = set("CKS_ISO_CACHE") {
        return cache.into();
    }
    let home = || set("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let caches = set("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    caches.unwrap_or_else(|| PathBuf::from(".cache")).join("cks-iso")
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
