//! The stock layout: which input becomes which file of the ISO, and the manifest over them.

use std::collections::BTreeMap;

use bootstrap::bundle::{Arch, Component, Entry, Kind, MANIFEST_PATH, Manifest, Member, Node, SCHEMA, layout};
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};

use crate::content::Content;
use crate::images::{self, Merged, Pulled};
use crate::layers::Making;
use crate::lock::LOCK_PATH;
use crate::progress::Progress;
use crate::references::{self, Named};
use crate::{doubts, elf, manifests, tarball, text};

/// A configuration text larger than this is no configuration text.
pub(crate) const MAX_TEXT: u64 = 8 << 20;

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

/// What a bundle is called, and what it says of itself.
#[derive(Debug, Clone)]
pub struct Label {
    /// The build's name.
    pub name: String,
    /// The machine architecture.
    pub arch: Arch,
    /// Versions of what is inside; Kubernetes' with its `v`.
    pub components: Vec<Component>,
    /// What every node gets beside files.
    pub node: Node,
    /// The time that dates everything, in seconds since 1970.
    pub epoch: u64,
}

/// What a bundle is made of.
#[derive(Debug, Default)]
pub struct Inputs<'a> {
    /// Files by their key in the spec: `kubernetes.kubelet`, `etcd`.
    pub files: BTreeMap<String, Content>,
    /// The image archives.
    pub archives: Vec<images::Named>,
    /// The images of registries.
    pub pulled: Pulled<'a>,
    /// The lock's text, where there is one.
    pub lock: Option<String>,
}

/// A bundle, ready to be written.
#[derive(Debug)]
pub struct Assembled {
    /// The manifest.
    pub manifest: Manifest,
    /// The files, `cks-bundle.json` the first.
    pub files: Vec<File>,
    /// What the Kubernetes manifests name and the images lack, a line each: `network.yaml:12: …`.
    pub missing: Vec<String>,
    /// What a person has to look at in them ([`crate::doubts`]).
    pub doubts: Vec<String>,
}

/// What the Kubernetes manifests say of images.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// The images that they name.
    pub(crate) named: Vec<Named>,
    /// What a person has to look at.
    pub(crate) doubts: Vec<String>,
}

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
pub(crate) fn path_of(key: &str, arch: Arch) -> Option<String> {
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

/// Checks the inputs, merges the images, hashes everything and writes the manifest. Kubernetes manifests
/// get `imagePullPolicy: IfNotPresent`.
///
/// # Errors
/// The code of the check that an input fails; see [`elf`], [`text`], [`tarball`], [`images`] and
/// [`manifests`].
pub fn assemble(label: &Label, inputs: Inputs<'_>, making: Making<'_>) -> Result<Assembled, Failure> {
    let (mut contents, mut said) = (BTreeMap::<String, Content>::new(), Said::default());
    for (key, content) in inputs.files {
        if let Some(path) = path_of(&key, label.arch) {
            let content =
                checked(&path, content, label.arch, &mut said).map_err(|failure| self::named(&key, failure))?;
            contents.insert(path, content);
        }
    }
    contents.extend(inputs.lock.map(|text| (LOCK_PATH.to_owned(), Content::bytes(text.into_bytes()))));
    let mut merged = Merged { content: Content::default(), images: Vec::new(), blobs: Vec::new() };
    if !inputs.archives.is_empty() || !inputs.pulled.images.is_empty() {
        merged = images::merge(&inputs.archives, &inputs.pulled, label.arch, label.epoch, making)?;
    }
    let missing = references::missing(&said.named, &merged.images);
    let (manifest, files) = pack(label, contents, merged, making.progress)?;
    Ok(Assembled { manifest, files, missing, doubts: doubts::bounded(said.doubts) })
}

/// Hashes `contents` (path on the ISO → bytes) and the merged images, and writes the manifest over them,
/// which is the first of the files.
///
/// # Errors
/// `CONTENT_INVALID`, `ARCHIVE_UNSAFE` or `ARCH_MISMATCH` for a tarball, `DIGEST_MISMATCH` for a damaged
/// blob, `MANIFEST_INVALID` for what the agent would refuse; `IO`.
pub fn pack(
    label: &Label,
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
        let members = members(&path, &content, label.arch)?;
        let (size, roles) = (content.length(), layout::roles_of(kind));
        entries.push(Entry { path: path.clone(), size, sha256: Some(digest), kind, roles, members });
        let mode = if kind == Kind::Kubernetes { 0o755 } else { 0o644 };
        files.push(File { path, mode, content, digest });
    }
    bar.finish();

    let manifest = manifest(label, entries, merged);
    let json = manifest.to_json()?;
    // What the agent will refuse must not be written.
    Manifest::parse(json.as_bytes())?;
    let digest = Digest::of(json.as_bytes());
    let content = Content::bytes(json.into_bytes());
    files.insert(0, File { path: MANIFEST_PATH.to_owned(), mode: 0o644, content, digest });
    Ok((manifest, files))
}

fn manifest(label: &Label, entries: Vec<Entry>, merged: Merged) -> Manifest {
    let kubernetes = label.components.iter().find(|component| component.name == "kubernetes");
    let references = merged.images.iter().map(|image| image.reference.as_str());
    Manifest {
        schema: SCHEMA,
        name: label.name.clone(),
        kubernetes: kubernetes.map(|component| component.version.clone()),
        arch: label.arch,
        components: label.components.clone(),
        sandbox_image: layout::sandbox_image(references).map(str::to_owned),
        node: label.node.clone(),
        entries,
        images: merged.images,
        blobs: merged.blobs,
    }
}

/// The file for `path` when it is what its place says; what a Kubernetes manifest says of images goes into
/// `said`. Tarballs are read whole later, when they are hashed.
pub(crate) fn checked(path: &str, content: Content, arch: Arch, said: &mut Said) -> Result<Content, Failure> {
    match layout::kind_of(path) {
        Kind::Kubernetes => elf::check_program(path, &content.head(elf::HEADER)?, arch)?,
        Kind::KubeletUnit | Kind::KubeletDropIn => text::check_text(path, &content.small(MAX_TEXT)?)?,
        Kind::ClusterManifest => {
            let bytes = content.small(MAX_TEXT)?;
            text::check_text(path, &bytes)?;
            let text = String::from_utf8_lossy(&bytes);
            said.named.extend(references::of_manifest(path, &text)?);
            said.doubts.extend(doubts::of_manifest(path, &text)?);
            return Ok(Content::bytes(manifests::if_not_present(&text)?.into_bytes()));
        }
        _ => {}
    }
    Ok(content)
}

/// What is in the tarball at `path`; nothing where that is no tarball.
fn members(path: &str, content: &Content, arch: Arch) -> Result<Vec<Member>, Failure> {
    let kind = layout::kind_of(path);
    let members = match kind {
        Kind::CniPlugins | Kind::CriTools | Kind::Etcd => tarball::members(content.reader(), path, arch)?,
        _ => Vec::new(),
    };
    tarball::check_purpose(kind, path, &members)?;
    Ok(members)
}

/// Refuses an input that no build takes; `key` is the spec's.
///
/// # Errors
/// As [`assemble`], naming the key.
pub(crate) fn check_input(key: &str, content: Content, arch: Arch) -> Result<(), Failure> {
    let Some(path) = path_of(key, arch) else { return Ok(()) };
    let checked = checked(&path, content, arch, &mut Said::default());
    checked.and_then(|content| members(&path, &content, arch)).map(drop).map_err(|failure| named(key, failure))
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
