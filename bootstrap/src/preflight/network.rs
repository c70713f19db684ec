//! Ports, networks, addresses, names.

use std::net::IpAddr;

use ipnet::IpNet;

use super::cidr::{free, overlap};
use super::{Check, Finding, HostFacts, Subject};
use crate::failure::Code;
use crate::node_spec::API_PORT;

/// Programs of Kubernetes itself, which may listen where kubeadm has begun.
const OWN: [&str; 7] =
    ["kubelet", "kube-apiserver", "kube-scheduler", "kube-controller", "kube-controller-manager", "etcd", "kube-proxy"];

/// How interfaces of pod networks begin: routes over them are inside the cluster's networks by their nature.
const OF_PODS: [&str; 11] =
    ["cni", "flannel", "cali", "tunl", "vxlan.calico", "cilium", "lxc", "kube-", "weave", "veth", "docker"];

/// Whether an interface is one of containers, and not of the machine.
#[must_use]
pub fn is_of_pods(interface: &str) -> bool {
    OF_PODS.iter().any(|start| interface.starts_with(start))
}

pub(super) fn ports(subject: &Subject<'_>, facts: &HostFacts) -> Vec<Finding> {
    let mut wanted = Vec::new();
    if subject.is_control_plane() {
        wanted.extend([(API_PORT, "kube-apiserver"), (10259, "kube-scheduler"), (10257, "kube-controller-manager")]);
    }
    if subject.is_kubernetes() {
        wanted.push((10250, "kubelet"));
    }
    if subject.has_etcd() {
        wanted.extend([(2379, "etcd"), (2380, "etcd")]);
    }
    let mut all = Vec::new();
    for (port, needed_by) in wanted {
        let mut holders = facts.listeners.iter().filter(|listener| listener.port == port);
        let foreign = holders.find(|listener| match &listener.program {
            Some((name, _)) => !(subject.begun && OWN.contains(&name.as_str())),
            None => !subject.begun,
        });
        let Some(listener) = foreign else { continue };
        let (holder, remedy) = match &listener.program {
            Some((name, pid)) => {
                let name = crate::text::plain(name);
                (format!("{name} (process {pid})"), format!("stop {name}: process {pid}"))
            }
            None => ("a program that can't be seen from here".to_owned(), format!("ss -ltnp 'sport = :{port}'")),
        };
        let what = format!("{holder} listens at {}:{port}, which {needed_by} needs", shown(listener.address));
        all.push(Finding::new(Check::Ports, Code::PortInUse, what, remedy));
    }
    all
}

fn shown(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

pub(super) fn networks(subject: &Subject<'_>, facts: &HostFacts) -> Vec<Finding> {
    let cluster = subject.networks();
    let foreign: Vec<&(IpNet, String)> =
        facts.networks.iter().filter(|(_, name)| name.starts_with("docker") || !is_of_pods(name)).collect();
    let taken: Vec<IpNet> =
        foreign.iter().map(|(network, _)| *network).chain(cluster.iter().map(|(_, n)| *n)).collect();
    let mut all = Vec::new();
    for (at, (kind, network)) in cluster.iter().enumerate() {
        let machine = foreign.iter().find(|(other, _)| overlap(network, other));
        let machine = machine.map(|(other, name)| format!("{other}, which this machine reaches by {name}"));
        let endpoint = facts.endpoint_addresses.as_ref().and_then(|found| found.as_ref().ok()).into_iter().flatten();
        let endpoint = endpoint.copied().find(|address| network.contains(address));
        let endpoint = endpoint.map(|address| format!("{address}, the address of the control plane"));
        let other = cluster.iter().skip(at + 1).find(|(_, other)| overlap(network, other));
        let other = other.map(|(kind, other)| format!("the {kind} network {other}"));
        let Some(overlaps) = machine.or(endpoint).or(other) else { continue };
        let what = format!("the {kind} network {network} overlaps {overlaps}");
        let remedy = match free(network.prefix_len(), &taken) {
            Some(free) => format!("choose another {kind} network; {free} is free, as seen from here"),
            None => format!("choose another {kind} network, or another guest network"),
        };
        all.push(Finding::new(Check::Networks, Code::CidrOverlap, what, remedy));
    }
    all
}

pub(super) fn node_ip(subject: &Subject<'_>, facts: &HostFacts) -> Vec<Finding> {
    let check = Check::NodeIp;
    let mut all = Vec::new();
    let wishes = [subject.spec.registration.node_ip, subject.spec.address];
    if let Some(wish) = wishes.into_iter().flatten().next() {
        if !facts.addresses.is_empty() && !facts.addresses.contains(&wish) {
            let own: Vec<String> = facts.addresses.iter().map(ToString::to_string).collect();
            let what = format!("{wish} is to be the node's address, but this machine has {}", own.join(", "));
            all.push(Finding::new(check, Code::HostUnfit, what, "correct node-ip, or give the machine that address"));
        }
        let reaches = facts.reaches_endpoint_from.filter(|from| *from != wish);
        if let (Some(from), Some(endpoint)) = (reaches, subject.endpoint()) {
            let what = format!("the control plane {endpoint} is reached from {from}, and the node registers {wish}");
            all.push(Finding::new(check, Code::HostUnfit, what, "make sure that others reach it there").warning());
        }
    }
    let resolved = facts.endpoint_addresses.as_ref().is_some_and(|found| found.as_ref().is_ok_and(|a| !a.is_empty()));
    if let (true, None, Some(endpoint)) = (resolved, facts.reaches_endpoint_from, subject.endpoint()) {
        let what = format!("this machine has no route to the control plane {endpoint}");
        all.push(Finding::new(check, Code::HostUnfit, what, "check its addresses and routes: ip route get"));
    }
    all
}

pub(super) fn dns(subject: &Subject<'_>, facts: &HostFacts) -> Vec<Finding> {
    let (Some(endpoint), Some(found)) = (subject.endpoint(), &facts.endpoint_addresses) else { return Vec::new() };
    let why = match found {
        Ok(addresses) if !addresses.is_empty() => return Vec::new(),
        Ok(_) => "it has no address".to_owned(),
        Err(why) => crate::text::plain(why),
    };
    let what = format!("the name of the control plane, {}, does not resolve: {why}", endpoint.host);
    let remedy = "correct /etc/resolv.conf, or the name; or write it into /etc/hosts";
    vec![Finding::new(Check::Dns, Code::HostUnfit, what, remedy)]
}
