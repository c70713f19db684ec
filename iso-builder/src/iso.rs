//! Writes ISO 9660: level 3, Rock Ridge and Joliet, as `genisoimage -J -R -l` does, the same bytes for
//! the same input. Why with this library, and what was measured: `docs/decisions/0001-iso9660.md`.

mod output;
mod payload;

use std::io::{self, Read, Write};

use bootstrap::bundle::VOLUME_ID;
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use hadris_fs::sync::{Volume, read_tree};
use hadris_fs::{DateTime, Node, PathError, Permissions, SetAttr, Tree};
use hadris_iso::{IsoId, IsoLevel, IsoOptions};

use self::output::Output;
use self::payload::Payload;
use crate::bundle;
use crate::progress::{Bar, Progress};

/// What stands in the descriptors beside the volume identifier.
#[derive(Debug, Clone, Copy)]
pub struct Labels {
    /// Seconds since 1970; dates everything.
    pub epoch: u64,
    /// The digest of `cks-bundle.json`: the application identifier, so that the manifest is checked too.
    pub manifest: Digest,
    /// How the files' digests are known.
    pub digests: Digests,
}

/// How the digests of files are known, and so what has to be done while they are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digests {
    /// Computed from these open files: enough that they did not change since they were opened.
    Computed,
    /// Told by somebody: each file is hashed while it is packed.
    Told,
}

/// A finished image.
#[derive(Debug, Clone, Copy)]
pub struct Written {
    /// Bytes.
    pub size: u64,
    /// The digest of the whole image.
    pub sha256: Digest,
}

/// An image laid out, not yet written.
#[derive(Debug)]
pub struct Image {
    tree: Tree,
    options: IsoOptions,
    size: u64,
}

impl Image {
    /// Lays `files` out.
    ///
    /// # Errors
    /// `SPEC_INVALID` names the path that ISO 9660 can't hold.
    pub fn plan(files: &[bundle::File], labels: Labels) -> Result<Self, Failure> {
        let contents = files.iter().map(|file| (file.content.clone(), file.digest)).collect();
        let payload = read_tree(&Volume::new(Payload::new(contents, labels.digests)), "/").map_err(|e| refused(&e))?;
        let mut tree = Tree::new();
        for (index, file) in files.iter().enumerate() {
            let node = payload.get(format!("/{}", payload::name(index)));
            let content = node.and_then(Node::content).cloned().unwrap_or_default();
            let attrs = SetAttr::new().with_permissions(Permissions::new(file.mode));
            tree.insert(&file.path, Node::file(content).with_attrs(attrs)).map_err(|e| refused(&e))?;
        }
        let time = i64::try_from(labels.epoch).ok().and_then(|seconds| DateTime::from_unix_seconds(seconds).ok());
        let time = time.ok_or_else(|| Failure::new(Code::SpecInvalid, format!("epoch {} is no time", labels.epoch)))?;
        let options = IsoOptions::new()
            .with_level(IsoLevel::L3)
            .with_rock_ridge()
            .with_joliet()
            .with_time(time)
            .with_id(IsoId::Volume, VOLUME_ID)
            .with_id(IsoId::Preparer, "CKS-ISO")
            .with_id(IsoId::Application, &labels.manifest.hex());
        let size = hadris_iso::plan(&tree, &options).map_err(|e| refused(&e))?.size();
        Ok(Self { tree, options, size })
    }

    /// Bytes that the image will have.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Writes the image to `file`, from its start to its end.
    ///
    /// # Errors
    /// `NO_SPACE` or `IO` when writing fails; `IO` when an input can't be read or is no longer what was
    /// hashed.
    pub fn write(&self, file: impl Write, bar: &Bar) -> Result<Written, Failure> {
        let mut output = Output::new(file, self.size, bar);
        let written = hadris_iso::sync::write(&mut output, &self.tree, &self.options);
        let (sha256, failed) = output.finish();
        match (written, failed) {
            (Ok(_), None) => Ok(Written { size: self.size, sha256 }),
            (_, Some(error)) => Err(crate::content::failed("Writing", "the image".as_ref(), error)),
            (Err(error), None) => Err(unread(&error)),
        }
    }
}

/// Where `image` first differs from what [`Image`] makes of `files`, which may be its own: they are read
/// again, and not hashed. None where they are the same to the end of the shorter of both.
///
/// # Errors
/// As [`Image::plan`] and [`Image::write`]; `IO` when `image` can't be read.
pub fn difference(
    files: &[bundle::File],
    labels: Labels,
    image: impl Read,
    progress: Progress,
) -> Result<Option<u64>, Failure> {
    let own = Image::plan(files, labels)?;
    let bar = progress.start("Comparing", own.size);
    let mut compared = Compared { image, at: 0, buf: Vec::new(), differs: None };
    let mut output = Output::unhashed(&mut compared, own.size, &bar);
    let written = hadris_iso::sync::write(&mut output, &own.tree, &own.options);
    let (_, failed) = output.finish();
    bar.finish();
    match (compared.differs, written, failed) {
        (Some(at), ..) => Ok(Some(at)),
        (None, _, Some(error)) => Err(crate::content::failed("Reading", "the image".as_ref(), error)),
        (None, Err(error), None) => Err(unread(&error)),
        (None, Ok(_), None) => Ok(None),
    }
}

/// Takes what should be in an image, up to the first byte that is not.
struct Compared<R> {
    image: R,
    at: u64,
    buf: Vec<u8>,
    differs: Option<u64>,
}

impl<R: Read> Write for Compared<R> {
    fn write(&mut self, want: &[u8]) -> io::Result<usize> {
        self.buf.clear();
        (&mut self.image).take(want.len() as u64).read_to_end(&mut self.buf)?;
        if self.buf != want {
            let same = want.iter().zip(&self.buf).take_while(|(one, other)| one == other).count();
            self.differs = self.differs.or(Some(self.at + same as u64));
            return Err(io::Error::other("the image differs"));
        }
        self.at += want.len() as u64;
        Ok(want.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn refused(error: &PathError) -> Failure {
    Failure::new(Code::SpecInvalid, format!("ISO 9660 can't hold this: {error}"))
}

fn unread(error: &PathError) -> Failure {
    let path = String::from_utf8_lossy(error.path().unwrap_or_default()).into_owned();
    let why = error.downcast_device::<std::io::Error>().map_or_else(|| error.to_string(), ToString::to_string);
    Failure::new(Code::Io, format!("Packing {}: {why}", path.trim_start_matches('/')))
}
