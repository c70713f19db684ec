//! Makes the running kernel what its files say that it will be after the next boot: modules, settings, swap.

use std::fs;
use std::io;
use std::path::PathBuf;

use bootstrap::failure::Code;
use bootstrap::preflight::{is_of_pods, read};
use bootstrap::render::host::{MODULES_OF_CONTROL_PLANE, MODULES_OF_NODE, Setting, settings};
use nix::unistd::{AccessFlags, access};

use crate::host::Host;
use crate::preflight::modules;
use crate::tool::Tool;

/// A setting of the kernel as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// As `sysctl` names it.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Why it can't be written; none where it can.
    pub unwritable: Option<String>,
    path: PathBuf,
}

/// The settings that the text of a file in `/etc/sysctl.d` names, patterns spelled out, in as far as the kernel has them.
#[must_use]
pub fn found(host: &Host, text: &str) -> Vec<Found> {
    let mut all: Vec<Found> = Vec::new();
    for parts in settings(text).into_iter().flat_map(|setting| spelled_out(host, &setting.path)) {
        let key = Setting::key(&parts);
        let path = host.path(&format!("/proc/sys/{}", parts.join("/")));
        let Ok(value) = fs::read_to_string(&path) else { continue };
        if !all.iter().any(|found| found.key == key) {
            let unwritable = access(&path, AccessFlags::W_OK).err().map(|e| e.desc().to_lowercase());
            all.push(Found { key, value: value.trim().to_owned(), unwritable, path });
        }
    }
    all
}

/// The paths that a path with patterns stands for; interfaces of containers are theirs.
fn spelled_out(host: &Host, path: &[String]) -> Vec<Vec<String>> {
    let mut all: Vec<Vec<String>> = vec![Vec::new()];
    for part in path {
        let mut next = Vec::new();
        for begun in all {
            let names = if part == "*" {
                let mut names = host.names(&format!("/proc/sys/{}", begun.join("/")));
                names.retain(|name| !is_of_pods(name));
                names.sort();
                names
            } else {
                vec![part.clone()]
            };
            next.extend(names.into_iter().map(|name| begun.iter().cloned().chain([name]).collect::<Vec<_>>()));
        }
        all = next;
    }
    all
}

/// Loads modules that are not there, writes settings that differ, turns swap off; what is so already is left alone. What
/// could not be done is told in words: whether it matters is for the preflight to say.
pub async fn prepare(host: &Host, sysctl: &str, control_plane: bool) -> Vec<String> {
    let mut undone = Vec::new();
    let there = modules(host).unwrap_or_default();
    let further = if control_plane { &MODULES_OF_CONTROL_PLANE[..] } else { &[] };
    for module in MODULES_OF_NODE.iter().chain(further).filter(|module| !there.contains(**module)) {
        if let Err(failure) = Tool::Modprobe.call(host).arg(module).ok(Code::HostUnfit).await {
            undone.push(failure.what);
        }
    }
    for (found, wanted) in differing(host, sysctl) {
        match write(&found.path, &wanted) {
            Ok(()) => tracing::info!(key = found.key, from = found.value, to = wanted, "kernel setting changed"),
            Err(error) => undone.push(format!("{} stays {}: {error}", found.key, found.value)),
        }
    }
    let swaps = fs::read_to_string(host.path("/proc/swaps")).map(|text| read::swaps(&text)).unwrap_or_default();
    if !swaps.is_empty() {
        match Tool::Swapoff.call(host).arg("-a").patience(SWAPOFF_PATIENCE).ok(Code::HostUnfit).await {
            Ok(_) => tracing::info!(swaps = swaps.join(" "), "swap is off"),
            Err(failure) => undone.push(failure.what),
        }
    }
    undone
}

/// What is swapped out has to come back into memory.
const SWAPOFF_PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// Settings whose value is another one than the text says; its last line that fits counts.
fn differing(host: &Host, sysctl: &str) -> Vec<(Found, String)> {
    let lines = settings(sysctl);
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let wanted = |found: &Found| lines.iter().rfind(|line| line.fits(&found.key)).map(|line| line.value.clone());
    let all = found(host, sysctl).into_iter().filter_map(|found| Some((wanted(&found)?, found)));
    all.filter(|(wanted, found)| words(wanted) != words(&found.value)).map(|(wanted, found)| (found, wanted)).collect()
}

/// In one go and into what is there: the kernel makes no files of its settings.
fn write(path: &PathBuf, value: &str) -> io::Result<()> {
    use std::io::Write as _;
    fs::OpenOptions::new().write(true).truncate(true).open(path)?.write_all(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn settings_become_what_the_text_says_and_stay_so() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        for (path, value) in [
            ("net/ipv4/ip_forward", "0\n"),
            ("net/ipv4/conf/all/arp_ignore", "1\n"),
            ("net/ipv4/conf/enp1s0/arp_ignore", "1\n"),
            ("net/ipv4/conf/eth0.100/arp_ignore", "1\n"),
            ("net/ipv4/conf/cali123/arp_ignore", "1\n"),
            ("net/ipv4/ip_local_port_range", "1024\t65000\n"),
        ] {
            fs::write(host.prepare(&format!("/proc/sys/{path}")).unwrap(), value).unwrap();
        }
        for module in MODULES_OF_NODE {
            host.prepare(&format!("/sys/module/{module}/x")).unwrap();
        }
        let text = "net.ipv4.ip_forward = 1\n-net.ipv4.conf.*.arp_ignore = 0\nnet.ipv4.conf.all.arp_ignore = 2\n\
            net.ipv4.ip_local_port_range = 1024 65000\nkernel.absent = 1\n";
        let keys: Vec<String> = differing(&host, text).into_iter().map(|(found, _)| found.key).collect();
        let expected = ["ip_forward", "conf.all.arp_ignore", "conf.enp1s0.arp_ignore", "conf.eth0/100.arp_ignore"];
        assert_eq!(keys, expected.map(|key| format!("net.ipv4.{key}")));
        assert_eq!(prepare(&host, text, false).await, [""; 0]);
        assert_eq!(differing(&host, text), []);
        let read = |path: &str| fs::read_to_string(host.path(&format!("/proc/sys/net/ipv4/conf/{path}"))).unwrap();
        assert_eq!((read("all/arp_ignore"), read("eth0.100/arp_ignore")), ("2".to_owned(), "0".to_owned()));
        assert_eq!(read("cali123/arp_ignore"), "1\n", "a pod's interface is not ours");
    }

    #[tokio::test]
    async fn what_can_not_be_done_is_told() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        fs::write(host.prepare("/proc/swaps").unwrap(), "Filename\n/dev/vda2 partition 1 0 -2\n").unwrap();
        let undone = prepare(&host, "", true).await;
        assert_eq!(undone.len(), 7, "six modules and swap: {undone:?}");
        assert!(undone.iter().all(|told| told.contains("is not installed")), "{undone:?}");
    }
}
