//! What came of a leave: the document that `cks-agent leave --json` prints (`docs/leaving.md`).

use serde::Serialize;

use super::action::Action;
use super::traces::Standing;
use crate::failure::{Code, Failure};

/// The format of this document.
pub const SCHEMA: u32 = 1;

/// Something that could not be taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Left {
    /// What.
    pub object: String,
    /// Why.
    pub why: String,
}

/// What came of a leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Format: [`SCHEMA`].
    pub schema: u32,
    /// The node's name in its cluster, where it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Where it stood before.
    pub before: Standing,
    /// Nothing of a membership is left.
    pub clean: bool,
    /// What was done in the cluster, in words.
    pub cluster: Vec<String>,
    /// What is to be done by `--dry-run`; what was taken away otherwise.
    pub actions: Vec<Action>,
    /// What could not be taken away.
    pub left: Vec<Left>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

impl Report {
    /// Before anything was done.
    #[must_use]
    pub fn new(node: Option<String>, before: Standing) -> Self {
        let (cluster, actions, left, warnings) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { schema: SCHEMA, node, before, clean: false, cluster, actions, left, warnings }
    }

    /// As a person reads it.
    #[must_use]
    pub fn text(&self, dry_run: bool) -> String {
        let mut text = String::new();
        self.cluster.iter().for_each(|line| text += &format!("cluster   {line}\n"));
        let verb = if dry_run { "would go" } else { "gone" };
        self.actions.iter().for_each(|action| text += &format!("{verb:<9} {action}\n"));
        self.left.iter().for_each(|left| text += &format!("left      {}: {}\n", left.object, left.why));
        self.warnings.iter().for_each(|warning| text += &format!("warning   {warning}\n"));
        if self.before == Standing::Stranger && self.actions.is_empty() {
            text.push_str("nothing to do: this machine is in no cluster\n");
        } else if self.clean {
            text.push_str("clean: this node can be added again\n");
        }
        text
    }

    /// Why the node is not clean; none when it is.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        if self.left.is_empty() {
            return None;
        }
        let shown: Vec<String> =
            self.left.iter().take(5).map(|left| format!("{}: {}", left.object, left.why)).collect();
        let more = self.left.len().saturating_sub(shown.len());
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        Some(Failure::new(Code::LeaveIncomplete, format!("left on this node: {}{more}", shown.join("; "))))
    }
}
