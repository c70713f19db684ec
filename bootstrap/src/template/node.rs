//! What a join asks of its machine ([`crate::preflight`]), asked of one that runs, and of which nobody has said yet what it will
//! be: what is known before there is a cluster.

use super::{Facts, Item, Outcome};
use crate::preflight::{Check, Finding, Weight};

/// Those checks. The others ask about a cluster, or about what a join first does itself (modules, settings, swap: how these
/// stand, `live-…` says), or the items of a template say the same in more words (programs).
pub const CHECKS: [Check; 8] = [
    Check::Cgroup,
    Check::Size,
    Check::Disk,
    Check::KubeletArguments,
    Check::HostName,
    Check::NodeIp,
    Check::Ports,
    Check::Clock,
];

pub(super) fn items(facts: &Facts) -> Vec<Item> {
    let one = |check: Check| {
        let name = format!("node-{}", check.name().trim_start_matches("node-"));
        match &facts.live {
            Some(live) => item(&name, live.findings.iter().filter(|finding| finding.check == check)),
            None => Item::not_applicable(&name, super::live::NOT_LIVE),
        }
    };
    CHECKS.into_iter().map(one).collect()
}

/// All that a check found, as one item; the gravest decides.
fn item<'a>(name: &str, findings: impl Iterator<Item = &'a Finding>) -> Item {
    let mut findings: Vec<&Finding> = findings.collect();
    findings.sort_by_key(|finding| finding.weight);
    let Some(first) = findings.first() else { return Item::ok(name, "nothing against it") };
    let told: Vec<String> = findings.iter().map(|finding| format!("{}: {}", finding.code, finding.what)).collect();
    let item = Item::failed(name, told.join("; "), first.remedy.clone());
    let result = if first.weight == Weight::Refuses { Outcome::Failed } else { Outcome::Warning };
    Item { result, ..item }
}
