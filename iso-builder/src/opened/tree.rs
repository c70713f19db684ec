//! A bundle in a directory: a mounted or unpacked ISO. No link is followed below the directory, and no
//! more is listed than an ISO may hold.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use bootstrap::bundle::layout;
use bootstrap::failure::{Code, Failure};
use nix::fcntl::OFlag;

use super::{BundleFile, Medium, Opened};
use crate::content::{Content, Source, failed};

/// Files and directories at most: each file stays open, and a bundle has some fifty.
const MAX_ENTRIES: usize = 4096;

/// Directories inside one another; the stock layout has one level.
const MAX_DEPTH: usize = 32;

/// Opens the directory `root`.
pub(super) fn open(root: &Path) -> Result<Opened, Failure> {
    let refuse = |what: String| {
        Failure::new(Code::SourceInvalid, format!("{}: {what}", root.display()))
            .with_remedy("name the directory of a mounted or unpacked CKS ISO")
    };
    let (mut files, mut others, mut entries) = (Vec::new(), Vec::new(), 0);
    let mut pending = vec![(root.to_owned(), String::new(), 0)];
    while let Some((directory, prefix, depth)) = pending.pop() {
        if depth > MAX_DEPTH {
            return Err(refuse(format!("{prefix:?} lies more than {MAX_DEPTH} deep")));
        }
        let mut is_empty = true;
        for entry in fs::read_dir(&directory).map_err(|e| failed("Listing", &directory, e))? {
            let entry = entry.map_err(|e| failed("Listing", &directory, e))?;
            (entries, is_empty) = (entries + 1, false);
            if entries > MAX_ENTRIES {
                return Err(refuse(format!("it holds more than {MAX_ENTRIES} files and directories")));
            }
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            layout::check_path(&path).map_err(|reason| refuse(format!("path {path:?} {reason}")))?;
            // Of the entry itself: a link is a link here.
            let meta = entry.metadata().map_err(|e| failed("Reading", &entry.path(), e))?;
            if meta.is_dir() {
                pending.push((entry.path(), path + "/", depth + 1));
            } else if meta.is_file() {
                files.push(BundleFile { path, mode: meta.mode() & 0o7777, content: content(&entry.path(), &meta)? });
            } else {
                others.push(path);
            }
        }
        if is_empty && !prefix.is_empty() {
            others.push(prefix);
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    others.sort();
    Ok(Opened { name: root.display().to_string(), medium: Medium::Directory, files, others, volume: None })
}

/// Opens the very file that was listed, and no other that stands in its place meanwhile.
fn content(path: &Path, listed: &fs::Metadata) -> Result<Content, Failure> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    let file = opened.map_err(|e| failed("Opening", path, e))?;
    let meta = file.metadata().map_err(|e| failed("Reading", path, e))?;
    if (meta.dev(), meta.ino()) != (listed.dev(), listed.ino()) {
        return Err(Failure::new(Code::Io, format!("{} was replaced while it was opened", path.display())));
    }
    Ok(Content::whole(&Source::of(file, path)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_listed_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("docker/empty")).unwrap();
        fs::write(root.join("docker/a"), "abc").unwrap();
        fs::write(dir.path().join("outside"), "secret").unwrap();
        std::os::unix::fs::symlink("../outside", root.join("link")).unwrap();
        std::os::unix::fs::symlink("..", root.join("up")).unwrap();
        let opened = Opened::open(&root).unwrap();
        let files: Vec<_> = opened.files.iter().map(|file| (file.path.as_str(), file.content.length())).collect();
        assert_eq!(files, [("docker/a", 3)]);
        assert_eq!(opened.others, ["docker/empty/", "link", "up"]);
        assert!(opened.volume.is_none() && opened.size() == 3);
    }

    #[test]
    fn a_tree_without_end_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(["d"; MAX_DEPTH + 2].join("/"))).unwrap();
        assert_eq!(Opened::open(dir.path()).unwrap_err().code, Code::SourceInvalid);
    }
}
