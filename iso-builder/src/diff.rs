//! What one bundle brings over another: versions, files, images, and the bytes that a node which has the
//! first fetches for the second.

mod show;
mod side;

use std::collections::{BTreeMap, BTreeSet};

use bootstrap::bundle::{Arch, Image, Kind, Manifest, Place, Role, layout};
use bootstrap::digest::Digest;
use bootstrap::failure::Failure;
use serde::Serialize;

use self::side::Read;
use crate::manifests;
use crate::opened::Opened;
use crate::progress::Bar;
use crate::verify::yaml::MAX_TEXT;

/// The difference of two bundles.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// The first.
    pub a: Side,
    /// The second.
    pub b: Side,
    /// What could not be compared, a line each.
    pub notes: Vec<String>,
    /// Components whose version is another.
    pub components: Vec<Change<String>>,
    /// Files that are only in one, or other ones; `old` and `new` are bytes.
    pub files: Vec<Change<u64>>,
    /// Image references that are only in one, or other images; `old` and `new` are digests.
    pub images: Vec<Change<Digest>>,
    /// Images that have another name: old reference, new reference.
    pub retagged: Vec<(String, String)>,
    /// Objects of the Kubernetes manifests.
    pub manifests: Vec<Objects>,
    /// Blobs of both.
    pub shared: Amount,
    /// Blobs of the second alone.
    pub new: Amount,
    /// Blobs of the first alone.
    pub gone: Amount,
    /// What a node that has the first fetches for the second.
    pub fetches: Vec<Fetch>,
}

/// One of the two bundles.
#[derive(Debug, Clone, Serialize)]
pub struct Side {
    /// The path, or the URL.
    pub path: String,
    /// The build's name; `stock ISO` where it has no manifest.
    pub name: String,
    /// The Kubernetes version.
    pub kubernetes: Option<String>,
    /// The architecture.
    pub arch: Arch,
    /// Bytes.
    pub size: u64,
}

/// Something named that was added (no `old`), removed (no `new`) or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change<T> {
    /// Its name.
    pub name: String,
    /// What it was.
    pub old: Option<T>,
    /// What it is.
    pub new: Option<T>,
}

/// The objects that one Kubernetes manifest has more or less: `Deployment kube-system/coredns`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Objects {
    /// Path of the manifest.
    pub path: String,
    /// Objects of the second alone.
    pub added: Vec<String>,
    /// Objects of the first alone.
    pub removed: Vec<String>,
}

/// So many blobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How many.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// What a node of one role fetches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fetch {
    /// The role.
    pub role: Role,
    /// Files that are new or other ones.
    pub files: usize,
    /// Blobs that are new to it.
    pub blobs: usize,
    /// Bytes of both.
    pub bytes: u64,
}

/// Compares `a`, the older, with `b`.
///
/// # Errors
/// `MANIFEST_INVALID` or `MANIFEST_UNSUPPORTED` when a manifest can't be used; `IO`.
pub fn diff(a: &Opened, b: &Opened) -> Result<Difference, Failure> {
    let (old, new) = (Read::of(a)?, Read::of(b)?);
    let versions = |manifest: &Manifest| -> BTreeMap<String, String> {
        manifest.components.iter().map(|one| (one.name.clone(), one.version.clone())).collect()
    };
    let digests = |manifest: &Manifest| -> BTreeMap<String, Digest> {
        manifest.images.iter().map(|image| (image.reference.clone(), image.digest)).collect()
    };
    let files = files(a, b, &old, &new)?;
    let mut images = changes(&digests(&old.manifest), &digests(&new.manifest));
    let retagged = retagged(&mut images);
    let (blobs_a, blobs_b) = (blobs(&old.manifest, None), blobs(&new.manifest, None));
    let minus = |one: &BTreeMap<Digest, u64>, other: &BTreeMap<Digest, u64>| -> Amount {
        amount(one.iter().filter(|(digest, _)| !other.contains_key(*digest)).map(|(_, size)| *size))
    };
    let shared = amount(blobs_b.iter().filter(|(digest, _)| blobs_a.contains_key(*digest)).map(|(_, size)| *size));
    Ok(Difference {
        components: changes(&versions(&old.manifest), &versions(&new.manifest)),
        manifests: objects(a, b, &files)?,
        fetches: Role::ALL.into_iter().map(|role| fetch(role, &old.manifest, &new.manifest, &files)).collect(),
        new: minus(&blobs_b, &blobs_a),
        gone: minus(&blobs_a, &blobs_b),
        notes: old.notes.iter().chain(&new.notes).cloned().collect(),
        a: old.side,
        b: new.side,
        files,
        images,
        retagged,
        shared,
    })
}

/// The names whose values differ, sorted.
fn changes<T: Clone + PartialEq>(old: &BTreeMap<String, T>, new: &BTreeMap<String, T>) -> Vec<Change<T>> {
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let change =
        |name: &String| Change { name: name.clone(), old: old.get(name).cloned(), new: new.get(name).cloned() };
    names.into_iter().map(change).filter(|change| change.old != change.new).collect()
}

/// Takes the images out of `changes` that went under one name and came under another.
fn retagged(changes: &mut Vec<Change<Digest>>) -> Vec<(String, String)> {
    let mut retagged = Vec::new();
    let gone: Vec<_> = changes.iter().filter(|change| change.new.is_none()).cloned().collect();
    for old in gone {
        let came = |change: &Change<Digest>| change.old.is_none() && change.new == old.old;
        if let Some(at) = changes.iter().position(came) {
            retagged.push((old.name.clone(), changes.remove(at).name));
            changes.retain(|change| change.name != old.name);
        }
    }
    retagged
}

/// The files but the manifest and its signature. Where no manifest tells a digest, the bytes are compared.
fn files(a: &Opened, b: &Opened, old: &Read, new: &Read) -> Result<Vec<Change<u64>>, Failure> {
    let paths: BTreeSet<&String> = old.paths(a).chain(new.paths(b)).collect();
    let mut changes = Vec::new();
    for path in paths {
        let (file_a, file_b) = (a.file(path), b.file(path));
        let size = |file: Option<&crate::opened::BundleFile>| file.map(|file| file.content.length());
        let change = Change { name: path.clone(), old: size(file_a), new: size(file_b) };
        if let (Some(file_a), Some(file_b)) = (file_a, file_b)
            && change.old == change.new
        {
            let of = |read: &Read, file: &crate::opened::BundleFile| match read.digest(path) {
                Some(digest) => Ok(digest),
                None => file.content.digest(&Bar::none()),
            };
            if of(old, file_a)? == of(new, file_b)? {
                continue;
            }
        }
        changes.push(change);
    }
    Ok(changes)
}

/// Digest → bytes of the blobs that `role` imports, of all without one. What stands in the manifest itself
/// is fetched with it.
fn blobs(manifest: &Manifest, role: Option<Role>) -> BTreeMap<Digest, u64> {
    let wanted = |image: &&Image| role.is_none_or(|role| image.roles.contains(&role));
    let images = manifest.images.iter().filter(wanted);
    let digests = images.flat_map(|image| [image.digest, image.config].into_iter().chain(image.layers.clone()));
    let blobs = digests.filter_map(|digest| manifest.blob(&digest));
    blobs.filter(|blob| matches!(blob.at, Place::Range { .. })).map(|blob| (blob.digest, blob.size)).collect()
}

fn amount(sizes: impl Iterator<Item = u64>) -> Amount {
    sizes.fold(Amount::default(), |sum, size| Amount { blobs: sum.blobs + 1, bytes: sum.bytes + size })
}

fn fetch(role: Role, old: &Manifest, new: &Manifest, changed: &[Change<u64>]) -> Fetch {
    let other = |path: &str| changed.iter().any(|change| change.name == path);
    let entries = new.entries_for(role).filter(|entry| entry.kind != Kind::ImageArchive && other(&entry.path));
    let files: Vec<u64> = entries.map(|entry| entry.size).collect();
    let has = blobs(old, Some(role));
    let lacks =
        amount(blobs(new, Some(role)).into_iter().filter(|(it, _)| !has.contains_key(it)).map(|(_, size)| size));
    Fetch { role, files: files.len(), blobs: lacks.blobs, bytes: files.iter().sum::<u64>() + lacks.bytes }
}

/// The objects of the changed Kubernetes manifests; of one that can't be read there are none.
fn objects(a: &Opened, b: &Opened, changed: &[Change<u64>]) -> Result<Vec<Objects>, Failure> {
    let of = |bundle: &Opened, path: &str| -> Result<BTreeSet<String>, Failure> {
        let Some(file) = bundle.file(path).filter(|file| file.content.length() <= MAX_TEXT) else {
            return Ok(BTreeSet::new());
        };
        let bytes = file.content.small(MAX_TEXT)?;
        let objects = manifests::objects(&String::from_utf8_lossy(&bytes)).unwrap_or_default();
        let name = |object: manifests::Object| {
            let namespace = if object.namespace.is_empty() { String::new() } else { object.namespace + "/" };
            format!("{} {namespace}{}", object.kind, object.name)
        };
        Ok(objects.into_iter().map(name).collect())
    };
    let mut all = Vec::new();
    for change in changed.iter().filter(|change| layout::kind_of(&change.name) == Kind::ClusterManifest) {
        let (old, new) = (of(a, &change.name)?, of(b, &change.name)?);
        all.push(Objects {
            path: change.name.clone(),
            added: new.difference(&old).cloned().collect(),
            removed: old.difference(&new).cloned().collect(),
        });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_under_another_name_is_no_other_image() {
        let map = |pairs: &[(&str, &[u8])]| -> BTreeMap<String, Digest> {
            pairs.iter().map(|(name, bytes)| ((*name).to_owned(), Digest::of(bytes))).collect()
        };
        let old = map(&[("a:1", b"1"), ("b:1", b"2"), ("c:1", b"3"), ("d:1", b"4")]);
        let new = map(&[("a:1", b"1"), ("b:2", b"2"), ("c:1", b"9"), ("e:1", b"5")]);
        let mut images = changes(&old, &new);
        assert_eq!(retagged(&mut images), [("b:1".to_owned(), "b:2".to_owned())]);
        let names: Vec<_> = images.iter().map(|change| change.name.as_str()).collect();
        assert_eq!(names, ["c:1", "d:1", "e:1"]);
    }
}
