//! What a template, or a machine, needs before it can become a node: facts in; items out, each with what was seen, what to
//! do, and the edits that do it. `check` tells the items, `prepare` makes the edits.
//!
//! It knows what CloudStack's management server asks of a machine (`validate-cks-node`), what its scripts start without
//! saying so, and what Kubernetes needs. What [`crate::preflight`] asks before a join is among the items of a machine that runs,
//! as far as it can be asked before there is a cluster.

mod account;
mod boot;
mod edit;
mod facts;
mod kernel;
mod live;
mod node;
mod os;
mod packages;
mod runtime;
pub mod seal;
mod services;
mod ssh;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use self::account::{HOME, KEPT_KEYS, LOGIN, SUDOERS};
pub use self::edit::{Edit, Owner, difference};
pub use self::facts::{
    DIRECTORIES, Entry, FILES, Facts, Kind, Live, Units, accounts, dpkg_packages, programs, rpm_packages,
};
pub use self::kernel::used as modules_used;
pub use self::node::CHECKS as NODE_CHECKS;
pub use self::os::{Distribution, Family, Support};
pub use self::packages::{Metapackage, SERVER_PACKAGES, candidates, metapackage};
pub use self::services::AGENT_UNITS;
use crate::failure::{Code, Failure};

/// What came of looking at an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// A node works without it; the operator should know.
    Warning,
    /// A node will not work, or will not be accepted.
    Failed,
    /// Left out, as somebody wished.
    Skipped,
    /// It says nothing about this machine.
    NotApplicable,
}

/// Something that a node needs, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// The stable name, by which it is left out.
    pub name: String,
    /// How it stands.
    pub result: Outcome,
    /// What was seen.
    pub evidence: String,
    /// What to do about it; none where it is as it should be.
    pub remedy: Option<String>,
    /// What makes it so; nothing where it is so, or where it needs a person.
    #[serde(skip)]
    pub edits: Vec<Edit>,
}

impl Item {
    fn ok(name: &str, evidence: impl Into<String>) -> Self {
        Self::new(name, Outcome::Ok, evidence)
    }

    fn not_applicable(name: &str, why: impl Into<String>) -> Self {
        Self::new(name, Outcome::NotApplicable, why)
    }

    /// One that is not as it should be, and that `prepare` mends by `edits`.
    fn lacks(name: &str, evidence: impl Into<String>, edits: Vec<Edit>) -> Self {
        let remedy = Some("cks-agent prepare mends it".to_owned());
        Self { remedy, edits, ..Self::new(name, Outcome::Failed, evidence) }
    }

    /// One that is not as it should be, and that a person has to mend.
    fn failed(name: &str, evidence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::new(name, Outcome::Failed, evidence) }
    }

    fn new(name: &str, result: Outcome, evidence: impl Into<String>) -> Self {
        Self { name: name.to_owned(), result, evidence: evidence.into(), remedy: None, edits: Vec::new() }
    }

    fn warning(self) -> Self {
        let result = if self.result == Outcome::Failed { Outcome::Warning } else { self.result };
        Self { result, ..self }
    }

    /// Whether it is not as it should be.
    #[must_use]
    pub fn is_finding(&self) -> bool {
        matches!(self.result, Outcome::Failed | Outcome::Warning)
    }
}

/// Every item, in the order in which they are told and mended.
#[must_use]
pub fn examine(facts: &Facts) -> Vec<Item> {
    let mut items = vec![os::item(facts)];
    items.extend(packages::items(facts));
    items.extend(account::items(facts));
    items.extend(runtime::items(facts));
    items.extend(boot::items(facts));
    items.extend(kernel::items(facts));
    items.extend(ssh::items(facts));
    items.extend(services::items(facts));
    items.extend(live::items(facts));
    items.extend(node::items(facts));
    items
}

/// Leaves items out: those named in `skipped` are told as such; where `only` names any, no others are looked at.
///
/// # Errors
/// `CONFIG_INVALID` names the first name that no item has, and the names that there are.
pub fn select(items: Vec<Item>, skipped: &[String], only: &[String]) -> Result<Vec<Item>, Failure> {
    for name in skipped.iter().chain(only) {
        if !items.iter().any(|item| item.name == *name) {
            let all: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
            let what = format!("{:?} is no item: there are {}", crate::text::plain(name), all.join(", "));
            return Err(Failure::new(Code::ConfigInvalid, what).with_remedy("correct the name of the item"));
        }
    }
    let left_out = |item: Item| Item {
        result: Outcome::Skipped,
        evidence: "left out as you wish".to_owned(),
        remedy: None,
        edits: Vec::new(),
        ..item
    };
    let looked_at = items.into_iter().filter(|item| only.is_empty() || only.contains(&item.name));
    Ok(looked_at.map(|item| if skipped.contains(&item.name) { left_out(item) } else { item }).collect())
}
