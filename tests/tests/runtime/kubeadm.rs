//! kubeadm's configurations for each minor, as they were read and found good: `goldens`. To renew one, delete it and run
//! this test: it writes what is missing, and fails that once.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use bootstrap::bundle::Role;
use bootstrap::node_spec::{
    Authority, CaTrust, CertificateKey, Endpoint, ExternalEtcd, Init, Join, NodeSpec, Registration, Token,
};
use bootstrap::render::kubeadm::{Context, init_config, join_config};
use bootstrap::version::Version;
use cks_tests::process::Command;
use cks_tests::programs;

const MINORS: [&str; 8] = ["v1.29.15", "v1.30.14", "v1.31.14", "v1.32.13", "v1.33.9", "v1.34.4", "v1.35.4", "v1.36.3"];

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runtime/goldens")
}

fn token() -> Token {
    Token::parse("abcdef.0123456789abcdef").unwrap()
}

fn key() -> CertificateKey {
    CertificateKey::parse(&"0123456789abcdef".repeat(4)).unwrap()
}

/// As the server's user data has it for an isolated network.
fn stock() -> Init {
    Init {
        endpoint: Endpoint::parse("192.0.2.10:6443").ok(),
        token: Some(token()),
        certificate_key: Some(key()),
        upload_certificates: true,
        certificate_sans: vec!["192.0.2.10".to_owned()],
        ..Init::default()
    }
}

fn join(trust: CaTrust, control_plane: bool) -> Join {
    let endpoint = Endpoint::parse("10.1.1.5").unwrap();
    Join { endpoint, token: token(), certificate_key: control_plane.then(key), trust }
}

fn spec(role: Role, registration: Registration) -> NodeSpec {
    NodeSpec { registration, ..NodeSpec::new(role, "c1-node-18f", None, None).unwrap() }
}

/// Name and text of every configuration for one version.
fn rendered(version: &Version) -> Vec<(&'static str, String)> {
    let address = IpAddr::from([10, 1, 1, 5]);
    let plain = Context::new(version, address);
    let arguments = ["--pod-network-cidr=10.244.0.0/16", "--skip-phases=addon/kube-proxy"].map(str::to_owned);
    let (hash, ignored) = ([format!("sha256:{}", "5a".repeat(32))], ["NumCPU".to_owned()]);
    let full = Context {
        arguments: &arguments,
        patches: Some("/etc/kubernetes/patches"),
        ca_hashes: &hash,
        ignored_errors: &ignored,
        allow_cgroup_v1: true,
        ..plain.clone()
    };
    let registration = Registration {
        labels: BTreeMap::from([
            ("example.org/disk".to_owned(), "ssd".to_owned()),
            ("rack".to_owned(), "7".to_owned()),
        ]),
        taints: vec!["dedicated=db:NoSchedule".to_owned()],
        node_ip: Some(IpAddr::from([10, 2, 0, 7])),
        skip_checks: Vec::new(),
    };
    let etcd = |endpoints: [&str; 2], authority| {
        let endpoints = endpoints.map(str::to_owned).to_vec();
        Init { etcd: Some(ExternalEtcd { endpoints, authority }), ..stock() }
    };
    let authority = Authority { certificate: String::new(), key: None };
    let first = spec(Role::ControlPlane, Registration::default());
    let own = spec(Role::ControlPlane, registration.clone());
    let everything = Init {
        pod_cidr: "10.100.0.0/16".parse().ok(),
        service_cidr: "10.101.0.0/16".parse().ok(),
        skip_phases: vec!["addon/coredns".to_owned()],
        ..etcd(["https://10.1.1.12:2379", "https://10.1.1.13:2379"], Some(authority))
    };
    let plain_etcd = etcd(["http://10.1.1.12:2379", "http://10.1.1.13:2379"], None);
    let worker = spec(Role::Worker, Registration::default());
    let text = |name, text: Result<String, _>| (name, text.unwrap());
    vec![
        text("init", init_config(&first, &stock(), &plain)),
        text("init-etcd", init_config(&first, &plain_etcd, &plain)),
        text("init-all", init_config(&own, &everything, &full)),
        text("join-worker", join_config(&worker, &join(CaTrust::TokenOnly, false), &plain)),
        text("join-control-plane", join_config(&first, &join(CaTrust::Pinned(hash.to_vec()), true), &plain)),
        text("join-all", join_config(&own, &join(CaTrust::TokenOnly, true), &full)),
    ]
}

fn minor(version: &str) -> String {
    version.trim_start_matches('v').split('.').take(2).collect::<Vec<_>>().join(".")
}

#[test]
fn every_minor_gets_what_was_read_and_found_good() {
    let mut wrong = Vec::new();
    for version in MINORS {
        for (name, text) in rendered(&Version::parse(version).unwrap()) {
            let path = goldens().join(format!("{}-{name}.yaml", minor(version)));
            match fs::read_to_string(&path) {
                Ok(golden) if golden == text => {}
                Ok(golden) => wrong.push(format!("{}:\n{golden}is now\n{text}", path.display())),
                Err(_) => {
                    fs::create_dir_all(goldens()).unwrap();
                    fs::write(&path, &text).unwrap();
                    wrong.push(format!("{} was missing, written:\n{text}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let known: Vec<String> = MINORS.iter().map(|version| minor(version)).collect();
    let names = fs::read_dir(goldens()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let strange: Vec<String> = names.filter(|name| !known.iter().any(|minor| name.starts_with(minor))).collect();
    assert_eq!(strange, [""; 0]);
}

/// Each kubeadm that has been built reads all of them, those of older minors too (so far: 1.37 drops v1beta3): only the
/// version of Kubernetes has to be one that it deploys.
#[test]
fn the_real_kubeadm_finds_no_fault() {
    let directory = cks_tests::scratch("kubeadm").unwrap();
    let file = directory.path().join("config.yaml");
    let built = programs::all_built("kubernetes-v").unwrap();
    assert!(!built.is_empty(), "no kubeadm is built: run tests/tools/build kubernetes 1.35");
    for kubeadm in built.iter().map(|directory| directory.join("kubeadm")) {
        let told = Command::new(&kubeadm).args(["version", "-o", "short"]).ok().unwrap();
        let pin = told.trim();
        for version in MINORS {
            for (name, text) in rendered(&Version::parse(version).unwrap()) {
                let own = format!("kubernetesVersion: {pin}\n");
                fs::write(&file, text.replace(&format!("kubernetesVersion: {version}\n"), &own)).unwrap();
                let said = Command::new(&kubeadm).args(["config", "validate", "--config"]).arg(&file).output().unwrap();
                let words = (said.code, said.stdout.trim());
                assert_eq!(words, (0, "ok"), "kubeadm {pin} on {name} of {version}: {}", said.stderr);
                // It would warn of a field that it does not know, and go on without it. 1.36 warns of v1beta3.
                let odd =
                    said.stderr.lines().find(|line| !line.contains("deprecated API spec: \"kubeadm.k8s.io/v1beta3\""));
                assert_eq!(odd, None, "kubeadm {pin} on {name} of {version}");
            }
        }
    }
}
