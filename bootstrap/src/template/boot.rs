//! cloud-init: whether it runs, and whom it asks.

use super::services::enabled;
use super::{Edit, Facts, Item};

const DROP_IN: &str = "/etc/cloud/cloud.cfg.d/99-cks.cfg";
const DROP_IN_TEXT: &str = "# Written by cks-agent. In one line: ds-identify reads no other form.
datasource_list: [ConfigDrive, CloudStack, NoCloud]
datasource:
  CloudStack:
    # The virtual router of a new network may take a while.
    max_wait: 120
    timeout: 50
# The management server knows these, and which it takes is its choice.
ssh_genkeytypes: [rsa, ecdsa, ed25519]
# sudo says so on standard error when it can't look up the machine's own name, and the management server takes
# that for part of an answer.
manage_etc_hosts: localhost
";
const IDENTIFY: &str = "/etc/cloud/ds-identify.cfg";
const IDENTIFY_TEXT: &str =
    "# Written by cks-agent: on bare metal nothing tells that there is a data source.\npolicy: enabled\n";
const DISABLED: &str = "/etc/cloud/cloud-init.disabled";

/// Whom it has to ask: the two ways in which CloudStack hands out user data.
const SOURCES: [&str; 2] = ["ConfigDrive", "CloudStack"];

pub(super) fn items(facts: &Facts) -> Vec<Item> {
    vec![sources(facts), identify(facts), not_disabled(facts), units(facts)]
}

/// The `datasource_list` that counts, and whose it is: the last file's by name.
fn source_list(facts: &Facts) -> Option<(&str, Vec<&str>)> {
    let drop_ins = facts.files("/etc/cloud/cloud.cfg.d", ".cfg").rev();
    let main = facts.text("/etc/cloud/cloud.cfg").map(|text| ("/etc/cloud/cloud.cfg", text));
    drop_ins.chain(main).find_map(|(path, text)| {
        let mut lines = text.lines().skip_while(|line| !line.starts_with("datasource_list:"));
        let first = lines.next()?.split_once(':')?.1;
        let first = first.split('#').next().unwrap_or_default().trim();
        let names: Vec<&str> = if first.is_empty() {
            lines.map_while(|line| line.trim_start().strip_prefix("- ")).collect()
        } else {
            first.split(['[', ']', ',', ' ']).collect()
        };
        let names = names.into_iter().map(|name| name.trim().trim_matches(['"', '\''])).filter(|name| !name.is_empty());
        Some((path, names.collect()))
    })
}

fn sources(facts: &Facts) -> Item {
    let name = "cloud-init-datasources";
    let mut edits = Vec::new();
    if facts.text(DROP_IN) != Some(DROP_IN_TEXT) {
        edits.push(Edit::write(DROP_IN, DROP_IN_TEXT));
    }
    let Some((path, names)) = source_list(facts) else {
        return Item::lacks(name, "cloud-init is not told whom to ask, and finds no CloudStack by itself", edits);
    };
    let missing: Vec<&str> = SOURCES.into_iter().filter(|source| !names.contains(source)).collect();
    if !missing.is_empty() {
        if path > DROP_IN {
            let text = facts.text(path).unwrap_or_default();
            edits.push(Edit::write(path, without_sources(text)));
        }
        let what = format!(
            "{path} lets cloud-init ask {}, and not {}",
            crate::text::plain(&names.join(", ")),
            missing.join(", ")
        );
        return Item::lacks(name, what, edits);
    }
    if edits.is_empty() {
        Item::ok(name, format!("{path}: {}", crate::text::plain(&names.join(", "))))
    } else {
        Item::lacks(name, format!("{DROP_IN} is missing, or has another text"), edits)
    }
}

/// `text` without its list of data sources.
fn without_sources(text: &str) -> String {
    let mut within = false;
    let mut lines = String::new();
    for line in text.lines() {
        within = line.starts_with("datasource_list:") || within && line.trim_start().starts_with("- ");
        if within {
            lines.push_str("# left out by cks-agent: ");
        }
        lines.push_str(line);
        lines.push('\n');
    }
    lines
}

fn identify(facts: &Facts) -> Item {
    let name = "cloud-init-policy";
    let policy = facts
        .text(IDENTIFY)
        .and_then(|text| text.lines().rev().find_map(|line| line.trim().strip_prefix("policy:")).map(str::trim));
    match policy {
        Some("enabled") => Item::ok(name, format!("{IDENTIFY}: policy: enabled")),
        _ => {
            let what = format!("{IDENTIFY} lets cloud-init stay away where it recognises no data source");
            Item::lacks(name, what, vec![Edit::write(IDENTIFY, IDENTIFY_TEXT)])
        }
    }
}

fn not_disabled(facts: &Facts) -> Item {
    let name = "cloud-init-not-disabled";
    match facts.entry(DISABLED) {
        None => Item::ok(name, format!("there is no {DISABLED}")),
        Some(_) => Item::lacks(
            name,
            format!("{DISABLED} keeps cloud-init away"),
            vec![Edit::Remove { path: DISABLED.to_owned() }],
        ),
    }
}

fn units(facts: &Facts) -> Item {
    let name = "cloud-init-units";
    // Since 24.3 one process does the work of all, and the unit of the network stage has another name.
    let network = if facts.units.present.contains("cloud-init-network.service") {
        "cloud-init-network.service"
    } else {
        "cloud-init.service"
    };
    let mut units = vec!["cloud-init-local.service", network, "cloud-config.service", "cloud-final.service"];
    if facts.units.present.contains("cloud-init-main.service") {
        units.insert(0, "cloud-init-main.service");
    }
    enabled(facts, name, &units, "cloud-init does not run at boot")
}
