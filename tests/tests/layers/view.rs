//! All that a directory holds, entry by entry, as text that two directories are compared by.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::time::SystemTime;

use bootstrap::digest::Digest;

/// One line for each path: kind, mode, owner, size, content, link, device, attributes, time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct View(BTreeMap<Vec<u8>, String>);

impl View {
    /// Reads all below `root`, and `root` itself. Times since `start` are one: when the test ran.
    pub(crate) fn read(root: &Path, start: SystemTime) -> Self {
        let start = start.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
        let (mut lines, mut first) = (BTreeMap::new(), HashMap::new());
        let mut left = vec![root.to_owned()];
        while let Some(path) = left.pop() {
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            lines.insert(name, path);
        }
        let line = |(name, path): (Vec<u8>, std::path::PathBuf)| {
            let same = first.entry(fs::symlink_metadata(&path).unwrap().ino()).or_insert_with(|| name.clone()).clone();
            let line = format!("{} same={}", describe(&path, start), OsStr::from_bytes(&same).display());
            (name, line)
        };
        Self(lines.into_iter().map(line).collect())
    }

    /// What differs, `-` here and `+` there.
    pub(crate) fn difference(&self, other: &Self) -> String {
        let missing = |one: &Self, two: &Self, sign: char| {
            let differ = one.0.iter().filter(|(path, line)| two.0.get(*path) != Some(line));
            differ.map(|(path, line)| format!("{sign} {:?} {line}\n", OsStr::from_bytes(path))).collect::<String>()
        };
        missing(self, other, '-') + &missing(other, self, '+')
    }
}

fn describe(path: &Path, start: i64) -> String {
    let there = fs::symlink_metadata(path).unwrap();
    let kind = there.file_type();
    let what = if kind.is_file() {
        format!("file {} {}", there.size(), Digest::of(&fs::read(path).unwrap()).short())
    } else if kind.is_symlink() {
        format!("link to {:?}", fs::read_link(path).unwrap())
    } else if kind.is_dir() {
        "directory".to_owned()
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else {
        format!("device {} {:#x}", if kind.is_char_device() { 'c' } else { 'b' }, there.rdev())
    };
    let time =
        if there.mtime() >= start { "now".to_owned() } else { format!("{}.{:09}", there.mtime(), there.mtime_nsec()) };
    format!("{what} {:o} {}:{} {time} {:?}", there.mode(), there.uid(), there.gid(), attributes(path))
}

fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        (String::from_utf8_lossy(name).into_owned(), value[..length].to_vec())
    };
    names.map(value).collect()
}
