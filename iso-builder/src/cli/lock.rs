//! `cks-iso lock`, and the lock of a build.

use std::path::{Path, PathBuf};

use bootstrap::failure::{Code, Failure};
use bootstrap::text::plain;
use clap::Args;

use super::reach::Reach;
use super::{epoch_of_environment, unprinted};
use crate::lock::Lock;
use crate::lock::changes::changes;
use crate::project::{self, Project};
use crate::resolve::{self, Means, Update};
use crate::{build, doubts, report, spec};

/// The arguments of `cks-iso lock`.
#[derive(Debug, Args)]
pub(super) struct LockArgs {
    /// The spec, a TOML file (docs/building.md).
    spec: PathBuf,
    /// Where the lock goes [default: cks-iso.lock beside the spec].
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Look up again what the lock says already: everything, or these keys, manifests and references.
    #[arg(long, value_name = "NAME", num_args = 0..)]
    update: Option<Vec<String>>,
    /// The build's name, instead of the spec's.
    #[arg(long)]
    name: Option<String>,
    /// The time that dates everything on the ISO, in seconds since 1970, instead of the spec's
    /// [env: SOURCE_DATE_EPOCH].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=spec::MAX_EPOCH))]
    source_date_epoch: Option<u64>,
    /// The program that renders Helm charts.
    #[arg(long, value_name = "PROGRAM", default_value = "helm")]
    helm: PathBuf,
    #[command(flatten)]
    reach: Reach,
    /// Print what changed as JSON; without --progress no progress.
    #[arg(long)]
    json: bool,
}

/// Makes or renews a lock.
pub(super) fn run(args: LockArgs) -> Result<(), Failure> {
    let project = Project::read(&args.spec, args.name)?;
    let path = args.lock.unwrap_or_else(|| project.lock_path());
    let told = args.source_date_epoch.map_or_else(epoch_of_environment, |epoch| Ok(Some(epoch)))?;
    let update = match args.update {
        None => Update::Changed,
        Some(names) if names.is_empty() => Update::All,
        Some(names) => Update::Named(names),
    };
    let (access, cache) = (args.reach.access()?, args.reach.cache());
    let means = Means { access: &access, cache: &cache, progress: args.reach.progress(args.json), helm: &args.helm };
    let (lock, lines) = renew(&project, &path, told, &update, &means)?;
    let warnings = doubts::of_lock(&project, &lock, &cache)?;
    for warning in warnings.iter().filter(|_| !args.json) {
        eprintln!("warning: {}", plain(warning));
    }
    let printed = if args.json {
        report::print_json(&serde_json::json!({ "path": path, "changes": lines, "warnings": warnings }))
    } else {
        report::print(&told_changes(&path, &lines))
    };
    printed.map_err(unprinted)
}

/// Makes the lock at `path` anew and says what changed.
pub(super) fn renew(
    project: &Project,
    path: &Path,
    told: Option<u64>,
    update: &Update,
    means: &Means<'_>,
) -> Result<(Lock, Vec<String>), Failure> {
    build::check_lock_path(project, path)?;
    // Two at once would each write a lock without what the other found.
    let old = match (project::read_lock(path), update) {
        (Ok(old), _) => old,
        // What can't be read is replaced only when everything is looked up again.
        (Err(failure), Update::All) if failure.code == Code::LockStale => None,
        (Err(failure), _) => {
            return Err(failure.with_remedy("look at it, then make it anew: cks-iso lock SPEC --update"));
        }
    };
    if let Some(old) = &old {
        project.check_overwrites(old, path)?;
    }
    let lock = resolve::lock(project, project.epoch(told), old.as_ref(), update, means)?;
    let lines = changes(old.as_ref(), &lock);
    if old.as_ref() != Some(&lock) {
        project::write_lock(&lock, path)?;
    }
    Ok((lock, lines))
}

/// What changed, for people.
pub(super) fn told_changes(path: &Path, lines: &[String]) -> String {
    let mut text: String = lines.iter().map(|line| format!("{}\n", plain(line))).collect();
    let path = plain(&path.to_string_lossy());
    text += &match lines.len() {
        0 => format!("{path}: nothing changed\n"),
        1 => format!("{path}: 1 change\n"),
        count => format!("{path}: {count} changes\n"),
    };
    text
}
