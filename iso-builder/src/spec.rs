//! The spec: what goes on the ISO, as TOML. `docs/building.md` describes every key.

pub mod source;
mod stock;
pub mod upstream;

use std::collections::BTreeMap;

use bootstrap::bundle::{Arch, MANIFEST_PATH, Node, layout};
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

pub use self::source::{Chart, Input, Origin, Tarball, Told, Values, in_spec};
use crate::layers::Layers;
use crate::text::without_users;

/// The time that dates everything on the ISO where neither the spec nor `SOURCE_DATE_EPOCH` gives one:
/// 1980-01-01, the first that every format inside can hold. Seconds since 1970.
pub const DEFAULT_EPOCH: u64 = 315_532_800;

/// The last time that every format inside can hold, in 2106; seconds since 1970.
pub const MAX_EPOCH: u64 = 4_294_967_295;

/// The longest name that Joliet stores whole, in characters.
pub const MAX_NAME: usize = 64;

/// What goes on the ISO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Spec {
    /// The build's name, for people: `v1.33.1-calico`.
    pub name: String,
    /// The machine architecture that everything is for.
    #[serde(deserialize_with = "arch")]
    pub arch: Arch,
    /// The time that dates everything, in seconds since 1970.
    pub epoch: Option<u64>,
    /// Ready-made parts: `calico`, or the path of a profile of one's own, ending in `.toml`.
    #[serde(default)]
    pub profiles: Vec<String>,
    /// What differs from a profile's defaults, by the profile's name.
    #[serde(default)]
    pub profile: BTreeMap<String, Override>,
    /// kubeadm, kubelet and kubectl.
    pub kubernetes: Option<Kubernetes>,
    /// The CNI plugins.
    pub cni_plugins: Option<Tarball>,
    /// crictl.
    pub cri_tools: Option<Tarball>,
    /// etcd and etcdctl, for dedicated etcd nodes.
    pub etcd: Option<Tarball>,
    /// The kubelet's unit and drop-in.
    #[serde(default)]
    pub kubelet: Kubelet,
    /// The images: archives (uncompressed tars), or references.
    #[serde(default)]
    pub images: Vec<Input>,
    /// How the layers of images lie on the ISO.
    #[serde(default, skip_serializing_if = "Layers::is_upstream")]
    pub layers: Layers,
    /// Whose images the builder looks up by itself.
    #[serde(default)]
    pub images_from: ImagesFrom,
    /// Kubernetes manifests by their name on the ISO: `network.yaml`.
    #[serde(default)]
    pub manifests: BTreeMap<String, Input>,
    /// Kernel settings that every node gets.
    #[serde(default)]
    pub sysctl: BTreeMap<String, String>,
    /// Arguments for `kubeadm init`.
    #[serde(default)]
    pub kubeadm_arguments: Vec<String>,
    /// Whether manifests may name images that the ISO lacks.
    #[serde(default)]
    pub incomplete: bool,
}

/// What differs from a profile's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// Another version than the profile's own.
    pub version: Option<String>,
    /// Values for its chart, laid over the profile's own.
    #[serde(default)]
    pub values: Values,
}

/// The Kubernetes binaries: upstream's of the version, unless all three are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Kubernetes {
    /// `1.33.1`, with or without a `v`.
    pub version: String,
    /// The program kubeadm.
    pub kubeadm: Option<Input>,
    /// The program kubelet.
    pub kubelet: Option<Input>,
    /// The program kubectl.
    pub kubectl: Option<Input>,
    /// Where Kubernetes' images come from, instead of `registry.k8s.io`.
    pub image_registry: Option<String>,
}

/// The kubelet's unit files. What is left out is the builder's own, on an ISO with Kubernetes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Kubelet {
    /// `kubelet.service`.
    pub unit: Option<Input>,
    /// `10-kubeadm.conf`.
    pub drop_in: Option<Input>,
    /// `false`: what is left out stays out.
    pub default: Option<bool>,
}

/// Whose images the builder looks up by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagesFrom {
    /// Those that kubeadm of the version wants; left out: where the binaries are upstream's too.
    pub kubernetes: Option<bool>,
    /// Those that the Kubernetes manifests name; left out: where the spec needs a lock anyway.
    pub manifests: Option<bool>,
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
        for (name, profile) in &self.profile {
            if let Some(version) = &profile.version {
                check_version(&format!("profile.{name}"), version)?;
            }
        }
        if let Some(kubernetes) = &self.kubernetes {
            kubernetes.check()?;
        }
        self.node().check().map_err(invalid)?;
        for (key, input) in self.inputs() {
            input.origin(&key)?;
        }
        for name in self.manifests.keys() {
            check_manifest_name(name)?;
        }
        if self.profiles.is_empty() {
            check_pair(|name| self.manifests.contains_key(name))?;
        }
        if self.tarballs().is_empty()
            && self.inputs().is_empty()
            && self.kubernetes.is_none()
            && self.profiles.is_empty()
        {
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

    /// Every input of the spec that is no tarball component, with its key.
    #[must_use]
    pub fn inputs(&self) -> Vec<(String, &Input)> {
        let mut inputs = Vec::new();
        if let Some(kubernetes) = &self.kubernetes {
            let programs = kubernetes.programs().into_iter();
            inputs.extend(programs.filter_map(|(name, input)| Some((format!("kubernetes.{name}"), input?))));
        }
        let kubelet = [("kubelet.unit", &self.kubelet.unit), ("kubelet.drop-in", &self.kubelet.drop_in)];
        inputs.extend(kubelet.into_iter().filter_map(|(key, input)| Some((key.to_owned(), input.as_ref()?))));
        inputs.extend(self.images.iter().enumerate().map(|(at, input)| (format!("images[{at}]"), input)));
        inputs.extend(self.manifests.iter().map(|(name, input)| (format!("manifests.{name:?}"), input)));
        inputs
    }

    /// What the spec itself wants of every node.
    #[must_use]
    pub fn node(&self) -> Node {
        Node { sysctl: self.sysctl.clone(), kubeadm_arguments: self.kubeadm_arguments.clone() }
    }

    /// The digest of what the spec says, whatever its comments and order; `others` are the texts that it
    /// names and that are read with it. Passwords in URLs do not count.
    #[must_use]
    pub fn digest(&self, others: &[&str]) -> Digest {
        let json = serde_json::json!([self, others]);
        Digest::of(without_users(&json.to_string()).as_bytes())
    }
}

impl Kubernetes {
    /// The programs by their name; none where they are upstream's.
    #[must_use]
    pub fn programs(&self) -> [(&'static str, Option<&Input>); 3] {
        [("kubeadm", self.kubeadm.as_ref()), ("kubelet", self.kubelet.as_ref()), ("kubectl", self.kubectl.as_ref())]
    }

    /// Whether the programs are upstream's.
    #[must_use]
    pub fn is_upstream(&self) -> bool {
        self.programs().iter().all(|(_, input)| input.is_none())
    }

    fn check(&self) -> Result<(), Failure> {
        check_version("kubernetes", &self.version)?;
        let registry = |text: &str| layout::check_reference(text).is_ok() && !text.contains('@');
        if self.image_registry.as_deref().is_some_and(|text| !registry(text)) {
            return Err(invalid("kubernetes.image-registry: a host like registry.k8s.io, perhaps with a path"));
        }
        match self.programs().iter().find(|(_, input)| input.is_none()) {
            Some((name, _)) if !self.is_upstream() => {
                Err(invalid(format!("kubernetes.{name}: missing; tell all three programs, or none for upstream's")))
            }
            _ => Ok(()),
        }
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

/// Accepts a version; `key` is what messages call its table.
///
/// # Errors
/// `SPEC_INVALID` names the key.
pub fn check_version(key: &str, version: &str) -> Result<(), Failure> {
    let digits = version.strip_prefix('v').unwrap_or(version);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_' | '~');
    if !digits.starts_with(|c: char| c.is_ascii_digit()) || !digits.chars().all(plain) || digits.len() > 32 {
        return Err(invalid(format!("{key}.version: {version:?} is no version like 1.33.1 or v1.33.1")));
    }
    Ok(())
}

/// Joliet replaces some characters and the virtual router's index escapes others: a manifest's name has
/// none of them.
pub(crate) fn check_manifest_name(name: &str) -> Result<(), Failure> {
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

/// Control planes copy two manifests of the CSI driver together, and stop where one of them is missing.
pub(crate) fn check_pair(has: impl Fn(&str) -> bool) -> Result<(), Failure> {
    if has("snapshot-crds.yaml") && !has("manifest.yaml") {
        return Err(invalid("manifests: snapshot-crds.yaml needs manifest.yaml beside it: control planes copy both"));
    }
    Ok(())
}

fn arch<'de, D: Deserializer<'de>>(text: D) -> Result<Arch, D::Error> {
    let text = String::deserialize(text)?;
    let unknown = || D::Error::custom(format!("{text:?} is neither amd64 (x86_64) nor arm64 (aarch64)"));
    Arch::parse(&text).ok_or_else(unknown)
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
        assert!(matches!(spec.etcd.unwrap().origin("etcd"), Ok(Some(Origin::Files(files))) if files.len() == 2));
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
            (&format!(", {sha}"), ", checksum = \"x\"", "kubernetes.kubelet.checksum"),
            (&format!(", {sha}"), &format!(", {sha}, checksum = \"http://a\""), "kubernetes.kubelet:"),
            ("file = \"bin/kubectl\"", "file = \"a\", checksum = \"http://a\"", "kubernetes.kubectl.checksum"),
            ("file = \"bin/kubectl\"", "reference = \"a\"", "kubernetes.kubectl.reference"),
            ("file = \"pause.tar\"", "chart = { file = \"a\", name = \"a\" }", "images[0].chart"),
            ("file = \"pause.tar\"", "file = \"a\"\nreference = \"a\"", "images[0].reference"),
            ("file = \"calico.yaml\"", "chart = { name = \"a\" }", "manifests.\"network.yaml\".chart"),
            ("file = \"calico.yaml\"", "file = \"a\", replace = [[\"\", \"b\"]]", "manifests.\"network.yaml\".replace"),
            (
                "file = \"calico.yaml\"",
                "file = \"a\", replace = [[\"b\", \"b\"]]",
                "manifests.\"network.yaml\".replace",
            ),
            ("file = \"calico.yaml\"", "file = \"a\", replace = [[\"b\"]]", "replace"),
            ("file = \"bin/kubectl\"", "file = \"a\", replace = [[\"a\", \"b\"]]", "kubernetes.kubectl.replace"),
            ("file = \"calico.yaml\"", "chart = { file = \"a\", name = \"--a\" }", "chart.name"),
            ("[etcd]", "[sysctl]\n\"a b\" = \"1\"\n[etcd]", "sysctl"),
            ("[etcd]", "[profile.calico]\nversion = \"x\"\n[etcd]", "profile.calico.version"),
            ("[etcd]", "[kubelet]\ndefualt = false\n[etcd]", "defualt"),
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
