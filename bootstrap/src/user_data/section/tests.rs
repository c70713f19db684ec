use super::*;
use crate::user_data::cloud_config::CloudConfig;

fn read(text: &str) -> Result<Section, Failure> {
    let config = CloudConfig::read(&crate::user_data::placeholder::guard(text));
    assert!(config.unread.is_empty(), "{:?}", config.unread);
    section(config.get("cks").unwrap(), Place::default(), &mut Findings::default())
}

#[test]
fn nonsense_is_refused_with_key_and_line() {
    for (text, expected) in [
        ("cks: [a]", "line 1: cks is a mapping"),
        (
            "cks:\n  role: master",
            "line 2: cks.role: \"master\" is none of first-control-plane, control-plane, worker, etcd",
        ),
        ("cks:\n  role: worker\n  rolle: x", "line 3: cks.rolle is unknown"),
        ("cks:\n  role: worker\n  role: etcd", "line 3: cks.role stands twice, first in line 2"),
        ("cks:\n  token: hunter2", "line 2: cks.token: the bootstrap token is not of the form"),
        (
            "cks:\n  token: {{ k8s_control_node.cluster.token }}",
            "still the placeholder {{ k8s_control_node.cluster.token }}",
        ),
        ("cks:\n  node-ip: here", "line 2: cks.node-ip: \"here\" is no address"),
        ("cks:\n  pod-cidr: 10.0.0.1/8", "line 2: cks.pod-cidr: 10.0.0.1/8 is not the network 10.0.0.0/8"),
        ("cks:\n  ca-hashes: [sha256:1]", "line 2: cks.ca-hashes"),
        ("cks:\n  policy: trust-me", "line 2: cks.policy"),
        ("cks:\n  keys: [x]", "line 2: cks.keys"),
        ("cks:\n  sources: {a: b}", "line 2: cks.sources: a text is wanted, not a mapping"),
        ("cks:\n  eject: maybe", "line 2: cks.eject: is neither true nor false"),
        (
            "cks:\n  registries:\n    h:\n      mirrors: [ftp://x]",
            "line 4: cks.registries.h.mirrors: \"ftp://x\" is no URL",
        ),
        ("cks:\n  registries:\n    h: {username: u}", "username and password belong together"),
        ("cks:\n  registries:\n    h: {user: u}", "line 3: cks.registries.h.user is unknown"),
        ("cks:\n  proxy: {http: 'user:hunter2@p'}", "line 2: cks.proxy.http: is no URL"),
        ("cks:\n  labels: {node-role.kubernetes.io/worker: ''}", "line 2: cks.labels: node label"),
        ("cks:\n  labels: {A.example/x: b}", "is no label of Kubernetes"),
        ("cks:\n  taints: [x]", "line 2: cks.taints"),
        ("cks:\n  etcd: {ca: x, ca-key: y}", "line 2: cks.etcd.ca: is no PEM text"),
        ("cks:\n  etcd: {endpoints: ['10.1.1.2']}", "is not of the form http://ADDRESS:2379"),
        ("cks:\n  wait: soon", "line 2: cks.wait: \"soon\" is no time"),
    ] {
        let failure = read(text).unwrap_err();
        assert_eq!(failure.code, crate::failure::Code::UserDataInvalid);
        assert!(failure.what.contains(expected), "{text}: {}", failure.what);
        assert!(!failure.what.contains("hunter2"), "{}", failure.what);
    }
}

#[test]
fn a_registry_that_the_server_did_not_name_is_left_out() {
    let section = read(
        "cks:\n  registries:\n    '{{registry.url.endpoint}}': {mirrors: ['{{registry.url}}']}\n    h: {insecure: yes}\n",
    );
    let registries = section.unwrap().registries;
    assert_eq!(registries.iter().map(|one| (one.host.as_str(), one.insecure)).collect::<Vec<_>>(), [("h", true)]);
}

#[test]
fn init_arguments_and_single_keys_add_up() {
    let section = read(
        "cks:\n  init-arguments: --control-plane-endpoint 10.1.1.1:6443 --kubernetes-version=1.33.1 \
         --apiserver-cert-extra-sans=10.1.1.1\n  kubernetes-version: 1.34.1\n  certificate-sans: api.example.org\n",
    );
    let init = section.unwrap().init.unwrap();
    assert_eq!(init.endpoint.unwrap().to_string(), "10.1.1.1:6443");
    assert_eq!(init.kubernetes_version.as_deref(), Some("v1.34.1"));
    assert_eq!(init.certificate_sans, ["10.1.1.1", "api.example.org"]);
}

#[test]
fn labels_and_taints_that_a_kubelet_takes_are_taken() {
    let read =
        read("cks:\n  labels: {beta.kubernetes.io/os: linux, a: ''}\n  taints: [a=b:NoSchedule, c:NoExecute]").unwrap();
    assert_eq!((read.registration.labels.len(), read.registration.taints.len()), (2, 2));
}

#[test]
fn digests_of_authorities_are_read_in_either_case() {
    let digits = "0A".repeat(32);
    let section = read(&format!("cks:\n  ca-hashes: ['sha256:{digits}']")).unwrap();
    assert_eq!(section.ca_hashes, [format!("sha256:{}", digits.to_lowercase())]);
}
