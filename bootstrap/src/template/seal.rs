//! What makes a machine one of its own, and so must not be in a template.

use serde::Serialize;

use super::account::is_key;

/// What is done with a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It is removed, with all in it.
    Remove,
    /// All in it is removed.
    Empty,
    /// Files in it are removed, at any depth; its directories stay, because a package manager wants them.
    Files,
    /// It becomes a file without content; systemd fills the machine's id in at the next boot.
    Truncate,
    /// Logs: rotated ones and the journal are removed, the others are emptied, since some have an owner that matters.
    Logs,
    /// Public keys that the template's builder logs in by are taken out.
    Keys,
    /// The machine's name goes.
    Name,
}

/// A place that holds such a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// Where: a path whose last part may have one star. `~` stands for each home.
    pub path: &'static str,
    /// What is done with it.
    pub how: How,
    /// It is left alone on a machine that runs: the next boot clears it anyhow.
    pub at_rest: bool,
}

const fn trace(path: &'static str, how: How) -> Trace {
    Trace { path, how, at_rest: false }
}

/// All of them, in the order in which they go. The keys by which the builder is logged in go last.
pub const TRACES: &[Trace] = &[
    trace("/home/cloud/success", How::Remove),
    trace("/home/core/success", How::Remove),
    trace("/var/lib/cks-agent", How::Empty),
    Trace { path: "/run/cks-agent", how: How::Empty, at_rest: true },
    trace("/var/cache/cks-agent", How::Remove),
    // Not its seed, which an operator of bare metal may have put there, nor scripts for every boot.
    trace("/var/lib/cloud/instance", How::Remove),
    trace("/var/lib/cloud/instances", How::Empty),
    trace("/var/lib/cloud/data", How::Empty),
    trace("/var/lib/cloud/handlers", How::Empty),
    trace("/var/lib/cloud/sem", How::Empty),
    Trace { path: "/run/cloud-init", how: How::Empty, at_rest: true },
    trace("/etc/netplan/50-cloud-init.yaml", How::Remove),
    trace("/etc/network/interfaces.d/50-cloud-init*", How::Remove),
    trace("/etc/NetworkManager/system-connections/cloud-init-*", How::Remove),
    trace("/etc/systemd/network/10-cloud-init-*", How::Remove),
    trace("/etc/udev/rules.d/70-persistent-*", How::Remove),
    trace("/etc/sudoers.d/90-cloud-init-users", How::Remove),
    trace("/var/lib/dhcp", How::Empty),
    trace("/var/lib/dhclient", How::Empty),
    trace("/var/lib/dhcpcd", How::Empty),
    trace("/var/lib/NetworkManager", How::Empty),
    Trace { path: "/run/systemd/netif", how: How::Empty, at_rest: true },
    trace("/var/lib/chrony", How::Empty),
    trace("/var/lib/systemd/random-seed", How::Remove),
    trace("/var/lib/systemd/credential.secret", How::Remove),
    trace("/var/lib/urandom/random-seed", How::Remove),
    trace("/boot/efi/loader/random-seed", How::Remove),
    trace("/boot/loader/random-seed", How::Remove),
    trace("/var/lib/apt/lists", How::Files),
    trace("/var/cache/apt", How::Files),
    trace("/var/cache/dnf", How::Files),
    trace("/var/log", How::Logs),
    trace("/var/mail", How::Empty),
    trace("/var/crash", How::Empty),
    trace("/var/lib/systemd/coredump", How::Empty),
    Trace { path: "/tmp", how: How::Empty, at_rest: true },
    Trace { path: "/var/tmp", how: How::Empty, at_rest: true },
    trace("~/.bash_history", How::Remove),
    trace("~/.python_history", How::Remove),
    trace("~/.lesshst", How::Remove),
    trace("~/.viminfo", How::Remove),
    trace("~/.wget-hsts", How::Remove),
    trace("~/.sudo_as_admin_successful", How::Remove),
    trace("~/.ssh/known_hosts*", How::Remove),
    trace("/etc/hostname", How::Name),
    trace("/var/lib/dbus/machine-id", How::Remove),
    trace("/etc/machine-id", How::Truncate),
    trace("/etc/ssh/ssh_host_*", How::Remove),
    trace("~/.ssh/authorized_keys", How::Keys),
];

/// The name of a machine that has none yet.
pub const NAMELESS: &str = "localhost\n";

/// Whether the name of a log says that it was put aside.
#[must_use]
pub fn is_rotated(name: &str) -> bool {
    let end = name.rsplit('.').next().unwrap_or_default();
    name.contains('.') && (["gz", "xz", "zst", "old"].contains(&end) || end.bytes().all(|digit| digit.is_ascii_digit()))
}

/// Whether `name` fits the last part of a trace's path.
#[must_use]
pub fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((head, tail)) => name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail),
        None => pattern == name,
    }
}

/// What stays of a file of public keys: those that `kept` has.
#[must_use]
pub fn keys_that_stay(text: &str, kept: &str) -> String {
    let stays = |line: &&str| is_key(line) && kept.lines().any(|key| key == *line);
    text.lines().filter(stays).flat_map(|line| [line, "\n"]).collect()
}
