//! The bytes of a bundle against its manifest.

use std::collections::{BTreeMap, BTreeSet};

use bootstrap::archive::{self, Archive};
use bootstrap::bundle::{Arch, Blob, Entry, Image, Kind, Manifest, Member, Place, layout};
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};

use super::{Finding, finding};
use crate::content::Content;
use crate::opened::Opened;
use crate::pass;
use crate::progress::Progress;
use crate::{elf, tarball};

/// Every entry: there, as long as told, with the digest told; tarballs member by member, image archives
/// blob by blob. Each file is read once for its digest and its blobs.
pub(super) fn entries(bundle: &Opened, manifest: &Manifest, progress: Progress) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    let mut blobs: BTreeMap<&str, Vec<(&Blob, u64)>> = BTreeMap::new();
    for blob in &manifest.blobs {
        if let Place::Range { path, offset } = &blob.at {
            blobs.entry(path).or_default().push((blob, *offset));
        }
    }
    let bar = progress.start("Checking", manifest.entries.iter().map(|entry| entry.size).sum());
    for entry in &manifest.entries {
        let path = &entry.path;
        let Some(file) = bundle.file(path) else {
            findings.push(finding("entry-missing", format!("{path} is not there")));
            continue;
        };
        let content = &file.content;
        if content.length() != entry.size {
            let what = format!("{path} has {} bytes, the manifest says {}", content.length(), entry.size);
            findings.push(finding("entry-size", what));
        }
        let blobs = blobs.get(path.as_str()).map_or(&[][..], Vec::as_slice);
        let ranges: Vec<_> = blobs.iter().map(|(blob, offset)| (*offset, blob.size)).collect();
        let (found, parts) = pass::digests(content, &ranges, &bar)?;
        match entry.sha256 {
            Some(want) if want == found => {}
            Some(want) => {
                findings
                    .push(finding("entry-digest", format!("{path} has the digest {found}, the manifest says {want}")));
            }
            None => findings.push(finding("entry-digest", format!("{path} has no digest in the manifest"))),
        }
        let kind = layout::kind_of(path);
        if (entry.kind, &entry.roles) != (kind, &layout::roles_of(kind)) {
            findings.push(finding("entry-role", format!("{path} has another kind or other roles than its place says")));
        }
        let wrong = blobs.iter().zip(parts).filter(|((blob, _), found)| blob.digest != *found);
        findings.extend(wrong.map(|((blob, offset), found)| other_blob(blob, path, *offset, found, manifest)));
        findings.extend(inside(entry, content, manifest)?);
    }
    bar.finish();
    Ok(findings)
}

fn other_blob(blob: &Blob, path: &str, offset: u64, found: Digest, manifest: &Manifest) -> Finding {
    let uses = |image: &Image| {
        [&image.digest, &image.config].into_iter().chain(&image.layers).any(|digest| *digest == blob.digest)
    };
    let of: Vec<_> = manifest.images.iter().filter(|image| uses(image)).map(|image| image.reference.as_str()).collect();
    finding("blob", format!("{} at byte {offset} of {path} has the digest {found} ({})", blob.digest, of.join(", ")))
}

/// What the entry's kind says about its content.
fn inside(entry: &Entry, content: &Content, manifest: &Manifest) -> Result<Vec<Finding>, Failure> {
    match entry.kind {
        Kind::Kubernetes => {
            let checked = elf::check_program(&entry.path, &content.head(elf::HEADER)?, manifest.arch);
            Ok(checked.err().map(|failure| finding("elf-arch", failure.what)).into_iter().collect())
        }
        Kind::CniPlugins | Kind::CriTools | Kind::Etcd => {
            match tarball::members(content.reader(), &entry.path, manifest.arch) {
                Ok(found) => {
                    let lacks = tarball::check_purpose(entry.kind, &entry.path, &found).err();
                    let mut findings = differing(&entry.path, &entry.members, &found);
                    findings.extend(lacks.map(|failure| finding("member-missing", failure.what)));
                    Ok(findings)
                }
                Err(failure) if failure.code == Code::Io => Err(failure),
                Err(failure) if failure.code == Code::ArchMismatch => Ok(vec![finding("elf-arch", failure.what)]),
                Err(failure) => Ok(vec![finding("member", failure.what)]),
            }
        }
        _ => Ok(Vec::new()),
    }
}

/// Members that are not as the manifest tells.
fn differing(path: &str, want: &[Member], found: &[Member]) -> Vec<Finding> {
    let by_path = |members: &[Member]| -> BTreeMap<String, Member> {
        members.iter().map(|member| (member.path.clone(), member.clone())).collect()
    };
    let (want, mut found) = (by_path(want), by_path(found));
    let mut findings = Vec::new();
    for (name, member) in &want {
        match found.remove(name) {
            None => findings.push(finding("member", format!("{path} lacks {name}, which the manifest lists"))),
            Some(other) if other != *member => {
                findings.push(finding("member", format!("{name} in {path} is not what the manifest says")));
            }
            Some(_) => {}
        }
    }
    findings.extend(found.keys().map(|name| finding("member", format!("{name} in {path} stands not in the manifest"))));
    findings
}

/// The image archives of a bundle.
pub(super) struct Archives {
    /// What is wrong with them.
    pub(super) findings: Vec<Finding>,
    /// The images that they name.
    pub(super) references: BTreeSet<String>,
}

/// Everything in `docker/` is an image archive, and together they hold the manifest's images.
pub(super) fn archives(bundle: &Opened, manifest: Option<&Manifest>) -> Result<Archives, Failure> {
    let mut findings = Vec::new();
    let mut references = BTreeSet::new();
    for file in bundle.files.iter().filter(|file| file.path.starts_with("docker/")) {
        if layout::kind_of(&file.path) != Kind::ImageArchive {
            findings.push(finding("image-archive", format!("{} lies in a directory below docker/", file.path)));
            continue;
        }
        match archive::read(file.content.reader(), &file.path) {
            Ok(archive) => {
                findings.extend(manifest.iter().flat_map(|manifest| images(&file.path, &archive, manifest)));
                references.extend(archive.images.into_iter().map(|image| image.reference));
            }
            Err(failure) if failure.code == Code::Io => return Err(failure),
            Err(failure) => findings.push(finding("image-archive", failure.what)),
        }
    }
    let listed = manifest.iter().flat_map(|manifest| &manifest.images);
    let missing = listed.map(|image| &image.reference).filter(|reference| !references.contains(*reference));
    findings.extend(missing.map(|reference| finding("image-list", format!("no archive in docker/ names {reference}"))));
    Ok(Archives { findings, references })
}

/// What an image is, whatever the builder of its time thought of who needs it.
fn content(image: &Image) -> (Digest, Digest, &[Digest], &[Digest]) {
    (image.digest, image.config, &image.layers, &image.diff_ids)
}

/// The images of the archive at `path`, each against the manifest's.
fn images(path: &str, archive: &Archive, manifest: &Manifest) -> Vec<Finding> {
    let mut findings = Vec::new();
    for image in &archive.images {
        let reference = &image.reference;
        match manifest.images.iter().find(|listed| listed.reference == *reference) {
            None => findings.push(finding("image-list", format!("{reference} in {path} stands not in the manifest"))),
            Some(listed) if content(listed) != content(image) => {
                findings
                    .push(finding("image-list", format!("{path} holds another {reference} than the manifest tells")));
            }
            Some(_) => {}
        }
        let arch = archive.architectures.get(&image.config).map_or("", String::as_str);
        if Arch::parse(arch) != Some(manifest.arch) {
            let arch = if arch.is_empty() { "no architecture" } else { arch };
            let what = format!("{reference} in {path} is for {arch}, the bundle is for {}", manifest.arch);
            findings.push(finding("image-arch", what));
        }
    }
    findings
}
