//! How a node registers itself: labels, taints, its address.

use super::super::yaml::Map;
use super::{Api, Context};
use crate::failure::{Code, Failure};
use crate::node_spec::{NodeSpec, Registration};

/// What keeps ordinary pods from a control plane node; kubeadm sets it only where nobody names taints.
const CONTROL_PLANE_TAINT: &str = "node-role.kubernetes.io/control-plane:NoSchedule";

/// `nodeRegistration` of a node.
pub(super) fn node_registration(
    spec: &NodeSpec,
    context: &Context<'_>,
    api: Api,
    control_plane: bool,
    ignored_errors: &[String],
) -> Result<Map, Failure> {
    let Registration { labels, taints, node_ip, .. } = &spec.registration;
    let mut arguments = vec![("node-ip", node_ip.unwrap_or(context.address).to_string())];
    if !labels.is_empty() {
        labels.iter().try_for_each(|(key, value)| check_label(key, value))?;
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        arguments.push(("node-labels", labels.join(",")));
    }
    let own = if control_plane && !taints.is_empty() { Some(CONTROL_PLANE_TAINT) } else { None };
    let others = taints.iter().map(String::as_str).filter(|taint| Some(*taint) != own);
    let taints = own.into_iter().chain(others).map(taint).collect::<Result<Vec<_>, _>>()?;
    Ok(Map::new()
        .with("name", spec.node_name.as_str())
        .with("criSocket", context.cri_socket)
        .with_some("ignorePreflightErrors", Some(ignored_errors.to_vec()))
        .with_some("taints", Some(taints))
        .with("kubeletExtraArgs", api.arguments(&arguments)))
}

/// As `kubectl taint` takes it: `key=value:Effect`, `key:Effect`.
fn taint(text: &str) -> Result<Map, Failure> {
    let refuse = || {
        let text = crate::text::plain(text);
        Failure::new(Code::ConfigInvalid, format!("taint {text:?} is not of the form KEY[=VALUE]:EFFECT"))
            .with_remedy("the effect is NoSchedule, PreferNoSchedule or NoExecute")
    };
    let (key, effect) = text.trim().rsplit_once(':').ok_or_else(refuse)?;
    let (key, value) = key.split_once('=').map_or((key, None), |(key, value)| (key, Some(value)));
    let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect);
    if !known || !is_qualified(key) || !value.is_none_or(is_value) {
        return Err(refuse());
    }
    let value = value.filter(|value| !value.is_empty());
    Ok(Map::new().with("key", key).with_some("value", value).with("effect", effect))
}

/// A kubelet does not start with a label that it may not set on its own node.
fn check_label(key: &str, value: &str) -> Result<(), Failure> {
    let refuse = |why: &str| {
        let label = crate::text::plain(&format!("{key}={value}"));
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

/// Kubernetes' own labels, but for those that a kubelet may set (`k8s.io/kubelet/pkg/apis`).
fn is_reserved(key: &str) -> bool {
    let Some((space, _)) = key.split_once('/') else { return false };
    let within = |parent: &str| space == parent || space.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'));
    let allowed = [
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
    let free = within("kubelet.kubernetes.io") || within("node.kubernetes.io") || allowed.contains(&key);
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
            assert_eq!(taint(text).is_ok(), good, "{text}");
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
        ] {
            assert_eq!(check_label(key, value).is_ok(), good, "{key}={value}");
        }
    }
}
