//! Tars that depend on their content only: sorted as given, owned by root, dated 1970.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};

/// A tar in memory, built member by member.
#[derive(Debug, Default)]
pub struct Tarball {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    path: String,
    kind: tar::EntryType,
    mode: u32,
    link: String,
    bytes: Vec<u8>,
}

impl Tarball {
    /// With a directory.
    #[must_use]
    pub fn directory(self, path: &str) -> Self {
        self.member(path, tar::EntryType::Directory, 0o755, "", Vec::new())
    }

    /// With a regular file.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        self.member(path, tar::EntryType::Regular, mode, "", bytes.into())
    }

    /// With a symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.member(path, tar::EntryType::Symlink, 0o777, target, Vec::new())
    }

    /// With a copy of a file of this machine, executable.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn program(self, path: &str, source: &Path) -> Result<Self> {
        let bytes = fs::read(source).with_context(|| format!("Reading {}", source.display()))?;
        Ok(self.file(path, 0o755, bytes))
    }

    /// The tar's bytes.
    ///
    /// # Errors
    /// When a path is too long for the format.
    pub fn finish(self) -> Result<Vec<u8>> {
        let mut builder = tar::Builder::new(Vec::new());
        for member in self.members {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(member.kind);
            header.set_mode(member.mode);
            header.set_mtime(0);
            header.set_size(member.bytes.len() as u64);
            let put = if member.link.is_empty() {
                builder.append_data(&mut header, &member.path, member.bytes.as_slice())
            } else {
                builder.append_link(&mut header, &member.path, &member.link)
            };
            put.with_context(|| format!("Adding {} to a tar", member.path))?;
        }
        builder.into_inner().context("Finishing a tar")
    }

    fn member(mut self, path: &str, kind: tar::EntryType, mode: u32, link: &str, bytes: Vec<u8>) -> Self {
        self.members.push(Member { path: path.to_owned(), kind, mode, link: link.to_owned(), bytes });
        self
    }
}

/// `bytes`, gzip'd without name and date.
///
/// # Errors
/// When the compressor fails.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut writer = GzBuilder::new().mtime(0).write(Vec::new(), Compression::new(3));
    writer.write_all(bytes).and_then(|()| writer.finish()).context("Compressing")
}

/// Writes `bytes` to a new file.
///
/// # Errors
/// When it can't be written.
pub fn save(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("Making {}", parent.display()))?;
    }
    let mut file = File::create(path).with_context(|| format!("Creating {}", path.display()))?;
    file.write_all(bytes).with_context(|| format!("Writing {}", path.display()))
}
