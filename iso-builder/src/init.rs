//! A first spec: commented, for one Kubernetes version, with versions of everything else that fit it.

use std::fmt::Write;

use bootstrap::bundle::Arch;
use bootstrap::failure::{Code, Failure};
use serde::Deserialize;

use crate::profile::{self, BUILT_IN};
use crate::spec::upstream;

/// The profiles of a first spec: what CloudStack 4.19 … 4.23 use of an ISO.
pub const DEFAULT_PROFILES: [&str; 5] = ["calico", "csi", "dashboard", "headlamp", "etcd"];

/// What belongs to a minor version of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Minor {
    /// `1.33`.
    pub kubernetes: String,
    /// Version of the CNI plugins.
    pub cni_plugins: String,
    /// Version of crictl.
    pub cri_tools: String,
    /// Version of etcd.
    pub etcd: String,
}

#[derive(Deserialize)]
struct Versions {
    default: String,
    minor: Vec<Minor>,
}

fn versions() -> Result<Versions, Failure> {
    let broken = |e: toml::de::Error| Failure::new(Code::SpecInvalid, format!("the table of versions: {e}"));
    toml::from_str(include_str!("../data/versions.toml")).map_err(broken)
}

/// The versions for `kubernetes` (`1.33.1`), and whether they were made for its minor version.
///
/// # Errors
/// Never with the table that the builder brings.
pub fn minor_of(kubernetes: &str) -> Result<(Minor, bool), Failure> {
    let number = |text: &str| -> Vec<u32> { text.split('.').take(2).map(|part| part.parse().unwrap_or(0)).collect() };
    let (table, wanted) = (versions()?.minor, number(kubernetes));
    let below = table.iter().rev().find(|minor| number(&minor.kubernetes) <= wanted).or(table.first());
    let found = below.ok_or_else(|| Failure::new(Code::SpecInvalid, "the table of versions is empty"))?;
    Ok((found.clone(), number(&found.kubernetes) == wanted))
}

/// The text of a spec for `kubernetes` (with or without `v`; none: the newest known), with `profiles`.
///
/// # Errors
/// `CONFIG_INVALID` for a version or a profile that can't be.
pub fn text(kubernetes: Option<&str>, arch: Arch, profiles: &[String]) -> Result<String, Failure> {
    let refuse = |what: String| Err(Failure::new(Code::ConfigInvalid, what).with_remedy("see cks-iso init --help"));
    let default = versions()?.default;
    let version = upstream::bare(kubernetes.unwrap_or(&default)).to_owned();
    let number = |part: &str| !part.is_empty() && part.len() < 5 && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<_> = version.split('.').collect();
    if parts.len() != 3
        || !parts[..2].iter().all(|part| number(part))
        || crate::spec::check_version("a", &version).is_err()
    {
        return refuse(format!("{version:?} is no Kubernetes version like 1.33.1"));
    }
    for entry in profiles {
        let known = BUILT_IN.iter().any(|(name, _)| name == entry);
        if !known && (profile::file(entry).is_none() || entry.contains(char::is_control)) {
            let names: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            return refuse(format!("there is no profile {entry:?}; there are {}", names.join(", ")));
        }
    }
    let (minor, exact) = minor_of(&version)?;
    Ok(written(&version, arch, profiles, &minor, exact))
}

fn written(version: &str, arch: Arch, profiles: &[String], minor: &Minor, exact: bool) -> String {
    let network =
        ["calico", "cilium", "flannel"].into_iter().find(|network| profiles.iter().any(|name| name == network));
    let name = network.map_or_else(|| format!("v{version}"), |network| format!("v{version}-{network}"));
    let listed: Vec<_> = profiles.iter().map(|name| toml::Value::from(name.as_str()).to_string()).collect();
    let mut available = String::new();
    for (name, text) in BUILT_IN {
        let description = text.lines().find_map(|line| line.strip_prefix("description = ")).unwrap_or_default();
        // Writing into a String does not fail.
        let _ = writeln!(available, "#   {name:<11} {}", description.trim_matches('"'));
    }
    let doubt = if exact { "" } else { "# Versions for this Kubernetes are not known here: look at them.\n" };
    let etcd = match profiles.iter().any(|name| name == "etcd") {
        true => format!("\n[profile.etcd]\nversion = \"{}\"\n", minor.etcd),
        false => String::new(),
    };
    format!(
        "\
# What goes on the ISO. Next:
#   cks-iso lock spec.toml                    looks up what is named here, and writes cks-iso.lock
#   cks-iso build spec.toml -o {name}-{suffix}.iso --locked
# docs/building.md describes every key.

name = \"{name}\"
arch = \"{arch}\"                # amd64 (x86_64) or arm64 (aarch64)

# Ready-made parts. A path that ends in .toml is a profile of your own.
{available}profiles = [{listed}]
{etcd}
# kubeadm, kubelet and kubectl from dl.k8s.io, and the images that this kubeadm wants.
[kubernetes]
version = \"{version}\"

{doubt}[cni-plugins]
version = \"{cni}\"

[cri-tools]
version = \"{cri}\"

# Images that no manifest names:
# [[images]]
# reference = \"registry.example.org/team/app:1.0\"

# Kubernetes manifests of your own; one named as a profile's takes its place:
# [manifests]
# \"network.yaml\" = {{ file = \"network.yaml\" }}
",
        suffix = arch_suffix(arch),
        listed = listed.join(", "),
        cni = minor.cni_plugins,
        cri = minor.cri_tools,
    )
}

/// CloudStack's spelling of an architecture, which ends an ISO's name.
#[must_use]
pub fn arch_suffix(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "x86_64",
        Arch::Arm64 => "aarch64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;
    use crate::spec::Spec;

    fn recipe(text: &str) -> Recipe {
        let spec = Spec::parse(text).unwrap_or_else(|failure| panic!("{failure}\n{text}"));
        Recipe::of(&spec, &profile::load(&spec, |_| panic!("no file is read")).unwrap()).unwrap()
    }

    #[test]
    fn a_first_spec_is_a_spec_that_stock_nodes_can_use() {
        let profiles: Vec<String> = DEFAULT_PROFILES.map(str::to_owned).into();
        for minor in versions().unwrap().minor {
            let text = text(Some(&format!("v{}.2", minor.kubernetes)), Arch::Arm64, &profiles).unwrap();
            let recipe = recipe(&text);
            assert_eq!(recipe.lacks(), [""; 0]);
            assert_eq!(recipe.name, format!("v{}.2-calico", minor.kubernetes));
            let etcd = recipe.components.iter().find(|component| component.name == "etcd").unwrap();
            assert_eq!(etcd.version, minor.etcd);
            assert!(!text.contains("not known here"));
        }
    }

    #[test]
    fn no_profile_is_a_choice_and_every_profile_one_too() {
        assert_eq!(recipe(&text(None, Arch::Amd64, &[]).unwrap()).name, "v1.36.3");
        for (name, _) in BUILT_IN {
            recipe(&text(Some("1.33.1"), Arch::Amd64, &[name.to_owned()]).unwrap());
        }
    }

    #[test]
    fn unknown_minors_take_the_nearest_and_say_so() {
        for (version, want) in [("1.40.0", "1.9.1"), ("1.20.0", "1.3.0")] {
            let text = text(Some(version), Arch::Amd64, &[]).unwrap();
            assert!(text.contains(want) && text.contains("not known here"), "{text}");
        }
    }

    #[test]
    fn what_can_not_be_is_refused() {
        for version in ["", "1", "1.33", "latest", "1.33.1\"\n", "1.a.1"] {
            assert_eq!(text(Some(version), Arch::Amd64, &[]).unwrap_err().code, Code::ConfigInvalid, "{version}");
        }
        let failure = text(None, Arch::Amd64, &["weave".to_owned()]).unwrap_err();
        assert!(failure.what.contains("there are autoscaler, calico"), "{failure}");
    }
}
