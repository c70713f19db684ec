use bootstrap::adoption::{self, Asked, Caller, File};
use bootstrap::node_spec::{Membership, NodeSpec};
use bootstrap::user_data::{Metadata, Reading, read, yaml};

use super::*;
use crate::server::cluster::Order;

const PUBLIC: &str = "198.51.100.10";

fn cluster(order: Order) -> Cluster {
    let roles = [(Role::Etcd, order.etcd), (Role::Control, order.controls), (Role::Worker, order.workers)];
    let mut cluster = Cluster::new(&order).unwrap();
    for (role, count) in roles {
        for _ in 0..count {
            let mut vm = cluster.plan(role).unwrap();
            vm.address = format!("10.1.1.{}", 10 + vm.id);
            cluster.vms.push(vm);
        }
    }
    cluster
}

fn of(release: Release, cluster: &Cluster, at: usize, router: &str) -> String {
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
    let certificates = Certificates { authority: pem.clone(), certificate: pem.clone(), key: pem };
    let facts =
        Facts { key: "ssh-rsa AAAA me", public: PUBLIC, join: "10.1.1.11", router, certificates: &certificates };
    text(release, cluster, &cluster.vms[at], &facts)
}

fn large() -> Order {
    let registry = Registry {
        url: "https://registry.example.org".to_owned(),
        username: "u".to_owned(),
        password: "p&'\"".to_owned(),
    };
    Order { controls: 2, registry: Some(registry), ..Order::small("bed", "1.34.4") }
}

#[test]
fn no_token_is_left_in_any_release() {
    for release in Release::ALL {
        let etcd = usize::from(release.is_flexible());
        let cluster = cluster(Order { etcd, ..large() });
        for at in 0..cluster.vms.len() {
            let text = of(release, &cluster, at, "");
            assert!(!text.contains("{{") && !text.contains("\n@"), "{release} {at}: {text}");
            assert!(text.contains("- \"ssh-rsa AAAA me\""));
        }
    }
}

#[test]
fn what_releases_do_otherwise() {
    let cluster = cluster(Order::small("bed", "1.34.4"));
    let control = Release::ALL.map(|release| of(release, &cluster, 0, ""));
    let worker = Release::ALL.map(|release| of(release, &cluster, 1, "10.1.1.1"));
    let have = |texts: &[String; 5], part: &str| texts.each_ref().map(|text| text.contains(part));
    assert_eq!(have(&control, "## template: jinja\n#cloud-config\n"), [false, false, true, true, true]);
    assert_eq!(have(&control, "LABEL=CDROM"), [false, true, true, true, true]);
    assert_eq!(have(&control, "/opt/csi"), [false, false, false, true, true]);
    assert_eq!(have(&control, "headlamp"), [false, false, false, false, true]);
    assert_eq!(have(&control, "EXTERNAL_CNI_PLUGIN=false"), [false, false, true, true, true]);
    assert_eq!(have(&worker, "ROUTER_IP=\"10.1.1.1\""), [false, false, true, true, true]);
    assert_eq!(have(&worker, "OFFLINE_INSTALL_ATTEMPT_SLEEP=30\n"), [true; 5]);
    assert_eq!(have(&worker, "kubeadm join 10.1.1.11:6443 --token "), [true; 5]);
    assert_eq!(have(&worker, "ExecStartPre=/usr/bin/curl -k https://10.1.1.11:6443/version"), [true; 5]);
}

#[test]
fn members_of_etcd_know_each_other() {
    let cluster = cluster(Order { etcd: 2, ..Order::small("bed", "1.34.4") });
    let member = of(Release::new(21, 0), &cluster, 1, "");
    let [a, b] = [0, 1].map(|at| format!("{}=http://{}:2380", cluster.vms[at].name, cluster.vms[at].address));
    assert!(member.contains(&format!("--initial-cluster {a},{b} ")), "{member}");
    let control = of(Release::new(21, 0), &cluster, 2, "");
    assert!(control.contains("          - http://10.1.1.11:2379\n          - http://10.1.1.12:2379\n"), "{control}");
    assert!(control.contains("EXTERNAL_ETCD_NODES=true"));
}

#[test]
fn a_registry_takes_the_place_of_the_default_configuration() {
    let cluster = cluster(large());
    let text = of(Release::new(22, 0), &cluster, 2, "");
    assert!(text.contains("  - bash -x /opt/bin/setup-containerd\n") && text.contains("mirrors.\\\"registry.example"));
    assert!(!text.contains("- containerd config default"));
    assert!(text.contains("      containerd config default > /etc/containerd/config.toml\n"));
}

#[test]
fn a_user_s_cloud_config_is_put_behind_and_a_script_beside() {
    let with = |cni: &str| {
        let cluster = cluster(Order { cni: Some(cni.to_owned()), ..Order::small("bed", "1.34.4") });
        [0, 1].map(|at| of(Release::new(21, 0), &cluster, at, ""))
    };
    let [control, worker] = with("#cloud-config\n  - echo more\n");
    assert!(control.ends_with("  - systemctl start deploy-kube-system\n  - echo more\n"));
    assert!(control.contains("EXTERNAL_CNI_PLUGIN=true") && !worker.contains("echo more"));
    let [control, _] = with("#!/bin/sh\necho more\n");
    assert!(control.starts_with("Content-Type: multipart/mixed") && control.contains("text/x-shellscript"));
}

#[test]
fn user_data_has_a_longest_length() {
    let cni = format!("#cloud-config\n# {}\n", "x".repeat(20_000));
    let cluster = cluster(Order { cni: Some(cni), ..Order::small("bed", "1.34.4") });
    let certificates = Certificates::default();
    let facts = Facts { key: "k", public: PUBLIC, join: "", router: "", certificates: &certificates };
    let error = render(Release::new(21, 0), &cluster, &cluster.vms[0], &facts).unwrap_err().to_string();
    assert!(error.contains("32768 may be"), "{error}");
    render(Release::new(21, 0), &cluster, &cluster.vms[1], &facts).unwrap();
}

fn understood(text: &str, vm: &Vm) -> Reading {
    let (local_hostname, local_ipv4) = (Some(vm.name.clone()), vm.address.parse().ok());
    let metadata = Metadata { instance_id: Some(vm.uuid.clone()), local_hostname, local_ipv4, ..Metadata::default() };
    read(text.as_bytes(), &metadata).unwrap_or_else(|failure| panic!("{failure}\n{text}"))
}

/// The files that cloud-init would write.
fn files(text: &str) -> Vec<(String, String)> {
    // Without a registry's variables jinja leaves out what stands between its tags.
    let before = text.split("{% if").next().unwrap();
    let behind = text.split_once("{% endif %}").map_or("", |(_, behind)| behind);
    let document = yaml::document(&format!("{before}{behind}")).unwrap();
    let files =
        document.root.as_ref().and_then(|root| root.get("write_files")).and_then(yaml::Node::list).unwrap_or_default();
    let of = |file: &yaml::Node, key: &str| file.get(key).and_then(yaml::Node::text).unwrap_or_default().to_owned();
    files.iter().map(|file| (of(file, "path"), of(file, "content"))).collect()
}

fn is_whole(spec: &NodeSpec, vm: &Vm, cluster: &Cluster) {
    assert_eq!(spec.node_name, vm.node());
    let token = |token: &bootstrap::node_spec::Token| assert_eq!(token.reveal(), cluster.token());
    match spec.membership.as_ref() {
        Some(Membership::FirstControlPlane(init)) => {
            assert_eq!(init.endpoint.as_ref().unwrap().to_string(), format!("{PUBLIC}:6443"));
            assert_eq!(init.certificate_key.as_ref().unwrap().reveal(), cluster.certificate_key());
            assert_eq!(init.etcd.is_some(), cluster.etcd() > 0);
            token(init.token.as_ref().unwrap());
        }
        Some(Membership::ControlPlane(join) | Membership::Worker(join)) => {
            assert_eq!(join.endpoint.to_string(), "10.1.1.11:6443");
            token(&join.token);
        }
        Some(Membership::Etcd) => assert_eq!(spec.etcd_members.len(), cluster.etcd()),
        None => panic!("no membership: {spec:?}"),
    }
}

/// What nobody reads, and the cluster's public address as that of one node's API server.
const LEFT_ALONE: [&str; 2] = ["/etc/kubernetes/pki/cloudstack", "localAPIEndpoint.advertiseAddress"];

#[test]
fn the_agent_understands_it_and_takes_the_scripts_over() {
    for release in Release::ALL {
        let etcd = usize::from(release.is_flexible()) * 3;
        let cluster = cluster(Order { etcd, controls: 2, ..Order::small("Bed", "1.34.4") });
        for (at, vm) in cluster.vms.iter().enumerate() {
            let text = of(release, &cluster, at, "");
            let reading = understood(&text, vm);
            let spec = reading.wish().unwrap_or_else(|failure| panic!("{release} {vm:?}: {failure}"));
            is_whole(spec, vm, &cluster);
            let mut ignored = reading.ignored.iter().filter(|ignored| !LEFT_ALONE.contains(&ignored.what.as_str()));
            assert_eq!(ignored.next(), None, "{release} {vm:?}");
            let files = files(&text);
            let known = File::ALL.into_iter().filter_map(|file| {
                let found = files.iter().find(|(path, _)| path == file.path())?;
                Some((file, found.1.as_str()))
            });
            let known: Vec<(File, &str)> = known.collect();
            let caller = Caller { program: "/usr/bin/cks-agent".to_owned(), root: None };
            let decision = adoption::decide(&known, &Asked::of(spec), &caller);
            assert_eq!(decision.refused, Vec::<String>::new(), "{release} {vm:?}");
            assert_eq!(decision.take.len(), known.len(), "{release} {vm:?}");
        }
    }
}

#[test]
fn the_agent_understands_a_registry_and_a_virtual_router() {
    let cluster = cluster(large());
    for release in Release::ALL {
        let reading = understood(&of(release, &cluster, 1, ""), &cluster.vms[1]);
        let registries = &reading.wish().unwrap().runtime.registries;
        assert_eq!(registries[0].host, "registry.example.org", "{release}");
        let reading = understood(&of(release, &cluster, 2, "10.1.1.1"), &cluster.vms[2]);
        let spec = reading.wish().unwrap();
        let router = release.is_flexible().then(|| "10.1.1.1".parse().unwrap());
        assert_eq!((spec.delivery.router, spec.delivery.wait_seconds), (router, Some(1200)), "{release}");
    }
}
