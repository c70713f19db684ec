//! What a stock ISO holds, checked and made ready for the manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bootstrap::bundle::{Arch, Component, Image, Kind, Node, elf, layout, legacy};

use bootstrap::failure::{Code, Failure};

use super::Options;
use crate::bundle::{self, Label, Said};
use crate::content::{Content, Source};
use crate::images::{self, Merged, Pulled};
use crate::opened::{BundleFile, Opened};
use crate::spec::check_name;
use crate::tarball;

/// Images whose tag is the version of Kubernetes.
const KUBERNETES: [&str; 4] = ["kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler"];

/// A stock ISO, read but for its hashes.
pub(super) struct Read {
    pub(super) label: Label,
    /// All files but the image archives.
    pub(super) contents: BTreeMap<String, Content>,
    pub(super) merged: Merged,
    pub(super) warnings: Vec<String>,
}

/// Reads and checks the stock ISO.
pub(super) fn read(iso: &Opened, options: &Options) -> Result<Read, Failure> {
    if !legacy::is_bundle(iso.files.iter().map(|file| file.path.as_str())) {
        let what = format!("{} is no CKS ISO: it holds nothing that a node installs", options.stock.display());
        return Err(Failure::new(Code::MediaNotABundle, what).with_remedy("name a stock CKS ISO"));
    }
    let mut warnings = left_behind(iso)?;
    let arch = arch(iso)?;
    let (mut contents, mut archives) = (BTreeMap::new(), Vec::new());
    for file in &iso.files {
        let content = file.content.clone();
        match layout::kind_of(&file.path) {
            Kind::ImageArchive => archives.push((file.path.clone(), source(iso, file)?)),
            Kind::Other if file.path.starts_with("docker/") => {
                let what = format!("{}: lies in a directory below docker/, which no node can import", file.path);
                return Err(content_invalid(what));
            }
            kind => {
                let content = bundle::checked(&file.path, content, arch, &mut Said::default()).map_err(at_fault)?;
                if kind == Kind::Other {
                    warnings.push(format!("{} is carried, but no node installs it", file.path));
                }
                contents.insert(file.path.clone(), content);
            }
        }
    }
    let merged = match archives.is_empty() {
        true => Merged { content: Content::default(), images: Vec::new(), blobs: Vec::new() },
        false => {
            images::merge(&archives, &Pulled::default(), arch, options.epoch, options.making()).map_err(at_fault)?
        }
    };
    let kubernetes = kubernetes(&merged.images, options.kubernetes.as_deref(), &mut warnings)?;
    let mut components = vec![component("kubernetes", &kubernetes)];
    components.extend(etcd_version(&contents, arch)?.map(|version| component("etcd", &version)));
    let label = Label { name: name(options)?, arch, components, node: Node::default(), epoch: options.epoch };
    Ok(Read { label, contents, merged, warnings })
}

fn component(name: &str, version: &str) -> Component {
    Component { name: name.to_owned(), version: version.to_owned() }
}

fn content_invalid(what: String) -> Failure {
    Failure::new(Code::ContentInvalid, what).with_remedy("build the ISO anew, with cks-iso build")
}

/// What a build says of its spec, said of an ISO.
pub(super) fn at_fault(failure: Failure) -> Failure {
    let code = match failure.code {
        Code::SpecInvalid | Code::ManifestInvalid => Code::ContentInvalid,
        code @ (Code::ContentInvalid | Code::ArchMismatch | Code::ArchiveUnsafe) => code,
        code @ (Code::ImageInvalid | Code::DigestMismatch) => code,
        _ => return failure,
    };
    Failure { code, ..failure }
        .with_remedy("get the stock ISO again, or build one with cks-iso build: this one is broken")
}

/// Links, devices and empty directories, which no manifest can tell of. A link in the place of a file that
/// nodes install is refused.
fn left_behind(iso: &Opened) -> Result<Vec<String>, Failure> {
    let mut warnings = Vec::new();
    for path in &iso.others {
        match path.strip_suffix('/') {
            Some(_) => warnings.push(format!("{path} is empty, and left behind")),
            None if layout::kind_of(path) == Kind::Other => {
                warnings.push(format!("{path} is a link or a device, and left behind"));
            }
            None => return Err(content_invalid(format!("{path}: is a link or a device, not a file"))),
        }
    }
    Ok(warnings)
}

/// The file's bytes as a source named `stock.iso:path`.
fn source(iso: &Opened, file: &BundleFile) -> Result<Arc<Source>, Failure> {
    let name = PathBuf::from(format!("{}:{}", iso.name, file.path));
    let pieces = || content_invalid(format!("{}: is empty, or lies in several pieces on the disc", file.path));
    file.content.source(&name).ok_or_else(pieces)
}

/// The machine that `k8s/kubelet` is a program for.
fn arch(iso: &Opened) -> Result<Arch, Failure> {
    let path = "k8s/kubelet";
    let file = iso.file(path).ok_or_else(|| content_invalid(format!("{path}: is not there")))?;
    let head = file.content.head(elf::HEADER_BYTES)?;
    match elf::machine(&head) {
        Some(found) => {
            [Arch::Amd64, Arch::Arm64].into_iter().find(|arch| arch.elf_machine() == found).ok_or_else(|| {
                Failure::new(Code::ArchMismatch, format!("{path}: is a program for ELF machine {found}"))
                    .with_remedy("import an ISO for amd64 or arm64")
            })
        }
        // It says what the file is instead.
        None => crate::elf::check_program(path, &head, Arch::Amd64).map_err(at_fault).map(|()| Arch::Amd64),
    }
}

fn name(options: &Options) -> Result<String, Failure> {
    let refuse = |failure: Failure| {
        Failure { code: Code::ConfigInvalid, ..failure }.with_remedy("name the build with --name NAME")
    };
    let name = options.name.clone().unwrap_or_else(|| {
        let name = options.stock.file_name().unwrap_or_default().to_string_lossy();
        name.strip_suffix(".iso").unwrap_or(&name).to_owned()
    });
    check_name(&name).map_err(refuse)?;
    Ok(name)
}

/// The version that was told, or that the tags of Kubernetes' own images agree on.
fn kubernetes(images: &[Image], told: Option<&str>, warnings: &mut Vec<String>) -> Result<String, Failure> {
    let own = |image: &&Image| KUBERNETES.contains(&layout::repository_name(&image.reference));
    let tags: BTreeSet<&str> = images.iter().filter(own).filter_map(|image| layout::tag(&image.reference)).collect();
    let unclear =
        |what: String| Failure::new(Code::ConfigInvalid, what).with_remedy("name the version with --kubernetes 1.33.1");
    let told = told.map(|version| format!("v{}", version.trim_start_matches('v')));
    let found = tags.iter().copied().collect::<Vec<_>>().join(", ");
    match (told, tags.first(), tags.len()) {
        (Some(told), _, _) if !is_version(&told) => Err(unclear(format!("--kubernetes {told}: is no version"))),
        (Some(told), _, count) => {
            if count > 0 && found != told {
                warnings.push(format!("the images of Kubernetes are of {found}, not {told}"));
            }
            Ok(told)
        }
        (None, Some(version), 1) if is_version(version) => Ok((*version).to_owned()),
        (None, None, _) => Err(unclear("no image on the ISO tells the version of Kubernetes".to_owned())),
        (None, ..) => Err(unclear(format!("the images of Kubernetes are of {found}"))),
    }
}

/// Whether `text` is `v` and three numbers, with what semantic versioning lets follow.
fn is_version(text: &str) -> bool {
    let Some(version) = text.strip_prefix('v') else { return false };
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    let number = |part: &&str| !part.is_empty() && part.len() < 10 && part.bytes().all(|byte| byte.is_ascii_digit());
    let rest = version.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+".contains(&byte));
    numbers.len() == 3 && numbers.iter().all(number) && rest
}

/// What the directory in upstream's tarball tells: `etcd-v3.5.21-linux-amd64/`.
fn etcd_version(contents: &BTreeMap<String, Content>, arch: Arch) -> Result<Option<String>, Failure> {
    let Some((path, content)) = contents.iter().find(|(path, _)| layout::kind_of(path) == Kind::Etcd) else {
        return Ok(None);
    };
    let members = tarball::members(content.reader(), path, arch).map_err(at_fault)?;
    let version = members.iter().find_map(|member| {
        let (top, _) = member.path.split_once('/')?;
        let version = top.strip_prefix("etcd-")?.split("-linux").next()?;
        is_version(version).then(|| version.to_owned())
    });
    Ok(version)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bootstrap::digest::Digest;

    use super::*;

    #[test]
    fn the_version_is_what_the_tags_agree_on() {
        let digest = Digest::of(b"");
        let image = |reference: &&str| Image {
            reference: (*reference).to_owned(),
            digest,
            config: digest,
            layers: Vec::new(),
            diff_ids: Vec::new(),
            roles: BTreeSet::new(),
            critical: false,
        };
        const PROXY: &str = "registry.k8s.io/kube-proxy:v1.33.1";
        for (references, told, want, warned) in [
            (&[PROXY, "registry.k8s.io/pause:3.10"][..], None, Some("v1.33.1"), 0),
            (&[PROXY, "registry.k8s.io/kube-apiserver:v1.33.2"], None, None, 0),
            (&[PROXY, "registry.k8s.io/kube-apiserver:v1.33.2"], Some("1.33.1"), Some("v1.33.1"), 1),
            (&[PROXY], Some("v1.33.1"), Some("v1.33.1"), 0),
            (&[PROXY], Some("1.32.0"), Some("v1.32.0"), 1),
            (&["registry.k8s.io/pause:3.10"], None, None, 0),
            (&["registry.k8s.io/pause:3.10"], Some("1.33.1-rc.0"), Some("v1.33.1-rc.0"), 0),
            (&["registry.k8s.io/kube-proxy:latest"], None, None, 0),
            (&[PROXY], Some("latest"), None, 0),
            (&[PROXY], Some("1.33"), None, 0),
            (&[PROXY], Some("1.33.1\u{1b}"), None, 0),
        ] {
            let images: Vec<Image> = references.iter().map(image).collect();
            let mut warnings = Vec::new();
            let found = kubernetes(&images, told, &mut warnings);
            assert_eq!(found.as_deref().ok(), want, "{references:?} {told:?}");
            assert_eq!(warnings.len(), warned, "{warnings:?}");
            assert!(found.err().is_none_or(|failure| failure.code == Code::ConfigInvalid));
        }
    }
}
