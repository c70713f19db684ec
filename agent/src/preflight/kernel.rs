//! Control groups, modules and settings of the running kernel.

use std::collections::BTreeSet;

use bootstrap::preflight::facts::Cgroup;
use bootstrap::preflight::{HostFacts, Subject, read};

use super::text;
use crate::host::Host;
use crate::host_settings;

pub(super) fn look(host: &Host, subject: &Subject<'_>, facts: &mut HostFacts) {
    match text(host, "/sys/fs/cgroup/cgroup.controllers") {
        Some(controllers) => {
            facts.cgroup = Some(Cgroup::V2);
            facts.controllers = controllers.split_whitespace().map(str::to_owned).collect();
        }
        None if host.path("/sys/fs/cgroup/memory").exists() || host.path("/sys/fs/cgroup/cpu").exists() => {
            facts.cgroup = Some(Cgroup::V1);
        }
        None => {}
    }
    facts.modules = modules(host);
    for found in host_settings::found(host, subject.sysctl) {
        if let Some(why) = found.unwritable {
            facts.unwritable.insert(found.key.clone(), why);
        }
        facts.sysctls.insert(found.key, found.value);
    }
}

/// The modules that are loaded or part of the kernel. One that is part of it and has no parameters shows only by what it
/// does, and by a list that not every machine has.
pub(crate) fn modules(host: &Host) -> Option<BTreeSet<String>> {
    let mut there: BTreeSet<String> = host.names("/sys/module").into_iter().collect();
    there.extend(text(host, "/proc/modules").as_deref().map(read::modules).unwrap_or_default());
    let release = text(host, "/proc/sys/kernel/osrelease").unwrap_or_default();
    let builtin = text(host, &format!("/lib/modules/{}/modules.builtin", release.trim()));
    there.extend(builtin.as_deref().map(read::modules).unwrap_or_default());
    let filesystems = text(host, "/proc/filesystems").unwrap_or_default();
    if filesystems.lines().any(|line| line.split_whitespace().last() == Some("overlay")) {
        there.insert("overlay".to_owned());
    }
    for (path, module) in [
        ("/proc/sys/net/bridge", "br_netfilter"),
        ("/proc/net/ip_vs", "ip_vs"),
        ("/proc/sys/net/netfilter/nf_conntrack_max", "nf_conntrack"),
    ] {
        if host.path(path).exists() {
            there.insert(module.to_owned());
        }
    }
    (!there.is_empty()).then_some(there)
}
