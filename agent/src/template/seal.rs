//! `seal`: takes away what makes this machine one of its own.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bootstrap::failure::{Code, Failure};
use bootstrap::template::seal::{How, NAMELESS, TRACES, Trace, fits, is_rotated, keys_that_stay};
use bootstrap::template::{KEPT_KEYS, accounts};
use serde::Serialize;

use super::facts::text;
use super::{membership, show};
use crate::cli;
use crate::files;
use crate::host::{Host, io_failure};
use crate::journal::Journal;
use crate::leave::tree;

/// What `--json` prints (`docs/schema/seal.schema.json`).
#[derive(Debug, Serialize)]
struct Sealed {
    schema: u32,
    root: String,
    dry_run: bool,
    /// What was taken away, or would be.
    steps: Vec<Step>,
}

/// One thing that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Step {
    /// The root's own path.
    path: String,
    how: How,
}

/// Takes the traces away. Returns the exit code.
///
/// # Errors
/// `ALREADY_MEMBER` on a node of a cluster; `ALREADY_RUNNING`; `ROOT_NOT_FOUND`, `CONFIG_INVALID` of a link that leads out of the
/// root; `IO`.
pub fn seal(arguments: &cli::Seal) -> Result<u8, Failure> {
    let host = Host::new(&arguments.root)?;
    let signs = membership(&host);
    if !signs.is_empty() {
        let what = format!("{} is a node of a cluster: there is {}", host.root().display(), signs.join(", "));
        let remedy = "make a template of a machine that never joined, or run cks-agent leave first";
        return Err(Failure::new(Code::AlreadyMember, what).with_remedy(remedy));
    }
    if Journal::is_held(&host) {
        return Err(Failure::new(Code::AlreadyRunning, format!("a bootstrap is at work on {}", host.root().display())));
    }
    let steps = steps(&host);
    if !arguments.dry_run {
        for step in &steps {
            take(&host, step)?;
        }
    }
    let sealed = Sealed { schema: 1, root: host.root().display().to_string(), dry_run: arguments.dry_run, steps };
    if arguments.json {
        show::print(&sealed);
    } else {
        show::to_stdout(&lines(&sealed));
    }
    Ok(0)
}

fn lines(sealed: &Sealed) -> String {
    let line = |step: &Step| {
        let how = match step.how {
            How::Remove => "remove",
            How::Empty | How::Files | How::Logs | How::Truncate => "empty",
            How::Keys => "take keys out of",
            How::Name => "take the name out of",
        };
        format!("{how} {}\n", bootstrap::text::plain(&step.path))
    };
    let said: String = sealed.steps.iter().map(line).collect();
    let last = match (sealed.steps.len(), sealed.dry_run) {
        (0, _) => "nothing to do".to_owned(),
        (count, true) => format!("{count} steps would be taken"),
        (count, false) => format!("sealed, {count} steps"),
    };
    format!("{said}{}: {last}\n", sealed.root)
}

/// What is there to be taken away.
fn steps(host: &Host) -> Vec<Step> {
    let at_rest = host.root() != Path::new("/");
    let mut steps = Vec::new();
    for trace in TRACES.iter().filter(|trace| at_rest || !trace.at_rest) {
        for path in places(host, trace) {
            match trace.how {
                How::Logs => logs(host, &path, &mut steps),
                how if is_there(host, &path, how) => steps.push(Step { path, how }),
                _ => {}
            }
        }
    }
    steps
}

/// The paths that a trace stands for.
fn places(host: &Host, trace: &Trace) -> Vec<String> {
    let whole: Vec<String> = match trace.path.strip_prefix('~') {
        Some(rest) => homes(host).iter().map(|home| format!("{home}{rest}")).collect(),
        None => vec![trace.path.to_owned()],
    };
    let names = |path: String| {
        let Some((directory, pattern)) = path.rsplit_once('/').filter(|(_, last)| last.contains('*')) else {
            return vec![path];
        };
        let mut names = host.names(directory);
        names.retain(|name| fits(pattern, name));
        names.sort();
        names.into_iter().map(|name| format!("{directory}/{name}")).collect()
    };
    whole.into_iter().flat_map(names).collect()
}

/// Homes of people: those of services may be anything.
fn homes(host: &Host) -> BTreeSet<String> {
    let passwd = text(host, "/etc/passwd").unwrap_or_default();
    let homes = accounts(&passwd).filter_map(|fields| fields.get(5).map(|home| (*home).to_owned()));
    homes.filter(|home| home == "/root" || home.starts_with("/home/")).filter(|home| !home.contains("..")).collect()
}

/// Whether there is something of a trace at `path`.
fn is_there(host: &Host, path: &str, how: How) -> bool {
    let full = host.path(path);
    let Ok(meta) = fs::symlink_metadata(&full) else { return how == How::Truncate };
    match how {
        // The older place of the machine's id is a link to the other one, and stays so.
        How::Remove => !(meta.is_symlink() && path.ends_with("/machine-id")),
        How::Empty => meta.is_dir() && fs::read_dir(&full).is_ok_and(|mut entries| entries.next().is_some()),
        How::Files => meta.is_dir() && !files_below(&full).is_empty(),
        How::Truncate => meta.is_file() && meta.len() > 0,
        How::Keys => {
            let keys = text(host, path).unwrap_or_default();
            keys != keys_that_stay(&keys, &text(host, KEPT_KEYS).unwrap_or_default())
        }
        How::Name => text(host, path).is_some_and(|name| name != NAMELESS),
        How::Logs => false,
    }
}

/// Steps for the logs below `directory`.
fn logs(host: &Host, directory: &str, steps: &mut Vec<Step>) {
    let mut names = host.names(directory);
    names.sort();
    for name in names {
        let path = format!("{directory}/{name}");
        let Ok(meta) = fs::symlink_metadata(host.path(&path)) else { continue };
        if meta.is_dir() && name == "journal" {
            if is_there(host, &path, How::Empty) {
                steps.push(Step { path, how: How::Empty });
            }
        } else if meta.is_dir() {
            logs(host, &path, steps);
        } else if meta.is_file() && is_rotated(&name) {
            steps.push(Step { path, how: How::Remove });
        } else if meta.is_file() && meta.len() > 0 {
            steps.push(Step { path, how: How::Logs });
        }
    }
}

/// Files at any depth; no link is followed.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files_below(&entry.path())),
            Ok(_) => found.push(entry.path()),
            Err(_) => {}
        }
    }
    found
}

fn take(host: &Host, step: &Step) -> Result<(), Failure> {
    // As for writing: no link leads out of the root.
    let full = host.prepare(&step.path)?;
    let failed = |path: &Path, e| io_failure("Sealing", path, e);
    match step.how {
        How::Remove => remove(&full, false),
        How::Empty => remove(&full, true),
        How::Files => files_below(&full).iter().try_for_each(|path| files::remove(path)),
        // In place: a log has an owner, and a program that may hold it open.
        How::Logs => {
            fs::OpenOptions::new().write(true).truncate(true).open(&full).map(|_| ()).map_err(|e| failed(&full, e))
        }
        How::Truncate => files::write(&full, b"", 0o444),
        How::Name => files::write(&full, NAMELESS.as_bytes(), 0o644),
        How::Keys => {
            let keys =
                keys_that_stay(&text(host, &step.path).unwrap_or_default(), &text(host, KEPT_KEYS).unwrap_or_default());
            let meta = fs::metadata(&full).map_err(|e| failed(&full, e))?;
            files::write_for(&full, keys.as_bytes(), meta.mode() & 0o777, (meta.uid(), meta.gid()))
        }
    }
}

/// Removes what is at `path`; of a directory that `stays`, what is in it. No link is followed, and no mount entered.
pub(super) fn remove(path: &Path, stays: bool) -> Result<(), Failure> {
    match tree::remove(path, stays, &[], |_| false).first() {
        None => Ok(()),
        Some(left) => Err(Failure::new(Code::Io, format!("Removing {}: {}", left.object, left.why))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_as_its_schema_says() {
        let schema = include_str!("../../../docs/schema/seal.schema.json");
        let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
        let all = [How::Remove, How::Empty, How::Files, How::Truncate, How::Logs, How::Keys, How::Name];
        let steps = all.map(|how| Step { path: "/x".to_owned(), how }).to_vec();
        let document = serde_json::to_value(Sealed { schema: 1, root: "/".to_owned(), dry_run: false, steps }).unwrap();
        let errors: Vec<String> =
            jsonschema::validator_for(&schema).unwrap().iter_errors(&document).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
}
