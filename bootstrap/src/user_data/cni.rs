//! A CNI configuration: the text that a user registered with the management server, understood and checked before
//! anything of it is done.
//!
//! It is commands (`runcmd`, or list items that continue the server's list), files (`write_files`) or Kubernetes objects,
//! in any mixture. What cloud-init makes of it depends on its indentation; what is meant does not.

mod steps;

use minijinja::Value as Variables;

use super::cloud_config::{indent_of, is_item};
use super::jinja::{self, Rendered};
use super::place::{Findings, Origin, Place};
use super::split::UserText;
use super::yaml::{self, Entry, Fault, Node, Value};
use crate::node_spec::cni::CniStep;
use crate::text::plain;

/// A CNI configuration, read.
#[derive(Debug, Default)]
pub(super) struct Cni {
    /// What is to be done, in this order.
    pub(super) steps: Vec<CniStep>,
    /// What can't be done, and what to write instead.
    pub(super) faults: Vec<(Place, String)>,
    /// Its `cks:` section, at the lines of the text.
    pub(super) section: Option<Entry>,
}

/// Reads the text of a user, which is of `origin`.
pub(super) fn read(user: &UserText, origin: Origin, variables: Option<&Variables>, findings: &mut Findings) -> Cni {
    let rendered = match variables {
        None => Ok(Rendered::plain(&user.text)),
        Some(variables) => jinja::render(&user.text, variables),
    };
    let part = Place { origin, line: 0 };
    let rendered = match rendered {
        Ok(rendered) => rendered,
        Err(faults) => {
            let faults = faults.into_iter().map(|fault| (part.at(fault.line), fault.what)).collect();
            return Cni { faults, ..Cni::default() };
        }
    };
    let mut reader =
        Reader { part, cut: user.cut, rendered: &rendered, findings, cni: Cni::default(), files: Vec::new() };
    for (at, text) in documents(&rendered.text) {
        reader.document(&Chunk { at, text: &text, lines: text.lines().collect() });
    }
    let Reader { mut cni, files, .. } = reader;
    // cloud-init writes files before it runs commands, wherever they stand.
    cni.steps = files.into_iter().chain(cni.steps).collect();
    cni.faults.sort();
    cni
}

/// The documents of `text` with the number of lines before each, those without content left out.
fn documents(text: &str) -> Vec<(usize, String)> {
    let mut documents = vec![(0, String::new())];
    for (at, line) in text.split_inclusive('\n').enumerate() {
        if line.trim_end() == "---" || line.starts_with("--- ") {
            documents.push((at + 1, String::new()));
        } else if let Some((_, document)) = documents.last_mut() {
            document.push_str(line);
        }
    }
    documents.retain(|(_, document)| significant(document).is_some());
    documents
}

/// The first line that says something.
fn significant(text: &str) -> Option<&str> {
    text.lines().find(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
}

/// A document of the text.
struct Chunk<'t> {
    /// The lines before it.
    at: usize,
    text: &'t str,
    lines: Vec<&'t str>,
}

impl Chunk<'_> {
    /// A line by its number in the whole text.
    fn line(&self, number: usize) -> Option<&str> {
        self.lines.get(number.checked_sub(self.at + 1)?).copied()
    }
}

struct Reader<'a> {
    part: Place,
    cut: bool,
    rendered: &'a Rendered,
    findings: &'a mut Findings,
    cni: Cni,
    files: Vec<CniStep>,
}

impl Reader<'_> {
    /// The place of a line of the rendered text.
    fn place(&self, line: usize) -> Place {
        self.part.at(self.rendered.source_line(line))
    }

    fn fault(&mut self, line: usize, what: impl Into<String>) {
        let at = self.place(line);
        self.cni.faults.push((at, what.into()));
    }

    /// Reads a document.
    fn document(&mut self, chunk: &Chunk<'_>) {
        let (at, text) = (chunk.at, chunk.text);
        let first = significant(text).unwrap_or_default();
        let continues = is_item(first);
        if continues {
            self.continuation(chunk, first);
        }
        // The items need a key above them, and the line above them says nothing.
        let (source, above) = match continues {
            true => (format!("runcmd:\n{text}"), 1),
            false => (text.to_owned(), 0),
        };
        let line_of = |line: usize| (line + at).saturating_sub(above).max(1);
        let root = match yaml::document(&source) {
            Ok(document) => {
                for twice in
                    document.duplicates.iter().filter(|twice| twice.key == "runcmd" || twice.key == "write_files")
                {
                    let text = format!("a second {}: cloud-init takes that one alone, here both count", twice.key);
                    self.findings.warn(self.place(line_of(twice.second)), text);
                }
                document.root
            }
            Err(fault) => return self.unreadable(line_of(fault.line), &fault, chunk),
        };
        let Some(mut root) = root else { return };
        root.relocate(&line_of);
        let is_object = |key: &str| root.get(key).is_some();
        match &root.value {
            Value::Map(_) if is_object("kind") || is_object("apiVersion") => self.object(&root, chunk),
            Value::Map(entries) => {
                for entry in entries {
                    self.entry(entry, chunk);
                }
            }
            _ => {
                let what = "this is neither a command, nor a key of cloud-config, nor a Kubernetes object; begin the text with \
                            #cloud-config, and commands with two spaces and a dash";
                self.fault(root.line, what);
            }
        }
    }

    /// Says what cloud-init makes of list items that continue the server's list.
    fn continuation(&mut self, chunk: &Chunk<'_>, first: &str) {
        let line = chunk.at + 1 + chunk.lines.iter().position(|line| *line == first).unwrap_or_default();
        let indent = indent_of(first);
        let text = match indent {
            _ if !self.cut => "these commands have no key; they are read as runcmd".to_owned(),
            2 => return,
            0 => "commands without indentation: cloud-init can't read the user data; write two spaces before each dash"
                .to_owned(),
            _ => format!(
                "commands are indented by {indent} spaces: cloud-init takes them for words of the server's last command; write two \
                 spaces before each dash"
            ),
        };
        self.findings.warn(self.place(line), text);
    }

    fn unreadable(&mut self, line: usize, fault: &Fault, chunk: &Chunk<'_>) {
        let is_tabbed = |line: &str| line.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
        let is_tabbed = |number: usize| chunk.line(number).is_some_and(is_tabbed);
        let source = chunk.line(line).unwrap_or_default();
        // What goes on in the next line is told at its first.
        let tab = (0..2).find(|more| is_tabbed(line + more));
        let line = line + tab.unwrap_or_default();
        let hint = match () {
            () if tab.is_some() => "indent with spaces, not with tabs",
            () if fault.what.contains("mapping values") => {
                "put the command in quotes: it has a colon with a space behind it"
            }
            () if fault.what.contains("quoted") || source.matches(['\'', '"']).count() % 2 == 1 => {
                "close the quote, or write the command as a block: a line `- |`, and the command on the lines below"
            }
            () => "indent each dash like the one above it",
        };
        self.fault(line, format!("no YAML ({}): {hint}", plain(&fault.what)));
    }

    fn entry(&mut self, entry: &Entry, chunk: &Chunk<'_>) {
        match entry.key.as_str() {
            "runcmd" => match entry.value.list() {
                Some(items) => {
                    for item in items {
                        self.command(item, chunk);
                    }
                }
                None if entry.value.is_null() => {}
                None => self.fault(entry.line, format!("runcmd is a list of commands, not {}", entry.value.kind())),
            },
            "write_files" => match entry.value.list() {
                Some(items) => {
                    let mut room = super::cloud_config::Room::default();
                    for item in items {
                        self.file(item, &mut room);
                    }
                }
                None if entry.value.is_null() => {}
                None => self.fault(entry.line, format!("write_files is a list of files, not {}", entry.value.kind())),
            },
            "cks" => self.section(entry),
            key => {
                let what = match key.is_empty() {
                    true => "a key that is no text".to_owned(),
                    false => format!("{}:", plain(key)),
                };
                self.findings.ignore(self.place(entry.line), what, "it is left to cloud-init");
            }
        }
        let is_list = matches!(entry.key.as_str(), "runcmd" | "write_files");
        let is_written = chunk.line(entry.line).is_some_and(|line| line.starts_with(&entry.key));
        if self.cut && is_list && is_written {
            let text = format!(
                "a second {}: cloud-init forgets the server's for it; here it is added to the server's",
                entry.key
            );
            self.findings.warn(self.place(entry.line), text);
        }
    }

    fn section(&mut self, entry: &Entry) {
        if self.cni.section.is_some() {
            return self.fault(entry.line, "a second cks: section");
        }
        let mut entry = entry.clone();
        let rendered = self.rendered;
        entry.line = rendered.source_line(entry.line);
        entry.value.relocate(&|line| rendered.source_line(line));
        self.cni.section = Some(entry);
    }

    /// A Kubernetes object, which is applied as it is written.
    fn object(&mut self, root: &Node, chunk: &Chunk<'_>) {
        let has = |key: &str| root.get(key).and_then(Node::text).is_some();
        if !has("apiVersion") && self.cut && chunk.at == 0 {
            let what = "this object has no apiVersion: the management server cuts off the first line of the text; begin it with a \
                        line #cloud-config";
            return self.fault(1, what);
        }
        for key in ["apiVersion", "kind"] {
            if !has(key) {
                return self.fault(root.line, format!("this Kubernetes object has no {key}"));
            }
        }
        let named = ["name", "generateName"].into_iter().any(|key| root.at(&["metadata", key]).is_some());
        if !named && root.get("items").is_none() {
            return self.fault(root.line, "this Kubernetes object has no metadata.name");
        }
        if self.cut {
            let text = "Kubernetes objects: cloud-init can't read the user data with them; here they are applied";
            self.findings.warn(self.part.at(0), text);
        }
        self.step(
            root.line,
            crate::node_spec::cni::CniAction::Objects { text: chunk.text.trim_matches('\n').to_owned() + "\n" },
        );
    }
}

#[cfg(test)]
mod tests;
