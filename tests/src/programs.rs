//! Where programs lie: this workspace's own, and the pinned tools that `tests/tools/build` keeps.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::process::Command;

/// The workspace's directory.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A file of `tests/fixtures`.
#[must_use]
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// A program of this workspace, `cks-agent` or `cks-iso`: beside the running one, or one directory up
/// (test programs lie in `target/debug/deps`).
///
/// # Errors
/// When it hasn't been built.
pub fn built(name: &str) -> Result<PathBuf> {
    let running = std::env::current_exe().context("Finding the running program")?;
    let mut places = running.ancestors().skip(1).take(2).map(|directory| directory.join(name));
    places.find(|path| path.is_file()).with_context(|| {
        format!("{name} is not there: build it first with `cargo build --workspace` (`just test` and `just demo` do)")
    })
}

/// The directory of a pinned tool, built when it isn't there yet (minutes; the second time at once).
///
/// # Errors
/// When it can't be built.
pub fn tool(name: &str, version: Option<&str>) -> Result<PathBuf> {
    let build = Command::new(workspace().join("tests/tools/build")).arg(name).args(version);
    let directory = PathBuf::from(build.limit(Duration::from_secs(3600)).ok()?.trim());
    ensure!(directory.is_dir(), "tests/tools/build {name} names {}, which is no directory", directory.display());
    Ok(directory)
}

/// The archive of a Debian root (`tests/tools/root`), made when it isn't there yet: some minutes, and at once from then on.
///
/// # Errors
/// When it can't be made.
pub fn root(name: &str) -> Result<PathBuf> {
    let make = Command::new(workspace().join("tests/tools/root")).arg(name);
    let archive = PathBuf::from(make.limit(Duration::from_secs(1800)).ok()?.trim());
    ensure!(archive.is_file(), "tests/tools/root {name} names {}, which is no file", archive.display());
    Ok(archive)
}

/// The directory of containerd, `ctr` and the shim: the distribution's, or those of a version.
///
/// # Errors
/// When they can't be built.
pub fn containerd(version: Option<&str>) -> Result<PathBuf> {
    match version {
        None => Ok(PathBuf::from("/usr/bin")),
        Some(version) => tool("containerd", Some(version)),
    }
}

/// As [`containerd`], of a pinned version that has been built already.
///
/// # Errors
/// When it hasn't been built: says how.
pub fn containerd_built(version: &str) -> Result<PathBuf> {
    pinned_built("containerd", Some(version))
}

/// The directory of a pinned tool that has been built already, of the default version or of that `minor`: compiling
/// one takes minutes, which a test shall not hide in its time.
///
/// # Errors
/// When it hasn't been built: says how.
pub fn pinned_built(tool: &str, minor: Option<&str>) -> Result<PathBuf> {
    let pins = workspace().join("tests/tools/versions");
    let pins = std::fs::read_to_string(&pins).with_context(|| format!("Reading {}", pins.display()))?;
    let pinned = |line: &str| {
        let (name, full) = line.split_once('=')?;
        let of_tool = name.to_lowercase().replace('_', "-");
        let fits = match minor {
            None => of_tool == tool,
            Some(minor) => of_tool.starts_with(tool) && full.starts_with(&format!("v{minor}.")),
        };
        fits.then(|| full.to_owned())
    };
    let minor = minor.unwrap_or_default();
    let full = pins.lines().find_map(pinned).with_context(|| format!("tests/tools/versions has no {tool} {minor}"))?;
    let found = cached(&format!("{tool}-{full}"))?;
    ensure!(found.is_dir(), "{tool} {full} is not built: run tests/tools/build {tool} {minor}, or ./dev test");
    Ok(found)
}

/// Where this project keeps what takes long to make.
///
/// # Errors
/// When it can't be found out.
pub fn cache() -> Result<PathBuf> {
    let cache = Command::new("sh").args(["-c", "echo ${XDG_CACHE_HOME:-$HOME/.cache}/cks-node"]).ok()?;
    Ok(PathBuf::from(cache.trim()))
}

fn cached(name: &str) -> Result<PathBuf> {
    Ok(cache()?.join("tools").join(name))
}

/// The directory of a pinned tool of the version `major` (`v1`), where one has been built already.
///
/// # Errors
/// When the cache can't be found.
pub fn built_before(name: &str, major: &str) -> Result<Option<PathBuf>> {
    Ok(all_built(&format!("{name}-{major}."))?.pop())
}

/// The directories of pinned tools whose names begin so (`kubernetes-v`), in as far as they have been built, sorted.
///
/// # Errors
/// When the cache can't be found.
pub fn all_built(start: &str) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(cached("")?).into_iter().flatten().flatten().map(|entry| entry.path());
    let fits = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start));
    let mut found: Vec<PathBuf> = entries.filter(fits).collect();
    found.sort();
    Ok(found)
}
