//! One bundle as it is compared: its manifest, or what a stock ISO's listing and archives tell.

use bootstrap::archive;
use bootstrap::bundle::legacy::{self, Listed};
use bootstrap::bundle::{Arch, Kind, MANIFEST_PATH, Manifest, layout};
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};

use super::Side;
use crate::opened::Opened;

/// A bundle, read.
pub(super) struct Read {
    pub(super) side: Side,
    pub(super) manifest: Manifest,
    pub(super) notes: Vec<String>,
}

impl Read {
    /// # Errors
    /// As [`Opened::manifest`]; `MANIFEST_INVALID` when a stock ISO's archives contradict each other.
    pub(super) fn of(bundle: &Opened) -> Result<Self, Failure> {
        let (manifest, notes) = match bundle.manifest()? {
            Some((manifest, _)) => (manifest, Vec::new()),
            None => stock(bundle)?,
        };
        let Manifest { name, kubernetes, arch, .. } = manifest.clone();
        let side = Side { path: bundle.name.clone(), name, kubernetes, arch, size: bundle.size() };
        Ok(Self { side, manifest, notes })
    }

    /// The digest of the file at `path`, where the manifest tells it.
    pub(super) fn digest(&self, path: &str) -> Option<Digest> {
        self.manifest.entry(path)?.sha256
    }

    /// The files that are compared.
    pub(super) fn paths<'a>(&self, bundle: &'a Opened) -> impl Iterator<Item = &'a String> {
        bundle.files.iter().map(|file| &file.path).filter(|path| !path.starts_with(MANIFEST_PATH))
    }
}

fn stock(bundle: &Opened) -> Result<(Manifest, Vec<String>), Failure> {
    let mut notes = vec![format!(
        "{} has no manifest: versions are unknown, files are compared byte by byte, images as its archives tell",
        bundle.name
    )];
    let (mut listing, mut archives) = (Vec::new(), Vec::new());
    for file in &bundle.files {
        listing.push(Listed { path: file.path.clone(), size: file.content.length() });
        if layout::kind_of(&file.path) == Kind::ImageArchive {
            match archive::read(file.content.reader(), &file.path) {
                Ok(archive) => archives.push(archive),
                Err(failure) if failure.code == Code::Io => return Err(failure),
                Err(failure) => notes.push(format!("{}: {}; its images are not compared", bundle.name, failure.what)),
            }
        }
    }
    let machine = Arch::parse(std::env::consts::ARCH).unwrap_or(Arch::Amd64);
    let derived = match legacy::derive(&listing, archives, machine) {
        Err(failure) if matches!(failure.code, Code::ArchMismatch | Code::ManifestInvalid) => {
            notes.push(format!("{}: {}; its images are not compared", bundle.name, failure.what));
            legacy::derive(&listing, Vec::new(), machine)
        }
        other => other,
    };
    Ok((derived?, notes))
}
