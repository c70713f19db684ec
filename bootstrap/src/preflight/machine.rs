//! Clock, disk, size, name, programs, versions.

use std::time::{Duration, SystemTime};

use super::{Check, Finding, HostFacts, Subject};
use crate::failure::Code;
use crate::node_spec::Membership;
use crate::version::Version;

/// What a certificate that was just made forgives; kubeadm dates its own back by no more.
const SKEW: Duration = Duration::from_secs(300);
/// What a machine with a time service never has.
const UNSOUND: Duration = Duration::from_secs(30);
/// No clock that goes is before it: 1 January 2025.
const PAST: Duration = Duration::from_secs(1_735_689_600);

/// Minors that one kubeadm deploys: its own, and the one before.
const SKEW_OF_KUBEADM: u64 = 1;

/// What a control plane does not run without, as kubeadm has it.
const PROCESSORS: usize = 2;
const MEMORY: u64 = 1700 << 20;

/// Below it the kubelet evicts pods (`nodefs.available`, 10 %), whatever the size of the disk.
const EVICTION_PERCENT: u64 = 10;
/// What the kubelet's and etcd's directories need at the least.
const KUBELET_ROOM: u64 = 512 << 20;
const ETCD_ROOM: u64 = 1 << 30;

/// Programs that the kubelet and kubeadm start, or kube-proxy needs; without them there is no node.
const NEEDED: [&str; 6] = ["conntrack", "iptables", "ip", "mount", "losetup", "nsenter"];
/// Programs that parts of it start: `kubectl port-forward`, some CNI plugins, traffic shaping.
const USEFUL: [&str; 3] = ["socat", "ethtool", "tc"];

/// The programs that are looked for.
pub fn programs_looked_for() -> impl Iterator<Item = &'static str> {
    NEEDED.into_iter().chain(USEFUL)
}

/// Arguments that kubelets no longer know, with the first minor that does not.
const REMOVED: [(&str, u64); 6] = [
    ("--container-runtime", 27),
    ("--network-plugin", 24),
    ("--cni-bin-dir", 24),
    ("--cni-conf-dir", 24),
    ("--image-pull-progress-deadline", 24),
    ("--pod-infra-container-image", 35),
];
/// Arguments that kubeadm's configuration says instead, and better.
const OUTDATED: [&str; 2] = ["--cgroup-driver", "--fail-swap-on"];

pub(super) fn clock(facts: &HostFacts) -> Vec<Finding> {
    let Some(now) = facts.now else { return Vec::new() };
    let finding = |what: String| {
        let remedy = "set the clock (chronyc makestep), and start a time service";
        Finding::new(Check::Clock, Code::ClockSkew, what, remedy)
    };
    if now < SystemTime::UNIX_EPOCH + PAST {
        return vec![finding("this machine's clock stands before the year 2025".to_owned())];
    }
    let Some((other, whose)) = &facts.reference else { return Vec::new() };
    let (skew, side) = match now.duration_since(*other) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(error) => (error.duration(), "behind"),
    };
    let what = format!("this machine's clock is {} s {side} that of {whose}", skew.as_secs());
    match skew {
        skew if skew > SKEW => vec![finding(what)],
        skew if skew > UNSOUND => vec![finding(what).warning()],
        _ => Vec::new(),
    }
}

pub(super) fn disk(subject: &Subject<'_>, facts: &HostFacts) -> Vec<Finding> {
    let mut all = Vec::new();
    let mut wanted = Vec::new();
    if subject.is_kubernetes() {
        wanted.push(("/var/lib/kubelet", KUBELET_ROOM));
    }
    if subject.has_etcd() {
        wanted.push(("/var/lib/etcd", ETCD_ROOM));
    }
    for (path, needed) in wanted {
        let Some(room) = facts.room.get(path) else { continue };
        let shown = |bytes: u64| format!("{} MiB", bytes >> 20);
        let finding = |what: String| {
            Finding::new(Check::Disk, Code::NoSpace, what, "free space, or grow the root disk of the service offering")
        };
        if room.free < needed {
            let what = format!("{path} has {} free and needs {}", shown(room.free), shown(needed));
            all.push(finding(what));
        } else if room.free < room.total / 100 * EVICTION_PERCENT {
            let (free, total) = (shown(room.free), shown(room.total));
            let what = format!("{path} has {free} of {total} free: the kubelet evicts pods below {EVICTION_PERCENT} %");
            all.push(finding(what).warning());
        }
    }
    all
}

pub(super) fn size(subject: &Subject<'_>, facts: &HostFacts) -> Vec<Finding> {
    let mut all = Vec::new();
    if !subject.is_control_plane() {
        return all;
    }
    let remedy = "choose a larger service offering for control plane nodes";
    if let Some(count) = facts.processors.filter(|count| *count < PROCESSORS) {
        let what = format!("this machine has {count} processor, and a control plane needs {PROCESSORS}");
        all.push(Finding::new(Check::Size, Code::HostUnfit, what, remedy));
    }
    if let Some(memory) = facts.memory.filter(|memory| *memory < MEMORY) {
        let (has, needs) = (memory >> 20, MEMORY >> 20);
        let what = format!("this machine has {has} MiB of memory, and a control plane needs {needs}");
        all.push(Finding::new(Check::Size, Code::HostUnfit, what, remedy));
    }
    all
}

pub(super) fn host_name(subject: &Subject<'_>, facts: &HostFacts) -> Vec<Finding> {
    let check = Check::HostName;
    let mut all = Vec::new();
    let name = &subject.spec.node_name;
    if let Some(own) = facts.host_name.as_ref().filter(|own| !own.eq_ignore_ascii_case(name)) {
        let what = format!("the node's name is {name}, and this machine calls itself {}", crate::text::plain(own));
        let remedy = format!("hostnamectl set-hostname {name}");
        all.push(Finding::new(check, Code::HostUnfit, what, remedy).warning());
    }
    if facts.host_name_resolves == Some(false) {
        let what = format!("this machine does not know its own name, {name}");
        let remedy = format!("write it into /etc/hosts: 127.0.1.1 {name}");
        all.push(Finding::new(check, Code::HostUnfit, what, remedy).warning());
    }
    if facts.localhost_resolves == Some(false) {
        let what = "localhost does not resolve to a loopback address, and health checks ask it";
        all.push(Finding::new(check, Code::HostUnfit, what, "write it into /etc/hosts: 127.0.0.1 localhost"));
    }
    all
}

pub(super) fn programs(subject: &Subject<'_>, facts: &HostFacts) -> Vec<Finding> {
    let Some(missing) = facts.missing_programs.as_ref().filter(|_| subject.is_kubernetes()) else { return Vec::new() };
    let of = |names: &[&'static str]| -> Vec<&'static str> {
        names.iter().copied().filter(|name| missing.contains(*name)).collect()
    };
    let finding = |names: &[&str]| {
        let what = format!("this machine lacks the programs {}", names.join(", "));
        Finding::new(Check::Programs, Code::HostUnfit, what, "install their packages into the template")
    };
    let needed = Some(of(&NEEDED)).filter(|names| !names.is_empty()).map(|names| finding(&names));
    let useful = Some(of(&USEFUL)).filter(|names| !names.is_empty()).map(|names| finding(&names).warning());
    needed.into_iter().chain(useful).collect()
}

pub(super) fn version(subject: &Subject<'_>) -> Vec<Finding> {
    // A cluster that has begun may have been upgraded since its user data was written.
    if subject.begun {
        return Vec::new();
    }
    let wish = match &subject.spec.membership {
        Some(Membership::FirstControlPlane(init)) => init.kubernetes_version.as_deref(),
        _ => None,
    };
    let (Some(wish), Some(bundle)) = (wish.and_then(Version::parse), subject.version) else { return Vec::new() };
    if wish.release() == bundle.release() {
        return Vec::new();
    }
    let what = format!("Kubernetes {} is asked for, and the bundle brings {}", wish.release(), bundle.release());
    let remedy = "attach the ISO of that version, or register the version that the ISO has";
    let finding = Finding::new(Check::Version, Code::ConfigInvalid, what, remedy);
    let deploys = bundle.minor().saturating_sub(SKEW_OF_KUBEADM)..=bundle.minor();
    // The images of another patch release are not on the ISO; a registry may have them.
    vec![if deploys.contains(&wish.minor()) { finding.warning() } else { finding }]
}

pub(super) fn kubelet_arguments(subject: &Subject<'_>, facts: &HostFacts) -> Vec<Finding> {
    let (Some((path, text)), Some(version)) = (&facts.kubelet_arguments, subject.version) else { return Vec::new() };
    let named = |argument: &str| {
        text.split_whitespace().any(|word| word.trim_matches(['"', '\'']).split('=').next() == Some(argument))
    };
    let removed =
        REMOVED.iter().filter(|(name, since)| version.minor() >= *since && named(name)).map(|(name, _)| *name);
    let (removed, outdated): (Vec<&str>, Vec<&str>) =
        (removed.collect(), OUTDATED.into_iter().filter(|name| named(name)).collect());
    let finding = |names: &[&str], why: &str| {
        let what = format!("{path} gives the kubelet {}, {why}", names.join(" "));
        Finding::new(
            Check::KubeletArguments,
            Code::HostUnfit,
            what,
            format!("take it out of KUBELET_EXTRA_ARGS in {path}"),
        )
    };
    let release = version.release();
    let removed = Some(removed).filter(|names| !names.is_empty());
    let removed = removed.map(|names| finding(&names, &format!("which that of {release} does not know")));
    let outdated = Some(outdated).filter(|names| !names.is_empty());
    let outdated = outdated.map(|names| finding(&names, "which its configuration says already").warning());
    removed.into_iter().chain(outdated).collect()
}
