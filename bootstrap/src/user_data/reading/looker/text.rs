//! Texts as they are before they are read.

use crate::user_data::placeholder;
use crate::user_data::yaml::{Entry, Node, Value};

/// Whether a line is a comment.
pub(super) fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// The text without the condition on a private registry, which jinja finds undefined even where the server filled in all
/// that is within. Lines stay where they are.
pub(super) fn without_registry_condition(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut open = false;
    for line in text.split_inclusive('\n') {
        let inner = line.trim();
        let is_tag = inner.starts_with("{%") && inner.ends_with("%}");
        let opens = is_tag && inner.contains("registry is defined");
        let closes = is_tag && open && inner.contains("endif");
        open = (open || opens) && !closes;
        if opens || closes { kept.push('\n') } else { kept.push_str(line) }
    }
    kept
}

/// The text with an empty line in the place of each header.
pub(super) fn headless(text: &str) -> String {
    let is_header =
        |line: &str| line.starts_with("#cloud-config") || line.to_ascii_lowercase().starts_with("## template:");
    let mut rest = text;
    let mut empty = String::new();
    while let Some((line, after)) = rest.split_once('\n') {
        if !is_header(line) {
            break;
        }
        empty.push('\n');
        rest = after;
    }
    empty + rest
}

/// Guards the placeholders of a section that came with the user's text.
pub(super) fn guard(entry: &mut Entry) {
    fn each(node: &mut Node) {
        match &mut node.value {
            Value::Scalar { text, .. } => *text = placeholder::guard(text),
            Value::List(items) => items.iter_mut().for_each(each),
            Value::Map(entries) => entries.iter_mut().for_each(|entry| {
                entry.key = placeholder::guard(&entry.key);
                each(&mut entry.value);
            }),
        }
    }
    each(&mut entry.value);
}
