use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use super::facts::{Cgroup, Listener, Room};
use super::*;
use crate::bundle::Role;
use crate::node_spec::{CaTrust, ExternalEtcd, Init, Join, Registration, Token};

const NOW: Duration = Duration::from_secs(1_800_000_000);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + NOW
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn network(text: &str, interface: &str) -> (IpNet, String) {
    (text.parse().unwrap(), interface.to_owned())
}

/// A machine that nothing is wrong with.
fn sound() -> HostFacts {
    let room = Room { total: 20 << 30, free: 10 << 30 };
    HostFacts {
        cgroup: Some(Cgroup::V2),
        controllers: set(&["cpu", "cpuset", "io", "memory", "pids"]),
        modules: Some(set(&["overlay", "br_netfilter", "ip_vs", "ip_vs_wrr", "ip_vs_sh", "nf_conntrack"])),
        sysctls: BTreeMap::from([("net.ipv4.ip_forward".to_owned(), "1".to_owned())]),
        networks: vec![network("10.1.1.0/24", "eth0")],
        addresses: vec![address("127.0.0.1"), address("10.1.1.5")],
        reaches_endpoint_from: Some(address("10.1.1.5")),
        reaches_default_from: Some(address("10.1.1.5")),
        endpoint_addresses: Some(Ok(vec![address("192.0.2.10")])),
        now: Some(now()),
        reference: Some((now(), "the API server".to_owned())),
        room: BTreeMap::from([("/var/lib/kubelet".to_owned(), room), ("/var/lib/etcd".to_owned(), room)]),
        processors: Some(2),
        memory: Some(4 << 30),
        host_name: Some("C1-node".to_owned()),
        host_name_resolves: Some(true),
        localhost_resolves: Some(true),
        missing_programs: Some(BTreeSet::new()),
        ..HostFacts::default()
    }
}

fn init() -> Init {
    Init { endpoint: Endpoint::parse("192.0.2.10").ok(), pod_cidr: "10.244.0.0/16".parse().ok(), ..Init::default() }
}

fn join() -> Join {
    let token = Token::parse("abcdef.0123456789abcdef").unwrap();
    Join { endpoint: Endpoint::parse("api.example").unwrap(), token, certificate_key: None, trust: CaTrust::TokenOnly }
}

fn first() -> NodeSpec {
    let mut spec = NodeSpec::new(Role::ControlPlane, "c1-node", None, None).unwrap();
    spec.membership = Some(Membership::FirstControlPlane(Box::new(init())));
    spec
}

fn worker() -> NodeSpec {
    let mut spec = NodeSpec::new(Role::Worker, "c1-node", None, None).unwrap();
    spec.membership = Some(Membership::Worker(join()));
    spec
}

fn etcd() -> NodeSpec {
    let mut spec = NodeSpec::new(Role::Etcd, "c1-node", None, None).unwrap();
    spec.membership = Some(Membership::Etcd);
    spec
}

struct Machine {
    spec: NodeSpec,
    version: Version,
    arguments: Arguments,
    begun: bool,
}

impl Machine {
    fn of(spec: NodeSpec) -> Self {
        Self { spec, version: Version::parse("v1.34.1").unwrap(), arguments: Arguments::default(), begun: false }
    }

    fn version(version: &str) -> Self {
        Self { version: Version::parse(version).unwrap(), ..Self::of(worker()) }
    }

    fn findings(&self, facts: &HostFacts) -> Vec<Finding> {
        let sysctl = crate::render::host::sysctl(&BTreeMap::new());
        let subject = Subject {
            spec: &self.spec,
            version: Some(&self.version),
            arguments: &self.arguments,
            sysctl: &sysctl,
            begun: self.begun,
        };
        examine(&subject, facts)
    }

    /// Check, code and weight of each finding; and what all say.
    fn told(&self, change: impl FnOnce(&mut HostFacts)) -> (Vec<(Check, Code, Weight)>, String) {
        let mut facts = sound();
        change(&mut facts);
        let findings = self.findings(&facts);
        let words = findings.iter().map(|finding| format!("{finding}: {}", finding.remedy)).collect::<Vec<_>>();
        (findings.iter().map(|f| (f.check, f.code, f.weight)).collect(), words.join("\n"))
    }
}

fn refuses(check: Check, code: Code) -> Vec<(Check, Code, Weight)> {
    vec![(check, code, Weight::Refuses)]
}

fn warns(check: Check, code: Code) -> Vec<(Check, Code, Weight)> {
    vec![(check, code, Weight::Warns)]
}

#[test]
fn a_sound_machine_and_one_that_nothing_is_known_of_have_no_findings() {
    for spec in [first(), worker(), etcd()] {
        let machine = Machine::of(spec);
        assert_eq!(machine.findings(&sound()), []);
        assert_eq!(machine.findings(&HostFacts::default()), []);
    }
}

#[test]
fn cgroup_v1_is_refused_from_the_minor_on_that_refuses_it() {
    for (version, expected) in [
        ("v1.30.0", warns(Check::Cgroup, Code::CgroupUnsupported)),
        ("v1.34.9", warns(Check::Cgroup, Code::CgroupUnsupported)),
        ("v1.35.0", refuses(Check::Cgroup, Code::CgroupUnsupported)),
        ("v1.35.0-rc.1", refuses(Check::Cgroup, Code::CgroupUnsupported)),
        ("v1.36.3", refuses(Check::Cgroup, Code::CgroupUnsupported)),
    ] {
        let (found, words) = Machine::version(version).told(|facts| facts.cgroup = Some(Cgroup::V1));
        assert_eq!(found, expected, "{version}");
        assert!(words.contains("systemd.unified_cgroup_hierarchy=1"), "{words}");
    }
    let (found, words) = Machine::of(worker()).told(|facts| facts.controllers = set(&["cpu", "memory"]));
    assert_eq!(found, refuses(Check::Cgroup, Code::HostUnfit));
    assert!(words.contains("cpuset, pids"), "{words}");
    assert_eq!(Machine::of(etcd()).told(|facts| facts.cgroup = Some(Cgroup::V1)).0, []);
}

#[test]
fn what_the_kernel_lacks_is_named() {
    let (found, words) = Machine::of(first()).told(|facts| facts.modules = Some(set(&["overlay"])));
    let both = [(Check::Modules, Code::HostUnfit, Weight::Refuses), (Check::Modules, Code::HostUnfit, Weight::Warns)];
    assert_eq!(found, both);
    assert!(words.contains("br_netfilter") && words.contains("ip_vs_wrr"), "{words}");
    let (found, _) = Machine::of(worker()).told(|facts| facts.modules = Some(set(&["overlay", "br_netfilter"])));
    assert_eq!(found, [], "a worker needs no IPVS");
    let set_to = |key: &str, value: &str| {
        let (key, value) = (key.to_owned(), value.to_owned());
        Machine::of(worker()).told(move |facts| {
            facts.unwritable.insert(key.clone(), "read-only".to_owned());
            facts.sysctls.insert(key, value);
        })
    };
    let (found, words) = set_to("net.ipv4.ip_forward", "0");
    assert_eq!(found, refuses(Check::Sysctl, Code::HostUnfit));
    assert!(words.contains("net.ipv4.ip_forward is 0, not 1, and can't be written: read-only"), "{words}");
    assert_eq!(set_to("net.ipv4.conf.enp1s0.arp_ignore", "1").0, warns(Check::Sysctl, Code::HostUnfit));
    assert_eq!(set_to("net.ipv4.conf.enp1s0.arp_ignore", "0").0, []);
    assert_eq!(set_to("kernel.unasked", "0").0, []);
}

#[test]
fn swap_that_is_on_refuses_and_swap_that_comes_back_warns() {
    let (found, words) = Machine::of(worker()).told(|facts| {
        facts.swaps = vec!["/dev/vda2".to_owned()];
        facts.swaps_of_fstab = vec![(3, "/swap.img none swap sw 0 0".to_owned())];
    });
    let both = [(Check::Swap, Code::HostUnfit, Weight::Refuses), (Check::Swap, Code::HostUnfit, Weight::Warns)];
    assert_eq!(found, both);
    assert!(words.contains("/dev/vda2") && words.contains("line 3 of /etc/fstab"), "{words}");
}

#[test]
fn a_port_is_refused_with_the_program_that_holds_it() {
    let listener = |port, program: Option<&str>| Listener {
        address: address("0.0.0.0"),
        port,
        program: program.map(|name| (name.to_owned(), 7)),
    };
    let external = |spec: NodeSpec| {
        let etcd = ExternalEtcd { endpoints: vec!["http://10.1.1.9:2379".to_owned()], authority: None };
        let membership = Membership::FirstControlPlane(Box::new(Init { etcd: Some(etcd), ..init() }));
        NodeSpec { membership: Some(membership), ..spec }
    };
    for (spec, port, program, begun, taken) in [
        (first(), 6443, Some("nginx"), false, true),
        (first(), 2379, Some("etcd"), false, true),
        (first(), 10250, Some("kubelet"), false, true),
        (first(), 10250, Some("kubelet"), true, false),
        (first(), 6443, Some("nginx"), true, true),
        (first(), 6443, None, false, true),
        (first(), 6443, None, true, false),
        (first(), 8080, Some("nginx"), false, false),
        (external(first()), 2379, Some("etcd"), false, false),
        (worker(), 6443, Some("haproxy"), false, false),
        (worker(), 10250, Some("other"), false, true),
        (etcd(), 2380, Some("etcd"), false, true),
        // Its own, of an earlier run or of the stock unit.
        (etcd(), 2380, Some("etcd"), true, false),
        (etcd(), 2380, Some("other"), true, true),
        (etcd(), 10250, Some("other"), false, false),
    ] {
        let machine = Machine { begun, ..Machine::of(spec) };
        let (found, words) = machine.told(|facts| facts.listeners = vec![listener(port, program)]);
        assert_eq!(found, if taken { refuses(Check::Ports, Code::PortInUse) } else { vec![] }, "{port}: {words}");
        assert!(!taken || program.is_none_or(|name| words.contains(&format!("{name} (process 7)"))), "{words}");
    }
}

#[test]
fn networks_that_overlap_are_refused_with_a_free_one() {
    let pods = |cidr: &str| {
        let mut spec = first();
        let init = Init { pod_cidr: cidr.parse().ok(), ..init() };
        spec.membership = Some(Membership::FirstControlPlane(Box::new(init)));
        Machine::of(spec)
    };
    for (pod, route, interface, part) in [
        ("10.0.0.0/16", "10.0.5.0/24", "eth0", Some("10.0.5.0/24, which this machine reaches by eth0")),
        ("10.244.0.0/16", "10.0.0.0/8", "tun0", Some("10.0.0.0/8")),
        ("10.244.0.0/16", "10.244.1.0/24", "flannel.1", None),
        ("10.244.0.0/16", "10.244.1.0/24", "cni0", None),
        ("10.96.0.0/16", "10.1.1.0/24", "eth0", Some("the service network 10.96.0.0/12")),
        ("192.0.2.0/24", "10.1.1.0/24", "eth0", Some("192.0.2.10, the address of the control plane")),
        ("10.244.0.0/16", "10.1.1.0/24", "eth0", None),
    ] {
        let (found, words) = pods(pod).told(|facts| facts.networks = vec![network(route, interface)]);
        assert_eq!(!found.is_empty(), part.is_some(), "{pod} beside {route}: {words}");
        assert!(found.iter().all(|finding| finding.1 == Code::CidrOverlap), "{words}");
        assert!(part.is_none_or(|part| words.contains(part) && words.contains("is free")), "{words}");
    }
    let mut bundle = pods("");
    bundle.arguments.pod_cidr = Some("10.1.0.0/16".to_owned());
    assert!(bundle.told(|_| ()).1.contains("the pod network 10.1.0.0/16"), "the bundle's counts, too");
    assert_eq!(Machine::of(worker()).told(|facts| facts.networks = vec![network("10.96.0.0/12", "x")]).0, []);
}

#[test]
fn the_registered_address_is_one_that_reaches_the_control_plane() {
    let wishing = |wish: &str| {
        let registration = Registration { node_ip: Some(address(wish)), ..Registration::default() };
        Machine::of(NodeSpec { registration, ..worker() })
    };
    assert_eq!(wishing("10.9.9.9").told(|f| f.reaches_endpoint_from = None).0.len(), 2, "not ours, and no route");
    let (found, words) = wishing("10.1.1.5").told(|facts| facts.reaches_endpoint_from = Some(address("10.2.2.5")));
    assert_eq!(found, warns(Check::NodeIp, Code::HostUnfit), "{words}");
    let (found, words) = Machine::of(worker()).told(|facts| facts.reaches_endpoint_from = None);
    assert_eq!(found, refuses(Check::NodeIp, Code::HostUnfit));
    assert!(words.contains("no route to the control plane api.example:6443"), "{words}");
    let facts = HostFacts { reaches_endpoint_from: Some(address("10.2.2.5")), ..sound() };
    assert_eq!(node_ip(&worker(), &facts), Some(address("10.2.2.5")));
    assert_eq!(node_ip(&wishing("10.1.1.5").spec, &facts), Some(address("10.1.1.5")));
    let alone = HostFacts { reaches_default_from: Some(address("10.3.3.5")), ..HostFacts::default() };
    assert_eq!(node_ip(&first(), &alone), Some(address("10.3.3.5")));
}

#[test]
fn names_that_nobody_knows_are_told() {
    let machine = Machine::of(worker());
    let (found, words) = machine.told(|facts| facts.endpoint_addresses = Some(Err("no such name".to_owned())));
    assert_eq!(found, refuses(Check::Dns, Code::HostUnfit));
    assert!(words.contains("api.example, does not resolve: no such name"), "{words}");
    assert_eq!(machine.told(|f| f.host_name = Some("other".to_owned())).0, warns(Check::HostName, Code::HostUnfit));
    assert_eq!(machine.told(|f| f.host_name_resolves = Some(false)).0, warns(Check::HostName, Code::HostUnfit));
    assert_eq!(machine.told(|f| f.localhost_resolves = Some(false)).0, refuses(Check::HostName, Code::HostUnfit));
}

#[test]
fn a_clock_is_forgiven_what_certificates_forgive() {
    let beside = |seconds: i64| {
        let apart = Duration::from_secs(seconds.unsigned_abs());
        let other = if seconds > 0 { now() - apart } else { now() + apart };
        Machine::of(worker()).told(|facts| facts.reference = Some((other, "http://10.1.1.1".to_owned())))
    };
    for (seconds, found) in [
        (30, vec![]),
        (-30, vec![]),
        (31, warns(Check::Clock, Code::ClockSkew)),
        (-300, warns(Check::Clock, Code::ClockSkew)),
        (301, refuses(Check::Clock, Code::ClockSkew)),
        (-301, refuses(Check::Clock, Code::ClockSkew)),
    ] {
        assert_eq!(beside(seconds).0, found, "{seconds}");
    }
    assert!(beside(301).1.contains("301 s ahead of that of http://10.1.1.1"));
    assert!(beside(-301).1.contains("301 s behind that"));
    let (found, _) = Machine::of(worker()).told(|facts| {
        facts.now = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400));
        facts.reference = None;
    });
    assert_eq!(found, refuses(Check::Clock, Code::ClockSkew));
}

#[test]
fn room_and_size_have_a_least() {
    let with = |spec: NodeSpec, path: &str, total: u64, free: u64| {
        let room = Room { total: total << 20, free: free << 20 };
        Machine::of(spec).told(|facts| _ = facts.room.insert(path.to_owned(), room)).0
    };
    assert_eq!(with(worker(), "/var/lib/kubelet", 8192, 511), refuses(Check::Disk, Code::NoSpace));
    assert_eq!(with(worker(), "/var/lib/kubelet", 8192, 700), warns(Check::Disk, Code::NoSpace));
    assert_eq!(with(worker(), "/var/lib/kubelet", 8192, 1000), []);
    assert_eq!(with(worker(), "/var/lib/etcd", 8192, 1), []);
    assert_eq!(with(first(), "/var/lib/etcd", 8192, 1023), refuses(Check::Disk, Code::NoSpace));
    assert_eq!(with(etcd(), "/var/lib/etcd", 8192, 1023), refuses(Check::Disk, Code::NoSpace));
    let small = |spec| Machine::of(spec).told(|facts| (facts.processors, facts.memory) = (Some(1), Some(1 << 30))).0;
    assert_eq!(small(first()).len(), 2);
    assert_eq!(small(worker()), []);
}

#[test]
fn programs_and_versions_are_looked_at() {
    let (found, words) = Machine::of(worker()).told(|f| f.missing_programs = Some(set(&["conntrack", "socat"])));
    let both = [(Check::Programs, Code::HostUnfit, Weight::Refuses), (Check::Programs, Code::HostUnfit, Weight::Warns)];
    assert_eq!(found, both, "{words}");
    for (wish, found) in [
        ("1.34.1", vec![]),
        ("v1.34.0", warns(Check::Version, Code::ConfigInvalid)),
        ("1.33.9", warns(Check::Version, Code::ConfigInvalid)),
        ("1.32.0", refuses(Check::Version, Code::ConfigInvalid)),
        ("1.35.0", refuses(Check::Version, Code::ConfigInvalid)),
    ] {
        let init = Init { kubernetes_version: Some(wish.to_owned()), ..init() };
        let spec = NodeSpec { membership: Some(Membership::FirstControlPlane(Box::new(init))), ..first() };
        assert_eq!(Machine::of(spec.clone()).told(|_| ()).0, found, "{wish}");
        assert_eq!(Machine { begun: true, ..Machine::of(spec) }.told(|_| ()).0, [], "{wish}: upgraded since, maybe");
    }
    let arguments = |version: &str, text: &str| {
        let given = ("/etc/default/kubelet".to_owned(), text.to_owned());
        Machine::version(version).told(|facts| facts.kubelet_arguments = Some(given)).0
    };
    let outdated = warns(Check::KubeletArguments, Code::HostUnfit);
    assert_eq!(arguments("v1.34.1", "--cgroup-driver=systemd"), outdated, "as the stock script leaves it");
    assert_eq!(arguments("v1.34.1", "--pod-infra-container-image=x --v=2"), []);
    assert_eq!(
        arguments("v1.35.0", "--pod-infra-container-image x"),
        refuses(Check::KubeletArguments, Code::HostUnfit)
    );
    assert_eq!(arguments("v1.34.1", "--container-runtime-endpoint=x"), []);
}

#[test]
fn what_is_left_out_is_told_and_refuses_nothing() {
    let mut facts = sound();
    facts.swaps = vec!["/dev/vda2".to_owned()];
    facts.cgroup = Some(Cgroup::V1);
    facts.missing_programs = Some(set(&["socat"]));
    let findings = Machine::version("v1.35.0").findings(&facts);
    let failure = judge(&findings, &[]).unwrap_err();
    assert_eq!(failure.code, Code::CgroupUnsupported);
    assert!(failure.what.contains("(check cgroup)") && failure.what.contains("(check swap)"), "{}", failure.what);
    assert_eq!(judge(&findings, &[Check::Cgroup]).unwrap_err().code, Code::HostUnfit);
    let told = judge(&findings, &[Check::Cgroup, Check::Swap]).unwrap();
    assert_eq!(told.len(), 3, "{told:?}");
    let names = |names: &[&str]| Check::named(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
    assert_eq!(names(&["swap", " node-ip "]).unwrap(), [Check::Swap, Check::NodeIp]);
    assert_eq!(names(&["all"]).unwrap(), Check::ALL);
    assert!(names(&["swop"]).unwrap_err().what.contains("swop"));
    assert_eq!(ignored_by_kubeadm(&[Check::Size, Check::Clock]), ["NumCPU", "Mem"]);
    let all = ignored_by_kubeadm(&Check::ALL);
    assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len(), "{all:?}");
    for check in Check::ALL {
        assert_eq!(names(&[check.name()]).unwrap(), [check]);
    }
}
