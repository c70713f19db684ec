//! The contents as a read-only filesystem with numbered files: the library takes lazy content from a
//! filesystem only. Every file is hashed as it is read, so that an input which changed since the
//! manifest was made stops the build.

use std::io;

use bootstrap::digest::{Digest, Hasher};
use hadris_fs::sync::FileSystem;
use hadris_fs::{
    Capabilities, CaseRule, Charset, DirCursor, DirEntry, Error, ErrorKind, FileType, FsResult, FsStats, Metadata,
    Name, NodeId, OpenMode, Permissions,
};

use crate::content::Content;

/// The root's number; the files follow.
const ROOT: NodeId = match NodeId::new(1) {
    Some(root) => root,
    None => unreachable!(),
};

/// The filesystem.
pub(super) struct Payload {
    files: Vec<Numbered>,
}

struct Numbered {
    content: Content,
    /// None where what is read need not be what was hashed.
    digest: Option<Digest>,
    hasher: Hasher,
    /// The byte that is read next.
    next: u64,
}

/// The name of file number `index`.
pub(super) fn name(index: usize) -> String {
    index.to_string()
}

impl Payload {
    pub(super) fn new(contents: Vec<(Content, Option<Digest>)>) -> Self {
        let number = |(content, digest)| Numbered { content, digest, hasher: Hasher::default(), next: 0 };
        Self { files: contents.into_iter().map(number).collect() }
    }

    fn file(&mut self, node: NodeId) -> FsResult<&mut Numbered, io::Error> {
        let index = usize::try_from(node.get()).ok().and_then(|number| number.checked_sub(2));
        index.and_then(|index| self.files.get_mut(index)).ok_or(ErrorKind::InvalidHandle.into())
    }
}

impl Numbered {
    fn metadata(&self) -> Metadata {
        Metadata::new(FileType::File, Permissions::new(0o644)).with_len(self.content.length())
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read_at(offset, buf)?;
        if offset != self.next {
            return Err(io::Error::other("the content is read out of order"));
        }
        self.next += count as u64;
        let Some(digest) = self.digest else { return Ok(count) };
        self.hasher.update(&buf[..count]);
        if self.next == self.content.length() {
            self.next = 0;
            if std::mem::take(&mut self.hasher).finish() != digest {
                let what = format!("{} changed while it was packed", self.content.origin().display());
                return Err(io::Error::other(what));
            }
        }
        Ok(count)
    }
}

fn node(index: usize) -> FsResult<NodeId, io::Error> {
    NodeId::new(index as u64 + 2).ok_or(ErrorKind::InvalidHandle.into())
}

impl FileSystem for Payload {
    type DeviceError = io::Error;

    fn capabilities(&self) -> Capabilities {
        Capabilities::new(CaseRule::Sensitive, Charset::Bytes, 255)
    }

    fn root(&self) -> NodeId {
        ROOT
    }

    fn statfs(&mut self) -> FsResult<FsStats, io::Error> {
        Ok(FsStats::new(0, 0, 2048))
    }

    fn label<'b>(&mut self, _buf: &'b mut [u8]) -> FsResult<Option<&'b str>, io::Error> {
        Ok(None)
    }

    fn lookup(&mut self, _dir: NodeId, name: &Name) -> FsResult<NodeId, io::Error> {
        let index = name.to_str().ok().and_then(|name| name.parse::<usize>().ok());
        match index {
            Some(index) if index < self.files.len() => node(index),
            _ => Err(ErrorKind::NotFound.into()),
        }
    }

    fn forget(&mut self, _node: NodeId, _count: u64) {}

    fn parent(&mut self, _dir: NodeId) -> FsResult<NodeId, io::Error> {
        Ok(ROOT)
    }

    fn stat(&mut self, node: NodeId) -> FsResult<Metadata, io::Error> {
        if node == ROOT {
            return Ok(Metadata::new(FileType::Dir, Permissions::new(0o755)));
        }
        self.file(node).map(|file| file.metadata())
    }

    fn readdir(&mut self, _dir: NodeId, from: DirCursor) -> FsResult<Option<DirEntry>, io::Error> {
        let index = usize::try_from(from.into_raw()).unwrap_or(usize::MAX);
        let Some(file) = self.files.get(index) else {
            return Ok(None);
        };
        let next = DirCursor::from_raw(from.into_raw() + 1);
        Ok(Some(DirEntry::new(Name::new(&name(index)), node(index)?, file.metadata(), next)?))
    }

    fn readlink<'b>(&mut self, _node: NodeId, _buf: &'b mut [u8]) -> FsResult<&'b [u8], io::Error> {
        Err(ErrorKind::InvalidInput.into())
    }

    fn open(&mut self, node: NodeId, _mode: OpenMode) -> FsResult<(), io::Error> {
        self.file(node).map(|_| ())
    }

    fn close(&mut self, _node: NodeId) -> FsResult<(), io::Error> {
        Ok(())
    }

    fn read(&mut self, node: NodeId, offset: u64, buf: &mut [u8]) -> FsResult<usize, io::Error> {
        self.file(node)?.read(offset, buf).map_err(|e| Error::device(e, ""))
    }
}
