//! Units.

use super::{Edit, Facts, Family, Item};

/// The agent's own units, which its package brings.
pub const AGENT_UNITS: [&str; 2] = ["cks-bootstrap.service", "cks-agent.service"];

/// Makes host keys.
pub(super) const HOST_KEYS_UNIT: &str = "/etc/systemd/system/cks-ssh-host-keys.service";

/// Any of them keeps the time.
const TIME: [&str; 7] = [
    "chrony.service",
    "chronyd.service",
    "systemd-timesyncd.service",
    "ntpsec.service",
    "ntpd.service",
    "ntp.service",
    "openntpd.service",
];

const RED_HAT_AGENT: &str = "/etc/sysconfig/qemu-ga";

pub(super) fn items(facts: &Facts) -> Vec<Item> {
    vec![
        guest_agent(facts),
        guest_agent_commands(facts),
        enabled_any(facts, "time-service", &TIME, &["chrony.service", "chronyd.service"], "nothing keeps the time"),
        agent(facts),
        name_service(facts),
        firewall(facts),
    ]
}

/// All `units` start at boot.
pub(super) fn enabled(facts: &Facts, name: &str, units: &[&str], otherwise: &str) -> Item {
    let lacks = |unit: &&&str| !facts.units.wanted.contains(**unit) || facts.units.masked.contains(**unit);
    let missing: Vec<&str> = units.iter().filter(lacks).copied().collect();
    if missing.is_empty() {
        return Item::ok(name, format!("enabled: {}", units.join(", ")));
    }
    let how = |unit: &&str| match (facts.units.masked.contains(*unit), facts.units.present.contains(*unit)) {
        (true, _) => format!("{unit} is masked"),
        (false, true) => format!("{unit} is not enabled"),
        (false, false) => format!("there is no {unit}"),
    };
    let what = format!("{otherwise}: {}", missing.iter().map(how).collect::<Vec<_>>().join(", "));
    Item::lacks(name, what, missing.iter().map(|unit| enable(facts, unit)).collect())
}

/// One of `units` starts at boot; else the first of `preferred` that there is shall.
pub(super) fn enabled_any(facts: &Facts, name: &str, units: &[&str], preferred: &[&str], otherwise: &str) -> Item {
    let starts = |unit: &&&str| facts.units.wanted.contains(**unit) && !facts.units.masked.contains(**unit);
    if let Some(unit) = units.iter().find(starts) {
        return Item::ok(name, format!("enabled: {unit}"));
    }
    let unit = preferred.iter().find(|unit| facts.units.present.contains(**unit)).or(preferred.first());
    Item::lacks(
        name,
        format!("{otherwise}: none of {} is enabled", units.join(", ")),
        unit.iter().map(|unit| enable(facts, unit)).collect(),
    )
}

fn enable(facts: &Facts, unit: &str) -> Edit {
    Edit::Enable { unit: unit.to_owned(), unmask: facts.units.masked.contains(unit) }
}

/// udev starts it where the hypervisor has a channel for it, so it needs no more than to be there.
fn guest_agent(facts: &Facts) -> Item {
    let (name, unit) = ("guest-agent-unit", "qemu-guest-agent.service");
    match (facts.units.present.contains(unit), facts.units.masked.contains(unit)) {
        (true, false) => Item::ok(name, format!("{unit} starts with the hypervisor's channel")),
        (true, true) => {
            Item::lacks(name, format!("{unit} is masked: an instance stays in Starting"), vec![enable(facts, unit)])
        }
        (false, _) => {
            let again = facts.packages.contains_key("qemu-guest-agent");
            let edit = Edit::Install { package: "qemu-guest-agent".to_owned(), again };
            Item::lacks(name, format!("there is no {unit}: an instance stays in Starting"), vec![edit])
        }
    }
}

/// The host writes a file and starts programs by the guest agent, which Red Hat's packages forbid.
fn guest_agent_commands(facts: &Facts) -> Item {
    let name = "guest-agent-commands";
    let text = facts.text(RED_HAT_AGENT).unwrap_or_default();
    let forbids = |line: &str| {
        let line = line.trim_start();
        ["FILTER_RPC_ARGS=", "BLACKLIST_RPC=", "BLOCK_RPCS="]
            .iter()
            .any(|key| line.strip_prefix(key).is_some_and(|value| !value.trim().trim_matches(['"', '\'']).is_empty()))
    };
    if !text.lines().any(forbids) {
        return Item::ok(name, "nothing is forbidden to the hypervisor");
    }
    let line =
        |line: &str| if forbids(line) { format!("# left out by cks-agent: {line}\n") } else { format!("{line}\n") };
    let what =
        format!("{RED_HAT_AGENT} forbids the guest agent's commands by which CloudStack hands over its settings");
    Item::lacks(name, what, vec![Edit::write(RED_HAT_AGENT, text.lines().map(line).collect::<String>())])
}

fn agent(facts: &Facts) -> Item {
    let name = "agent-units";
    let missing: Vec<&str> = AGENT_UNITS.into_iter().filter(|unit| !facts.units.present.contains(*unit)).collect();
    if missing.is_empty() && facts.entry("/usr/bin/cks-agent").is_some() {
        return enabled(facts, name, &AGENT_UNITS, "the agent does not run at boot");
    }
    let what = match missing.is_empty() {
        true => "there is no /usr/bin/cks-agent, which its units start".to_owned(),
        false => format!("there is no {}: the server's own scripts make the node", missing.join(", ")),
    };
    Item::failed(name, what, "install the package cks-agent, and run cks-agent prepare again").warning()
}

/// A machine has to know its own name, whatever it is called: sudo says on standard error when it does not, and the management
/// server takes that for part of an answer.
fn name_service(facts: &Facts) -> Item {
    let (name, path, package) = ("name-service", "/etc/nsswitch.conf", "libnss-myhostname");
    let text = facts.text(path).unwrap_or_default();
    let sources = text.lines().find_map(|line| line.trim().strip_prefix("hosts:")).unwrap_or_default();
    let knows = |source: &str| matches!(source, "myhostname" | "resolve");
    match (sources.split_whitespace().find(|source| knows(source)), facts.distribution.family()) {
        (Some(source), _) => Item::ok(name, format!("{path}: {source} knows the machine's own name")),
        (None, Some(Family::Debian)) => {
            let again = facts.packages.contains_key(package);
            let what = format!("{path} looks up the machine's own name as any other");
            let mut edits = vec![Edit::Install { package: package.to_owned(), again }];
            if again {
                let line = |line: &str| match line.trim().starts_with("hosts:") {
                    true => format!("{} myhostname\n", line.trim_end()),
                    false => format!("{line}\n"),
                };
                edits = vec![Edit::write(path, text.lines().map(line).collect::<String>())];
            }
            Item::lacks(name, what, edits)
        }
        (None, _) => Item::failed(
            name,
            format!("{path} looks up the machine's own name as any other"),
            "add myhostname to the line hosts: (authselect)",
        )
        .warning(),
    }
}

fn firewall(facts: &Facts) -> Item {
    let name = "firewall";
    let on = facts.text("/etc/ufw/ufw.conf").unwrap_or_default().lines().any(|line| line.trim() == "ENABLED=yes");
    let found = if facts.units.wanted.contains("firewalld.service") {
        Some(("firewalld is enabled", "systemctl disable firewalld, or open the ports of docs/template.md"))
    } else {
        on.then_some(("ufw is enabled", "ufw disable, or open the ports of docs/template.md"))
    };
    match found {
        Some((what, remedy)) => Item::failed(name, what, remedy).warning(),
        None => Item::ok(name, "neither firewalld nor ufw is enabled"),
    }
}
