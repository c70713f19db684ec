//! How a node registers itself: labels, taints, its address.

use super::super::yaml::Map;
use super::{Api, Context};
use crate::failure::Failure;
use crate::node_spec::{NodeSpec, Registration, Taint, check_label};

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
    let taints =
        own.into_iter().chain(others).map(|text| Taint::parse(text).map(taint)).collect::<Result<Vec<_>, _>>()?;
    Ok(Map::new()
        .with("name", spec.node_name.as_str())
        .with("criSocket", context.cri_socket)
        .with_some("ignorePreflightErrors", Some(ignored_errors.to_vec()))
        .with_some("taints", Some(taints))
        .with("kubeletExtraArgs", api.arguments(&arguments)))
}

fn taint(taint: Taint<'_>) -> Map {
    Map::new().with("key", taint.key).with_some("value", taint.value).with("effect", taint.effect)
}
