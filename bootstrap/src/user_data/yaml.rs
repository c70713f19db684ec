//! A YAML tree whose every node knows its line, over the events of `saphyr-parser`.
//!
//! It is read as PyYAML reads it, because that is what cloud-init does: of equal keys the last counts (both are kept
//! here), `<<` merges, and an alias stands for what it names. Nothing of a text is believed before it is counted.

mod reader;

use saphyr_parser::Event;

use self::reader::Reader;

/// The longest text that is read, in bytes. CloudStack takes 1 MiB of base64.
pub const MAX_TEXT: usize = 4 << 20;

/// Nodes of one text, those behind aliases each time: what ends an alias bomb.
pub const MAX_NODES: usize = 100_000;

/// Collections inside each other.
pub const MAX_DEPTH: usize = 64;

/// Characters with a meaning to YAML (`[ ] { } , :`) in one text: the parser holds a flow collection's tokens until it
/// ends.
const MAX_MARKS: usize = 1 << 18;

/// Bytes in the scalars of one text, those behind aliases each time.
const MAX_SCALARS: usize = 2 * MAX_TEXT;

/// What is wrong with a text, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, in words.
    pub what: String,
}

/// A node and the lines that it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The line that it begins in, from 1; of a block scalar (`|`, `>`), that of its
    /// first line that is not empty.
    pub line: usize,
    /// The line that it ends in.
    pub end: usize,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Scalar {
        /// The text.
        text: String,
        /// How it is written.
        style: Style,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, its keys in the order of the text; equal ones are all there.
    Map(Vec<Entry>),
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: it may be null, a number, a truth value.
    Plain,
    /// In quotes.
    Quoted,
    /// As a block (`|`, `>`).
    Block,
}

/// A key of a mapping with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key; one that is no scalar is the empty text.
    pub key: String,
    /// The key's line.
    pub line: usize,
    /// The value.
    pub value: Node,
}

/// A key that stands twice in one mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// The key.
    pub key: String,
    /// The line of the one that does not count.
    pub first: usize,
    /// The line of the one that does.
    pub second: usize,
}

/// A document of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its root; none in an empty document.
    pub root: Option<Node>,
    /// Keys that stand twice.
    pub duplicates: Vec<Duplicate>,
    /// The line of its first node, or of its `---`.
    pub line: usize,
}

impl Node {
    /// The text of a scalar that is not null.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// Whether it is null: nothing, `~`, `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, style: Style::Plain }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// A truth value as YAML 1.1 has them: `yes`, `on` and `true` are the same.
    #[must_use]
    pub fn truth(&self) -> Option<bool> {
        match self.text()?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            _ => None,
        }
    }

    /// The items of a sequence.
    #[must_use]
    pub fn list(&self) -> Option<&[Self]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of a mapping.
    #[must_use]
    pub fn map(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value of `key` in a mapping, of several the last.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.map()?.iter().rfind(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The value at the end of `path`.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The line that its text begins in.
    #[must_use]
    pub fn first_line(&self) -> usize {
        match &self.value {
            Value::Scalar { text, style: Style::Block } => {
                self.line.saturating_sub(text.len() - text.trim_start_matches('\n').len()).max(1)
            }
            _ => self.line,
        }
    }

    /// The same node at other lines.
    pub(super) fn relocate(&mut self, place: &impl Fn(usize) -> usize) {
        self.line = place(self.line);
        self.end = place(self.end);
        match &mut self.value {
            Value::Scalar { .. } => {}
            Value::List(items) => items.iter_mut().for_each(|item| item.relocate(place)),
            Value::Map(entries) => entries.iter_mut().for_each(|entry| {
                entry.line = place(entry.line);
                entry.value.relocate(place);
            }),
        }
    }

    /// What it is, for people.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.value {
            _ if self.is_null() => "nothing",
            Value::Scalar { .. } => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    fn depth(&self) -> usize {
        match &self.value {
            Value::Scalar { .. } => 0,
            Value::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or_default(),
            Value::Map(entries) => 1 + entries.iter().map(|entry| entry.value.depth()).max().unwrap_or_default(),
        }
    }

    /// Nodes in it, and bytes in their texts.
    fn weight(&self) -> (usize, usize) {
        let add = |(nodes, bytes): (usize, usize), node: &Self| {
            let (more, text) = node.weight();
            (nodes + more, bytes + text)
        };
        match &self.value {
            Value::Scalar { text, .. } => (1, text.len()),
            Value::List(items) => items.iter().fold((1, 0), add),
            Value::Map(entries) => entries.iter().fold((1, 0), |sum, entry| add(sum, &entry.value)),
        }
    }
}

/// The documents of `text`.
///
/// # Errors
/// What ends the reading, and the line of it.
pub fn documents(text: &str) -> Result<Vec<Document>, Fault> {
    if text.len() > MAX_TEXT {
        return Err(Fault { line: 1, what: format!("the text is longer than {} MiB", MAX_TEXT >> 20) });
    }
    if text.bytes().filter(|byte| b"[]{},:".contains(byte)).nth(MAX_MARKS).is_some() {
        return Err(Fault { line: 1, what: format!("the text has more than {MAX_MARKS} of [ ] {{ }} , :") });
    }
    let mut reader = Reader::new(text);
    let mut documents = Vec::new();
    while let Some((event, span)) = reader.next()? {
        if let Event::DocumentStart(_) = event {
            documents.push(reader.document(&span)?);
        }
    }
    Ok(documents)
}

/// The one document of `text`; an empty text is one without a root.
///
/// # Errors
/// What ends the reading, and the line of it; a second document.
pub fn document(text: &str) -> Result<Document, Fault> {
    let mut documents = documents(text)?.into_iter();
    let first = documents.next().unwrap_or(Document { root: None, duplicates: Vec::new(), line: 1 });
    match documents.next() {
        Some(second) => Err(Fault { line: second.line, what: "a second YAML document begins here".to_owned() }),
        None => Ok(first),
    }
}

#[cfg(test)]
mod tests;
