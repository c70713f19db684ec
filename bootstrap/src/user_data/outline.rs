//! What a node with a given wish does, in the order of doing it.

use crate::bundle::Role;
use crate::node_spec::{CaTrust, Init, Join, Membership, Network, NodeSpec};
use crate::secret::shown_url;

/// The steps from an empty machine to what `spec` wishes, in words.
#[must_use]
pub fn outline(spec: &NodeSpec) -> Vec<String> {
    let mut steps = vec![find(spec)];
    steps.push(match spec.role {
        Role::ControlPlane => "install kubeadm, kubelet, kubectl, CNI plugins and crictl; import all images".to_owned(),
        Role::Worker => {
            "install kubeadm, kubelet, kubectl, CNI plugins and crictl; import the images of a worker".to_owned()
        }
        Role::Etcd => "install etcd".to_owned(),
    });
    if spec.role != Role::Etcd {
        steps.extend(containerd(spec));
    }
    match &spec.membership {
        Some(Membership::FirstControlPlane(init)) => first(init, &mut steps),
        Some(Membership::ControlPlane(of)) => join(of, "control plane node", &mut steps),
        Some(Membership::Worker(of)) => join(of, "worker", &mut steps),
        Some(Membership::Etcd) => etcd(spec, &mut steps),
        None => {}
    }
    if spec.delivery.eject {
        steps.push("eject the disc".to_owned());
    }
    steps
}

fn find(spec: &NodeSpec) -> String {
    let delivery = &spec.delivery;
    let mut sources: Vec<String> = delivery.sources.iter().map(|source| shown_url(source)).collect();
    sources.extend(delivery.router.map(|router| format!("http://{router}/cks-iso/")));
    let from = if sources.is_empty() { "the sources of the settings".to_owned() } else { sources.join(", ") };
    let wait = delivery.wait_seconds.map_or(String::new(), |seconds| format!(", for at most {seconds} s"));
    format!("find the bundle: {from}{wait}")
}

fn urls(urls: &[String]) -> String {
    urls.iter().map(|url| shown_url(url)).collect::<Vec<_>>().join(", ")
}

fn containerd(spec: &NodeSpec) -> Vec<String> {
    let mut steps = vec!["configure and start containerd: systemd cgroups, the bundle's sandbox image".to_owned()];
    for registry in &spec.runtime.registries {
        let by =
            if registry.endpoints.is_empty() { String::new() } else { format!(" by {}", urls(&registry.endpoints)) };
        let user = if registry.username.is_some() { ", with credentials" } else { "" };
        steps.push(format!("reach registry {}{by}{user}", registry.host));
    }
    if spec.runtime.proxy.is_some() {
        steps.push("reach registries by the proxy".to_owned());
    }
    steps
}

fn first(init: &Init, steps: &mut Vec<String>) {
    let endpoint = init.endpoint.as_ref().map_or_else(|| "this node".to_owned(), ToString::to_string);
    let version = init.kubernetes_version.as_deref().unwrap_or("the bundle's version");
    let etcd = match &init.etcd {
        None => "its own etcd".to_owned(),
        Some(etcd) => format!("etcd at {}", etcd.endpoints.join(", ")),
    };
    steps.push(format!("kubeadm init {version}: control plane at {endpoint}, {etcd}"));
    if init.upload_certificates {
        steps.push("upload the certificates for further control plane nodes".to_owned());
    }
    match &init.network {
        Network::Bundle => steps.push("apply network.yaml of the bundle".to_owned()),
        Network::Elsewhere => steps.push("leave the pod network to somebody else".to_owned()),
        Network::UserData(cni) => steps.push(format!("apply the CNI configuration: {} steps", cni.len())),
    }
    steps.push("apply the dashboard and role bindings".to_owned());
    steps.push("write /home/cloud/success".to_owned());
}

fn join(join: &Join, what: &str, steps: &mut Vec<String>) {
    steps.push(format!("wait for the API server at {}", join.endpoint));
    let trust = match &join.trust {
        CaTrust::Pinned(pins) => format!("authority pinned by {} digests", pins.len()),
        CaTrust::TokenOnly => "authority known by the token alone".to_owned(),
    };
    steps.push(format!("kubeadm join as {what} at {}, {trust}", join.endpoint));
    steps.push("write /home/cloud/success".to_owned());
}

fn etcd(spec: &NodeSpec, steps: &mut Vec<String>) {
    if spec.etcd_authority.is_some() {
        steps.push("make certificates of the etcd cluster's authority".to_owned());
    }
    let members = spec.etcd_members.len().max(1);
    steps.push(format!("start etcd at {} as one of {members} members", spec.client_url()));
}
