//! The user that the management server logs in as, and what it finds there.

use super::{Edit, Entry, Facts, Item, Kind, Owner};

/// The user.
pub const LOGIN: &str = "cloud";
/// Its home.
pub const HOME: &str = "/home/cloud";
pub(super) const SSH: &str = "/home/cloud/.ssh";
pub(super) const AUTHORIZED_KEYS: &str = "/home/cloud/.ssh/authorized_keys";
/// The server's scripts believe that a machine with this file has joined already.
pub(super) const SUCCESS: &str = crate::leaving::traces::MARKER;
/// What lets it become root without a password.
pub const SUDOERS: &str = "/etc/sudoers.d/90-cks-cloud";
const SUDOERS_TEXT: &str = "# Written by cks-agent: the management server's commands begin with sudo.\n\
    cloud ALL=(ALL) NOPASSWD:ALL\n";
const SHELL: &str = "/bin/bash";
/// Public keys that stay in a template: the management server's, for machines that join a cluster long after they were made.
pub const KEPT_KEYS: &str = "/etc/cks-agent/authorized_keys";

pub(super) fn items(facts: &Facts) -> Vec<Item> {
    vec![
        user(facts),
        directory(facts, "cloud-home", HOME, Owner::Login, &[0o755, 0o750, 0o700]),
        sudo(facts),
        sudoers(facts),
        directory(facts, "cloud-ssh", SSH, Owner::Login, &[0o700]),
        authorized_keys(facts),
        success(facts),
        directory(facts, "opt-bin", "/opt/bin", Owner::Root, &[0o755]),
        directory(facts, "var-cache-cloud", "/var/cache/cloud", Owner::Root, &[0o755]),
        directory(facts, "trusted-keys", "/etc/cks-agent/keys", Owner::Root, &[0o755, 0o750, 0o700]),
        hosts(facts),
    ]
}

fn user(facts: &Facts) -> Item {
    let name = "cloud-user";
    let passwd = facts.text("/etc/passwd").unwrap_or_default();
    let Some(fields) = super::accounts(passwd).find(|fields| fields.first() == Some(&LOGIN)) else {
        let edit = Edit::AddUser { name: LOGIN.to_owned(), home: HOME.to_owned(), shell: SHELL.to_owned() };
        return Item::lacks(name, "there is no user cloud, as which the management server logs in", vec![edit]);
    };
    let groups = facts.text("/etc/group").unwrap_or_default();
    if !groups.lines().any(|line| line.starts_with("cloud:")) {
        let what = "there is no group cloud, which the server's user data gives files to";
        return Item::failed(name, what, "groupadd cloud && usermod -g cloud cloud");
    }
    match (fields.get(5), fields.get(6)) {
        (Some(&HOME), Some(&(SHELL | "/usr/bin/bash"))) => Item::ok(name, format!("cloud, {HOME}, {SHELL}")),
        (Some(&HOME), shell) => {
            let what = format!("cloud's shell is {}, not {SHELL}", crate::text::plain(shell.unwrap_or(&"none")));
            let edit = Edit::SetShell { name: LOGIN.to_owned(), shell: SHELL.to_owned() };
            Item::lacks(name, what, vec![edit])
        }
        (home, _) => {
            let what = format!("cloud's home is {}, not {HOME}", crate::text::plain(home.unwrap_or(&"none")));
            Item::failed(name, what, format!("usermod --move-home --home {HOME} cloud"))
        }
    }
}

/// Whose `entry` is, where that can be told.
fn is_of(facts: &Facts, entry: &Entry, owner: Owner) -> bool {
    match owner {
        Owner::Root => entry.owner.0 == 0,
        Owner::Login => facts.account(LOGIN).is_some_and(|(user, _)| entry.owner.0 == user),
    }
}

fn directory(facts: &Facts, name: &str, path: &str, owner: Owner, modes: &[u32]) -> Item {
    let mode = modes.first().copied().unwrap_or(0o755);
    let edits = || vec![Edit::directory(path, mode, owner)];
    match facts.entry(path) {
        None => Item::lacks(name, format!("there is no directory {path}"), edits()),
        Some(Entry { kind: Kind::Link(target), .. }) => Item::ok(name, format!("{path} is a link to {target}")),
        Some(entry) if entry.kind != Kind::Directory => {
            Item::failed(name, format!("{path} is no directory"), format!("move {path} away and run cks-agent prepare"))
        }
        Some(entry) if !modes.contains(&entry.mode) || !is_of(facts, entry, owner) => {
            let (user, group) = entry.owner;
            Item::lacks(name, format!("{path} has mode {:o} and belongs to {user}:{group}", entry.mode), edits())
        }
        Some(entry) => Item::ok(name, format!("{path}, mode {:o}", entry.mode)),
    }
}

fn sudo(facts: &Facts) -> Item {
    let name = "cloud-sudo";
    let edit = Edit::Write { path: SUDOERS.to_owned(), text: SUDOERS_TEXT.to_owned(), mode: 0o440, owner: Owner::Root };
    match facts.entry(SUDOERS) {
        Some(entry) if entry.text.as_deref() != Some(SUDOERS_TEXT) => {
            Item::lacks(name, format!("{SUDOERS} has another text"), vec![edit])
        }
        Some(entry) if entry.mode != 0o440 || entry.owner.0 != 0 => Item::lacks(
            name,
            format!("{SUDOERS} has mode {:o}, or is not root's: sudo ignores it", entry.mode),
            vec![edit],
        ),
        Some(_) => Item::ok(name, SUDOERS),
        None => Item::lacks(name, format!("there is no {SUDOERS}: cloud has to give a password"), vec![edit]),
    }
}

/// Whether sudo reads that file, and what else it wants of who calls it.
fn sudoers(facts: &Facts) -> Item {
    let name = "sudoers";
    let Some(main) = facts.text("/etc/sudoers") else {
        return Item::not_applicable(name, "there is no /etc/sudoers yet: it comes with sudo");
    };
    let includes = |line: &str| {
        let mut words = line.split_whitespace();
        matches!(words.next(), Some("@includedir" | "#includedir")) && words.next() == Some("/etc/sudoers.d")
    };
    if !main.lines().any(includes) {
        let text = format!("{}\n@includedir /etc/sudoers.d\n", main.trim_end());
        let edit = Edit::Write { path: "/etc/sudoers".to_owned(), text, mode: 0o440, owner: Owner::Root };
        return Item::lacks(name, "/etc/sudoers does not read /etc/sudoers.d", vec![edit]);
    }
    let wants_terminal = |text: &str| {
        let mut lines = text.lines().map(str::trim).filter(|line| line.starts_with("Defaults"));
        lines.any(|line| line.contains("requiretty") && !line.contains("!requiretty"))
    };
    let all =
        facts.files("/etc/sudoers.d", "").filter(|(path, _)| !path.contains('.') || path.matches('.').count() == 1);
    let mut texts = std::iter::once(("/etc/sudoers", main)).chain(all);
    match texts.find(|(_, text)| wants_terminal(text)) {
        Some((path, _)) => {
            let what = format!("{path} has requiretty, and the management server has no terminal");
            Item::failed(name, what, "take the line out with visudo")
        }
        None => Item::ok(name, "/etc/sudoers reads /etc/sudoers.d, and wants no terminal"),
    }
}

fn authorized_keys(facts: &Facts) -> Item {
    let name = "cloud-authorized-keys";
    let kept: Vec<&str> = facts.text(KEPT_KEYS).unwrap_or_default().lines().filter(|line| is_key(line)).collect();
    let (there, entry) = (facts.text(AUTHORIZED_KEYS).unwrap_or_default(), facts.entry(AUTHORIZED_KEYS));
    let missing: Vec<&str> = kept.iter().copied().filter(|key| !there.lines().any(|line| line == *key)).collect();
    let mut text = there.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.extend(missing.iter().flat_map(|key| [key, "\n"]));
    let edit = Edit::Write { path: AUTHORIZED_KEYS.to_owned(), text, mode: 0o600, owner: Owner::Login };
    match entry {
        None => Item::lacks(name, format!("there is no {AUTHORIZED_KEYS}"), vec![edit]),
        Some(entry) if entry.mode != 0o600 || !is_of(facts, entry, Owner::Login) => {
            let (user, group) = entry.owner;
            let what = format!("{AUTHORIZED_KEYS} has mode {:o} and belongs to {user}:{group}", entry.mode);
            Item::lacks(name, what, vec![edit])
        }
        Some(_) if !missing.is_empty() => {
            let what = format!("{AUTHORIZED_KEYS} lacks {} of the keys in {KEPT_KEYS}", missing.len());
            Item::lacks(name, what, vec![edit])
        }
        Some(_) => Item::ok(name, format!("{AUTHORIZED_KEYS}, {} keys that stay", kept.len())),
    }
}

/// Whether a line of a file of public keys holds one.
pub(super) fn is_key(line: &str) -> bool {
    !line.trim().is_empty() && !line.trim_start().starts_with('#')
}

fn success(facts: &Facts) -> Item {
    let name = "success-marker";
    if !facts.membership.is_empty() {
        return Item::not_applicable(name, format!("this is a node already: {}", facts.membership.join(", ")));
    }
    match facts.entry(SUCCESS) {
        None => Item::ok(name, format!("there is no {SUCCESS}")),
        Some(_) => {
            let what =
                format!("{SUCCESS} is left from elsewhere: the server's scripts believe that the node has joined");
            Item::lacks(name, what, vec![Edit::Remove { path: SUCCESS.to_owned() }])
        }
    }
}

/// kubelet, etcd and sudo look localhost up.
fn hosts(facts: &Facts) -> Item {
    let name = "hosts";
    let text = facts.text("/etc/hosts").unwrap_or_default();
    match crate::preflight::read::known_to_hosts(text, "localhost") {
        Some(true) => Item::ok(name, "/etc/hosts knows localhost"),
        _ => {
            let edit = Edit::write("/etc/hosts", format!("127.0.0.1 localhost\n{text}"));
            Item::lacks(name, "/etc/hosts does not know localhost", vec![edit])
        }
    }
}
