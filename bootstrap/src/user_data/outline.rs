//! What a node with a given wish does, in the order of doing it.

use crate::bundle::Role;
use crate::cluster::{Action, Facts, actions};
use crate::node_spec::{CaTrust, Init, Membership, Network, NodeSpec};
use crate::secret::shown_url;

/// The steps from an empty machine to what `spec` wishes, in words.
#[must_use]
pub fn outline(spec: &NodeSpec) -> Vec<String> {
    let mut steps = vec![find(spec), install(spec.role).to_owned()];
    // On an empty machine nothing stands in the way.
    for action in actions(spec, &Facts::default()).unwrap_or_default() {
        let details = details(&action, spec);
        let more = if details.is_empty() { String::new() } else { format!(" ({})", details.join("; ")) };
        steps.push(action.shown(spec) + &more);
    }
    if spec.delivery.eject {
        steps.push("eject the disc".to_owned());
    }
    steps
}

fn find(spec: &NodeSpec) -> String {
    let delivery = &spec.delivery;
    let sources: Vec<String> = delivery.sources.iter().map(|source| shown_url(source)).collect();
    let mut from = if sources.is_empty() { "the sources of the settings".to_owned() } else { sources.join(", ") };
    if let Some(router) = delivery.router {
        from += &format!(", and the virtual router's http://{router}/cks-iso/");
    }
    let policy = delivery.policy.as_ref().map_or(String::new(), |policy| format!(", {policy}"));
    let wait = delivery.wait_seconds.map_or(String::new(), |seconds| format!(", for at most {seconds} s"));
    format!("find the bundle: {from}{policy}{wait}")
}

fn install(role: Role) -> &'static str {
    match role {
        Role::ControlPlane => "install kubeadm, kubelet, kubectl, CNI plugins and crictl; import all images",
        Role::Worker => "install kubeadm, kubelet, kubectl, CNI plugins and crictl; import the images of a worker",
        Role::Etcd => "install etcd",
    }
}

/// What the wish adds to an action.
fn details(action: &Action, spec: &NodeSpec) -> Vec<String> {
    match (action, &spec.membership) {
        (Action::PrepareHost, _) => {
            let skipped = &spec.registration.skip_checks;
            if skipped.is_empty() { Vec::new() } else { vec![format!("without the checks {}", skipped.join(", "))] }
        }
        (Action::ConfigureRuntime, _) => runtime(spec),
        (Action::Init { .. }, Some(Membership::FirstControlPlane(init))) => self::init(init),
        (Action::Join, Some(Membership::ControlPlane(join) | Membership::Worker(join))) => vec![match &join.trust {
            CaTrust::Pinned(pins) => format!("authority pinned by {} digest{}", pins.len(), plural(pins.len())),
            CaTrust::TokenOnly => "authority known by the token alone".to_owned(),
        }],
        (Action::Apply, Some(Membership::FirstControlPlane(init))) => vec![match &init.network {
            Network::Bundle => "network.yaml of the bundle".to_owned(),
            Network::Elsewhere => "no pod network: somebody else brings it".to_owned(),
            Network::UserData(steps) => format!("CNI configuration: {} step{}", steps.len(), plural(steps.len())),
        }],
        (Action::ServeEtcd, _) => {
            let members = spec.etcd_members.len().max(1);
            let tls = if spec.etcd_authority.is_some() { ", mutual TLS" } else { ", plain HTTP" };
            vec![format!("{} as one of {members} member{}{tls}", spec.client_url(), plural(members))]
        }
        _ => Vec::new(),
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn runtime(spec: &NodeSpec) -> Vec<String> {
    let mut details = Vec::new();
    for registry in &spec.runtime.registries {
        let urls: Vec<String> = registry.endpoints.iter().map(|url| shown_url(url)).collect();
        let by = if urls.is_empty() { String::new() } else { format!(" by {}", urls.join(", ")) };
        let user = if registry.username.is_some() { " with credentials" } else { "" };
        details.push(format!("registry {}{by}{user}", registry.host));
    }
    if spec.runtime.proxy.is_some() {
        details.push("a proxy".to_owned());
    }
    details
}

fn init(init: &Init) -> Vec<String> {
    let endpoint = init.endpoint.as_ref().map_or_else(|| "this node".to_owned(), ToString::to_string);
    let version = init.kubernetes_version.as_deref().unwrap_or("the bundle's version");
    let etcd = match &init.etcd {
        None => "an etcd of its own".to_owned(),
        Some(etcd) => format!("etcd at {}", etcd.endpoints.join(", ")),
    };
    let mut details = vec![version.to_owned(), format!("control plane at {endpoint}"), etcd];
    details.extend(init.pod_cidr.map(|network| format!("pods in {network}")));
    details.extend(init.service_cidr.map(|network| format!("services in {network}")));
    if !init.skip_phases.is_empty() {
        details.push(format!("without {}", init.skip_phases.join(", ")));
    }
    if init.upload_certificates {
        details.push("certificates uploaded".to_owned());
    }
    details
}
