//! What is in a bundle, for people and for machines.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use bootstrap::bundle::{Image, Kind, Manifest, Role, legacy};
use bootstrap::digest::Digest;
use bootstrap::failure::Failure;
use bootstrap::signature::SIGNATURE_PATH;
use bootstrap::text::plain;
use indicatif::HumanBytes;
use serde::Serialize;

use crate::columns::{WIDTH, bar, bytes, cell, count, cut};
use crate::opened::{Medium, Opened};

/// Characters of the column with the names of files.
const NAMES: usize = 52;

/// Characters of the column with the names of images.
const REFERENCES: usize = 59;

/// What is in a bundle.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// The path, or the URL.
    pub path: String,
    /// What it is.
    pub medium: Medium,
    /// Bytes: of the image, or of all files where there is none.
    pub size: u64,
    /// The volume identifier; none where it is no ISO.
    pub volume_id: Option<String>,
    /// Whether a signature of the manifest is there; whose, `verify` tells.
    pub signed: bool,
    /// The digest of the manifest, where there is one.
    pub manifest_sha256: Option<Digest>,
    /// The manifest; none on a stock ISO.
    pub manifest: Option<Manifest>,
    /// Every file, sorted by path.
    pub files: Vec<Listed>,
    /// Links, devices, pipes, and empty directories, which end in `/`.
    pub others: Vec<String>,
}

/// One file of the bundle.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// Path from the root.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
}

impl Inspection {
    /// Looks at `bundle`.
    ///
    /// # Errors
    /// As [`Opened::manifest`].
    pub fn of(bundle: &Opened) -> Result<Self, Failure> {
        let (manifest, manifest_sha256) = bundle.manifest()?.unzip();
        let files = bundle.files.iter();
        Ok(Self {
            path: bundle.name.clone(),
            medium: bundle.medium,
            size: bundle.size(),
            volume_id: bundle.volume.as_ref().map(|volume| volume.id.clone()),
            signed: bundle.file(SIGNATURE_PATH).is_some(),
            manifest_sha256,
            manifest,
            files: files
                .map(|file| Listed { path: file.path.clone(), size: file.content.length(), mode: file.mode })
                .collect(),
            others: bundle.others.clone(),
        })
    }

    fn all(&self, out: &mut String) -> fmt::Result {
        let medium = match self.medium {
            Medium::Iso => "ISO",
            Medium::Directory => "Directory",
            Medium::Url => "URL",
        };
        writeln!(out, "{medium:10} {}", plain(&self.path))?;
        writeln!(out, "Size       {} ({} bytes)", HumanBytes(self.size), self.size)?;
        if let Some(id) = &self.volume_id {
            writeln!(out, "Volume     {}", plain(id))?;
        }
        match &self.manifest {
            Some(manifest) => self.about(manifest, out)?,
            None if !legacy::is_bundle(self.files.iter().map(|file| file.path.as_str())) => {
                writeln!(out, "Bundle     none: it holds nothing that a node installs")?;
            }
            None => writeln!(out, "Bundle     a stock ISO: it has no manifest, so nothing on it can be verified")?,
        }
        self.tree(out)?;
        self.manifest.iter().try_for_each(|manifest| images(manifest, out))
    }

    fn about(&self, manifest: &Manifest, out: &mut String) -> fmt::Result {
        writeln!(out, "Bundle     {} for {}", plain(&manifest.name), manifest.arch)?;
        if let Some(digest) = self.manifest_sha256 {
            writeln!(out, "Manifest   {digest}")?;
        }
        let signature = if self.signed { "there: cks-iso verify --key tells whose" } else { "none" };
        writeln!(out, "Signature  {signature}")?;
        let width = manifest.components.iter().map(|component| component.name.chars().count()).max().unwrap_or(0);
        for (at, component) in manifest.components.iter().enumerate() {
            let title = if at == 0 { "Versions" } else { "" };
            let (name, version) = (cell(&component.name, width.min(40)), cut(&component.version, 50));
            writeln!(out, "{title:10} {name}  {version}")?;
        }
        if let Some(image) = &manifest.sandbox_image {
            writeln!(out, "Sandbox    {}", cut(image, WIDTH - 11))?;
        }
        for (at, role) in Role::ALL.into_iter().enumerate() {
            let title = if at == 0 { "Nodes" } else { "" };
            let (files, images, size) = taken(manifest, role);
            let what = format!("{}, {}", count(files, "file"), count(images, "image"));
            writeln!(out, "{title:10} {:13} take {}: {what}", role.as_str(), bytes(size))?;
        }
        Ok(())
    }

    /// The files by directory, the largest directory's bar the longest.
    fn tree(&self, out: &mut String) -> fmt::Result {
        let mut groups: BTreeMap<&str, Vec<(&str, &Listed)>> = BTreeMap::new();
        for file in &self.files {
            let (group, name) = file.path.split_once('/').unwrap_or(("", &file.path));
            groups.entry(group).or_default().push((name, file));
        }
        let total: u64 = self.files.iter().map(|file| file.size).sum();
        writeln!(out, "\nFiles")?;
        for (group, files) in groups {
            let size: u64 = files.iter().map(|(_, file)| file.size).sum();
            let title = if group.is_empty() { "./".to_owned() } else { format!("{group}/") };
            writeln!(out, "  {} {}        {}", cell(&title, NAMES), bytes(size), bar(size, total))?;
            for (at, (name, file)) in files.iter().enumerate() {
                let branch = if at + 1 == files.len() { "└─" } else { "├─" };
                let name = cell(name, NAMES - 3);
                writeln!(out, "  {branch} {name} {}  {:04o}", bytes(file.size), file.mode)?;
            }
        }
        writeln!(out, "  {} {}", cell(&count(self.files.len(), "file"), NAMES), bytes(total))?;
        if !self.others.is_empty() {
            writeln!(out, "\nNeither files nor directories with files: nodes don't get them")?;
        }
        self.others.iter().try_for_each(|path| writeln!(out, "  {}", cut(path, WIDTH - 2)))
    }
}

/// Files, images and bytes that a node of `role` takes.
fn taken(manifest: &Manifest, role: Role) -> (usize, usize, u64) {
    let files: Vec<_> = manifest.entries_for(role).filter(|entry| entry.kind != Kind::ImageArchive).collect();
    let images: Vec<_> = manifest.images_for(role).collect();
    let mut blobs: Vec<_> = images.iter().flat_map(|image| blobs_of(image)).collect();
    blobs.sort();
    blobs.dedup();
    let blobs = blobs.into_iter().filter_map(|digest| manifest.blob(digest)).map(|blob| blob.size);
    let size = files.iter().map(|entry| entry.size).chain(blobs).sum();
    (files.len(), images.len(), size)
}

fn blobs_of(image: &Image) -> impl Iterator<Item = &Digest> {
    [&image.digest, &image.config].into_iter().chain(&image.layers)
}

fn images(manifest: &Manifest, out: &mut String) -> fmt::Result {
    if manifest.images.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nImages")?;
    for image in &manifest.images {
        let roles: Vec<_> = image.roles.iter().map(|role| role.as_str()).collect();
        // Images share blobs: the sizes add up to more than the whole.
        let size = blobs_of(image).filter_map(|digest| manifest.blob(digest)).map(|blob| blob.size).sum();
        let (reference, digest) = (cell(&image.reference, REFERENCES), image.digest.short());
        writeln!(out, "  {reference} {}  {digest}  {}", bytes(size), roles.join(", "))?;
    }
    let size = manifest.blobs.iter().map(|blob| blob.size).sum();
    let title = format!("{}, {}", count(manifest.images.len(), "image"), count(manifest.blobs.len(), "blob"));
    writeln!(out, "  {} {}", cell(&title, REFERENCES), bytes(size))
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.all(&mut out)?;
        f.write_str(&out)
    }
}
