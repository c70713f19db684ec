//! Removes what lies in a directory, and never what is mounted there.
//!
//! Each directory is opened from the one above it, by the kernel's rule that no mount point may be crossed
//! (`RESOLVE_NO_XDEV`, openat2(2): bind mounts of the same filesystem, too) and no link followed. So not even a mount
//! that comes while files are removed loses any of its own.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use bootstrap::leaving::Left;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, unlinkat};
use rustix::io::Errno;

/// Each level of a tree holds a file descriptor open; a process has 1024.
const MAX_DEPTH: usize = 400;
/// More than this is told by its number alone.
const MAX_TOLD: usize = 32;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

struct Removal<'a> {
    /// Mount points, for a kernel that does not know the rule (before 5.6).
    mounted: &'a [PathBuf],
    device: u64,
    /// Names at the top that stay.
    kept: fn(&str) -> bool,
    left: Vec<Left>,
}

/// Removes what lies in `directory`, but what is `kept` by its name there; and the directory, unless it `stays`. Returns what
/// could not be removed. Names of `mounted` are mount points.
#[must_use]
pub(crate) fn remove(directory: &Path, stays: bool, mounted: &[PathBuf], kept: fn(&str) -> bool) -> Vec<Left> {
    let told = |why: String| vec![Left { object: directory.display().to_string(), why }];
    let top = match openat(CWD, directory, DIRECTORY, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Vec::new(),
        // A link or a file where a directory was: it goes by itself, and what it leads to stays.
        Err(Errno::NOTDIR | Errno::LOOP) => {
            return if stays { told("is no directory".to_owned()) } else { file(directory).into_iter().collect() };
        }
        Err(errno) => return told(errno.to_string()),
    };
    let device = match fstat(&top) {
        Ok(stat) => stat.st_dev,
        Err(errno) => return told(errno.to_string()),
    };
    let mut removal = Removal { mounted, device, kept, left: Vec::new() };
    removal.content(&top, directory, 0);
    if removal.left.is_empty() && !stays {
        match std::fs::remove_dir(directory) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            // What the filesystem itself made in it stays with it.
            Err(e) if e.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
            Err(e) => removal.tell(directory, e.to_string()),
            Ok(()) => {}
        }
    }
    removal.left
}

/// Removes a file or link; what could not be removed, and why.
pub(crate) fn file(path: &Path) -> Option<Left> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Some(Left { object: path.display().to_string(), why: e.to_string() })
        }
        _ => None,
    }
}

impl Removal<'_> {
    fn content(&mut self, directory: &OwnedFd, path: &Path, depth: usize) {
        let entries = match Dir::read_from(directory) {
            Ok(entries) => entries,
            Err(errno) => return self.tell(path, errno.to_string()),
        };
        // Read to the end first: what a directory tells while it loses entries is not told anywhere.
        let names: Result<Vec<(CString, FileType)>, Errno> =
            entries.map(|entry| entry.map(|entry| (entry.file_name().to_owned(), entry.file_type()))).collect();
        let names = match names {
            Ok(names) => names,
            Err(errno) => return self.tell(path, errno.to_string()),
        };
        for (name, kind) in names {
            let shown = name.to_string_lossy();
            if shown == "." || shown == ".." || (depth == 0 && (self.kept)(&shown)) {
                continue;
            }
            let below = path.join(OsStr::from_bytes(name.to_bytes()));
            self.entry(directory, &name, kind, &below, depth);
        }
    }

    fn entry(&mut self, directory: &OwnedFd, name: &CStr, kind: FileType, path: &Path, depth: usize) {
        if kind != FileType::Directory {
            match unlinkat(directory, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => return,
                // Some filesystems do not tell what an entry is.
                Err(Errno::ISDIR) => {}
                Err(Errno::BUSY) => return self.tell(path, "something is mounted there".to_owned()),
                Err(errno) => return self.tell(path, errno.to_string()),
            }
        }
        if depth >= MAX_DEPTH {
            return self.tell(path, "lies too deep".to_owned());
        }
        let opened = match self.open(directory, name, path) {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return,
            Err(Errno::XDEV) => return self.tell(path, "something is mounted there".to_owned()),
            Err(errno) => return self.tell(path, errno.to_string()),
        };
        let before = self.left.len();
        self.content(&opened, path, depth + 1);
        if self.left.len() > before {
            return;
        }
        match unlinkat(directory, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::BUSY) => self.tell(path, "something is mounted there".to_owned()),
            Err(errno) => self.tell(path, errno.to_string()),
        }
    }

    fn open(&self, directory: impl AsFd, name: &CStr, path: &Path) -> Result<OwnedFd, Errno> {
        let rules = ResolveFlags::NO_XDEV.union(ResolveFlags::BENEATH).union(ResolveFlags::NO_SYMLINKS);
        match openat2(&directory, name, DIRECTORY, Mode::empty(), rules) {
            Err(Errno::NOSYS) if self.mounted.iter().any(|mounted| mounted == path) => Err(Errno::XDEV),
            Err(Errno::NOSYS) => {
                let opened = openat(&directory, name, DIRECTORY, Mode::empty())?;
                if fstat(&opened)?.st_dev == self.device { Ok(opened) } else { Err(Errno::XDEV) }
            }
            opened => opened,
        }
    }

    fn tell(&mut self, path: &Path, why: String) {
        if self.left.len() < MAX_TOLD {
            let object = bootstrap::text::plain(&path.display().to_string());
            self.left.push(Left { object, why });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootstrap::leaving::paths::is_of_filesystem;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn everything_goes_but_what_links_lead_to() {
        let root = tempfile::tempdir().unwrap();
        let (top, outside) = (root.path().join("top"), root.path().join("outside"));
        fs::create_dir_all(top.join("a/b/c")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        fs::write(top.join("a/b/file"), "x").unwrap();
        symlink(&outside, top.join("a/link")).unwrap();
        symlink("/nowhere", top.join("dangling")).unwrap();
        assert_eq!(remove(&top, false, &[], is_of_filesystem), []);
        assert!(!top.exists() && outside.join("kept").exists());
        assert_eq!(remove(&top, false, &[], is_of_filesystem), [], "a second time");
    }

    #[test]
    fn a_directory_that_stays_keeps_what_its_filesystem_made() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("lost+found")).unwrap();
        fs::create_dir_all(root.path().join("x/lost+found")).unwrap();
        assert_eq!(remove(root.path(), true, &[], is_of_filesystem), []);
        assert!(root.path().join("lost+found").exists() && !root.path().join("x").exists());
    }

    #[test]
    fn a_link_in_the_place_of_a_directory_goes_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("real")).unwrap();
        fs::write(root.path().join("real/kept"), "x").unwrap();
        symlink("real", root.path().join("link")).unwrap();
        assert_eq!(remove(&root.path().join("link"), false, &[], is_of_filesystem), []);
        assert!(root.path().join("real/kept").exists() && !root.path().join("link").exists());
    }

    #[test]
    fn names_that_are_no_text_go_too() {
        use std::os::unix::ffi::OsStrExt as _;
        let root = tempfile::tempdir().unwrap();
        let top = root.path().join("top");
        fs::create_dir(&top).unwrap();
        fs::write(top.join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "x").unwrap();
        assert_eq!(remove(&top, false, &[], is_of_filesystem), []);
    }
}
