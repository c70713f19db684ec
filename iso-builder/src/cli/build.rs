//! `cks-iso build`.

use std::path::PathBuf;
use std::sync::Arc;

use bootstrap::failure::{Code, Failure};
use bootstrap::text::plain;
use clap::Args;
use indicatif::HumanBytes;

use super::keygen::PasswordOptions;
use super::reach::Reach;
use super::{epoch_of_environment, lock, unprinted};
use crate::build::{self, Built, Options};
use crate::lock::Lock;
use crate::project::{self, Project};
use crate::resolve::{Means, Update};
use crate::{report, spec};

/// The arguments of `cks-iso build`.
#[derive(Debug, Args)]
pub(super) struct BuildArgs {
    /// The spec, a TOML file (docs/building.md).
    spec: PathBuf,
    /// The ISO to be made.
    #[arg(short, long, value_name = "OUT.iso")]
    output: PathBuf,
    /// Take exactly what the lock says; fail where there is none of this spec.
    #[arg(long)]
    locked: bool,
    /// The lock [default: cks-iso.lock beside the spec].
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// The build's name, instead of the spec's.
    #[arg(long)]
    name: Option<String>,
    /// The time that dates everything on the ISO, in seconds since 1970, instead of the spec's
    /// [env: SOURCE_DATE_EPOCH]; with --locked the lock's counts.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=spec::MAX_EPOCH))]
    source_date_epoch: Option<u64>,
    /// The program that renders Helm charts.
    #[arg(long, value_name = "PROGRAM", default_value = "helm")]
    helm: PathBuf,
    /// Sign the ISO with this secret key.
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    #[command(flatten)]
    password: PasswordOptions,
    #[command(flatten)]
    reach: Reach,
    /// Print the result as JSON; without --progress no progress.
    #[arg(long)]
    json: bool,
}

/// Builds an ISO.
pub(super) fn run(args: BuildArgs) -> Result<(), Failure> {
    let sign = args.sign.as_ref().map(|key| args.password.open(key)).transpose()?.map(Arc::new);
    let project = Project::read(&args.spec, args.name.clone())?;
    let epoch = args.source_date_epoch.map_or_else(epoch_of_environment, |epoch| Ok(Some(epoch)))?;
    let (cache, access, progress) = (args.reach.cache(), args.reach.access()?, args.reach.progress(args.json));
    let lock = args.lock.clone().unwrap_or_else(|| project.lock_path());
    let (output, helm) = (args.output.clone(), args.helm.clone());
    let options = Options { output, cache, access, epoch, lock, helm, sign, progress };
    let lock = lock_of(&project, &args, &options)?;
    let built = build::build(&project, lock.as_ref(), &options)?;
    for warning in built.warnings.iter().filter(|_| !args.json) {
        report::say(&format!("warning: {}", plain(warning)));
    }
    let printed = if args.json { report::print_json(&built) } else { report::print(&summary(&built)) };
    printed.map_err(unprinted)
}

/// The lock that the build keeps to: the one that is there, or a renewed one; none for a spec that tells
/// every byte itself.
fn lock_of(project: &Project, args: &BuildArgs, options: &Options) -> Result<Option<Lock>, Failure> {
    let path = &options.lock;
    build::check_lock_path(project, path)?;
    let is_asked_for = args.locked || args.lock.is_some();
    let needed = project.recipe.needs_lock();
    let found = match project::read_lock(path) {
        // Beside a spec that needs none, it may be another spec's.
        Err(_) if !needed && !is_asked_for => return Ok(None),
        found => found?,
    };
    if args.locked || options.access.is_offline() && (needed || is_asked_for) {
        project.check_lock(found.as_ref(), path)?;
        if let (Some(lock), Some(told)) = (&found, args.source_date_epoch.filter(|_| args.locked)) {
            check_epoch(lock, told)?;
        }
        return Ok(found);
    }
    let epoch = project.epoch(options.epoch);
    match found {
        Some(lock) if project.made(&lock) && lock.epoch == epoch => Ok(Some(lock)),
        _ if !needed && !is_asked_for => Ok(None),
        _ => {
            let Options { access, cache, progress, helm, .. } = options;
            let means = Means { access, cache, progress: *progress, helm };
            let (lock, lines) = lock::renew(project, path, options.epoch, &Update::Changed, &means)?;
            if !args.json {
                report::say(lock::told_changes(path, &lines).trim_end());
            }
            Ok(Some(lock))
        }
    }
}

fn check_epoch(lock: &Lock, told: u64) -> Result<(), Failure> {
    if lock.epoch == told {
        return Ok(());
    }
    let what = format!("--source-date-epoch {told}: the lock says {}", lock.epoch);
    Err(Failure::new(Code::ConfigInvalid, what).with_remedy("leave it out, or make the lock with it"))
}

fn summary(built: &Built) -> String {
    let mut text = format!(
        "ISO      {path}\nSize     {human} ({size} bytes), {files} files, {images} images\nsha256   {sha256}\n\
         Verify   cks-iso verify {path}\n",
        path = plain(&built.path.to_string_lossy()),
        human = HumanBytes(built.size),
        size = built.size,
        files = built.files,
        images = built.images,
        sha256 = built.sha256.hex(),
    );
    if let Some(call) = &built.register {
        text += &format!("Register {}\n", plain(call));
    }
    text
}
