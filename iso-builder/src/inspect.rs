//! What is on an ISO, for people and for machines.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::{Path, PathBuf};

use bootstrap::bundle::{Image, Manifest};
use bootstrap::digest::Digest;
use bootstrap::failure::Failure;
use bootstrap::text::plain;
use indicatif::HumanBytes;
use serde::Serialize;

use crate::opened::Opened;

/// Characters of the longest bar.
const BAR: u64 = 24;

/// What is on an ISO.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// The ISO.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// The volume identifier.
    pub volume_id: String,
    /// The digest of the manifest, where there is one.
    pub manifest_sha256: Option<Digest>,
    /// The manifest; none on a stock ISO.
    pub manifest: Option<Manifest>,
    /// Every file, sorted by path.
    pub files: Vec<Listed>,
}

/// One file of the ISO.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// Path on the ISO.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
}

impl Inspection {
    /// Looks at the ISO at `path`.
    ///
    /// # Errors
    /// As [`Opened::open`] and [`Opened::manifest`].
    pub fn of(path: &Path) -> Result<Self, Failure> {
        let iso = Opened::open(path)?;
        let (manifest, manifest_sha256) = iso.manifest()?.unzip();
        let list =
            |file: &bootstrap::disc::DiscFile| Listed { path: file.path.clone(), size: file.size, mode: file.mode };
        let files = iso.disc.files.iter().map(list).collect();
        let size = iso.size();
        Ok(Self { path: path.to_owned(), size, volume_id: iso.disc.volume_id, manifest_sha256, manifest, files })
    }

    fn files(&self, out: &mut String) -> fmt::Result {
        let mut groups: BTreeMap<&str, Vec<(&str, &Listed)>> = BTreeMap::new();
        for file in &self.files {
            let (group, name) = file.path.split_once('/').unwrap_or(("", &file.path));
            groups.entry(group).or_default().push((name, file));
        }
        let total: u64 = self.files.iter().map(|file| file.size).sum();
        writeln!(out, "\nFiles")?;
        for (group, files) in groups {
            let size: u64 = files.iter().map(|(_, file)| file.size).sum();
            let title = if group.is_empty() { "./".to_owned() } else { plain(group) + "/" };
            writeln!(out, "  {title:42} {:>12}  {}", HumanBytes(size).to_string(), bar(size, total))?;
            for (name, file) in files {
                writeln!(out, "    {:40} {:>12}  {:04o}", plain(name), HumanBytes(file.size).to_string(), file.mode)?;
            }
        }
        writeln!(out, "  {:42} {:>12}", format!("{} files", self.files.len()), HumanBytes(total).to_string())
    }

    fn manifest(&self, manifest: &Manifest, out: &mut String) -> fmt::Result {
        writeln!(out, "Bundle     {} for {}", plain(&manifest.name), manifest.arch)?;
        if let Some(digest) = self.manifest_sha256 {
            writeln!(out, "Manifest   {digest}")?;
        }
        for (at, component) in manifest.components.iter().enumerate() {
            let title = if at == 0 { "Versions" } else { "" };
            writeln!(out, "{title:10} {} {}", plain(&component.name), plain(&component.version))?;
        }
        if let Some(image) = &manifest.sandbox_image {
            writeln!(out, "Sandbox    {}", plain(image))?;
        }
        self.files(out)?;
        if !manifest.images.is_empty() {
            writeln!(out, "\nImages")?;
        }
        for image in &manifest.images {
            let roles: Vec<_> = image.roles.iter().map(|role| role.as_str()).collect();
            let (digest, size) = (image.digest.short(), HumanBytes(size_of(image, manifest)).to_string());
            writeln!(out, "  {:56} {digest}  {size:>12}  {}", plain(&image.reference), roles.join(", "))?;
        }
        if !manifest.images.is_empty() {
            let size = manifest.blobs.iter().map(|blob| blob.size).sum();
            let title = format!("{} images, {} blobs", manifest.images.len(), manifest.blobs.len());
            writeln!(out, "  {title:56} {:12}  {:>12}", "", HumanBytes(size).to_string())?;
        }
        Ok(())
    }

    fn all(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "ISO        {}", plain(&self.path.to_string_lossy()))?;
        writeln!(out, "Size       {} ({} bytes)", HumanBytes(self.size), self.size)?;
        writeln!(out, "Volume     {}", plain(&self.volume_id))?;
        match &self.manifest {
            Some(manifest) => self.manifest(manifest, out),
            None => {
                writeln!(out, "Bundle     a stock ISO: it has no manifest, so nothing on it can be verified")?;
                self.files(out)
            }
        }
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.all(&mut out)?;
        f.write_str(&out)
    }
}

/// Bytes of the image's blobs; images share some.
fn size_of(image: &Image, manifest: &Manifest) -> u64 {
    let digests = [&image.digest, &image.config].into_iter().chain(&image.layers);
    digests.filter_map(|digest| manifest.blob(digest)).map(|blob| blob.size).sum()
}

/// `size` as a share of `total`, at least one character for what is not empty.
fn bar(size: u64, total: u64) -> String {
    let share = u128::from(size) * u128::from(BAR) / u128::from(total.max(1));
    let length = usize::try_from(share).unwrap_or_default().max(usize::from(size > 0));
    "█".repeat(length)
}
