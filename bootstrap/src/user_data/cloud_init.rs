//! What cloud-init itself makes of a part: whether the server's commands run when it is done with it.

use minijinja::Value as Variables;
use serde::Serialize;

use super::decode::Part;
use super::jinja;
use super::server::SCRIPTS;
use super::split::starts_the_node;
use super::yaml::{self, Node, Value};

/// What becomes of the server's files and commands in cloud-init's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It writes the files and runs the commands.
    Runs,
    /// The text behind the server's became words of the server's last command.
    Folded,
    /// A second list of files or commands took the place of the server's.
    Replaced,
    /// It can't read the text, and does nothing of it.
    Unreadable,
    /// The server's scripts are not among what it would do.
    Absent,
}

/// What cloud-init makes of `part`.
pub(super) fn outcome(part: &Part, variables: &Variables) -> Outcome {
    // In MIME the header may be no more than a comment.
    let text = match part.jinja && part.honoured {
        true => match jinja::render_anyway(&part.text, variables) {
            Some(text) => text,
            None => return Outcome::Unreadable,
        },
        false => part.text.clone(),
    };
    let Ok(document) = yaml::document(&text) else { return Outcome::Unreadable };
    let Some(root) = document.root else { return Outcome::Absent };
    let paths = root.get("write_files").or_else(|| root.get("write-files")).and_then(Node::list).unwrap_or_default();
    let is_script = |node: &Node| node.get("path").and_then(Node::text).is_some_and(|path| SCRIPTS.contains(&path));
    let commands = root.get("runcmd").and_then(Node::list);
    let commands: Vec<String> = commands.unwrap_or_default().iter().map(line).collect();
    let twice = |key: &str| document.duplicates.iter().any(|twice| twice.key == key);
    // CoreOS has units instead of commands.
    let units = root.get("coreos").is_some();
    match commands.iter().find(|command| starts_the_node(command)) {
        _ if !paths.iter().any(is_script) && twice("write_files") => Outcome::Replaced,
        _ if !paths.iter().any(is_script) => Outcome::Absent,
        // One command that is neither text nor list, and none is run.
        _ if commands.iter().any(String::is_empty) => Outcome::Unreadable,
        None if units => Outcome::Runs,
        None if twice("runcmd") => Outcome::Replaced,
        None => Outcome::Absent,
        Some(command) if command.contains(" - ") => Outcome::Folded,
        Some(_) => Outcome::Runs,
    }
}

/// Whether `part` takes the place of another part's files or commands: of equal lists the later one counts.
pub(super) fn replaces(part: &Part) -> bool {
    let root = yaml::document(&part.text).ok().and_then(|document| document.root);
    root.is_some_and(|root| root.get("runcmd").is_some() || root.get("write_files").is_some())
}

fn line(node: &Node) -> String {
    match &node.value {
        Value::Scalar { text, .. } => text.clone(),
        Value::List(words) => words.iter().filter_map(Node::text).collect::<Vec<_>>().join(" "),
        Value::Map(_) => String::new(),
    }
}
