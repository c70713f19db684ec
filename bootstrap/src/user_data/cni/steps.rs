//! Commands and files of a CNI configuration.

use super::{Chunk, Reader};
use crate::node_spec::cni::{CniAction, CniStep};
use crate::text::plain;
use crate::user_data::cloud_config::{Room, indent_of, is_item, write_file};
use crate::user_data::yaml::{Node, Style, Value};

impl Reader<'_> {
    pub(super) fn step(&mut self, line: usize, action: CniAction) {
        let line = self.place(line).line;
        self.cni.steps.push(CniStep { line, action });
    }

    /// An item of `runcmd`: a text for the shell, or a list of words.
    pub(super) fn command(&mut self, item: &Node, chunk: &Chunk<'_>) {
        match &item.value {
            _ if item.is_null() => self.fault(item.line, "a dash without a command"),
            Value::Scalar { text: command, style } => {
                if *style == Style::Plain && self.swallows(item, chunk) {
                    return;
                }
                self.step(item.line, CniAction::Shell { command: command.clone() });
            }
            Value::List(words) => {
                let text = |word: &Node| match &word.value {
                    Value::Scalar { text, .. } => Some(text.clone()),
                    _ => None,
                };
                match words.iter().map(text).collect::<Option<Vec<_>>>() {
                    Some(words) if !words.is_empty() => self.step(item.line, CniAction::Program { words }),
                    _ => {
                        self.fault(item.line, "a command as a list has texts as its items: [kubectl, apply, -f, FILE]")
                    }
                }
            }
            Value::Map(_) => {
                self.fault(
                    item.line,
                    "a mapping instead of a command: put it in quotes, it has a colon with a space behind it",
                );
            }
        }
    }

    /// Whether a command goes on over a line that was meant as the next one.
    fn swallows(&mut self, item: &Node, chunk: &Chunk<'_>) -> bool {
        let mut swallows = false;
        let indent = chunk.line(item.line).map_or(0, indent_of);
        for line in item.line + 1..=item.end {
            let Some(source) = chunk.line(line).filter(|source| is_item(source)) else {
                continue;
            };
            let what = format!(
                "this dash is indented by {} spaces and so continues the command of line {}: indent it by {indent} like that one",
                indent_of(source),
                self.place(item.line).line
            );
            self.fault(line, what);
            swallows = true;
        }
        swallows
    }

    pub(super) fn file(&mut self, item: &Node, room: &mut Room) {
        let file = match write_file(item, room) {
            Ok(file) => file,
            Err(fault) => return self.fault(fault.line, fault.what),
        };
        let path = plain(&file.path);
        if !file.path.starts_with('/') || file.path.split('/').any(|part| part == "..") {
            return self.fault(file.line, format!("{path} is no absolute path"));
        }
        if file.append {
            return self.fault(file.line, format!("append of {path} is not understood: write the whole file"));
        }
        for key in &file.other {
            self.fault(
                file.line,
                format!("{} of {path} is not understood: give path, content, encoding, permissions", plain(key)),
            );
        }
        if file.owner.as_deref().is_some_and(|owner| !matches!(owner, "root" | "root:root")) {
            self.findings.ignore(
                self.place(file.line),
                format!("owner of {path}"),
                "files of a CNI configuration are root's",
            );
        }
        let line = self.place(file.line).line;
        let mode = file.mode.unwrap_or(0o644);
        let action = CniAction::File { path: file.path, mode, content: file.content };
        self.files.push(CniStep { line, action });
    }
}
