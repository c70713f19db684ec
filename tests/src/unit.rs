//! The command line of a systemd unit, run without systemd below another root.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::process::Command;

/// The command of the unit's last `ExecStart=`, with every absolute path moved below `root`: the
/// program, plain arguments and those of the form `--data-dir=/var/lib/etcd`.
///
/// # Errors
/// When the unit can't be read or has no `ExecStart=`.
pub fn exec_start(root: &Path, unit: &str) -> Result<Command> {
    let path = root.join("etc/systemd/system").join(unit);
    let text = fs::read_to_string(&path).with_context(|| format!("Reading {}", path.display()))?;
    let words = words(&text);
    let (program, args) = words.split_first().with_context(|| format!("{} has no ExecStart=", path.display()))?;
    ensure!(program.starts_with('/'), "{}: {program:?} is not an absolute path", path.display());
    let program = resolve(root, Path::new(program))?;
    Ok(Command::new(program).args(args.iter().map(|word| below(root, word))))
}

/// The command of `etcd.service`, for a member that is alone at `address` and whose data is below `root`.
///
/// # Errors
/// As [`exec_start`].
pub fn lone_etcd(root: &Path, address: &str) -> Result<Command> {
    let client = format!("http://{address}:2379");
    let etcd = exec_start(root, "etcd.service")?.arg("--data-dir").arg(root.join("var/lib/etcd"));
    Ok(etcd.args(["--advertise-client-urls", &client, "--listen-client-urls", &client]))
}

/// The words of the last `ExecStart=` line; none where it is missing or emptied.
fn words(unit: &str) -> Vec<String> {
    let joined = unit.replace("\\\n", " ");
    let line = joined.lines().filter_map(|line| line.trim().strip_prefix("ExecStart=")).next_back();
    line.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

fn below(root: &Path, word: &str) -> String {
    match word.split_once('=') {
        Some((name, value)) if name.starts_with('-') && value.starts_with('/') => {
            format!("{name}={}{value}", root.display())
        }
        None if word.starts_with('/') => format!("{}{word}", root.display()),
        _ => word.to_owned(),
    }
}

/// Where the absolute `path` leads with `root` as `/`: its last symbolic links are absolute too.
fn resolve(root: &Path, path: &Path) -> Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..8 {
        let real = root.join(path.strip_prefix("/").unwrap_or(&path));
        let Ok(target) = fs::read_link(&real) else {
            return Ok(real);
        };
        let joined = path.parent().unwrap_or(Path::new("/")).join(target);
        path = joined.components().fold(PathBuf::new(), |mut path, part| {
            if part == Component::ParentDir {
                path.pop();
            } else {
                path.push(part);
            }
            path
        });
    }
    anyhow::bail!("{} leads through too many links", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_move_below_the_root_and_nothing_else_does() {
        let root = tempfile::tempdir().unwrap();
        let at = root.path().display();
        for directory in ["etc/systemd/system", "opt/bin", "opt/v1"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        fs::write(root.path().join("opt/v1/etcd"), "").unwrap();
        std::os::unix::fs::symlink("/opt/v1/etcd", root.path().join("opt/bin/etcd")).unwrap();
        let unit = "[Service]\nExecStart=/old\nExecStart=/opt/bin/etcd \\\n  --name e1 --data-dir /var/lib/etcd \\\n  --wal-dir=/w --url http://a:1,b=http://c:2\n";
        fs::write(root.path().join("etc/systemd/system/etcd.service"), unit).unwrap();
        let command = exec_start(root.path(), "etcd.service").unwrap().to_string();
        let rest = "--url http://a:1,b=http://c:2";
        assert_eq!(command, format!("{at}/opt/v1/etcd --name e1 --data-dir {at}/var/lib/etcd --wal-dir={at}/w {rest}"));

        std::os::unix::fs::symlink("../v1/etcd", root.path().join("opt/bin/relative")).unwrap();
        assert_eq!(resolve(root.path(), Path::new("/opt/bin/relative")).unwrap(), root.path().join("opt/v1/etcd"));
    }

    #[test]
    fn a_unit_without_a_command_is_refused() {
        assert!(words("[Service]\nType=notify\n").is_empty());
        assert!(words("[Service]\nExecStart=/bin/a\nExecStart=\n").is_empty());
    }
}
