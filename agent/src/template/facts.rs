//! Looks at a machine, or at an image's tree: nothing is started there but rpm.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use bootstrap::bundle::Role;
use bootstrap::failure::{Code, Failure};
use bootstrap::preflight::read;
use bootstrap::template::{
    DIRECTORIES, Distribution, Entry, FILES, Facts, Family, Kind, Units, dpkg_packages, programs, rpm_packages,
};

use super::inside::Inside;
use super::{live, membership};
use crate::files;
use crate::host::{Host, io_failure};
use crate::tool::Tool;

/// No text that is looked at is larger.
const MOST_TEXT: u64 = 1 << 20;
/// dpkg's list of a large machine has 5 MB.
const MOST_STATUS: u64 = 64 << 20;
/// More links than that lead in a circle.
const MOST_LINKS: usize = 40;

const PROGRAM_PLACES: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
const UNIT_PLACES: [&str; 4] =
    ["/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// Everything that an item asks about; the machine is to become a node of this role.
///
/// # Errors
/// `IO` names what can't be read; those of rpm.
pub(super) async fn gather(host: &Host, role: Role) -> Result<Facts, Failure> {
    let mut facts = Facts {
        distribution: Distribution::parse(&text(host, "/etc/os-release").unwrap_or_default()),
        kernels: kernels(host),
        units: units(host),
        membership: membership(host),
        ..Facts::default()
    };
    facts.packages = packages(host, facts.distribution.family()).await?;
    for path in FILES {
        facts.entries.extend(entry(host, path).map(|entry| ((*path).to_owned(), entry)));
    }
    for directory in DIRECTORIES {
        for name in host.names(directory) {
            let path = format!("{directory}/{name}");
            facts.entries.extend(entry(host, &path).map(|entry| (path, entry)));
        }
    }
    facts.programs = programs().filter_map(|name| program(host, name).map(|path| (name.to_owned(), path))).collect();
    if host.root() == Path::new("/") && host.path("/run/systemd/system").is_dir() {
        facts.live = Some(live::look(host, role).await);
    }
    Ok(facts)
}

/// Where the root's own `path` really is, links followed as its programs would follow them.
pub(super) fn resolve(host: &Host, path: &str) -> Option<PathBuf> {
    let parts = |path: &Path| -> Vec<OsString> {
        let parts = path.components().rev().filter(|part| !matches!(part, Component::RootDir | Component::CurDir));
        parts.map(|part| part.as_os_str().to_owned()).collect()
    };
    let (mut left, mut at, mut links) = (parts(Path::new(path)), host.root().to_owned(), 0);
    while let Some(part) = left.pop() {
        if part == ".." {
            if at != host.root() {
                at.pop();
            }
            continue;
        }
        let next = at.join(&part);
        match fs::read_link(&next) {
            Err(_) => at = next,
            Ok(target) => {
                links += 1;
                if links > MOST_LINKS {
                    return None;
                }
                if target.is_absolute() {
                    at = host.root().to_owned();
                }
                left.extend(parts(&target));
            }
        }
    }
    Some(at)
}

/// The text of a file; none where there is none, or a large one.
pub(super) fn text(host: &Host, path: &str) -> Option<String> {
    let path = resolve(host, path).filter(|path| path.is_file())?;
    let bytes = files::small(&path, MOST_TEXT).ok()??;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn entry(host: &Host, path: &str) -> Option<Entry> {
    let meta = fs::symlink_metadata(host.path(path)).ok()?;
    let kind = match meta.file_type() {
        kind if kind.is_dir() => Kind::Directory,
        kind if kind.is_file() => Kind::File,
        kind if kind.is_symlink() => Kind::Link(fs::read_link(host.path(path)).ok()?.to_string_lossy().into_owned()),
        _ => Kind::Other,
    };
    // A private key is there or not, and its text nobody's business.
    let text = if path.starts_with("/etc/ssh/ssh_host_") { None } else { text(host, path) };
    Some(Entry { kind, mode: meta.mode() & 0o7777, owner: (meta.uid(), meta.gid()), text })
}

/// Where a program is; none where it is not, or can't be executed.
pub(super) fn program(host: &Host, name: &str) -> Option<String> {
    let is_there = |path: &String| {
        let meta = resolve(host, path).and_then(|path| fs::metadata(path).ok());
        meta.is_some_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    PROGRAM_PLACES.iter().map(|place| format!("{place}/{name}")).find(is_there)
}

async fn packages(host: &Host, family: Option<Family>) -> Result<BTreeMap<String, String>, Failure> {
    match family {
        Some(Family::Debian) => {
            let path = host.path("/var/lib/dpkg/status");
            let status = files::small(&path, MOST_STATUS).map_err(|e| io_failure("Reading", &path, e))?;
            Ok(dpkg_packages(&String::from_utf8_lossy(&status.unwrap_or_default())))
        }
        Some(Family::RedHat) => {
            let args = ["-qa", "--qf", "%{NAME} %{VERSION}\\n"];
            Ok(rpm_packages(&Inside::new(host).ok(Tool::Rpm, &args, Code::HostUnfit).await?))
        }
        None => Ok(BTreeMap::new()),
    }
}

/// The modules of each kernel that is installed.
fn kernels(host: &Host) -> BTreeMap<String, BTreeSet<String>> {
    let directory = if resolve(host, "/usr/lib/modules").is_some_and(|path| path.is_dir()) {
        "/usr/lib/modules"
    } else {
        "/lib/modules"
    };
    let mut kernels = BTreeMap::new();
    for release in host.names(directory) {
        let list = |name: &str| {
            let path = resolve(host, &format!("{directory}/{release}/{name}"))?;
            files::small(&path, MOST_STATUS).ok()?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let Some(loadable) = list("modules.dep") else { continue };
        let builtin = list("modules.builtin").unwrap_or_default();
        kernels.insert(release.clone(), read::modules(&loadable).into_iter().chain(read::modules(&builtin)).collect());
    }
    kernels
}

fn units(host: &Host) -> Units {
    let mut units = Units::default();
    let names = |path: &str| resolve(host, path).map(|path| names(&path)).unwrap_or_default();
    for place in UNIT_PLACES {
        for name in names(place) {
            let path = format!("{place}/{name}");
            if name.ends_with(".wants") || name.ends_with(".requires") {
                units.wanted.extend(names(&path));
            } else if is_mask(host, &path) {
                units.masked.insert(name);
            } else {
                units.present.insert(name);
            }
        }
    }
    units
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Whether the unit at `path` is a link to nothing.
fn is_mask(host: &Host, path: &str) -> bool {
    path.starts_with("/etc/") && fs::read_link(host.path(path)).is_ok_and(|target| target == Path::new("/dev/null"))
}
