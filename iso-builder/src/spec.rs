//! The spec: what goes on the ISO, as TOML. `docs/iso-format.md` describes every key.

mod stock;

use std::collections::BTreeMap;
use std::path::PathBuf;

use bootstrap::bundle::{Arch, MANIFEST_PATH};
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::text::without_users;

/// The time that dates everything on the ISO where neither the spec nor `SOURCE_DATE_EPOCH` gives one:
/// 1980-01-01, the first that every format inside can hold. Seconds since 1970.
pub const DEFAULT_EPOCH: u64 = 315_532_800;

/// The last time that every format inside can hold, in 2106; seconds since 1970.
pub const MAX_EPOCH: u64 = 4_294_967_295;

/// The longest name that Joliet stores whole, in characters.
pub const MAX_NAME: usize = 64;

/// What goes on the ISO.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Spec {
    /// The build's name, for people: `v1.33.1-calico`.
    pub name: String,
    /// The machine architecture that everything is for.
    #[serde(deserialize_with = "arch")]
    pub arch: Arch,
    /// The time that dates everything, in seconds since 1970.
    pub epoch: Option<u64>,
    /// kubeadm, kubelet and kubectl.
    pub kubernetes: Option<Kubernetes>,
    /// The CNI plugins.
    pub cni_plugins: Option<Tarball>,
    /// crictl.
    pub cri_tools: Option<Tarball>,
    /// etcd and etcdctl, for dedicated etcd nodes.
    pub etcd: Option<Tarball>,
    /// The kubelet's unit and drop-in.
    pub kubelet: Option<Kubelet>,
    /// The image archives, uncompressed tars.
    #[serde(default)]
    pub images: Vec<Input>,
    /// Kubernetes manifests by their name on the ISO: `network.yaml`.
    #[serde(default)]
    pub manifests: BTreeMap<String, Input>,
}

/// The Kubernetes binaries.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    /// `1.33.1`, with or without a `v`.
    pub version: String,
    /// The program kubeadm.
    pub kubeadm: Input,
    /// The program kubelet.
    pub kubelet: Input,
    /// The program kubectl.
    pub kubectl: Input,
}

/// The kubelet's unit files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Kubelet {
    /// `kubelet.service`.
    pub unit: Input,
    /// `10-kubeadm.conf`.
    pub drop_in: Input,
}

/// A file: here (`file`), or there (`url` with `sha256`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// A local file, relative to the spec's directory.
    pub file: Option<PathBuf>,
    /// An http or https URL.
    pub url: Option<String>,
    /// The digest of the file: a must for a URL.
    pub sha256: Option<Digest>,
}

/// A component that is a tarball: a ready one, or one packed from programs of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tarball {
    /// The version as upstream writes it.
    pub version: String,
    /// A local tarball (gzip), relative to the spec's directory.
    pub file: Option<PathBuf>,
    /// An http or https URL of a tarball.
    pub url: Option<String>,
    /// The digest of the tarball: a must for a URL.
    pub sha256: Option<Digest>,
    /// Programs to pack.
    pub files: Option<Vec<PathBuf>>,
    /// A directory whose regular files are packed.
    pub directory: Option<PathBuf>,
}

/// Where bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file of this machine, with its digest where the spec tells one.
    File(PathBuf, Option<Digest>),
    /// A download.
    Url(url::Url, Digest),
    /// A tarball to be packed from these files.
    Files(Vec<PathBuf>),
    /// A tarball to be packed from the files of this directory.
    Directory(PathBuf),
}

impl Spec {
    /// Reads and checks a spec.
    ///
    /// # Errors
    /// `SPEC_INVALID` names the key and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let spec: Self = toml::from_str(text).map_err(|e| invalid(without_users(e.to_string().trim_end())))?;
        spec.check()?;
        Ok(spec)
    }

    fn check(&self) -> Result<(), Failure> {
        check_name(&self.name)?;
        if self.epoch.is_some_and(|epoch| epoch > MAX_EPOCH) {
            return Err(invalid(format!("epoch: at most {MAX_EPOCH}, the year 2106")));
        }
        for (key, tarball) in self.tarballs() {
            check_version(key, &tarball.version)?;
            tarball.origin(key)?;
        }
        if let Some(kubernetes) = &self.kubernetes {
            check_version("kubernetes", &kubernetes.version)?;
        }
        for (key, input) in self.inputs() {
            input.origin(&key)?;
        }
        for name in self.manifests.keys() {
            check_manifest_name(name)?;
        }
        if self.manifests.contains_key("snapshot-crds.yaml") && !self.manifests.contains_key("manifest.yaml") {
            return Err(invalid(
                "manifests: snapshot-crds.yaml needs manifest.yaml beside it: control planes copy both",
            ));
        }
        if self.tarballs().is_empty() && self.inputs().is_empty() {
            return Err(invalid("no component: give at least one of kubernetes, cni-plugins, cri-tools, etcd, images"));
        }
        Ok(())
    }

    /// The tarball components that there are, with their key.
    #[must_use]
    pub fn tarballs(&self) -> Vec<(&'static str, &Tarball)> {
        let tarballs = [("cni-plugins", &self.cni_plugins), ("cri-tools", &self.cri_tools), ("etcd", &self.etcd)];
        tarballs.into_iter().filter_map(|(key, tarball)| Some((key, tarball.as_ref()?))).collect()
    }

    /// Every plain file of the spec, with its key.
    #[must_use]
    pub fn inputs(&self) -> Vec<(String, &Input)> {
        let mut inputs = Vec::new();
        if let Some(kubernetes) = &self.kubernetes {
            inputs.push(("kubernetes.kubeadm".to_owned(), &kubernetes.kubeadm));
            inputs.push(("kubernetes.kubelet".to_owned(), &kubernetes.kubelet));
            inputs.push(("kubernetes.kubectl".to_owned(), &kubernetes.kubectl));
        }
        if let Some(kubelet) = &self.kubelet {
            inputs.push(("kubelet.unit".to_owned(), &kubelet.unit));
            inputs.push(("kubelet.drop-in".to_owned(), &kubelet.drop_in));
        }
        inputs.extend(self.images.iter().enumerate().map(|(at, input)| (format!("images[{at}]"), input)));
        inputs.extend(self.manifests.iter().map(|(name, input)| (format!("manifests.{name:?}"), input)));
        inputs
    }
}

impl Input {
    /// Where the bytes come from; `key` is what messages call this input.
    ///
    /// # Errors
    /// `SPEC_INVALID` names the key.
    pub fn origin(&self, key: &str) -> Result<Origin, Failure> {
        one_origin(key, "give either file or url", self.file.as_ref(), self.url.as_ref(), self.sha256)
    }
}

impl Tarball {
    /// Where the tarball comes from; `key` is what messages call it.
    ///
    /// # Errors
    /// `SPEC_INVALID` names the key.
    pub fn origin(&self, key: &str) -> Result<Origin, Failure> {
        let want = "give one of file, url, files and directory";
        let ready = self.file.is_some() || self.url.is_some();
        match (ready, &self.files, &self.directory) {
            (true, None, None) => one_origin(key, want, self.file.as_ref(), self.url.as_ref(), self.sha256),
            (false, ..) if self.sha256.is_some() => Err(invalid(format!("{key}.sha256: only for file and url"))),
            (false, Some(files), None) if files.is_empty() => Err(invalid(format!("{key}.files: names no file"))),
            (false, Some(files), None) => Ok(Origin::Files(files.clone())),
            (false, None, Some(directory)) => Ok(Origin::Directory(directory.clone())),
            _ => Err(invalid(format!("{key}: {want}"))),
        }
    }

    /// The version without its `v`.
    #[must_use]
    pub fn bare_version(&self) -> &str {
        self.version.trim_start_matches('v')
    }
}

fn one_origin(
    key: &str,
    want: &str,
    file: Option<&PathBuf>,
    url: Option<&String>,
    sha256: Option<Digest>,
) -> Result<Origin, Failure> {
    match (file, url, sha256) {
        (Some(file), None, sha256) => Ok(Origin::File(file.clone(), sha256)),
        (None, Some(url), Some(sha256)) => match url::Url::parse(url) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(Origin::Url(url, sha256)),
            // The URL is not shown: it may hold a password.
            Ok(url) => Err(invalid(format!("{key}.url: {:?} is neither http nor https", url.scheme()))),
            Err(e) => Err(invalid(format!("{key}.url: {e}"))),
        },
        (None, Some(_), None) => Err(invalid(format!("{key}.sha256: missing; a download needs its digest"))),
        _ => Err(invalid(format!("{key}: {want}"))),
    }
}

/// Accepts a build's name.
///
/// # Errors
/// `SPEC_INVALID` says what is wrong with it.
pub fn check_name(name: &str) -> Result<(), Failure> {
    if name.is_empty() || name.chars().count() > 128 || name.chars().any(char::is_control) {
        return Err(invalid("name: 1 to 128 characters on one line"));
    }
    Ok(())
}

fn check_version(key: &str, version: &str) -> Result<(), Failure> {
    let digits = version.strip_prefix('v').unwrap_or(version);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_' | '~');
    if !digits.starts_with(|c: char| c.is_ascii_digit()) || !digits.chars().all(plain) || digits.len() > 32 {
        return Err(invalid(format!("{key}.version: {version:?} is no version like 1.33.1 or v1.33.1")));
    }
    Ok(())
}

/// Joliet replaces some characters and the virtual router's index escapes others: a manifest's name has
/// none of them.
fn check_manifest_name(name: &str) -> Result<(), Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !first || !name.ends_with(".yaml") || !name.chars().all(plain) || name.len() > MAX_NAME {
        let want = format!("letters, digits, '.', '-' and '_', ending in .yaml, at most {MAX_NAME} characters");
        return Err(invalid(format!("manifests.{name:?}: a name has {want}")));
    }
    if name == MANIFEST_PATH {
        return Err(invalid(format!("manifests.{name:?}: the builder writes this file itself")));
    }
    Ok(())
}

fn arch<'de, D: Deserializer<'de>>(text: D) -> Result<Arch, D::Error> {
    let text = String::deserialize(text)?;
    let unknown = || D::Error::custom(format!("{text:?} is neither amd64 (x86_64) nor arm64 (aarch64)"));
    Arch::parse(&text).ok_or_else(unknown)
}

/// The failure of a path that the spec names, not the command line: wrong ones are the spec's fault.
#[must_use]
pub fn in_spec(failure: Failure) -> Failure {
    match failure.code {
        Code::ConfigInvalid => {
            Failure { code: Code::SpecInvalid, ..failure }.with_remedy("correct the path in the spec")
        }
        _ => failure,
    }
}

/// A `SPEC_INVALID` failure.
#[must_use]
pub fn invalid(what: impl Into<String>) -> Failure {
    Failure::new(Code::SpecInvalid, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        name = "v1.33.1-calico"
        arch = "amd64"
        [kubernetes]
        version = "v1.33.1"
        kubeadm = { file = "bin/kubeadm" }
        kubelet = { url = "https://dl.k8s.io/kubelet", sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" }
        kubectl = { file = "bin/kubectl" }
        [etcd]
        version = "3.5.21"
        files = ["/usr/bin/etcd", "/usr/bin/etcdctl"]
        [[images]]
        file = "pause.tar"
        [manifests]
        "network.yaml" = { file = "calico.yaml" }
    "#;

    #[test]
    fn a_good_spec_is_read() {
        let spec = Spec::parse(GOOD).unwrap();
        let keys: Vec<_> = spec.inputs().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys[..4], ["kubernetes.kubeadm", "kubernetes.kubelet", "kubernetes.kubectl", "images[0]"]);
        assert!(matches!(spec.etcd.unwrap().origin("etcd"), Ok(Origin::Files(files)) if files.len() == 2));
    }

    #[test]
    fn the_kernels_spellings_of_an_architecture_are_read() {
        for (text, arch) in [("x86_64", Arch::Amd64), ("aarch64", Arch::Arm64), ("arm64", Arch::Arm64)] {
            assert_eq!(Spec::parse(&GOOD.replace("\"amd64\"", &format!("{text:?}"))).unwrap().arch, arch);
        }
    }

    #[test]
    fn every_refusal_names_the_key() {
        let sha = "sha256 = \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"";
        for (from, to, want) in [
            ("name = \"v1.33.1-calico\"", "", "name"),
            ("name = \"v1.33.1-calico\"", "name = \"\"", "name"),
            ("name =", "nmae =", "nmae"),
            ("arch = \"amd64\"", "arch = \"sparc\"", "arch"),
            ("arch = \"amd64\"", "arch = \"amd64\"\nepoch = 99999999999", "epoch"),
            ("version = \"v1.33.1\"", "version = \"latest\"", "kubernetes.version"),
            ("version = \"3.5.21\"", "version = \"../3\"", "etcd.version"),
            ("kubectl = { file = \"bin/kubectl\" }", "", "kubectl"),
            ("kubectl = { file =", "kubectl = { flie =", "flie"),
            ("kubectl = { file = \"bin/kubectl\" }", "kubectl = {}", "kubernetes.kubectl"),
            ("https://dl.k8s.io/kubelet", "ftp://dl.k8s.io/kubelet", "kubernetes.kubelet.url"),
            (&format!(", {sha}"), "", "kubernetes.kubelet.sha256"),
            ("sha256 = \"ba", "sha256 = \"b", "sha256"),
            ("files = [", "directory = \"/usr/bin\"\nfiles = [", "etcd:"),
            ("files = [", &format!("{sha}\nfiles = ["), "etcd.sha256"),
            ("files = [\"/usr/bin/etcd\", \"/usr/bin/etcdctl\"]", "files = []", "etcd.files"),
            ("\"network.yaml\" =", "\"a:b.yaml\" =", "a:b.yaml"),
            ("\"network.yaml\" =", "\"../network.yaml\" =", "../network.yaml"),
            ("\"network.yaml\" =", "\"snapshot-crds.yaml\" =", "manifest.yaml"),
        ] {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD, "{from:?} does not occur");
            let failure = Spec::parse(&text).unwrap_err();
            assert_eq!(failure.code, Code::SpecInvalid);
            assert!(failure.what.contains(want), "{to:?} gives {failure}");
        }
        let secret = GOOD.replace("https://dl", "ftp://me:secret@dl");
        assert!(!Spec::parse(&secret).unwrap_err().what.contains("secret"));
        let secret = GOOD.replace("https://dl", "https://me:secret@dl").replace("url =", "ulr =");
        let said = Spec::parse(&secret).unwrap_err().what;
        assert!(!said.contains("secret") && said.contains("https://dl.k8s.io/"), "{said}");
        assert!(Spec::parse("name = \"a\"\narch = \"arm64\"").unwrap_err().what.contains("no component"));
    }
}
