//! A tar's entries in their order: what they replace, what they take away, and where they go.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Timestamps, Uid, XattrFlags, chownat, mknodat, setxattr, utimensat};

use super::entries::{Entries, Entry, Kind};
use super::parents::Lower;
use super::path::{clean, join, leads_out, shown, split};
use super::rooted::{Directory, Root, by_proc, child, judge, list, remove};
use super::stream::Supply;
use super::write::{make, set_times, times};
use super::{Refused, Target, Whiteouts, hostile};
use crate::direct::Buffer;

/// What starts the name of an entry that takes something away (OCI image spec, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// The whiteout of all that lower layers have in a directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Entries that are remembered: far more than images have, and some 20 MB.
const MAX_REMEMBERED: usize = 500_000;
/// Bytes of names of directories that are remembered.
const MAX_NAMES: usize = 8 << 20;

/// What is known about a layer while it is unpacked.
pub(super) struct Unpacker {
    root: Root,
    lower: Lower,
    whiteouts: Whiteouts,
    /// What this layer brought, by a hash of the path: an opaque directory keeps that. Only where whiteouts remove.
    brought: HashSet<[u64; 2]>,
    keys: [RandomState; 2],
    /// Directories that were made opaque: a second whiteout finds nothing more from below.
    opaque: HashSet<Vec<u8>>,
    /// Times of directories, set when nothing is put into them any more.
    directories: Vec<(Vec<u8>, Timestamps)>,
    names: usize,
    /// Whether something of the directory was removed, so that a path may lead elsewhere than before.
    removed: bool,
    buffer: Buffer,
}

impl Unpacker {
    pub(super) fn new(target: &Target) -> Result<Self, Refused> {
        Ok(Self {
            root: Root::open(&target.directory)?,
            lower: Lower::open(&target.parents)?,
            whiteouts: target.whiteouts,
            brought: HashSet::new(),
            keys: [RandomState::new(), RandomState::new()],
            opaque: HashSet::new(),
            directories: Vec::new(),
            names: 0,
            removed: false,
            buffer: Buffer::default(),
        })
    }

    /// Unpacks all entries, then sets the times of directories.
    pub(super) fn run<S: Supply>(mut self, tar: &mut Entries<S>) -> Result<(), Refused> {
        while let Some(entry) = tar.next()? {
            self.entry(&entry, tar)?;
        }
        self.finish()
    }

    fn entry<S: Supply>(&mut self, entry: &Entry, tar: &mut Entries<S>) -> Result<(), Refused> {
        let name = clean(&entry.name);
        if leads_out(&name) {
            return Err(hostile(format!("the entry {:?} lies outside of the layer", shown(&entry.name))));
        }
        let (parent, base) = split(&name);
        if base.is_empty() || base == b"." {
            // The root itself: containerd leaves it as it is.
            return Ok(());
        }
        let directory = match self.root.kept(parent) {
            Some(directory) => directory,
            None => Rc::new(self.lower.make(&self.root, &self.root.resolve(parent)?)?),
        };
        if base.starts_with(WHITEOUT) {
            return self.whiteout(&directory, base, entry);
        }
        if make(&self.root, directory.fd.as_fd(), base, entry, tar, &mut self.buffer)? {
            self.was_removed();
        }
        self.remember(entry, &name, &directory.path, base)
    }

    fn whiteout(&mut self, directory: &Directory, base: &[u8], entry: &Entry) -> Result<(), Refused> {
        let told = |errno| judge(format!("the whiteout {:?}", shown(&entry.name)), errno);
        if base == OPAQUE {
            return match self.whiteouts {
                Whiteouts::Overlay => {
                    let path = by_proc(directory.fd.as_fd(), b"");
                    setxattr(&path[..], c"trusted.overlay.opaque", b"y", XattrFlags::empty()).map_err(told)
                }
                Whiteouts::Remove if self.opaque.insert(directory.path.clone()) => {
                    self.was_removed();
                    self.empty(directory.fd.as_fd(), &directory.path)
                }
                Whiteouts::Remove => Ok(()),
            };
        }
        let hidden = &base[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(hostile(format!("the whiteout {:?} names no file", shown(&entry.name))));
        }
        match self.whiteouts {
            Whiteouts::Remove => {
                self.was_removed();
                remove(directory.fd.as_fd(), hidden)
            }
            Whiteouts::Overlay => {
                let fd = &directory.fd;
                mknodat(fd, hidden, FileType::CharacterDevice, Mode::empty(), 0).map_err(told)?;
                let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
                chownat(fd, hidden, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(told)
            }
        }
    }

    /// Removes all below `directory` that this layer has not brought itself, by an entry of its own.
    fn empty(&self, directory: BorrowedFd<'_>, path: &[u8]) -> Result<(), Refused> {
        list(directory, |name, kind| {
            let name = name.to_bytes();
            let full = join(path, name);
            if !self.brought.contains(&self.key(&full)) {
                return remove(directory, name);
            }
            if kind != FileType::Directory {
                return Ok(());
            }
            let inner = child(directory, name).map_err(|errno| judge(format!("{:?}", shown(&full)), errno))?;
            self.empty(inner.as_fd(), &full)
        })
    }

    fn was_removed(&mut self) {
        self.removed = true;
        self.root.forget();
    }

    fn key(&self, path: &[u8]) -> [u64; 2] {
        [self.keys[0].hash_one(path), self.keys[1].hash_one(path)]
    }

    fn remember(&mut self, entry: &Entry, name: &[u8], directory: &[u8], base: &[u8]) -> Result<(), Refused> {
        if self.whiteouts == Whiteouts::Remove {
            self.brought.insert(self.key(&join(directory, base)));
        }
        if entry.kind == Kind::Directory {
            self.names += name.len();
            self.directories.push((name.to_vec(), times(entry)));
        }
        if self.brought.len().max(self.directories.len()) > MAX_REMEMBERED || self.names > MAX_NAMES {
            return Err(Refused::Unknown("more entries than usual".to_owned()));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), Refused> {
        for (name, times) in std::mem::take(&mut self.directories) {
            let (parent, base) = split(&name);
            match self.root.kept(parent) {
                Some(directory) if !self.removed => {
                    utimensat(&directory.fd, base, &times, AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(|errno| judge(format!("the times of {:?}", shown(&name)), errno))?;
                }
                _ => set_times(&self.root, &name, &times)?,
            }
        }
        Ok(())
    }
}
