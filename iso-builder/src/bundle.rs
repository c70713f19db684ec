//! The stock layout: which input becomes which file of the ISO, and the manifest over them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bootstrap::bundle::{Arch, Component, Entry, Kind, MANIFEST_PATH, Manifest, SCHEMA, layout};
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};

use crate::content::{Content, Source};
use crate::images::{self, Merged};
use crate::progress::Progress;
use crate::spec::Spec;
use crate::{elf, tarball, text};

/// A configuration text larger than this is no configuration text.
const MAX_TEXT: u64 = 8 << 20;

/// One file of the ISO.
#[derive(Debug, Clone)]
pub struct File {
    /// Path on the ISO.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// The bytes.
    pub content: Content,
    /// Their digest.
    pub digest: Digest,
}

/// The opened inputs by their key in the spec: `kubernetes.kubelet`, `etcd`, `images[0]`.
pub type Inputs = BTreeMap<String, Arc<Source>>;

/// Where the tarballs of this architecture lie. The etcd tarball has the amd64 name on every ISO: the
/// etcd nodes of CloudStack 4.21 and later extract exactly that one.
#[must_use]
pub fn tarball_path(key: &str, arch: Arch) -> String {
    match key {
        "cni-plugins" => format!("cni/cni-plugins-linux-{arch}.tgz"),
        "cri-tools" => format!("cri-tools/crictl-linux-{arch}.tar.gz"),
        _ => "etcd/etcd-linux-amd64.tar.gz".to_owned(),
    }
}

/// The path on the ISO of the input `key`; image archives have none of their own.
fn path_of(key: &str, arch: Arch) -> Option<String> {
    match key {
        "kubernetes.kubeadm" | "kubernetes.kubelet" | "kubernetes.kubectl" => {
            Some(key.replacen("kubernetes.", "k8s/", 1))
        }
        "kubelet.unit" => Some("kubelet.service".to_owned()),
        "kubelet.drop-in" => Some("10-kubeadm.conf".to_owned()),
        "cni-plugins" | "cri-tools" | "etcd" => Some(tarball_path(key, arch)),
        _ => key.strip_prefix("manifests.").map(|name| name.trim_matches('"').to_owned()),
    }
}

/// Checks the inputs, merges the images, hashes everything and writes the manifest. The manifest is
/// the first of the files.
///
/// # Errors
/// The code of the check that an input fails; see [`elf`], [`text`], [`tarball`] and [`images`].
pub fn assemble(
    spec: &Spec,
    inputs: &Inputs,
    epoch: u64,
    progress: Progress,
) -> Result<(Manifest, Vec<File>), Failure> {
    let mut contents: BTreeMap<String, Content> = BTreeMap::new();
    for (key, source) in inputs {
        if let Some(path) = path_of(key, spec.arch) {
            let content = Content::whole(source);
            check(&path, &content, spec.arch).map_err(|failure| named(key, failure))?;
            contents.insert(path, content);
        }
    }
    let archives: Vec<_> = inputs
        .iter()
        .filter(|(key, _)| key.starts_with("images["))
        .map(|(key, source)| (format!("{key} ({})", Content::whole(source).origin().display()), Arc::clone(source)))
        .collect();
    let merged = match archives.is_empty() {
        true => Merged { content: Content::default(), images: Vec::new(), blobs: Vec::new() },
        false => images::merge(&archives, spec.arch, epoch)?,
    };
    pack(about(spec), contents, merged, progress)
}

/// What a manifest says beside files and images.
#[derive(Debug, Clone)]
pub struct About {
    /// The build's name.
    pub name: String,
    /// The Kubernetes version with its `v`.
    pub kubernetes: Option<String>,
    /// The architecture of everything.
    pub arch: Arch,
    /// Versions of what is inside.
    pub components: Vec<Component>,
}

/// Hashes `contents` (path on the ISO → bytes) and the merged images, and writes the manifest over them,
/// which is the first of the files.
///
/// # Errors
/// `CONTENT_INVALID`, `ARCHIVE_UNSAFE` or `ARCH_MISMATCH` for a tarball, `DIGEST_MISMATCH` for a damaged
/// blob, `MANIFEST_INVALID` for what the agent would refuse; `IO`.
pub fn pack(
    about: About,
    mut contents: BTreeMap<String, Content>,
    merged: Merged,
    progress: Progress,
) -> Result<(Manifest, Vec<File>), Failure> {
    if merged.content.length() > 0 {
        contents.insert(images::ARCHIVE_PATH.to_owned(), merged.content.clone());
    }
    let bar = progress.start("Hashing", contents.values().map(Content::length).sum());
    let (mut entries, mut files) = (Vec::new(), Vec::new());
    for (path, content) in contents {
        let digest = content.digest(&bar)?;
        let kind = layout::kind_of(&path);
        let members = match kind {
            Kind::CniPlugins | Kind::CriTools | Kind::Etcd => tarball::members(content.reader(), &path, about.arch)?,
            _ => Vec::new(),
        };
        tarball::check_purpose(kind, &path, &members)?;
        let (size, roles) = (content.length(), layout::roles_of(kind));
        entries.push(Entry { path: path.clone(), size, sha256: Some(digest), kind, roles, members });
        let mode = if kind == Kind::Kubernetes { 0o755 } else { 0o644 };
        files.push(File { path, mode, content, digest });
    }
    bar.finish();

    let manifest = manifest(about, entries, merged);
    let json = manifest.to_json()?;
    // What the agent will refuse must not be written.
    Manifest::parse(json.as_bytes())?;
    let digest = Digest::of(json.as_bytes());
    let content = Content::bytes(json.into_bytes());
    files.insert(0, File { path: MANIFEST_PATH.to_owned(), mode: 0o644, content, digest });
    Ok((manifest, files))
}

fn about(spec: &Spec) -> About {
    let kubernetes = spec.kubernetes.as_ref().map(|k| format!("v{}", k.version.trim_start_matches('v')));
    let component = |name: &str, version: &str| Component { name: name.to_owned(), version: version.to_owned() };
    let mut components: Vec<Component> = kubernetes.iter().map(|version| component("kubernetes", version)).collect();
    components.extend(spec.tarballs().iter().map(|(key, tarball)| component(key, &tarball.version)));
    About { name: spec.name.clone(), kubernetes, arch: spec.arch, components }
}

fn manifest(about: About, entries: Vec<Entry>, merged: Merged) -> Manifest {
    let About { name, kubernetes, arch, components } = about;
    let references = merged.images.iter().map(|image| image.reference.as_str());
    let sandbox_image = layout::sandbox_image(references).map(str::to_owned);
    let (images, blobs) = (merged.images, merged.blobs);
    Manifest { schema: SCHEMA, name, kubernetes, arch, components, sandbox_image, entries, images, blobs }
}

/// Is the file at `path` what its place says? Tarballs are read whole later, when they are hashed.
pub(crate) fn check(path: &str, content: &Content, arch: Arch) -> Result<(), Failure> {
    match layout::kind_of(path) {
        Kind::Kubernetes => elf::check_program(path, &content.head(elf::HEADER)?, arch),
        Kind::KubeletUnit | Kind::KubeletDropIn | Kind::ClusterManifest => {
            text::check_text(path, &content.small(MAX_TEXT)?)
        }
        _ => Ok(()),
    }
}

/// Puts the key of the spec before a failure: people look for it there.
#[must_use]
pub fn named(key: &str, failure: Failure) -> Failure {
    Failure { what: format!("{key}: {}", failure.what), ..failure }
}

/// The rules of the stock layout that every ISO must keep, as `(rule, what is wrong)`. `paths` are all
/// files of the ISO.
#[must_use]
pub fn broken_rules(paths: &[&str]) -> Vec<(&'static str, String)> {
    let mut broken = Vec::new();
    let directories = paths.iter().filter_map(|path| path.split_once('/')).map(|(directory, _)| directory);
    if let Some(first_directory) = directories.min() {
        let first_file = paths.iter().filter(|path| !path.contains('/')).min();
        if first_file.is_none_or(|file| *file >= first_directory) {
            let what = format!("no top-level file sorts before the directory {first_directory}/");
            broken.push(("top-level-first", what));
        }
    }
    type Test = fn(&str) -> bool;
    let globs: [(&str, Test); 2] = [
        ("cni/cni-plugins-*64.tgz", |path| path.starts_with("cni/cni-plugins-") && path.ends_with("64.tgz")),
        ("cri-tools/crictl-linux-*64.tar.gz", |path| {
            path.starts_with("cri-tools/crictl-linux-") && path.ends_with("64.tar.gz")
        }),
    ];
    for (glob, matches) in globs {
        let directory = &glob[..=glob.find('/').unwrap_or_default()];
        let count = paths.iter().filter(|path| matches(path)).count();
        if count > 1 || count == 0 && paths.iter().any(|path| path.starts_with(directory)) {
            broken.push(("one-match", format!("{count} files match {glob}, nodes need exactly one")));
        }
    }
    for path in paths {
        if let Some(name) = path.split('/').find(|name| name.chars().count() > crate::spec::MAX_NAME) {
            broken.push((
                "name-length",
                format!("{name:?} in {path:?} is longer than {} characters", crate::spec::MAX_NAME),
            ));
        }
    }
    broken
}

/// Refuses a layout that breaks a rule.
///
/// # Errors
/// `SPEC_INVALID` with the first broken rule.
pub fn check_layout(files: &[File]) -> Result<(), Failure> {
    let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
    match broken_rules(&paths).into_iter().next() {
        Some((rule, what)) => Err(Failure::new(Code::SpecInvalid, format!("{rule}: {what}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_layouts_are_named_by_their_rule() {
        let long = "a".repeat(65);
        let cases: [(&[&str], &[&str]); 7] = [
            (&["cks-bundle.json", "cni/cni-plugins-linux-amd64.tgz", "docker/images.tar"], &[]),
            (&["network.yaml", "docker/a"], &["top-level-first"]),
            (&["docker/a"], &["top-level-first"]),
            (&["a", "cni/cni-plugins-amd64.tgz", "cni/cni-plugins-linux-amd64.tgz"], &["one-match"]),
            (&["a", "cri-tools/crictl.tar.gz"], &["one-match"]),
            (&["a", &long], &["name-length"]),
            (&[], &[]),
        ];
        for (paths, want) in cases {
            let rules: Vec<_> = broken_rules(paths).into_iter().map(|(rule, _)| rule).collect();
            assert_eq!(rules, want, "{paths:?}");
        }
    }
}
