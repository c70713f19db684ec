//! sshd, as far as the management server's library (trilead-ssh2) and a new machine's keys are concerned.

use super::services::{HOST_KEYS_UNIT, enabled_any};
use super::{Edit, Facts, Item};

const MAIN: &str = "/etc/ssh/sshd_config";
const DIRECTORY: &str = "/etc/ssh/sshd_config.d";
const DROP_IN: &str = "/etc/ssh/sshd_config.d/00-cks.conf";

/// What the library knows of each kind, those first that are added; the names are those of sshd_config(5).
const KNOWN: [(&str, &[&str]); 5] = [
    ("KexAlgorithms", &["curve25519-sha256", "ecdh-sha2-nistp256", "diffie-hellman-group14-sha256"]),
    ("HostKeyAlgorithms", &["ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256"]),
    ("Ciphers", &["aes256-ctr", "aes128-ctr"]),
    ("MACs", &["hmac-sha2-512", "hmac-sha2-256"]),
    ("PubkeyAcceptedAlgorithms", &["rsa-sha2-512", "rsa-sha2-256", "ecdsa-sha2-nistp256", "ssh-ed25519"]),
];

pub(super) fn items(facts: &Facts) -> Vec<Item> {
    vec![
        algorithms(facts),
        host_keys(facts),
        enabled_any(
            facts,
            "ssh-unit",
            &["ssh.service", "sshd.service", "ssh.socket", "sshd.socket"],
            &["ssh.service", "sshd.service"],
            "sshd does not run at boot, and the management server logs in by it",
        ),
    ]
}

/// The drop-in. The first value of a keyword counts, and this file is read first; a plus adds to sshd's own list.
fn drop_in() -> String {
    let lines = KNOWN.iter().map(|(keyword, names)| format!("{keyword} +{}\n", names.join(",")));
    let head =
        "# Written by cks-agent: what the management server's ssh library knows, whatever later files leave out.\n";
    let keys = ["rsa", "ecdsa", "ed25519"].map(|kind| format!("HostKey /etc/ssh/ssh_host_{kind}_key\n"));
    std::iter::once(head.to_owned()).chain(keys).chain(lines).collect()
}

/// The first value of `keyword`, and whose it is; what stands below a `Match` is for some alone.
fn value<'a>(facts: &'a Facts, keyword: &str) -> Option<(&'a str, &'a str)> {
    let of_line = |path: &'a str, line: &'a str| Some((path, line.split_once([' ', '\t', '='])?.1.trim()));
    let of_text = |path: &'a str, text: &'a str| {
        let lines = text.lines().map(str::trim).take_while(|line| !word_is(line, "match"));
        lines.filter(|line| word_is(line, keyword)).find_map(|line| of_line(path, line))
    };
    let lines = facts.text(MAIN)?.lines().map(str::trim).take_while(|line| !word_is(line, "match"));
    for line in lines {
        let found = if word_is(line, "include") {
            facts.files(DIRECTORY, ".conf").find_map(|(path, text)| of_text(path, text))
        } else {
            Some(line).filter(|line| word_is(line, keyword)).and_then(|line| of_line(MAIN, line))
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

fn word_is(line: &str, word: &str) -> bool {
    line.split([' ', '\t', '=']).next().is_some_and(|first| first.eq_ignore_ascii_case(word))
}

fn algorithms(facts: &Facts) -> Item {
    let name = "ssh-algorithms";
    let mut edits = Vec::new();
    if facts.text(DROP_IN) != Some(&drop_in()) {
        edits.push(Edit::write(DROP_IN, drop_in()));
    }
    let Some(main) = facts.text(MAIN) else {
        return Item::not_applicable(name, format!("there is no {MAIN} yet: it comes with sshd"));
    };
    if !main.lines().any(|line| word_is(line.trim(), "include") && line.contains("sshd_config.d")) {
        edits.push(Edit::write(MAIN, format!("Include {DIRECTORY}/*.conf\n{main}")));
        return Item::lacks(name, format!("{MAIN} does not read {DIRECTORY}"), edits);
    }
    for (keyword, known) in KNOWN {
        let Some((path, value)) = value(facts, keyword) else { continue };
        let offers = match value.chars().next() {
            Some('+' | '^') => true,
            Some('-') => !known.iter().all(|name| value.contains(name)) && !value.contains('*'),
            _ => value.split(',').any(|name| known.contains(&name.trim())),
        };
        if !offers {
            let what = format!(
                "{path} lets sshd take none of the {keyword} that the management server has: {}",
                crate::text::plain(value)
            );
            let remedy = format!("add {} to that line", known.join(","));
            return if edits.is_empty() { Item::failed(name, what, remedy) } else { Item::lacks(name, what, edits) };
        }
    }
    match edits.is_empty() {
        true => Item::ok(name, format!("{DROP_IN} is read first")),
        false => Item::lacks(name, format!("{DROP_IN} is missing, or has another text"), edits),
    }
}

const UNIT_TEXT: &str = "# Written by cks-agent: a machine that was made of a sealed template has no host keys. cloud-init makes them where it runs.
[Unit]
Description=Make the host keys of this machine
After=cloud-init.service cloud-init-network.service
Before=ssh.service sshd.service
ConditionPathExists=|!/etc/ssh/ssh_host_rsa_key
ConditionPathExists=|!/etc/ssh/ssh_host_ecdsa_key
ConditionPathExists=|!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target
";

/// Whether every machine has its own: sealed, a template has none.
fn host_keys(facts: &Facts) -> Item {
    let name = "ssh-host-keys";
    let unit = HOST_KEYS_UNIT.rsplit('/').next().unwrap_or_default();
    let mut edits = Vec::new();
    if facts.text(HOST_KEYS_UNIT) != Some(UNIT_TEXT) {
        edits.push(Edit::write(HOST_KEYS_UNIT, UNIT_TEXT));
    }
    if !facts.units.wanted.contains(unit) {
        edits.push(Edit::Enable { unit: unit.to_owned(), unmask: facts.units.masked.contains(unit) });
    }
    let has = |kind: &str| facts.entry(&format!("/etc/ssh/ssh_host_{kind}_key")).is_some();
    let now = if has("ecdsa") && has("rsa") { "there are keys" } else { "the next boot makes keys" };
    match edits.is_empty() {
        true => Item::ok(name, now),
        false => Item::lacks(name, format!("nothing makes host keys where a template has none ({now} here)"), edits),
    }
}
