//! Packages: those that the management server asks for by name, and those that bring what its scripts and Kubernetes start.

use std::collections::BTreeSet;

use super::{Edit, Facts, Family, Item};

/// What `validate-cks-node` asks dpkg for, in its order.
pub const SERVER_PACKAGES: [&str; 13] = [
    "cloud-init",
    "cloud-guest-utils",
    "conntrack",
    "apt-transport-https",
    "ca-certificates",
    "curl",
    "gnupg",
    "gnupg-agent",
    "software-properties-common",
    "lsb-release",
    "python3-json-pointer",
    "python3-jsonschema",
    "containerd.io",
];

/// A program that something on a node starts.
pub(super) struct Program {
    /// Its name.
    pub(super) name: &'static str,
    debian: &'static str,
    red_hat: &'static str,
    /// Who starts it.
    why: &'static str,
}

const fn program(name: &'static str, debian: &'static str, red_hat: &'static str, why: &'static str) -> Program {
    Program { name, debian, red_hat, why }
}

/// Programs without which a node does not work, or the management server can't work with it.
pub(super) const PROGRAMS: &[Program] = &[
    program("containerd", "containerd", "containerd.io", "the container runtime"),
    program("ctr", "containerd", "containerd.io", "the server's scripts import images by it"),
    program("runc", "runc", "containerd.io", "containerd starts containers by it"),
    program("init", "systemd-sysv", "systemd", "a node's services are units of systemd"),
    program("systemctl", "systemd", "systemd", "the server's scripts start services by it"),
    program("sshd", "openssh-server", "openssh-server", "the management server logs in"),
    program("scp", "openssh-client", "openssh-clients", "the management server copies its scripts by it"),
    program("sudo", "sudo", "sudo", "the management server's commands begin with it"),
    program(
        "qemu-ga",
        "qemu-guest-agent",
        "qemu-guest-agent",
        "without it an instance stays in Starting for up to 50 minutes",
    ),
    program("chronyd", "chrony", "chrony", "certificates want the right time"),
    program("wget", "wget", "wget", "the server's scripts fetch the ISO from the virtual router by it"),
    program("eject", "eject", "eject", "the server's scripts eject the disc by it"),
    program("conntrack", "conntrack", "conntrack-tools", "kubeadm and kube-proxy"),
    program("iptables", "iptables", "iptables-nft", "kubelet, kube-proxy and network plugins"),
    program("ipset", "ipset", "ipset", "network plugins"),
    program("nft", "nftables", "nftables", "kube-proxy and network plugins"),
    program("ip", "iproute2", "iproute", "kubeadm and network plugins"),
    program("tc", "iproute2", "iproute-tc", "traffic shaping of pods"),
    program("ethtool", "ethtool", "ethtool", "kubeadm looks for it"),
    program("socat", "socat", "socat", "kubectl port-forward"),
    program("modprobe", "kmod", "kmod", "modules are loaded by it"),
    program("sysctl", "procps", "procps-ng", "the server's scripts"),
    program("mount", "mount", "util-linux", "kubelet"),
    program("losetup", "mount", "util-linux", "kubeadm looks for it"),
    program("blkid", "util-linux", "util-linux", "the server's scripts find the ISO by it"),
    program("nsenter", "util-linux", "util-linux-core", "kubeadm looks for it"),
    program("mkfs.ext4", "e2fsprogs", "e2fsprogs", "volumes"),
    program("mkfs.xfs", "xfsprogs", "xfsprogs", "volumes"),
    program("tar", "tar", "tar", "the server's scripts"),
    program("gzip", "gzip", "gzip", "the server's scripts"),
];

/// Programs that a node may want, and works without.
pub(super) const RECOMMENDED: &[Program] =
    &[program("cryptsetup", "cryptsetup-bin", "cryptsetup", "encrypted volumes")];

pub(super) fn items(facts: &Facts) -> Vec<Item> {
    let mut items = Vec::new();
    match facts.distribution.family() {
        Some(Family::Debian) => items.extend(SERVER_PACKAGES.iter().map(|package| of_server(facts, package))),
        Some(Family::RedHat) => items.push(on_red_hat(facts)),
        None => {}
    }
    items.extend(PROGRAMS.iter().map(|program| of_program(facts, program)));
    items.extend(RECOMMENDED.iter().map(|program| of_program(facts, program).warning()));
    items.push(curl(facts));
    items.push(jinja(facts));
    items
}

fn of_server(facts: &Facts, package: &str) -> Item {
    let name = format!("package-{}", package.replace('.', "-"));
    match facts.packages.get(package) {
        Some(version) => Item::ok(&name, format!("{package} {version} is installed")),
        None => {
            let what = format!("{package} is not installed, and the management server refuses to add such a node");
            Item::lacks(&name, what, vec![Edit::install(package)])
        }
    }
}

/// The server asks rpm for Debian's names.
fn on_red_hat(facts: &Facts) -> Item {
    let name = "server-packages";
    let lacks: Vec<&str> =
        SERVER_PACKAGES.into_iter().filter(|package| !facts.packages.contains_key(*package)).collect();
    if lacks.is_empty() {
        return Item::ok(name, "rpm knows all names that the management server asks for");
    }
    let what =
        format!("the management server asks rpm for Debian's names, and it has none called {}", lacks.join(", "));
    let remedy = "such a machine can be a node of a cluster that is created with this template, but can't be added to one; \
        packages of these names that hold nothing would satisfy the server";
    Item::failed(name, what, remedy).warning()
}

fn of_program(facts: &Facts, program: &Program) -> Item {
    let name = format!("program-{}", program.name.replace('.', "-"));
    if let Some(path) = facts.programs.get(program.name) {
        return Item::ok(&name, path);
    }
    let package = match facts.distribution.family() {
        // Docker's package has runc in it, and does not bear the distribution's beside it.
        Some(Family::Debian) if matches!(program.debian, "containerd" | "runc") && has_dockers(facts) => {
            "containerd.io"
        }
        Some(Family::Debian) => program.debian,
        Some(Family::RedHat) => program.red_hat,
        None => return Item::failed(&name, missing(program), format!("install {}", program.name)),
    };
    let again = facts.packages.contains_key(package);
    Item::lacks(&name, missing(program), vec![Edit::Install { package: package.to_owned(), again }])
}

/// Whether containerd is Docker's, and not only called so.
fn has_dockers(facts: &Facts) -> bool {
    facts.packages.get("containerd.io").is_some_and(|version| version != METAPACKAGE_VERSION)
}

fn missing(program: &Program) -> String {
    format!("there is no program {} ({})", program.name, program.why)
}

/// Units of the server's call it by this path.
fn curl(facts: &Facts) -> Item {
    let (name, path) = ("program-curl", "/usr/bin/curl");
    if facts.entry(path).is_some() {
        return Item::ok(name, path);
    }
    let again = facts.packages.contains_key("curl");
    let what = format!("there is no {path}, by which the server's units wait for the control plane");
    Item::lacks(name, what, vec![Edit::Install { package: "curl".to_owned(), again }])
}

fn jinja(facts: &Facts) -> Item {
    let (name, package) = ("package-python3-jinja2", "python3-jinja2");
    match facts.packages.get(package) {
        Some(version) => Item::ok(name, format!("{package} {version} is installed")),
        None => {
            let what = format!("{package} is not installed, and cloud-init reads a control plane's user data by it");
            Item::lacks(name, what, vec![Edit::install(package)])
        }
    }
}

/// Older than any real package's, so that a real one takes its place.
const METAPACKAGE_VERSION: &str = "0~cks1";

/// A package that holds nothing, and is there for its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metapackage {
    /// The name.
    pub name: String,
    /// The package that does the work.
    pub depends: Option<&'static str>,
}

/// What takes the place of a package that no repository of this machine has; none where only the package itself will do.
#[must_use]
pub fn metapackage(name: &str) -> Option<Metapackage> {
    let depends = match name {
        "containerd.io" => Some("containerd"),
        "gnupg-agent" => Some("gpg-agent"),
        "apt-transport-https" => Some("apt"),
        // Debian 13 has no such package, and nothing of a node's uses what Debian 12 has in it.
        "software-properties-common" => None,
        _ => return None,
    };
    Some(Metapackage { name: name.to_owned(), depends })
}

impl Metapackage {
    /// Its control file.
    #[must_use]
    pub fn control(&self) -> String {
        let depends = self.depends.map(|package| format!("Depends: {package}\n")).unwrap_or_default();
        format!(
            "Package: {}\nVersion: {METAPACKAGE_VERSION}\nArchitecture: all\nMaintainer: cks-node <root@localhost>\nSection: metapackages\n\
            Priority: optional\n{depends}Description: name that CloudStack's management server asks for\n \
            This package holds nothing. The server's check of a node wants a package of this\n \
            name, and no repository of this machine had one when cks-agent prepare ran.\n",
            self.name
        )
    }
}

/// The packages that `apt-cache policy` has a candidate for.
#[must_use]
pub fn candidates(policy: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut name = "";
    for line in policy.lines() {
        match line.trim().strip_prefix("Candidate:").map(str::trim) {
            Some("(none)") => {}
            Some(_) => _ = found.insert(name.to_owned()),
            None if !line.starts_with(' ') => name = line.trim_end_matches(':'),
            None => {}
        }
    }
    found
}
