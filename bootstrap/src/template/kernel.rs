//! Modules, settings, swap.

use std::collections::{BTreeMap, BTreeSet};

use super::{Edit, Facts, Item};
use crate::preflight::read;
use crate::render::host::{MODULES, MODULES_OF_NODE, SYSCTL_PATH, settings, sysctl};

const MODULES_PATH: &str = "/etc/modules-load.d/cks.conf";
const FURTHER_PATH: &str = "/etc/modules-load.d/cks-proxy.conf";
const FURTHER_TEXT: &str = "# Written by cks-agent: the server's scripts load these on control plane nodes, for a kube-proxy in IPVS mode.\n\
    ip_vs\nip_vs_rr\nip_vs_wrr\nip_vs_sh\nnf_conntrack\n";
const FURTHER: [&str; 5] = ["ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "nf_conntrack"];
/// Without it no ISO is mounted.
const DISC: &str = "isofs";
const SYSCTL_CONF: &str = "/etc/sysctl.conf";
const SYSCTL_CONF_TEXT: &str =
    "# Written by cks-agent: the server's scripts edit this file, and fail where it is missing.\n";

/// Settings without which no pod reaches another.
const ESSENTIAL: [&str; 3] =
    ["net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"];

/// The modules that a node uses, its disc's among them.
pub fn used() -> impl Iterator<Item = &'static str> {
    MODULES_OF_NODE.into_iter().chain(FURTHER).chain([DISC])
}

pub(super) fn items(facts: &Facts) -> Vec<Item> {
    vec![
        kernels(facts),
        modules(facts),
        further_modules(facts),
        kernel_settings(facts),
        sysctl_conf(facts),
        fstab(facts),
        cgroups(facts),
    ]
}

/// Cloud kernels leave modules out.
fn kernels(facts: &Facts) -> Item {
    let name = "kernel-modules";
    if facts.kernels.is_empty() {
        return Item::not_applicable(name, "no kernel is installed here");
    }
    let lacking = facts.kernels.iter().find_map(|(release, there)| {
        let missing: Vec<&str> = used().filter(|module| !there.contains(*module)).collect();
        (!missing.is_empty()).then(|| format!("kernel {release} has no {}", missing.join(", ")))
    });
    let releases: Vec<&str> = facts.kernels.keys().map(String::as_str).collect();
    match lacking {
        Some(what) => {
            let remedy =
                "install the distribution's whole kernel (linux-image-amd64, linux-modules-extra, kernel-modules)";
            Item::failed(name, what, remedy)
        }
        None => Item::ok(name, format!("kernel {} has all modules", releases.join(", "))),
    }
}

/// The modules that are loaded at boot.
fn loaded(facts: &Facts) -> BTreeSet<String> {
    let directories = ["/etc/modules-load.d", "/usr/lib/modules-load.d"];
    let texts = directories.into_iter().flat_map(|directory| facts.files(directory, ".conf")).map(|(_, text)| text);
    let lines =
        texts.flat_map(str::lines).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    lines.map(|line| line.replace('-', "_")).collect()
}

fn modules(facts: &Facts) -> Item {
    at_boot(facts, "modules-load", &MODULES_OF_NODE, Edit::write(MODULES_PATH, MODULES))
}

fn further_modules(facts: &Facts) -> Item {
    at_boot(facts, "modules-load-proxy", &FURTHER, Edit::write(FURTHER_PATH, FURTHER_TEXT))
}

fn at_boot(facts: &Facts, name: &str, wanted: &[&str], edit: Edit) -> Item {
    let there = loaded(facts);
    let missing: Vec<&str> = wanted.iter().copied().filter(|module| !there.contains(*module)).collect();
    if missing.is_empty() {
        return Item::ok(name, format!("loaded at boot: {}", wanted.join(", ")));
    }
    Item::lacks(name, format!("not loaded at boot: {}", missing.join(", ")), vec![edit])
}

/// The values that are set at boot, with the file that has the last word: files by name, whatever their directory.
fn at_rest(facts: &Facts) -> BTreeMap<String, (String, String)> {
    let mut files: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for directory in ["/usr/lib/sysctl.d", "/run/sysctl.d", "/etc/sysctl.d"] {
        for (path, text) in facts.files(directory, ".conf") {
            files.insert(path.rsplit('/').next().unwrap_or(path), (path, text));
        }
    }
    let mut values = BTreeMap::new();
    for (path, text) in files.into_values() {
        for setting in settings(text) {
            let key = crate::render::host::Setting::key(&setting.path);
            values.insert(key, (setting.value, path.to_owned()));
        }
    }
    values
}

fn kernel_settings(facts: &Facts) -> Item {
    let name = "sysctl";
    let values = at_rest(facts);
    let wrong = ESSENTIAL.iter().find_map(|key| match values.get(*key) {
        Some((value, _)) if value == "1" => None,
        Some((value, path)) => Some((format!("{path} sets {key} to {}", crate::text::plain(value)), Some((key, path)))),
        None => Some((format!("nothing sets {key}"), None)),
    });
    let Some((what, whose)) = wrong else {
        return Item::ok(name, format!("set at boot: {}", ESSENTIAL.join(", ")));
    };
    let mut edits = Vec::new();
    let ours = sysctl(&BTreeMap::new());
    let has_ours = facts.text(SYSCTL_PATH).is_some_and(|text| text.starts_with(&ours));
    if !has_ours {
        edits.push(Edit::write(SYSCTL_PATH, ours));
    }
    if let Some((key, path)) = whose.filter(|(_, path)| path.as_str() != SYSCTL_PATH) {
        // A link of Debian's leads to the file that people edit.
        let written = if path.ends_with("/99-sysctl.conf") { SYSCTL_CONF } else { path };
        edits.push(Edit::write(written, without_setting(facts.text(path).unwrap_or_default(), key)));
    }
    Item::lacks(name, what, edits)
}

fn without_setting(text: &str, key: &str) -> String {
    let line = |line: &str| match settings(line).iter().any(|setting| setting.fits(key)) {
        true => format!("# left out by cks-agent: {line}\n"),
        false => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

fn sysctl_conf(facts: &Facts) -> Item {
    let name = "sysctl-conf";
    match facts.entry(SYSCTL_CONF) {
        Some(_) => Item::ok(name, SYSCTL_CONF),
        None => {
            let what = format!("there is no {SYSCTL_CONF}, which the server's scripts edit");
            Item::lacks(name, what, vec![Edit::write(SYSCTL_CONF, SYSCTL_CONF_TEXT)])
        }
    }
}

fn fstab(facts: &Facts) -> Item {
    let name = "fstab-swap";
    let text = facts.text("/etc/fstab").unwrap_or_default();
    let swaps = read::swaps_of_fstab(text);
    let Some((line, shown)) = swaps.first() else {
        return Item::ok(name, "/etc/fstab brings no swap");
    };
    let what = format!(
        "line {line} of /etc/fstab brings swap, and the kubelet refuses to start with it: {}",
        crate::text::plain(shown)
    );
    let left = |(at, line): (usize, &str)| match swaps.iter().any(|(number, _)| *number == at + 1) {
        true => format!("# left out by cks-agent: {line}\n"),
        false => format!("{line}\n"),
    };
    Item::lacks(name, what, vec![Edit::write("/etc/fstab", text.lines().enumerate().map(left).collect::<String>())])
}

fn cgroups(facts: &Facts) -> Item {
    let name = "cgroup-settings";
    let wrong = ["systemd.unified_cgroup_hierarchy=0", "systemd.unified_cgroup_hierarchy=no", "cgroup_disable=memory"];
    let lines =
        facts.text("/etc/default/grub").unwrap_or_default().lines().filter(|line| !line.trim_start().starts_with('#'));
    match lines.flat_map(str::split_whitespace).find_map(|word| wrong.into_iter().find(|wrong| word.contains(wrong))) {
        Some(found) => Item::failed(
            name,
            format!("/etc/default/grub boots with {found}"),
            "take it out, and run update-grub (grub2-mkconfig)",
        ),
        None => Item::ok(name, "nothing boots with cgroup v1"),
    }
}
