//! What a kubelet may register its node with: labels and taints, as Kubernetes checks them.

use crate::failure::{Code, Failure};
use crate::text::plain;

/// Kubernetes' own labels that a kubelet may set (`k8s.io/kubelet/pkg/apis`).
const ALLOWED: [&str; 10] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

/// A taint, as `kubectl taint` takes it: `key=value:Effect`, `key:Effect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taint<'a> {
    /// `[prefix/]name`.
    pub key: &'a str,
    /// Its value, where it has one.
    pub value: Option<&'a str>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`.
    pub effect: &'a str,
}

impl<'a> Taint<'a> {
    /// Reads one.
    ///
    /// # Errors
    /// `CONFIG_INVALID` repeats it.
    pub fn parse(text: &'a str) -> Result<Self, Failure> {
        let refuse = || {
            Failure::new(Code::ConfigInvalid, format!("taint {:?} is not of the form KEY[=VALUE]:EFFECT", plain(text)))
                .with_remedy("the effect is NoSchedule, PreferNoSchedule or NoExecute")
        };
        let (key, effect) = text.trim().rsplit_once(':').ok_or_else(refuse)?;
        let (key, value) = key.split_once('=').map_or((key, None), |(key, value)| (key, Some(value)));
        let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect);
        if !known || !is_qualified(key) || !value.is_none_or(is_value) {
            return Err(refuse());
        }
        Ok(Self { key, value: value.filter(|value| !value.is_empty()), effect })
    }
}

/// Checks a label: a kubelet does not start with one that it may not set on its own node.
///
/// # Errors
/// `CONFIG_INVALID` repeats it.
pub fn check_label(key: &str, value: &str) -> Result<(), Failure> {
    let refuse = |why: &str| {
        let label = plain(&format!("{key}={value}"));
        Failure::new(Code::ConfigInvalid, format!("node label {label:?} {why}"))
    };
    if !is_qualified(key) || !is_value(value) {
        return Err(refuse("is no label of Kubernetes"));
    }
    if is_reserved(key) {
        return Err(refuse("is one that no kubelet may give itself").with_remedy(
            "set it when the node has joined (kubectl label node), or begin its key with node.kubernetes.io/",
        ));
    }
    Ok(())
}

/// Kubernetes' own labels, but for those that a kubelet may set.
fn is_reserved(key: &str) -> bool {
    let Some((space, _)) = key.split_once('/') else { return false };
    let within = |parent: &str| space == parent || space.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'));
    let free = within("kubelet.kubernetes.io") || within("node.kubernetes.io") || ALLOWED.contains(&key);
    (within("kubernetes.io") || within("k8s.io")) && !free
}

/// `[prefix/]name` as Kubernetes names labels and taints.
fn is_qualified(key: &str) -> bool {
    let (space, name) = key.split_once('/').map_or((None, key), |(space, name)| (Some(space), name));
    let label = |part: &str| {
        let inner = part.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        inner && !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
    };
    let space = space.is_none_or(|space| space.len() <= 253 && space.split('.').all(label));
    space && !name.is_empty() && is_value(name)
}

/// A value of a label: at most 63 of a-z, A-Z, 0-9, '-', '_', '.', letters or digits at both ends; or nothing.
fn is_value(value: &str) -> bool {
    let end = |c: char| c.is_ascii_alphanumeric();
    let inner = value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    value.is_empty() || (value.len() <= 63 && inner && value.starts_with(end) && value.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_are_read_as_kubectl_reads_them() {
        for (text, good) in [
            ("a=b:NoSchedule", true),
            ("example.org/a:NoExecute", true),
            ("a=:PreferNoSchedule", true),
            ("a", false),
            ("a:Sometimes", false),
            ("a b:NoSchedule", false),
            ("a=b\nc:NoSchedule", false),
            (":NoSchedule", false),
        ] {
            assert_eq!(Taint::parse(text).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn labels_that_would_keep_the_kubelet_from_starting_are_refused() {
        for (key, value, good) in [
            ("disk", "ssd", true),
            ("example.org/disk", "", true),
            ("topology.kubernetes.io/zone", "z1", true),
            ("node.kubernetes.io/anything", "x", true),
            ("a.node.kubernetes.io/x", "x", true),
            ("node-role.kubernetes.io/worker", "", false),
            ("kubernetes.io/x", "x", false),
            ("x.k8s.io/x", "x", false),
            ("mykubernetes.io/x", "x", true),
            ("a,b", "x", false),
            ("a", "b,c=d", false),
            ("a", "-b", false),
            ("", "b", false),
            ("A.example/x", "b", false),
            ("node.kubernetes.io/instance-type", "m1", true),
        ] {
            assert_eq!(check_label(key, value).is_ok(), good, "{key}={value}");
        }
    }
}
