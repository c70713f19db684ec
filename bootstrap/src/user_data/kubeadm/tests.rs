use super::*;
use crate::user_data::shell;

fn call(text: &str) -> Call {
    Call::parse(&shell::words(&crate::user_data::placeholder::guard(text)), Place::default())
}

#[test]
fn init_is_read_with_and_without_equal_signs() {
    let key = "0f".repeat(32);
    let mut findings = Findings::default();
    let init = call(&format!(
        "--token abcdef.0123456789abcdef --token-ttl 0 --control-plane-endpoint 10.1.1.1:6443 --upload-certs \
         --certificate-key {key} --apiserver-cert-extra-sans=10.1.1.1,api.example.org --kubernetes-version=1.34.1 \
         --pod-network-cidr=10.244.0.0/16 --service-cidr 10.96.0.0/12 --skip-phases=addon/kube-proxy \
         --cri-socket /run/containerd/containerd.sock --feature-gates=A=true"
    ))
    .init(&mut findings)
    .unwrap();
    assert_eq!(init.endpoint.unwrap().to_string(), "10.1.1.1:6443");
    assert_eq!(init.token.unwrap().reveal(), "abcdef.0123456789abcdef");
    assert_eq!(init.certificate_key.unwrap().reveal(), key);
    assert!(init.upload_certificates);
    assert_eq!(init.kubernetes_version.as_deref(), Some("v1.34.1"));
    assert_eq!(init.certificate_sans, ["10.1.1.1", "api.example.org"]);
    assert_eq!(init.pod_cidr.unwrap().to_string(), "10.244.0.0/16");
    assert_eq!(init.service_cidr.unwrap().to_string(), "10.96.0.0/12");
    assert_eq!(init.skip_phases, ["addon/kube-proxy"]);
    let named: Vec<_> = findings.ignored.iter().map(|one| one.what.as_str()).collect();
    assert_eq!(named, ["--feature-gates"]);
}

#[test]
fn join_is_read_and_pins_where_it_can() {
    let hash = format!("sha256:{}", "ab".repeat(32));
    let key = "0f".repeat(32);
    let token = "--token abcdef.0123456789abcdef";
    for (text, pinned, control_plane) in [
        (format!("10.1.1.5:6443 {token} --discovery-token-unsafe-skip-ca-verification"), 0, false),
        (format!("10.1.1.5:6443 {token} --discovery-token-ca-cert-hash {hash}"), 1, false),
        (format!("10.1.1.5:6443 {token} --discovery-token-ca-cert-hash {}", hash.to_uppercase()), 1, false),
        (format!("{token} 10.1.1.5:6443 --control-plane --certificate-key {key}"), 0, true),
    ] {
        let call = call(&text);
        let join = call.join(&mut Findings::default()).unwrap();
        assert_eq!(join.endpoint.to_string(), "10.1.1.5:6443");
        assert_eq!(matches!(&join.trust, CaTrust::Pinned(pins) if *pins == vec![hash.clone(); pinned]), pinned > 0);
        assert_eq!((call.is_control_plane(), join.certificate_key.is_some()), (control_plane, control_plane));
    }
}

#[test]
fn what_is_missing_or_unfilled_is_named() {
    let mut findings = Findings::default();
    for (text, part) in [
        ("", "without the address"),
        ("10.1.1.5:6443", "without --token"),
        ("10.1.1.5:6443 --token x", "--token: the bootstrap token"),
        ("10.1.1.5:6443 --token {{ k8s.token }}", "{{ k8s.token }}"),
        ("{{ k8s.join_ip }}:6443 --token abcdef.0123456789abcdef", "the address of the control plane is still"),
        ("h --token abcdef.0123456789abcdef --control-plane", "without --certificate-key"),
        ("h --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha1:00", "sha1:00"),
    ] {
        let failure = call(text).join(&mut findings).unwrap_err();
        assert!(failure.what.contains(part), "{text}: {}", failure.what);
    }
    for (text, part) in [
        ("--kubernetes-version=latest", "latest"),
        ("--pod-network-cidr=10.244.0.1/16", "10.244.0.0/16"),
        ("--pod-network-cidr=x", "no network"),
    ] {
        let failure = call(text).init(&mut findings).unwrap_err();
        assert!(failure.what.contains(part), "{text}: {}", failure.what);
    }
}
