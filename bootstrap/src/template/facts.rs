//! What is known of a machine, or of an image's tree.

use std::collections::{BTreeMap, BTreeSet};

use super::account::{self, KEPT_KEYS};
use super::{Distribution, packages, runtime, services};
use crate::preflight::Finding;

/// What an entry of a directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, and where it leads.
    Link(String),
    /// A device, a socket.
    Other,
}

/// A file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// User and group, by number.
    pub owner: (u32, u32),
    /// A file's text, also that of the file where a link leads; none where it is large or none.
    pub text: Option<String>,
}

/// The units that are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Units {
    /// There is such a unit.
    pub present: BTreeSet<String>,
    /// Something wants it at boot.
    pub wanted: BTreeSet<String>,
    /// It can't be started, as somebody wished.
    pub masked: BTreeSet<String>,
}

/// What a machine that runs says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Live {
    /// What keeps it from becoming a node, by the checks of [`super::NODE_CHECKS`].
    pub findings: Vec<Finding>,
    /// Bytes of the root filesystem, all and free.
    pub disk: Option<(u64, u64)>,
    /// Devices and files that memory is swapped to.
    pub swaps: Vec<String>,
    /// What containerd says when it is asked for images: nothing where it answers, else why not.
    pub containerd: Option<String>,
    /// What the login user's `sudo -n true` prints and how it ends: nothing where it is silent and succeeds.
    pub sudo: Option<String>,
    /// Modules that are neither loaded nor can be.
    pub missing_modules: Vec<String>,
    /// The value of `net.ipv4.ip_forward`.
    pub forwards: Option<String>,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The distribution.
    pub distribution: Distribution,
    /// Installed packages and their versions.
    pub packages: BTreeMap<String, String>,
    /// What lies at the paths of [`FILES`], and in [`DIRECTORIES`].
    pub entries: BTreeMap<String, Entry>,
    /// Programs by name, and where they are.
    pub programs: BTreeMap<String, String>,
    /// Modules of each kernel that is installed, loadable or built in, by its release.
    pub kernels: BTreeMap<String, BTreeSet<String>>,
    /// Units.
    pub units: Units,
    /// A machine that runs; none for an image's tree, or where no systemd runs.
    pub live: Option<Live>,
    /// Signs that it is a node of a cluster.
    pub membership: Vec<String>,
}

/// Paths that are looked at; of files the text.
pub const FILES: &[&str] = &[
    "/etc/cks-agent",
    "/etc/cks-agent/keys",
    KEPT_KEYS,
    "/etc/cloud/cloud-init.disabled",
    "/etc/cloud/cloud.cfg",
    "/etc/cloud/ds-identify.cfg",
    "/etc/containerd",
    "/etc/default/grub",
    "/etc/fstab",
    "/etc/group",
    "/etc/hosts",
    "/etc/modules",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/ssh/ssh_host_ecdsa_key",
    "/etc/ssh/ssh_host_rsa_key",
    "/etc/ssh/sshd_config",
    "/etc/sudoers",
    "/etc/sysconfig/qemu-ga",
    "/etc/sysctl.conf",
    "/etc/ufw/ufw.conf",
    account::HOME,
    account::SSH,
    account::AUTHORIZED_KEYS,
    account::SUCCESS,
    runtime::CONFIG,
    runtime::MAIN,
    runtime::DROP_IN,
    runtime::SERVICE_DROP_IN,
    "/lib/systemd/system/containerd.service",
    "/usr/lib/systemd/system/containerd.service",
    "/usr/local/lib/systemd/system/containerd.service",
    "/etc/systemd/system/containerd.service",
    services::HOST_KEYS_UNIT,
    "/opt/bin",
    "/usr/bin/cks-agent",
    "/usr/bin/curl",
    "/var/cache/cloud",
];

/// Directories whose files are looked at, with their texts.
pub const DIRECTORIES: &[&str] = &[
    "/etc/cloud/cloud.cfg.d",
    "/etc/modules-load.d",
    "/etc/ssh/sshd_config.d",
    "/etc/sudoers.d",
    "/etc/sysctl.d",
    "/run/sysctl.d",
    "/usr/lib/modules-load.d",
    "/usr/lib/sysctl.d",
];

impl Facts {
    /// What is at `path`.
    #[must_use]
    pub fn entry(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// The text of the file at `path`.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        self.entries.get(path)?.text.as_deref()
    }

    /// The files of the directory `directory` whose names end with `suffix`, by name.
    pub(super) fn files<'a>(
        &'a self,
        directory: &'a str,
        suffix: &'a str,
    ) -> impl DoubleEndedIterator<Item = (&'a str, &'a str)> {
        // A slash is followed by a zero.
        let below = self.entries.range(format!("{directory}/")..format!("{directory}0"));
        below.filter_map(move |(path, entry)| {
            let name = path.strip_prefix(directory)?.strip_prefix('/')?;
            let is_one = name.ends_with(suffix) && !name.starts_with('.') && !name.contains('/');
            Some((path.as_str(), entry.text.as_deref()?)).filter(|_| is_one)
        })
    }

    /// The numbers of the user and the group `name`.
    #[must_use]
    pub fn account(&self, name: &str) -> Option<(u32, u32)> {
        let line = accounts(self.text("/etc/passwd")?).find(|fields| fields.first() == Some(&name))?;
        Some((line.get(2)?.parse().ok()?, line.get(3)?.parse().ok()?))
    }
}

/// The programs that are looked for.
pub fn programs() -> impl Iterator<Item = &'static str> {
    packages::PROGRAMS.iter().chain(packages::RECOMMENDED).map(|program| program.name)
}

/// The entries of a text of passwd(5) or group(5).
pub fn accounts(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|fields| fields.len() >= 4)
}

/// The packages of dpkg's status file that are installed, with their versions.
#[must_use]
pub fn dpkg_packages(status: &str) -> BTreeMap<String, String> {
    let package = |paragraph: &str| {
        let field = |name: &str| {
            paragraph
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(|value| value.trim().to_owned())
        };
        let is_there = field("Status").is_some_and(|status| status.ends_with(" ok installed"));
        Some((field("Package")?, field("Version")?)).filter(|_| is_there)
    };
    status.split("\n\n").filter_map(package).collect()
}

/// The packages that `rpm -qa --qf '%{NAME} %{VERSION}\n'` prints.
#[must_use]
pub fn rpm_packages(said: &str) -> BTreeMap<String, String> {
    said.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .collect()
}
