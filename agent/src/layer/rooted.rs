//! A directory as the root of all paths: none leads out of it, whatever symbolic links lie in it.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use bootstrap::failure::Code;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, openat, openat2, readlinkat, unlinkat};
use rustix::io::Errno;

use super::Refused;
use super::path::{bare, clean, join, shown, split};

/// Longer paths are left to containerd. It resolves them below its own directory, whose length counts there.
const MAX_PATH: usize = 2000;
/// Links on the way of one path that are followed, as many as the kernel does. containerd follows 255, and it may.
const MAX_LINKS: u32 = 40;
/// Directories inside each other that are removed.
const MAX_DEPTH: u32 = 200;

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The root.
pub(super) struct Root {
    pub(super) fd: OwnedFd,
    /// The directory of the last entry, as entries of one directory follow each other.
    last: Option<Rc<Directory>>,
}

/// A directory below the root.
pub(super) struct Directory {
    /// From the root, without links; empty for the root itself.
    pub(super) path: Vec<u8>,
    pub(super) fd: OwnedFd,
}

impl Root {
    pub(super) fn open(directory: &Path) -> Result<Self, Refused> {
        let flags = DIRECTORY.union(OFlags::NOFOLLOW);
        let fd = openat(CWD, directory, flags, Mode::empty())
            .map_err(|errno| judge(format!("opening {}", directory.display()), errno))?;
        Ok(Self { fd, last: None })
    }

    /// The directory `path`, where that is one and no link leads there.
    pub(super) fn plain(&self, path: &[u8]) -> Result<Directory, Errno> {
        let path = bare(path);
        let fd = openat2(&self.fd, or_dot(path), DIRECTORY, Mode::empty(), unlinked())?;
        Ok(Directory { path: path.to_vec(), fd })
    }

    /// As [`Self::plain`], kept for the next call with the same path.
    pub(super) fn kept(&mut self, path: &[u8]) -> Option<Rc<Directory>> {
        let path = bare(path);
        if self.last.as_ref().is_none_or(|last| last.path != path) {
            self.last = self.plain(path).ok().map(Rc::new);
        }
        self.last.clone()
    }

    /// To be called when a directory or link was removed.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// Where `path` leads, from the root and without links. What is not there is taken as no link.
    ///
    /// This is containerd's own way (continuity, `fs.RootPath`), step by step: it differs from the kernel's where
    /// `..` follows a link or a directory that is not there.
    pub(super) fn resolve(&self, path: &[u8]) -> Result<Vec<u8>, Refused> {
        if path.is_empty() {
            return Ok(Vec::new());
        }
        let mut path = path.to_vec();
        let mut links = 0;
        loop {
            let before = links;
            path = self.walk(&path, &mut links)?;
            if links == before {
                let absolute = join(b"/", &path);
                if absolute == path {
                    return Ok(bare(&absolute).to_vec());
                }
                path = absolute;
            }
        }
    }

    /// One round: each link on the way is replaced once.
    fn walk(&self, path: &[u8], links: &mut u32) -> Result<Vec<u8>, Refused> {
        if path.len() > MAX_PATH {
            return Err(Refused::Unknown("a path that is longer than usual".to_owned()));
        }
        let (directory, file) = split(path);
        match (directory, file) {
            (b"", file) => Ok(self.follow(file, links)?.unwrap_or_else(|path| path)),
            (b"/", b"") => Ok(b"/".to_vec()),
            (directory, b"") => self.walk(&directory[..directory.len() - 1], links),
            (directory, file) => {
                let directory = self.walk(directory, links)?;
                Ok(match self.follow(&join(&directory, file), links)? {
                    Err(path) => path,
                    Ok(target) if target.starts_with(b"/") => target,
                    Ok(target) => join(&directory, &target),
                })
            }
        }
    }

    /// The text of the link at `path`; where there is none, the path.
    fn follow(&self, path: &[u8], links: &mut u32) -> Result<Result<Vec<u8>, Vec<u8>>, Refused> {
        let unknown = |why: Errno| Refused::Unknown(format!("{:?}: {why}", shown(path)));
        if *links >= MAX_LINKS {
            return Err(unknown(Errno::LOOP));
        }
        let path = clean(&[b"/", path].concat());
        if path == b"/" {
            return Ok(Err(path));
        }
        let beneath = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
        let flags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
        let found = match openat2(&self.fd, bare(&path), flags, Mode::empty(), beneath) {
            // A link before the last component that leads out of the root: containerd looks outside of it there,
            // where the layer's name usually is not, and replaces the link in the next round.
            Err(Errno::NOENT | Errno::XDEV) => return Ok(Err(path)),
            found => found.map_err(unknown)?,
        };
        match readlinkat(&found, c"", Vec::new()) {
            Ok(target) => {
                *links += 1;
                Ok(Ok(target.into_bytes()))
            }
            Err(Errno::NOENT | Errno::INVAL) => Ok(Err(path)),
            Err(errno) => Err(unknown(errno)),
        }
    }
}

/// A path as openat2 wants it.
fn or_dot(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

fn unlinked() -> ResolveFlags {
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS)
}

impl Root {
    /// The file, directory or link at the resolved `path`, only to be looked at.
    pub(super) fn look(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
        openat2(&self.fd, or_dot(path), flags, Mode::empty(), unlinked())
    }
}

/// Opens the directory `name` of `directory`, which is no link.
pub(super) fn child(directory: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(directory, name, DIRECTORY.union(OFlags::NOFOLLOW), Mode::empty())
}

/// A path for calls that take no descriptor: `name` in `directory`, or the directory itself.
pub(super) fn by_proc(directory: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}", directory.as_raw_fd()).into_bytes();
    if !name.is_empty() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

/// Calls `each` with the name and kind of all that lies in `directory`.
pub(super) fn list(
    directory: impl AsFd,
    mut each: impl FnMut(&CStr, FileType) -> Result<(), Refused>,
) -> Result<(), Refused> {
    let told = |errno| judge("listing a directory of a layer".to_owned(), errno);
    let flags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
    let readable = openat(directory, c".", flags, Mode::empty()).map_err(told)?;
    let mut names = Vec::new();
    for entry in Dir::new(readable).map_err(told)? {
        let entry = entry.map_err(told)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    names.iter().try_for_each(|(name, kind)| each(name, *kind))
}

/// Removes `name` from `directory`, with all that lies in it; what is not there is removed already.
pub(super) fn remove(directory: BorrowedFd<'_>, name: &[u8]) -> Result<(), Refused> {
    remove_at(directory, name, 0)
}

fn remove_at(directory: BorrowedFd<'_>, name: &[u8], depth: u32) -> Result<(), Refused> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(judge(format!("removing {:?}", shown(name)), errno)),
    }
    if depth == MAX_DEPTH {
        return Err(Refused::Unknown("directories that lie very deep in each other".to_owned()));
    }
    let told = |errno| judge(format!("removing {:?}", shown(name)), errno);
    match unlinkat(directory, name, AtFlags::REMOVEDIR) {
        Ok(()) => return Ok(()),
        Err(Errno::NOTEMPTY) => {}
        Err(errno) => return Err(told(errno)),
    }
    let inner = child(directory, name).map_err(told)?;
    list(&inner, |name, _| remove_at(inner.as_fd(), name.to_bytes(), depth + 1))?;
    unlinkat(directory, name, AtFlags::REMOVEDIR).map_err(told)
}

/// What a system call's error says: the machine's fault fails, all else is left to containerd's judgement.
pub(super) fn judge(doing: String, errno: Errno) -> Refused {
    let code = match errno {
        Errno::NOSPC | Errno::DQUOT => Code::NoSpace,
        Errno::IO | Errno::ROFS | Errno::MFILE | Errno::NFILE | Errno::NOMEM => Code::Io,
        _ => return Refused::Unknown(format!("{doing}: {errno}")),
    };
    Refused::Failed(bootstrap::failure::Failure::new(code, doing).with_source(std::io::Error::from(errno)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        fs::create_dir_all(at("root/usr/lib/deep")).unwrap();
        fs::write(at("root/usr/file"), "").unwrap();
        fs::create_dir(at("outside")).unwrap();
        for (target, link) in [
            ("usr/lib", "lib"),
            ("/usr/lib", "absolute"),
            ("../../../outside", "up"),
            ("lib/../lib", "lexical"),
            ("gone/../usr", "through"),
            ("loop", "loop"),
            ("absolute", "twice"),
            ("..", "usr/lib/parent"),
        ] {
            symlink(target, at("root").join(link)).unwrap();
        }
        place
    }

    #[test]
    fn no_path_leads_out_of_the_root() {
        let place = tree();
        let root = Root::open(&place.path().join("root")).unwrap();
        let table = [
            ("", ""),
            ("/", ""),
            ("usr/lib/", "usr/lib"),
            ("lib/deep/", "usr/lib/deep"),
            ("absolute/deep", "usr/lib/deep"),
            ("twice/deep", "usr/lib/deep"),
            ("up/x", "outside/x"),
            ("../../x", "x"),
            ("lexical/deep", "usr/lib/deep"),
            ("through/lib", "usr/lib"),
            ("lib/parent/lib", "usr/lib"),
            ("not/there/at/all/", "not/there/at/all"),
        ];
        for (path, want) in table {
            assert_eq!(root.resolve(path.as_bytes()).unwrap(), want.as_bytes(), "{path}");
        }
        for path in ["loop/x", "usr/file/x/y", &"long/".repeat(500)] {
            assert!(matches!(root.resolve(path.as_bytes()), Err(Refused::Unknown(_))), "{path}");
        }
    }

    #[test]
    fn links_are_no_plain_directories() {
        let place = tree();
        let mut root = Root::open(&place.path().join("root")).unwrap();
        assert!(root.kept(b"/usr/lib/").is_some());
        assert!(root.kept(b"lib").is_none());
        assert!(root.plain(b"usr/file").is_err());
        assert!(Root::open(&place.path().join("root/lib")).is_err());
    }

    #[test]
    fn removing_follows_no_link() {
        let place = tree();
        fs::write(place.path().join("outside/kept"), "").unwrap();
        symlink(place.path().join("outside"), place.path().join("root/usr/lib/deep/link")).unwrap();
        let root = Root::open(&place.path().join("root")).unwrap();
        remove(root.fd.as_fd(), b"usr").unwrap();
        remove(root.fd.as_fd(), b"usr").unwrap();
        assert!(!place.path().join("root/usr").exists());
        assert!(place.path().join("outside/kept").exists());
    }
}
