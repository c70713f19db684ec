//! The preflight on a machine with several interfaces: a real network namespace, with the kernel's own answers.

use std::fs::{self, File};
use std::net::{IpAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::thread;
use std::time::Duration;

use agent::board::Board;
use agent::host::Host;
use agent::host_settings::{found, prepare};
use agent::preflight::{Looking, check, gather};
use bootstrap::bundle::Role;
use bootstrap::failure::Code;
use bootstrap::node_spec::{CaTrust, Endpoint, Init, Join, Membership, NodeSpec, Token};
use bootstrap::preflight::{Subject, node_ip};
use bootstrap::render::host::sysctl;
use bootstrap::render::kubeadm::Arguments;
use bootstrap::version::Version;
use cks_tests::netns::Netns;
use cks_tests::process::Command;
use nix::sched::{CloneFlags, setns};
use tempfile::TempDir;

/// Three interfaces whose names nobody guesses: the default route over one of them, the control plane behind another.
const LINKS: &str = "
set -e
for link in enp9s0:10.1.1.5 bond7:10.2.0.5 ens35:172.16.0.5; do
    name=${link%%:*}
    ip link add $name type veth peer name peer-$name
    ip address add ${link#*:}/24 dev $name
    ip link set $name up && ip link set peer-$name up
done
ip address del 10.1.1.1/24 dev lo
ip route add default via 10.1.1.1
ip route add 10.9.0.0/16 via 10.2.0.1
for name in all enp9s0 bond7; do echo 1 >/proc/sys/net/ipv4/conf/$name/arp_ignore; done
echo 0 >/proc/sys/net/ipv4/ip_forward
";

/// A host that sees the network of the thread that looks, and no other process.
fn host() -> (Host, TempDir) {
    let root = cks_tests::scratch("preflight").unwrap();
    let host = Host::new(root.path()).unwrap();
    fs::create_dir(root.path().join("proc")).unwrap();
    symlink("/proc/thread-self/net", root.path().join("proc/net")).unwrap();
    for name in ["sys", "filesystems", &std::process::id().to_string()] {
        symlink(format!("/proc/{name}"), root.path().join("proc").join(name)).unwrap();
    }
    (host, root)
}

fn inside(netns: &Netns, job: impl FnOnce() + Send + 'static) {
    let namespace = File::open(netns.path()).unwrap();
    let entered = thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        job();
    });
    entered.join().unwrap();
}

fn wait<T>(job: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(job)
}

fn worker() -> NodeSpec {
    let token = Token::parse("abcdef.0123456789abcdef").unwrap();
    let endpoint = Endpoint::parse("10.9.0.1").unwrap();
    let join = Join { endpoint, token, certificate_key: None, trust: CaTrust::TokenOnly };
    NodeSpec { membership: Some(Membership::Worker(join)), ..NodeSpec::new(Role::Worker, "n1", None, None).unwrap() }
}

fn first(pods: &str) -> NodeSpec {
    let init = Init { endpoint: Endpoint::parse("10.9.0.1").ok(), pod_cidr: pods.parse().ok(), ..Init::default() };
    let spec = NodeSpec::new(Role::ControlPlane, "n1", None, None).unwrap();
    NodeSpec { membership: Some(Membership::FirstControlPlane(Box::new(init))), ..spec }
}

fn looking<'a>(
    spec: &'a NodeSpec,
    version: &'a Version,
    arguments: &'a Arguments,
    sysctl: &'a str,
    skipped: &[&str],
) -> Looking<'a> {
    Looking {
        subject: Subject { spec, version: Some(version), arguments, sysctl, begun: false },
        reference: None,
        skipped: skipped.iter().map(|&name| name.to_owned()).collect(),
        patience: Duration::from_secs(1),
    }
}

#[test]
fn the_kernel_is_told_and_asked_whatever_its_interfaces_are_called() {
    let netns = Netns::new().unwrap();
    netns.enter(Command::new("sh").args(["-c", LINKS])).ok().unwrap();
    inside(&netns, || {
        let (host, _root) = host();
        let (version, arguments, text) =
            (Version::parse("v1.34.1").unwrap(), Arguments::default(), sysctl(&Default::default()));
        let board = Board::new(Role::Worker);
        let worker = worker();
        let facts = wait(gather(&host, &board, &looking(&worker, &version, &arguments, &text, &[])));
        let own: IpAddr = "10.2.0.5".parse().unwrap();
        assert_eq!((facts.reaches_endpoint_from, node_ip(&worker, &facts)), (Some(own), Some(own)));
        assert_eq!(facts.reaches_default_from, "10.1.1.5".parse().ok());
        let networks: Vec<String> = facts.networks.iter().map(|(net, name)| format!("{net} {name}")).collect();
        for network in ["10.1.1.0/24 enp9s0", "10.2.0.0/24 bond7", "172.16.0.0/24 ens35", "10.9.0.0/16 bond7"] {
            assert!(networks.iter().any(|known| known == network), "{networks:?}");
        }
        let value = |key: &str| found(&host, &text).into_iter().find(|found| found.key == key).map(|found| found.value);
        let before = ["net.ipv4.ip_forward", "net.ipv4.conf.all.arp_ignore", "net.ipv4.conf.bond7.arp_ignore"];
        assert_eq!(before.map(|key| value(key).unwrap()), ["0", "1", "1"]);
        let refused =
            wait(check(&host, &board, &looking(&worker, &version, &arguments, &text, &["host-name", "cgroup"])));
        let failure = refused.unwrap_err();
        assert_eq!(failure.code, Code::HostUnfit);
        assert!(failure.what.contains("net.ipv4.ip_forward is 0, not 1"), "{}", failure.what);
        assert_eq!(wait(prepare(&host, &text, false)), [""; 0]);
        assert_eq!(before.map(|key| value(key).unwrap()), ["1", "0", "0"]);
        wait(check(&host, &board, &looking(&worker, &version, &arguments, &text, &["host-name", "cgroup"]))).unwrap();
    });
}

#[test]
fn a_taken_port_and_a_taken_network_are_refused_with_what_takes_them() {
    let netns = Netns::new().unwrap();
    netns.enter(Command::new("sh").args(["-c", LINKS])).ok().unwrap();
    inside(&netns, || {
        let (host, _root) = host();
        let (version, arguments) = (Version::parse("v1.34.1").unwrap(), Arguments::default());
        let board = Board::new(Role::ControlPlane);
        let skipped = ["host-name", "cgroup", "size"];
        let failure = |spec: &NodeSpec| {
            wait(check(&host, &board, &looking(spec, &version, &arguments, "", &skipped))).unwrap_err()
        };
        let taken = TcpListener::bind("0.0.0.0:10257").unwrap();
        let held = failure(&first("10.244.0.0/16"));
        assert_eq!(held.code, Code::PortInUse, "{}", held.what);
        let named = format!("(process {}) listens at 0.0.0.0:10257, which kube-controller-manager", std::process::id());
        assert!(held.what.contains(&named), "{}", held.what);
        drop(taken);
        let overlaps = failure(&first("10.2.0.0/16"));
        assert_eq!(overlaps.code, Code::CidrOverlap, "{}", overlaps.what);
        assert!(overlaps.what.contains("10.2.0.0/24, which this machine reaches by bond7"), "{}", overlaps.what);
        assert!(overlaps.remedy().contains("10.128.0.0/16 is free"), "{}", overlaps.remedy());
        wait(check(&host, &board, &looking(&first("10.244.0.0/16"), &version, &arguments, "", &skipped))).unwrap();
    });
}
