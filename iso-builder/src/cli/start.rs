//! `cks-iso init` and `cks-iso from-script`: where a spec comes from.

use std::io::Write;
use std::path::{Path, PathBuf};

use bootstrap::bundle::Arch;
use bootstrap::failure::{Code, Failure};
use bootstrap::text::plain;
use clap::Args;

use super::unprinted;
use crate::content::failed;
use crate::partial::Partial;
use crate::{init, report, script};

/// The arguments of `cks-iso init`.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The Kubernetes version [default: the newest that is known here].
    #[arg(long, value_name = "VERSION")]
    kubernetes: Option<String>,
    /// amd64 (x86_64) or arm64 (aarch64).
    #[arg(long, default_value = "amd64", value_parser = arch)]
    arch: Arch,
    /// A profile; may be given several times [default: calico csi dashboard headlamp etcd].
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,
    /// Where the spec goes; it must not exist.
    #[arg(short, long, value_name = "FILE", default_value = "spec.toml")]
    output: PathBuf,
}

/// The arguments of `cks-iso from-script`.
#[derive(Debug, Args)]
pub(super) struct ScriptArgs {
    /// The CloudStack release whose script was called, 4.14 to 4.23.
    #[arg(long, value_name = "RELEASE", default_value = "4.23", value_parser = release)]
    release: (u32, u32),
    /// Where the spec goes; the ISO's path is printed then. It may exist.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The script's arguments: OUTPUT_PATH KUBERNETES_VERSION CNI_VERSION CRICTL_VERSION NETWORK_YAML DASHBOARD
    /// [BUILD_NAME] [ARCH] [ETCD_VERSION].
    #[arg(required = true, value_name = "ARGUMENT", trailing_var_arg = true)]
    arguments: Vec<String>,
}

fn arch(text: &str) -> Result<Arch, String> {
    Arch::parse(text).ok_or_else(|| "neither amd64 (x86_64) nor arm64 (aarch64)".to_owned())
}

fn release(text: &str) -> Result<(u32, u32), String> {
    script::release(text).ok_or_else(|| "no release from 4.14 to 4.23".to_owned())
}

/// Writes a first spec.
pub(super) fn init(args: InitArgs) -> Result<(), Failure> {
    let default = || init::DEFAULT_PROFILES.map(str::to_owned).to_vec();
    let profiles = if args.profile.is_empty() { default() } else { args.profile };
    let text = init::text(args.kubernetes.as_deref(), args.arch, &profiles)?;
    let path = args.output;
    if std::fs::symlink_metadata(&path).is_ok() {
        return Err(Failure::new(Code::ConfigInvalid, format!("{} exists", path.display()))
            .with_remedy("name another file with -o; cks-iso init overwrites nothing"));
    }
    write(&path, &text)?;
    let path = plain(&path.to_string_lossy());
    report::print(&format!("{path}: written. Next: cks-iso lock {path}\n")).map_err(unprinted)
}

/// Writes the spec that a call of the stock script meant.
pub(super) fn from_script(args: ScriptArgs) -> Result<(), Failure> {
    let here = std::env::current_dir().map_err(|e| failed("Finding", Path::new("the current directory"), e))?;
    let translated = script::translate(&args.arguments, args.release, &here)?;
    for warning in &translated.warnings {
        report::say(&format!("warning: {}", plain(warning)));
    }
    let printed = match args.output {
        Some(path) => {
            write(&path, &translated.spec)?;
            let iso = Path::new(&translated.directory).join(&translated.iso);
            report::print(&format!("{}\n", iso.display()))
        }
        None => report::print(&translated.spec),
    };
    printed.map_err(unprinted)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        return Err(Failure::new(Code::ConfigInvalid, format!("{} exists and is no regular file", path.display()))
            .with_remedy("name another file with -o"));
    }
    let partial = Partial::begin(path)?;
    partial.file().write_all(text.as_bytes()).map_err(|e| failed("Writing", path, e))?;
    partial.finish()
}
