//! Profiles: what belongs together (a pod network's manifests, images, kernel settings and kubeadm
//! arguments), as data. The builder brings some in `profiles/`; a spec may name files of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bootstrap::bundle::{Arch, Node};
use bootstrap::failure::Failure;
use serde::Deserialize;

use crate::spec::{self, Input, Override, Spec, Tarball, Values, invalid};
use crate::text::without_users;

/// The profiles that the builder brings: name and text.
pub const BUILT_IN: [(&str, &str); 9] = [
    ("autoscaler", include_str!("../profiles/autoscaler.toml")),
    ("calico", include_str!("../profiles/calico.toml")),
    ("cilium", include_str!("../profiles/cilium.toml")),
    ("csi", include_str!("../profiles/csi.toml")),
    ("dashboard", include_str!("../profiles/dashboard.toml")),
    ("etcd", include_str!("../profiles/etcd.toml")),
    ("flannel", include_str!("../profiles/flannel.toml")),
    ("headlamp", include_str!("../profiles/headlamp.toml")),
    ("provider", include_str!("../profiles/provider.toml")),
];

/// A profile, for one version and architecture.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Profile {
    /// One line for people.
    pub description: String,
    /// The version that it is for, where the spec tells no other.
    pub version: String,
    /// Other profiles that the spec must name too.
    #[serde(default)]
    pub requires: Vec<String>,
    /// Kubernetes manifests by their name on the ISO.
    #[serde(default)]
    pub manifests: BTreeMap<String, Input>,
    /// References of images that no manifest names.
    #[serde(default)]
    pub images: Vec<String>,
    /// Kernel settings that every node gets.
    #[serde(default)]
    pub sysctl: BTreeMap<String, String>,
    /// Arguments for `kubeadm init`.
    #[serde(default)]
    pub kubeadm_arguments: Vec<String>,
    /// The CNI plugins.
    pub cni_plugins: Option<Tarball>,
    /// crictl.
    pub cri_tools: Option<Tarball>,
    /// etcd and etcdctl.
    pub etcd: Option<Tarball>,
}

/// A profile with the name that the spec calls it by.
pub type Named = (String, Profile);

/// The name by which a spec's `[profile.NAME]` speaks of the profile `entry` of its list: a built-in one's
/// own, the stem of a file.
#[must_use]
pub fn name(entry: &str) -> String {
    match file(entry) {
        Some(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        None => entry.to_owned(),
    }
}

/// The file that the profile `entry` of a spec's list is, relative to the spec's directory.
#[must_use]
pub fn file(entry: &str) -> Option<&Path> {
    entry.ends_with(".toml").then(|| Path::new(entry))
}

/// Makes the profiles that `spec` names; `read` gives the text of a file.
///
/// # Errors
/// `SPEC_INVALID` names the profile; or what `read` says.
pub fn load(spec: &Spec, mut read: impl FnMut(&Path) -> Result<String, Failure>) -> Result<Vec<Named>, Failure> {
    let mut profiles: Vec<Named> = Vec::new();
    for entry in &spec.profiles {
        let name = name(entry);
        if profiles.iter().any(|(other, _)| *other == name) {
            return Err(invalid(format!("profiles: {name:?} stands twice")));
        }
        let text = match (file(entry), BUILT_IN.iter().find(|(built_in, _)| *built_in == name)) {
            (Some(path), _) => read(path)?,
            (None, Some((_, text))) => (*text).to_owned(),
            (None, None) => {
                let names: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
                let what = format!("profiles: there is no {name:?}, only {}", names.join(", "));
                return Err(invalid(what).with_remedy("a profile of your own is a path that ends in .toml"));
            }
        };
        let directory = file(entry).and_then(Path::parent).unwrap_or(Path::new(""));
        let parsed = parse(&text, spec.profile.get(&name), spec.arch, directory);
        profiles
            .push((name.clone(), parsed.map_err(|failure| crate::bundle::named(&format!("profile {name}"), failure))?));
    }
    let has = |name: &String| profiles.iter().any(|(other, _)| other == name);
    if let Some(name) = spec.profile.keys().find(|name| !has(name)) {
        return Err(invalid(format!("profile.{name}: the list profiles does not name it")));
    }
    for (name, profile) in &profiles {
        if let Some(missing) = profile.requires.iter().find(|required| !has(required)) {
            return Err(invalid(format!("profiles: {name:?} needs {missing:?} beside it")));
        }
    }
    Ok(profiles)
}

/// Reads a profile: `{version}` and `{arch}` in it are replaced, its files lie below `directory`.
fn parse(text: &str, change: Option<&Override>, arch: Arch, directory: &Path) -> Result<Profile, Failure> {
    #[derive(Deserialize)]
    struct Version {
        version: String,
    }
    let unreadable = |e: toml::de::Error| invalid(without_users(e.to_string().trim_end()));
    let Version { version } = toml::from_str(text).map_err(unreadable)?;
    let version = change.and_then(|change| change.version.clone()).unwrap_or(version);
    spec::check_version("profile", &version)?;
    // A version has no character that means anything to TOML.
    let text = text.replace("{version}", spec::upstream::bare(&version)).replace("{arch}", arch.as_str());
    let mut profile: Profile = toml::from_str(&text).map_err(unreadable)?;
    profile.version = version;
    for (name, input) in &mut profile.manifests {
        spec::check_manifest_name(name)?;
        let files = [&mut input.file].into_iter().chain(input.chart.as_mut().map(|chart| &mut chart.file));
        for file in files.flatten() {
            *file = below(directory, file);
        }
    }
    let tarballs = [&mut profile.cni_plugins, &mut profile.cri_tools, &mut profile.etcd];
    for tarball in tarballs.into_iter().flatten() {
        let own = tarball.file.iter_mut().chain(&mut tarball.directory);
        for file in own.chain(tarball.files.iter_mut().flatten()) {
            *file = below(directory, file);
        }
    }
    let values = change.map(|change| &change.values).filter(|values| !values.is_empty());
    if let Some(values) = values {
        let charts = profile.manifests.values_mut().filter_map(|input| input.chart.as_mut());
        let count = charts.map(|chart| lay_over(&mut chart.values, values)).count();
        if count == 0 {
            return Err(invalid("values: the profile has no chart"));
        }
    }
    profile.node().check().map_err(invalid)?;
    Ok(profile)
}

impl Profile {
    /// What it wants of every node.
    #[must_use]
    pub fn node(&self) -> Node {
        Node { sysctl: self.sysctl.clone(), kubeadm_arguments: self.kubeadm_arguments.clone() }
    }

    /// The tarball components that it brings, with their key.
    #[must_use]
    pub fn tarballs(&self) -> Vec<(&'static str, &Tarball)> {
        let tarballs = [("cni-plugins", &self.cni_plugins), ("cri-tools", &self.cri_tools), ("etcd", &self.etcd)];
        tarballs.into_iter().filter_map(|(key, tarball)| Some((key, tarball.as_ref()?))).collect()
    }
}

fn below(directory: &Path, file: &Path) -> PathBuf {
    directory.join(file)
}

/// Lays `over` over `values`: tables are merged key by key, anything else replaces what was there.
fn lay_over(values: &mut Values, over: &Values) {
    for (key, value) in over {
        match (values.get_mut(key), value) {
            (Some(serde_json::Value::Object(there)), serde_json::Value::Object(table)) => {
                let mut merged: Values = std::mem::take(there).into_iter().collect();
                lay_over(&mut merged, &table.clone().into_iter().collect());
                *there = merged.into_iter().collect();
            }
            _ => {
                values.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(rest: &str) -> Spec {
        Spec::parse(&format!("name = 'a'\narch = 'arm64'\n{rest}")).unwrap()
    }

    fn none(_: &Path) -> Result<String, Failure> {
        Err(invalid("nothing is read"))
    }

    #[test]
    fn every_built_in_profile_is_whole_and_names_one_version() {
        for (name, text) in BUILT_IN {
            let profiles = load(&spec(&format!("profiles = ['{name}']")), none).unwrap();
            let profile = &profiles[0].1;
            let replaced = |line: &str| line.starts_with('#') || line.contains("replace = [[");
            let moves = text.lines().any(|line| line.contains("latest") && !replaced(line));
            assert!(!profile.description.is_empty() && !moves, "{name}");
            assert!(profile.requires.is_empty(), "{name}");
            for (manifest, input) in &profile.manifests {
                let url = input.chart.as_ref().map_or(&input.url, |chart| &chart.url).as_ref().unwrap();
                assert!(url.contains(&profile.version) && !url.contains(['{', '}']), "{name}: {manifest}: {url}");
                assert!(!["/main/", "/master/"].iter().any(|branch| url.contains(branch)), "{url}");
            }
        }
    }

    #[test]
    fn a_spec_chooses_version_and_values() {
        let text = "profiles = ['calico', 'cilium']\n[profile.calico]\nversion = 'v3.29.1'\n\
                    [profile.cilium.values.hubble]\nenabled = false\n[profile.cilium.values.hubble.tls.auto]\nx = 1";
        let profiles = load(&spec(text), none).unwrap();
        let url = profiles[0].1.manifests["network.yaml"].url.as_ref().unwrap();
        assert!(url.contains("/v3.29.1/"), "{url}");
        let chart = profiles[1].1.manifests["network.yaml"].chart.as_ref().unwrap();
        assert_eq!(chart.values["hubble"]["enabled"], false);
        assert_eq!(chart.values["hubble"]["tls"]["auto"]["x"], 1);
        assert_eq!(chart.values["hubble"]["tls"]["auto"]["method"], "cronJob");
    }

    #[test]
    fn a_profile_of_ones_own_reads_its_files_beside_itself() {
        let own = "description = 'a'\nversion = '1.2'\nrequires = ['calico']\nimages = ['example.org/a:{version}']\n\
                   [manifests]\n'a.yaml' = { file = '{arch}.yaml' }\n[etcd]\nversion = '3'\nfiles = ['etcd']";
        let read = |path: &Path| {
            assert_eq!(path, Path::new("own/mine.toml"));
            Ok(own.to_owned())
        };
        let profiles = load(&spec("profiles = ['calico', 'own/mine.toml']"), read).unwrap();
        let (name, profile) = &profiles[1];
        assert_eq!((name.as_str(), profile.images[0].as_str()), ("mine", "example.org/a:1.2"));
        assert_eq!(profile.manifests["a.yaml"].file.as_deref(), Some(Path::new("own/arm64.yaml")));
        assert_eq!(profile.etcd.as_ref().unwrap().files.as_ref().unwrap()[0], Path::new("own/etcd"));
        let failure = load(&spec("profiles = ['own/mine.toml']"), read).unwrap_err();
        assert!(failure.what.contains("needs \"calico\""), "{failure}");
    }

    #[test]
    fn what_the_releases_got_wrong_is_replaced() {
        let profiles = load(&spec("profiles = ['csi', 'headlamp']"), none).unwrap();
        let apply = |at: usize, name: &str, text: &str| {
            crate::replace::apply(text.to_owned(), &profiles[at].1.manifests[name].replace).0
        };
        let broken = "  apiGroup: rbac.authorization.k8s.io---\napiVersion: v1\n";
        let healed = "  apiGroup: rbac.authorization.k8s.io\n---\napiVersion: v1\n";
        assert_eq!(apply(0, "manifest.yaml", broken), healed);
        assert_eq!(apply(0, "manifest.yaml", healed), healed);
        assert_eq!(
            apply(1, "headlamp.yaml", "ghcr.io/headlamp-k8s/headlamp:latest"),
            "ghcr.io/headlamp-k8s/headlamp:v0.40.1"
        );
    }

    #[test]
    fn refusals_name_the_profile() {
        for (rest, text, want) in [
            ("profiles = ['weave']", "", "\"weave\", only autoscaler"),
            ("profiles = ['calico', 'calico']", "", "stands twice"),
            ("profiles = ['csi']\n[profile.calico]\nversion = '1'", "", "profile.calico"),
            ("profiles = ['csi']\n[profile.csi.values]\na = 1", "", "has no chart"),
            ("profiles = ['a.toml']", "version = '1'", "profile a: "),
            ("profiles = ['a.toml']", "version = 'x'\ndescription = ''", "no version"),
            ("profiles = ['a.toml']", "version = '1'\ndescription = ''\nsysctl = { 'a b' = '1' }", "sysctl"),
            ("profiles = ['a.toml']", "version = '1'\ndescription = ''\nmanifests = { a = {} }", "ending in .yaml"),
        ] {
            let failure = load(&spec(rest), |_| Ok(text.to_owned())).unwrap_err();
            assert!(failure.what.contains(want), "{rest}: {failure}");
        }
    }
}
