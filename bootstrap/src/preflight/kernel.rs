//! Control groups, modules, settings, swap.

use super::facts::Cgroup;
use super::{Check, Finding, HostFacts, Subject};
use crate::failure::Code;
use crate::render::host::{MODULES_OF_CONTROL_PLANE, MODULES_OF_NODE, settings};

/// The first minor whose kubelet refuses cgroup v1.
const ONLY_V2: u64 = 35;

/// Controllers that the kubelet does not start without.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

pub(super) fn cgroup(subject: &Subject<'_>, facts: &HostFacts) -> Vec<Finding> {
    let check = Check::Cgroup;
    if !subject.is_kubernetes() {
        return Vec::new();
    }
    match facts.cgroup {
        None => Vec::new(),
        Some(Cgroup::V1) => {
            let remedy = "boot with systemd.unified_cgroup_hierarchy=1";
            match subject.version {
                Some(version) if version.minor() >= ONLY_V2 => {
                    let what = format!("this machine has cgroup v1, which Kubernetes {} refuses", version.release());
                    let remedy = format!("{remedy}, or use Kubernetes 1.{} or older", ONLY_V2 - 1);
                    vec![Finding::new(check, Code::CgroupUnsupported, what, remedy)]
                }
                _ => {
                    let what = format!("this machine has cgroup v1, which Kubernetes 1.{ONLY_V2} will refuse");
                    vec![Finding::new(check, Code::CgroupUnsupported, what, remedy).warning()]
                }
            }
        }
        Some(Cgroup::V2) => {
            let missing = CONTROLLERS.into_iter().filter(|name| !facts.controllers.contains(*name));
            let missing: Vec<&str> = missing.collect();
            if missing.is_empty() || facts.controllers.is_empty() {
                return Vec::new();
            }
            let what = format!("cgroup v2 lacks the controllers {}", missing.join(", "));
            vec![Finding::new(check, Code::HostUnfit, what, "boot without cgroup_disable= and cgroup_no_v1=")]
        }
    }
}

pub(super) fn modules(subject: &Subject<'_>, facts: &HostFacts) -> Vec<Finding> {
    let Some(there) = facts.modules.as_ref().filter(|_| subject.is_kubernetes()) else { return Vec::new() };
    let lacks = |names: &[&'static str]| -> Vec<&'static str> {
        names.iter().copied().filter(|name| !there.contains(*name)).collect()
    };
    let finding = |missing: &[&str], why: &str| {
        let what = format!("the kernel lacks {}{why}", missing.join(", "));
        let remedy = format!("modprobe -a {}; and install the distribution's whole kernel", missing.join(" "));
        Finding::new(Check::Modules, Code::HostUnfit, what, remedy)
    };
    let mut all = Vec::new();
    match &lacks(&MODULES_OF_NODE)[..] {
        [] => {}
        missing => all.push(finding(missing, "")),
    }
    if subject.is_control_plane() {
        match &lacks(&MODULES_OF_CONTROL_PLANE)[..] {
            [] => {}
            missing => all.push(finding(missing, ", which a kube-proxy in IPVS mode needs").warning()),
        }
    }
    all
}

pub(super) fn sysctl(subject: &Subject<'_>, facts: &HostFacts) -> Vec<Finding> {
    if !subject.is_kubernetes() {
        return Vec::new();
    }
    let mut all = Vec::new();
    let words = |value: &str| value.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    for (key, value) in &facts.sysctls {
        // The last line that fits a key is the one that counts, as for systemd-sysctl and sysctl.
        let wanted = settings(subject.sysctl).into_iter().rfind(|setting| setting.fits(key));
        let Some(wanted) = wanted.filter(|wanted| words(&wanted.value) != words(value)) else { continue };
        let why = facts.unwritable.get(key).map(|why| format!(", and can't be written: {why}")).unwrap_or_default();
        let what = format!("{key} is {}, not {}{why}", crate::text::plain(value), wanted.value);
        let remedy = format!("sysctl -w {key}={}; find out who set it: grep -r {key} /etc/sysctl*", wanted.value);
        let finding = Finding::new(Check::Sysctl, Code::HostUnfit, what, remedy);
        // A pod network may live without those; without forwarding and bridged traffic none does.
        all.push(if is_essential(key) { finding } else { finding.warning() });
    }
    all
}

fn is_essential(key: &str) -> bool {
    key == "net.ipv4.ip_forward" || key.starts_with("net.bridge.")
}

pub(super) fn swap(subject: &Subject<'_>, facts: &HostFacts) -> Vec<Finding> {
    if !subject.is_kubernetes() {
        return Vec::new();
    }
    let mut all = Vec::new();
    if !facts.swaps.is_empty() {
        let what = format!("swap is on ({}), and the kubelet refuses to start with it", facts.swaps.join(", "));
        all.push(Finding::new(Check::Swap, Code::HostUnfit, what, "swapoff -a"));
    }
    for (line, text) in &facts.swaps_of_fstab {
        let what =
            format!("swap comes back at the next boot: line {line} of /etc/fstab, {:?}", crate::text::plain(text));
        let remedy = "take that line out of the template's /etc/fstab, or systemctl mask swap.target";
        all.push(Finding::new(Check::Swap, Code::HostUnfit, what, remedy).warning());
    }
    all
}
