//! Our own templates for the management server, filled in as it does: by literal replacement, nothing else.

use bootstrap::bundle::Role;
use bootstrap::node_spec::cni::CniAction;
use bootstrap::node_spec::{Membership, Network, NodeSpec};
use bootstrap::user_data::{Metadata, Reading, look};

use crate::scenarios::bytes;

const TOKEN: &str = "c1d2e3.pl4nt3dt0k3n5ecr";

/// What every release fills in. Two keys, as on a cluster with a key pair.
const COMMON: [(&str, &str); 2] = [
    ("{{ k8s.ssh.pub.key }}", "- \"ssh-rsa AAAA root@ms1\"\n      - \"ssh-ed25519 AAAA me\""),
    ("{{ k8s.eject.iso }}", "false"),
];

const REGISTRY: [(&str, &str); 4] = [
    ("{{registry.url}}", "https://hub.example.org"),
    ("{{registry.url.endpoint}}", "hub.example.org"),
    ("{{registry.username}}", "robot"),
    ("{{registry.password}}", "Pl4nted-Passw0rd"),
];

fn machine() -> Metadata {
    let keys = [("local-hostname", "C1-Node-1"), ("local-ipv4", "10.1.1.11")];
    bootstrap::datasource::from_keys(keys.map(|(key, value)| (key.to_owned(), value.to_owned())))
}

/// The template, with `values` in it.
fn filled(name: &str, values: &[(&str, &str)]) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/management-server").join(name);
    let template = String::from_utf8(bytes(&path)).unwrap();
    let lines = template.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    assert!(lines.count() <= 30, "{name} grows");
    COMMON.iter().chain(values).fold(template, |text, (token, value)| {
        assert!(text.contains(token), "{name} has no {token}");
        text.replace(token, value)
    })
}

fn read(text: &str) -> (Reading, NodeSpec) {
    let reading = look(text.as_bytes(), &machine()).unwrap();
    let spec = reading.wish().unwrap().clone();
    assert!(!reading.ignored.iter().any(|one| one.what.contains("{{")), "{:?}", reading.ignored);
    (reading, spec)
}

fn control(cni: &str, endpoints: &str) -> String {
    let key = "5ec7e7b0".repeat(8);
    let arguments = format!(
        "--control-plane-endpoint 203.0.113.20:6443 --upload-certs --certificate-key {key} \
         --apiserver-cert-extra-sans=203.0.113.20 --kubernetes-version=1.34.1"
    );
    filled(
        "k8s-control-node.yml",
        &[
            ("{{ k8s_control_node.cluster.token }}", TOKEN),
            ("{{ k8s_control_node.cluster.initargs }}", &arguments),
            ("{{ k8s.external.cni.plugin }}", cni),
            ("{{ etcd.etcd_endpoint_list }}", endpoints),
        ],
    )
}

fn init(spec: &NodeSpec) -> &bootstrap::node_spec::Init {
    match &spec.membership {
        Some(Membership::FirstControlPlane(init)) => init,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_control_plane_node_is_read() {
    let (_, spec) = read(&control("false", ""));
    let init = init(&spec);
    assert_eq!(init.endpoint.as_ref().unwrap().to_string(), "203.0.113.20:6443");
    assert_eq!((init.kubernetes_version.as_deref(), init.upload_certificates), (Some("v1.34.1"), true));
    assert_eq!((&init.network, &init.etcd), (&Network::Bundle, &None));
    assert_eq!(init.token.as_ref().unwrap().reveal(), TOKEN);
    assert!(spec.runtime.registries.is_empty());
}

#[test]
fn dedicated_etcd_and_a_private_registry_are_read() {
    let text = control("false", "- http://10.1.1.11:2379\n          - http://10.1.1.12:2379");
    let text = REGISTRY.iter().fold(text, |text, (token, value)| text.replace(token, value));
    let (_, spec) = read(&text);
    assert_eq!(init(&spec).etcd.as_ref().unwrap().endpoints, ["http://10.1.1.11:2379", "http://10.1.1.12:2379"]);
    let registry = &spec.runtime.registries[0];
    assert_eq!((registry.host.as_str(), registry.username.as_deref()), ("hub.example.org", Some("robot")));
}

#[test]
fn a_cni_configuration_goes_on_with_the_list() {
    let text = control("true", "") + "\n\n  - kubectl apply -f {{ ds.meta_data.local_ipv4 }}.yaml\n";
    let (reading, spec) = read(&text);
    let Network::UserData(steps) = &init(&spec).network else { panic!("{spec:?}") };
    assert_eq!(steps.len(), 1);
    let command = "kubectl apply -f 10.1.1.11.yaml".to_owned();
    assert_eq!((steps[0].line, &steps[0].action), (2, &CniAction::Shell { command }));
    assert_eq!(reading.warnings, []);
    let (reading, spec) = read(&(control("false", "") + "\n\n  - touch /root/mine\n"));
    assert_eq!(init(&spec).network, Network::Bundle);
    assert!(reading.ignored.iter().any(|one| one.what.contains("behind the management server's")));
}

#[test]
fn further_nodes_and_workers_are_read() {
    let key = "5ec7e7b0".repeat(8);
    let join = [("{{ k8s_control_node.join_ip }}", "10.1.1.5"), ("{{ k8s_control_node.cluster.token }}", TOKEN)];
    let further = [join[0], join[1], ("{{ k8s_control_node.cluster.ha.certificate.key }}", &key)];
    let (_, spec) = read(&filled("k8s-control-node-add.yml", &further));
    assert!(matches!(&spec.membership, Some(Membership::ControlPlane(join)) if join.certificate_key.is_some()));
    for (router, expected) in [("", None), ("10.1.1.1", Some("10.1.1.1"))] {
        let worker = [join[0], join[1], ("{{ k8s.vr.iso.mounted.ip }}", router)];
        let text = filled("k8s-node.yml", &worker);
        let (_, spec) = read(&text);
        assert!(
            matches!(&spec.membership, Some(Membership::Worker(join)) if join.endpoint.to_string() == "10.1.1.5:6443")
        );
        assert_eq!(spec.delivery.router.map(|router| router.to_string()).as_deref(), expected);
        assert!(spec.runtime.registries.is_empty());
        let text = REGISTRY.iter().fold(text, |text, (token, value)| text.replace(token, value));
        assert_eq!(read(&text).1.runtime.registries[0].endpoints, ["https://hub.example.org"]);
    }
}

#[test]
fn an_etcd_member_is_read() {
    let cluster = "c1-node-1=http://10.1.1.11:2380,c1-node-2=http://10.1.1.12:2380";
    let (_, spec) = read(&filled(
        "etcd-node.yml",
        &[
            ("{{ etcd.node_name }}", "C1-Node-1"),
            ("{{ etcd.node_ip }}", "10.1.1.11"),
            ("{{ etcd.initial_cluster_nodes }}", cluster),
        ],
    ));
    assert_eq!((spec.role, spec.etcd_members.len(), spec.membership.is_some()), (Role::Etcd, 2, true));
    assert_eq!(spec.peer_url(), "http://10.1.1.11:2380");
}

/// A template that the server did not fill in is refused by name, and asks nothing of a node.
#[test]
fn a_template_as_it_is_is_refused() {
    for name in ["k8s-control-node.yml", "k8s-control-node-add.yml", "k8s-node.yml", "etcd-node.yml"] {
        let failure = look(filled(name, &[]).as_bytes(), &machine()).unwrap_err();
        assert!(failure.what.contains("still the placeholder {{ "), "{name}: {}", failure.what);
    }
}
