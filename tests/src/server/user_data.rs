//! User data as the server makes it: tokens of a template replaced by what they stand for, and the user's own
//! cloud-config put behind.

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Release;
use super::cluster::{Cluster, Registry, Role, Vm};

/// What a node's user data says beside what the cluster's record has.
#[derive(Debug, Clone)]
pub(super) struct Facts<'a> {
    /// The server's public key.
    pub(super) key: &'a str,
    /// The public address of the cluster.
    pub(super) public: &'a str,
    /// Where a node joins.
    pub(super) join: &'a str,
    /// The virtual router, where it serves the disc.
    pub(super) router: &'a str,
    /// What CloudStack's authority signed for the first control plane node.
    pub(super) certificates: &'a Certificates,
}

/// PEM texts that no part of Kubernetes reads.
#[derive(Debug, Clone, Default)]
pub(super) struct Certificates {
    pub(super) authority: String,
    pub(super) certificate: String,
    pub(super) key: String,
}

/// How long user data may be in base64, unless an operator says otherwise (`vm.userdata.max.length`).
const LONGEST: usize = 32768;

/// What a control plane node waits for its disc, and a worker: seconds between two looks, and how many looks.
const WAITS: [(&str, &str); 2] = [("15", "100"), ("30", "40")];

/// The user data of a machine, in base64 as the server hands it on.
pub(super) fn render(release: Release, cluster: &Cluster, vm: &Vm, facts: &Facts<'_>) -> Result<String> {
    let text = text(release, cluster, vm, facts);
    let encoded = STANDARD.encode(text);
    ensure!(
        encoded.len() <= LONGEST,
        "The user data of {} has {} characters, {LONGEST} may be",
        vm.name,
        encoded.len()
    );
    Ok(encoded)
}

/// The same before it is encoded.
pub(super) fn text(release: Release, cluster: &Cluster, vm: &Vm, facts: &Facts<'_>) -> String {
    let first = cluster.of(Role::Control).next().is_none_or(|control| control.id == vm.id);
    let file = match vm.role {
        Role::Control if first => include_str!("templates/control.yml"),
        Role::Control => include_str!("templates/control-add.yml"),
        Role::Worker => include_str!("templates/worker.yml"),
        Role::Etcd => include_str!("templates/etcd.yml"),
    };
    let mut text = release.lines(file);
    for (token, value) in tokens(cluster, vm, facts) {
        text = text.replace(&format!("{{{{ {token} }}}}"), &value);
    }
    if let Some(registry) = &cluster.order.registry {
        text = with_registry(&text, registry);
    }
    match &cluster.order.cni {
        Some(cni) if vm.role == Role::Control && first => concatenated(&text, cni),
        _ => text,
    }
}

fn tokens(cluster: &Cluster, vm: &Vm, facts: &Facts<'_>) -> Vec<(&'static str, String)> {
    let Facts { key, public, join, router, certificates } = facts;
    let keypair = cluster.order.keypair.iter().map(|key| format!("\n      - \"{key}\""));
    let keys = format!("- \"{key}\"") + &keypair.collect::<String>();
    let pem = |text: &str| text.trim_end().replace('\n', "\n      ");
    let (pause, looks) = WAITS[usize::from(vm.role == Role::Worker)];
    let members: Vec<&Vm> = cluster.of(Role::Etcd).collect();
    let endpoints: Vec<String> = members.iter().map(|vm| format!("- http://{}:2379", vm.address)).collect();
    let peers: Vec<String> = members.iter().map(|vm| format!("{}=http://{}:2380", vm.name, vm.address)).collect();
    vec![
        ("k8s.ssh.pub.key", keys),
        ("k8s_control_node.ca.crt", pem(&certificates.authority)),
        ("k8s_control_node.apiserver.crt", pem(&certificates.certificate)),
        ("k8s_control_node.apiserver.key", pem(&certificates.key)),
        ("k8s_control_node.cluster.token", cluster.token()),
        ("k8s_control_node.cluster.initargs", cluster.init_arguments(public)),
        ("k8s_control_node.cluster.ha.certificate.key", cluster.certificate_key()),
        ("k8s_control_node.join_ip", (*join).to_owned()),
        ("k8s.eject.iso", false.to_string()),
        ("k8s.install.wait.time", pause.to_owned()),
        ("k8s.install.reattempts.count", looks.to_owned()),
        ("k8s.vr.iso.mounted.ip", (*router).to_owned()),
        ("etcd.unstacked_etcd", (!members.is_empty()).to_string()),
        ("etcd.etcd_endpoint_list", endpoints.join("\n          ")),
        ("k8s_control.server_ip", (*public).to_owned()),
        ("k8s_control.server_ips", format!("- {public}")),
        ("k8s.api_server_port", 6443.to_string()),
        ("k8s_control.certificate_key", cluster.certificate_key()),
        ("k8s.external.cni.plugin", cluster.order.cni.is_some().to_string()),
        ("etcd.node_name", vm.name.clone()),
        ("etcd.node_ip", vm.address.clone()),
        ("etcd.initial_cluster_nodes", peers.join(",")),
    ]
}

fn with_registry(text: &str, registry: &Registry) -> String {
    let Registry { url, username, password } = registry;
    let endpoint = url.split_once("://").map_or(url.as_str(), |(_, endpoint)| endpoint);
    text.replace("- containerd config default > /etc/containerd/config.toml", "- bash -x /opt/bin/setup-containerd")
        .replace("{{registry.url.endpoint}}", endpoint)
        .replace("{{registry.url}}", url)
        .replace("{{registry.username}}", username)
        .replace("{{registry.password}}", password)
        .replace("{{registry.token}}", &STANDARD.encode(format!("{username}:{password}")))
}

/// Two cloud-configs become one by leaving out the second one's first line; anything else goes into two parts of a mail.
fn concatenated(server: &str, user: &str) -> String {
    if let Some((first, rest)) = user.split_once('\n')
        && first.starts_with("#cloud-config")
    {
        return format!("{server}{rest}");
    }
    let part = |kind: &str, text: &str| {
        format!("--//\nContent-Type: {kind}; charset=\"us-ascii\"\nMIME-Version: 1.0\n\n{text}\n")
    };
    let kind = if user.starts_with("#!") { "text/x-shellscript" } else { "text/plain" };
    format!(
        "Content-Type: multipart/mixed; boundary=\"//\"\nMIME-Version: 1.0\n\n{}{}--//--\n",
        part("text/cloud-config", server),
        part(kind, user)
    )
}

#[cfg(test)]
mod tests;
