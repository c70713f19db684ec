//! From the names of the settings to what may be opened: `disc` is every disc, `vr` every place where the router
//! may be, a directory the images in it.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};

use bootstrap::bundle::MANIFEST_PATH;
use bootstrap::bundle::legacy;

use super::discs::{self, Print};
use super::{router, without_password};
use crate::host::Host;

/// The name of every disc.
pub const DISC: &str = "disc";
/// The name of the network's virtual router.
pub const ROUTER: &str = "vr";
/// A directory of the defaults; the only path that is looked for below the node's root.
pub const MEDIA_DIRECTORY: &str = "/opt/cks/media";

/// Something that may hold a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// As it stands in the settings.
    pub entry: String,
    /// What is opened: an URL, a path.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Whether others of its entry may come by themselves: another disc, another router.
    pub may_come: bool,
    /// What tells it from another one in its place; none of what is not there, and of an URL.
    pub print: Option<Print>,
}

/// What a candidate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An URL of the settings.
    Url,
    /// An URL that was found: on this very network, so no proxy is asked.
    Router,
    /// A block device, perhaps of an optical drive.
    Device {
        /// Whether it is an optical drive.
        optical: bool,
    },
    /// A file, a named device, a directory, or what is not there.
    Path,
    /// Nothing: it stands for its entry while that has no candidates.
    Nothing,
}

impl Candidate {
    /// Its name for messages and documents: without user, password and what else may be secret.
    #[must_use]
    pub fn shown(&self) -> String {
        without_password(&self.name)
    }

    /// Whether it is an optical drive: found as one, or named by its device.
    #[must_use]
    pub fn is_optical(&self) -> bool {
        match self.kind {
            Kind::Device { optical } => optical,
            Kind::Path => {
                Path::new(&self.name).file_name().is_some_and(|name| discs::is_optical(&name.to_string_lossy()))
            }
            _ => false,
        }
    }
}

/// The candidates of the name `entry`, best first.
#[must_use]
pub fn of(entry: &str, host: &Host) -> Vec<Candidate> {
    match entry {
        DISC => discs_of(entry, host),
        ROUTER => {
            let urls = router::candidates(host).into_iter();
            urls.map(|url| candidate(entry, url, Kind::Router, true)).collect()
        }
        url if url.contains("://") => vec![candidate(entry, url.to_owned(), Kind::Url, false)],
        path => paths(entry, Path::new(path), host),
    }
}

/// The candidates of several names, best first. What is named twice has its best place.
#[must_use]
pub fn merged<'a>(lists: impl Iterator<Item = &'a Vec<Candidate>>) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = Vec::new();
    for new in lists.flatten() {
        if all.iter().all(|old| old.name != new.name) {
            all.push(new.clone());
        }
    }
    all
}

/// Stands for the path `entry` as long as nobody can say what is there.
#[must_use]
pub fn unseen(entry: &str) -> Candidate {
    candidate(entry, entry.to_owned(), Kind::Path, false)
}

/// The directories in which something may appear that changes what [`of`] gives.
#[must_use]
pub fn watched(entry: &str, host: &Host) -> Vec<PathBuf> {
    match entry {
        DISC => vec![host.path("/dev")],
        ROUTER => vec![host.path("/run/systemd/netif/leases")],
        url if url.contains("://") => Vec::new(),
        path => {
            let path = below_root(path, host);
            let parent = path.parent().map(Path::to_owned);
            parent.into_iter().chain([path]).filter(|path| path.is_dir()).collect()
        }
    }
}

fn discs_of(entry: &str, host: &Host) -> Vec<Candidate> {
    let device = |device: discs::Device| Candidate {
        print: discs::print(host, &device.node),
        ..candidate(entry, shown(&device.node), Kind::Device { optical: device.optical }, true)
    };
    let nothing = candidate(entry, entry.to_owned(), Kind::Nothing, true);
    discs::list(host).into_iter().map(device).chain([nothing]).collect()
}

/// A directory with an ISO's content is itself the source; else the images in it are, the highest version first.
fn paths(entry: &str, path: &Path, host: &Host) -> Vec<Candidate> {
    let path = below_root(&path.to_string_lossy(), host);
    let mut images = if path.is_dir() && !path.join(MANIFEST_PATH).exists() { images_in(&path) } else { Vec::new() };
    if images.is_empty() || is_tree(&path) {
        images = vec![path];
    }
    let found = |path: PathBuf| Candidate {
        print: discs::print(host, &path),
        // This one is there to be copied into; of another path somebody said that the bundle is there.
        ..candidate(entry, shown(&path), Kind::Path, entry == MEDIA_DIRECTORY)
    };
    images.into_iter().map(found).collect()
}

fn below_root(path: &str, host: &Host) -> PathBuf {
    if path == MEDIA_DIRECTORY { host.path(path) } else { PathBuf::from(path) }
}

fn is_tree(path: &Path) -> bool {
    let directories = fs::read_dir(path).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
    let mut files = directories.flat_map(|directory| {
        let name = directory.file_name().to_string_lossy().into_owned();
        let entries = fs::read_dir(directory.path()).into_iter().flatten().flatten();
        entries.map(move |file| format!("{name}/{}", file.file_name().to_string_lossy()))
    });
    files.any(|file| legacy::is_bundle([file.as_str()]))
}

fn images_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut images: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    images.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".iso") && !name.starts_with('.') && path.is_file()
    });
    images.sort_by_key(|path| Reverse(by_version(&path.file_name().unwrap_or_default().to_string_lossy())));
    images
}

/// A key by which `v1.33.10` comes behind `v1.33.9`: each text with the number behind it.
fn by_version(name: &str) -> Vec<(String, u64)> {
    let mut key = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let (text, behind) = rest.split_at(rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len()));
        let (digits, behind) = behind.split_at(behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len()));
        key.push((text.to_owned(), digits.parse().unwrap_or(0)));
        rest = behind;
    }
    key
}

fn candidate(entry: &str, name: String, kind: Kind, may_come: bool) -> Candidate {
    Candidate { entry: entry.to_owned(), name, kind, may_come, print: None }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(names: &[String], host: &Host) -> Vec<Candidate> {
        merged(names.iter().map(|name| of(name, host)).collect::<Vec<_>>().iter())
    }

    fn names(candidates: &[Candidate]) -> Vec<&str> {
        candidates.iter().map(|candidate| candidate.name.as_str()).collect()
    }

    #[test]
    fn names_become_candidates_in_order() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        let media = shown(&host.path(MEDIA_DIRECTORY));
        let defaults = crate::config::Config::default().sources;
        assert_eq!(names(&expand(&defaults, &host)), ["disc", "http://data-server/cks-iso/", &media]);

        for name in ["sr0", "vda"] {
            fs::create_dir_all(host.path("/sys/class/block").join(name)).unwrap();
        }
        for name in ["v1.33.9.iso", "v1.33.10.iso", ".v1.34.iso", "v1.35.iso.partial", "readme"] {
            fs::write(host.prepare(&format!("{MEDIA_DIRECTORY}/{name}")).unwrap(), "").unwrap();
        }
        let [first, second] = ["v1.33.10.iso", "v1.33.9.iso"].map(|name| format!("{media}/{name}"));
        let [sr0, vda] = ["/dev/sr0", "/dev/vda"].map(|name| shown(&host.path(name)));
        let expected = [&sr0, &vda, "disc", "http://data-server/cks-iso/", &first, &second];
        assert_eq!(names(&expand(&defaults, &host)), expected);
        let twice = [first.clone(), MEDIA_DIRECTORY.to_owned()];
        assert_eq!(names(&expand(&twice, &host)), [&first, &second]);

        for tree in ["k8s/kubelet", "cks-bundle.json"] {
            fs::write(host.prepare(&format!("{MEDIA_DIRECTORY}/{tree}")).unwrap(), "").unwrap();
            assert_eq!(names(&expand(&[MEDIA_DIRECTORY.to_owned()], &host)), [&media], "{tree}");
        }
    }
}
