//! The spec with its profiles and defaults written out: every part of the ISO, and where it comes from.
//! Nothing is read or fetched for it.

use std::collections::{BTreeMap, BTreeSet};

use bootstrap::bundle::{Arch, Component, Node, layout};
use bootstrap::failure::Failure;

use crate::bundle::path_of;
use crate::layers::Layers;
use crate::profile::{self, Profile};
use crate::replace::Replacement;
use crate::spec::{Input, Kubernetes, Origin, Spec, Tarball, check_pair, invalid, upstream};

/// The key of the text that kubeadm's images are read from; it is no file of the ISO.
pub const CONSTANTS: &str = "kubernetes.constants";

/// The parts of an ISO.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// The build's name.
    pub name: String,
    /// The machine architecture.
    pub arch: Arch,
    /// The time that dates everything, in seconds since 1970, where the spec tells one.
    pub epoch: Option<u64>,
    /// Versions of what is inside; Kubernetes' with its `v`.
    pub components: Vec<Component>,
    /// What every node gets beside files.
    pub node: Node,
    /// Every input, each key once.
    pub parts: Vec<Part>,
    /// References that the spec or a profile names, and who names them.
    pub references: Vec<(String, String)>,
    /// The images that kubeadm wants, where the builder looks them up.
    pub kubernetes_images: Option<KubernetesImages>,
    /// Whether the builder looks up the images of the Kubernetes manifests.
    pub manifest_images: bool,
    /// How the layers of images lie on the ISO.
    pub layers: Layers,
    /// Whether manifests may name images that the ISO lacks.
    pub incomplete: bool,
}

/// One input of a build.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What messages, the lock and `--update` call it: `kubernetes.kubelet`.
    pub key: String,
    /// Its path on the ISO; an image archive has none of its own.
    pub path: Option<String>,
    /// Where it comes from.
    pub from: Origin,
    /// Texts that are replaced in it.
    pub replace: Vec<Replacement>,
}

/// Whose images they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesImages {
    /// Kubernetes' version without `v`.
    pub version: String,
    /// The registry, perhaps with a path.
    pub registry: String,
}

impl Recipe {
    /// What `spec` with `profiles` (those that it names) asks for.
    ///
    /// # Errors
    /// `SPEC_INVALID` names the key.
    pub fn of(spec: &Spec, profiles: &[profile::Named]) -> Result<Self, Failure> {
        let mut recipe = Self {
            name: spec.name.clone(),
            arch: spec.arch,
            epoch: spec.epoch,
            components: Vec::new(),
            node: Node::default(),
            parts: Vec::new(),
            references: Vec::new(),
            kubernetes_images: None,
            manifest_images: false,
            layers: spec.layers,
            incomplete: spec.incomplete,
        };
        recipe.add_kubernetes(spec)?;
        recipe.add_kubelet(spec)?;
        recipe.add_tarballs(spec, profiles)?;
        for (at, input) in spec.images.iter().enumerate() {
            let key = format!("images[{at}]");
            match (input.origin(&key)?, &input.reference) {
                (Some(from), _) => recipe.add(&key, from),
                (None, Some(reference)) => recipe.references.push((reference.clone(), "the spec".to_owned())),
                (None, None) => {}
            }
        }
        for (name, profile) in profiles {
            let by = format!("profile {name}");
            recipe.references.extend(profile.images.iter().map(|reference| (reference.clone(), by.clone())));
        }
        recipe.check_references()?;
        recipe.add_manifests(spec, profiles)?;
        recipe.add_node(spec, profiles)?;
        if recipe.parts.is_empty() && recipe.references.is_empty() {
            return Err(invalid("the profiles bring no file and no image"));
        }
        recipe.manifest_images = spec.images_from.manifests.unwrap_or_else(|| recipe.is_open());
        Ok(recipe)
    }

    /// Whether the spec alone does not say which bytes the ISO has: a lock has to.
    #[must_use]
    pub fn needs_lock(&self) -> bool {
        let manifests = self.parts.iter().any(|part| part.key.starts_with("manifests."));
        self.is_open() || self.manifest_images && manifests
    }

    fn is_open(&self) -> bool {
        self.kubernetes_images.is_some()
            || !self.references.is_empty()
            || self.parts.iter().any(|part| part.from.is_open())
    }

    /// Kubernetes' version with its `v`, where the ISO brings it.
    #[must_use]
    pub fn kubernetes(&self) -> Option<&str> {
        self.components.iter().find(|component| component.name == "kubernetes").map(|found| found.version.as_str())
    }

    /// The part called `key`.
    #[must_use]
    pub fn part(&self, key: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.key == key)
    }

    fn add(&mut self, key: &str, from: Origin) {
        let path = path_of(key, self.arch);
        self.parts.push(Part { key: key.to_owned(), path, from, replace: Vec::new() });
    }

    fn add_input(&mut self, key: &str, input: &Input) -> Result<(), Failure> {
        if let Some(from) = input.origin(key)? {
            let (key, path, replace) = (key.to_owned(), path_of(key, self.arch), input.replace.clone());
            self.parts.push(Part { key, path, from, replace });
        }
        Ok(())
    }

    fn component(&mut self, name: &str, version: &str) {
        self.components.push(Component { name: name.to_owned(), version: version.to_owned() });
    }

    fn add_kubernetes(&mut self, spec: &Spec) -> Result<(), Failure> {
        let Some(kubernetes) = &spec.kubernetes else {
            return match spec.images_from.kubernetes {
                Some(true) => Err(invalid("images-from.kubernetes: there is no [kubernetes]")),
                _ => Ok(()),
            };
        };
        let Kubernetes { version, image_registry, .. } = kubernetes;
        self.component("kubernetes", &format!("v{}", version.trim_start_matches('v')));
        for (name, input) in kubernetes.programs() {
            let key = format!("kubernetes.{name}");
            match input {
                Some(input) => self.add_input(&key, input)?,
                None => self.add_input(&key, &upstream::kubernetes(name, version, spec.arch))?,
            }
        }
        if spec.images_from.kubernetes.unwrap_or(kubernetes.is_upstream()) {
            let registry = image_registry.as_deref().unwrap_or(upstream::IMAGE_REGISTRY).trim_end_matches('/');
            let version = upstream::bare(version).to_owned();
            self.add_input(CONSTANTS, &upstream::constants(&version))?;
            self.kubernetes_images = Some(KubernetesImages { version, registry: registry.to_owned() });
        }
        Ok(())
    }

    fn add_kubelet(&mut self, spec: &Spec) -> Result<(), Failure> {
        let default = spec.kubelet.default.unwrap_or(true) && spec.kubernetes.is_some();
        for (key, input, built_in) in [
            ("kubelet.unit", &spec.kubelet.unit, "kubelet.service"),
            ("kubelet.drop-in", &spec.kubelet.drop_in, "10-kubeadm.conf"),
        ] {
            match input {
                Some(input) => self.add_input(key, input)?,
                None if default => self.add(key, Origin::BuiltIn(built_in)),
                None => {}
            }
        }
        Ok(())
    }

    fn add_tarballs(&mut self, spec: &Spec, profiles: &[profile::Named]) -> Result<(), Failure> {
        let own = spec.tarballs();
        let mut all: BTreeMap<&str, (&Tarball, &str)> = BTreeMap::new();
        for (name, profile) in profiles {
            for (key, tarball) in profile.tarballs() {
                match all.insert(key, (tarball, name)) {
                    Some((_, other)) => return Err(twice(key, other, name)),
                    None => crate::spec::check_version(key, &tarball.version)?,
                }
            }
        }
        all.extend(own.into_iter().map(|(key, tarball)| (key, (tarball, ""))));
        for (key, (tarball, _)) in all {
            self.component(key, &tarball.version);
            match tarball.origin(key)? {
                Some(from) => self.add(key, from),
                None => self.add_input(key, &upstream::tarball(key, &tarball.version, spec.arch))?,
            }
        }
        Ok(())
    }

    fn add_manifests(&mut self, spec: &Spec, profiles: &[profile::Named]) -> Result<(), Failure> {
        let mut all: BTreeMap<&str, (&Input, &str)> = BTreeMap::new();
        for (name, profile) in profiles {
            for (manifest, input) in &profile.manifests {
                match all.insert(manifest, (input, name)) {
                    Some((_, other)) if !spec.manifests.contains_key(manifest) => {
                        return Err(twice(manifest, other, name));
                    }
                    _ => {}
                }
            }
        }
        // What the spec says itself goes before what a profile brings.
        all.extend(spec.manifests.iter().map(|(manifest, input)| (manifest.as_str(), (input, ""))));
        for (manifest, (input, _)) in all {
            self.add_input(&format!("manifests.{manifest:?}"), input)?;
        }
        check_pair(|name| self.part(&format!("manifests.{name:?}")).is_some())
    }

    fn add_node(&mut self, spec: &Spec, profiles: &[profile::Named]) -> Result<(), Failure> {
        let mut from: BTreeMap<&String, (&String, &String)> = BTreeMap::new();
        for (name, profile) in profiles {
            for (key, value) in &profile.sysctl {
                match from.insert(key, (value, name)) {
                    Some((other, by)) if other != value && !spec.sysctl.contains_key(key) => {
                        let what = format!("sysctl {key}: the profile {by} wants {other}, {name} wants {value}");
                        return Err(invalid(what).with_remedy("tell the value in the spec's own [sysctl]"));
                    }
                    _ => {}
                }
            }
        }
        self.node.sysctl = from.into_iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect();
        self.node.sysctl.extend(spec.sysctl.clone());
        let arguments = profiles.iter().flat_map(|(_, Profile { kubeadm_arguments, .. })| kubeadm_arguments);
        let mut seen = BTreeSet::new();
        let arguments = arguments.chain(&spec.kubeadm_arguments).filter(|argument| seen.insert(*argument));
        self.node.kubeadm_arguments = arguments.cloned().collect();
        self.node.check().map_err(invalid)
    }

    fn check_references(&self) -> Result<(), Failure> {
        for (reference, by) in &self.references {
            if let Err(reason) = layout::check_reference(reference) {
                return Err(invalid(format!("image {reference:?} of {by} {reason}")));
            }
        }
        Ok(())
    }
}

fn twice(what: &str, one: &str, other: &str) -> Failure {
    invalid(format!("profiles: {one} and {other} both bring {what}"))
        .with_remedy("leave one of them out, or tell it in the spec itself")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Told;

    fn recipe(text: &str) -> Result<Recipe, Failure> {
        let spec = Spec::parse(&format!("name = 'a'\narch = 'arm64'\n{text}"))?;
        let own = "description = 'a'\nversion = '1'\nimages = ['example.org/a:1']\nmanifests = { 'network.yaml' = { file = 'a' } }\n\
                   sysctl = { 'net.ipv4.conf.all.rp_filter' = '1' }\netcd = { version = '3.4.0' }";
        Recipe::of(&spec, &profile::load(&spec, |_| Ok(own.to_owned()))?)
    }

    fn keys(recipe: &Recipe) -> Vec<&str> {
        recipe.parts.iter().map(|part| part.key.as_str()).collect()
    }

    #[test]
    fn versions_alone_mean_upstreams_files() {
        let recipe = recipe(
            "kubernetes = { version = 'v1.33.1' }\ncni-plugins = { version = '1.6.2' }\n\
             cri-tools = { version = 'v1.33.0' }\netcd = { version = '3.5.21' }",
        )
        .unwrap();
        let urls: Vec<(String, String)> = recipe
            .parts
            .iter()
            .filter_map(|part| match &part.from {
                Origin::Url(url, Told::Checksum(checksum)) => Some((url.to_string(), checksum.to_string())),
                _ => None,
            })
            .collect();
        let gh = "https://github.com";
        let kubelet = "https://dl.k8s.io/release/v1.33.1/bin/linux/arm64/kubelet";
        let cni =
            format!("{gh}/containernetworking/plugins/releases/download/v1.6.2/cni-plugins-linux-arm64-v1.6.2.tgz");
        let cri = format!("{gh}/kubernetes-sigs/cri-tools/releases/download/v1.33.0/crictl-v1.33.0-linux-arm64.tar.gz");
        let etcd = format!("{gh}/etcd-io/etcd/releases/download/v3.5.21/");
        assert_eq!(urls[1], (kubelet.to_owned(), format!("{kubelet}.sha256")));
        assert_eq!(urls[3], (cni.clone(), format!("{cni}.sha256")));
        assert_eq!(urls[4], (cri.clone(), format!("{cri}.sha256")));
        assert_eq!(urls[5], (format!("{etcd}etcd-v3.5.21-linux-arm64.tar.gz"), format!("{etcd}SHA256SUMS")));
        assert_eq!(keys(&recipe)[3..6], [CONSTANTS, "kubelet.unit", "kubelet.drop-in"]);
        assert_eq!(recipe.part("etcd").unwrap().path.as_deref(), Some("etcd/etcd-linux-amd64.tar.gz"));
        assert_eq!(recipe.kubernetes(), Some("v1.33.1"));
        assert!(recipe.needs_lock() && recipe.manifest_images);
    }

    #[test]
    fn a_spec_of_plain_files_needs_no_lock() {
        let programs = "kubernetes = { version = '1', kubeadm = { file = 'a' }, kubelet = { file = 'b' }, kubectl = { file = 'c' } }";
        let plain = recipe(&format!("{programs}\nmanifests = {{ 'network.yaml' = {{ file = 'a' }} }}")).unwrap();
        assert!(!plain.needs_lock() && plain.kubernetes_images.is_none() && !plain.manifest_images);
        let wanted = recipe(&format!("{programs}\nimages-from = {{ kubernetes = true }}")).unwrap();
        assert_eq!(wanted.kubernetes_images.as_ref().unwrap().registry, "registry.k8s.io");
        assert!(wanted.needs_lock());
        let manifests = "manifests = { 'a.yaml' = { file = 'a' } }\nimages-from = { manifests = true }";
        assert!(recipe(manifests).unwrap().needs_lock());
        for open in [
            "images = [{ reference = 'a' }]",
            "manifests = { 'a.yaml' = { url = 'http://a/a' } }",
            "manifests = { 'a.yaml' = { chart = { file = 'a', name = 'a' } } }",
            "profiles = ['calico']",
        ] {
            assert!(recipe(open).unwrap().needs_lock(), "{open}");
        }
    }

    #[test]
    fn profiles_are_written_out_and_the_spec_goes_before_them() {
        let all = recipe(
            "profiles = ['calico', 'flannel', 'own/mine.toml']\netcd = { version = '3.5.0' }\n\
             sysctl = { 'net.ipv4.conf.all.rp_filter' = '2' }\nmanifests = { 'network.yaml' = { file = 'b' } }",
        )
        .unwrap();
        assert_eq!(keys(&all), ["etcd", "manifests.\"network.yaml\""]);
        assert_eq!(all.part("manifests.\"network.yaml\"").unwrap().from, Origin::File("b".into(), None));
        assert_eq!(all.components[0].version, "3.5.0");
        assert_eq!(all.node.sysctl["net.ipv4.conf.all.rp_filter"], "2");
        assert_eq!(all.node.kubeadm_arguments, ["--pod-network-cidr=10.244.0.0/16"]);
        assert_eq!(all.references, [("example.org/a:1".to_owned(), "profile mine".to_owned())]);
        for (text, want) in [
            ("profiles = ['calico', 'flannel']", "calico and flannel both bring network.yaml"),
            ("profiles = ['etcd', 'a.toml']", "both bring etcd"),
            (
                "profiles = ['calico', 'a.toml']\nmanifests = { 'network.yaml' = { file = 'b' } }",
                "calico wants 0, a wants 1",
            ),
            ("images = [{ reference = 'a b' }]", "image \"a b\" of the spec"),
            ("images-from = { kubernetes = true }\nimages = [{ file = 'a' }]", "no [kubernetes]"),
        ] {
            let failure = recipe(text).unwrap_err();
            assert!(failure.what.contains(want), "{text}: {failure}");
        }
    }

    #[test]
    fn the_kubelets_texts_are_the_builders_unless_told() {
        let kubernetes = "kubernetes = { version = '1.33.1' }\n";
        let of = |rest: &str| keys(&recipe(&format!("{kubernetes}{rest}")).unwrap()).join(" ");
        assert!(of("").contains("kubelet.unit kubelet.drop-in"));
        assert!(!of("kubelet = { default = false }").contains("kubelet.unit"));
        let own = of("kubelet = { default = false, unit = { file = 'a' } }");
        assert!(own.contains("kubelet.unit") && !own.contains("kubelet.drop-in"), "{own}");
        assert_eq!(keys(&recipe("images = [{ file = 'a' }]").unwrap()), ["images[0]"]);
    }
}
