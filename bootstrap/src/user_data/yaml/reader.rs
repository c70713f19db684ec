//! Events to a tree, counted.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use super::{Document, Duplicate, Entry, Fault, MAX_DEPTH, MAX_NODES, MAX_SCALARS, Node, Style, Value};
use crate::text::plain;

/// The parser's events, on the way to a tree.
pub(super) struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// What this document's anchors name.
    anchors: HashMap<usize, Node>,
    duplicates: Vec<Duplicate>,
    depth: usize,
    nodes: usize,
    bytes: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let parser = Parser::new_from_str(text);
        Self { parser, anchors: HashMap::new(), duplicates: Vec::new(), depth: 0, nodes: 0, bytes: 0 }
    }

    pub(super) fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Fault> {
        match self.parser.next_event() {
            None | Some(Ok((Event::StreamEnd, _))) => Ok(None),
            Some(Ok(next)) => Ok(Some(next)),
            Some(Err(e)) => Err(Fault { line: e.marker().line().max(1), what: plain(e.info()) }),
        }
    }

    pub(super) fn document(&mut self, start: &Span) -> Result<Document, Fault> {
        // YAML's anchors end with their document.
        self.anchors.clear();
        let mut root = None;
        while let Some((event, span)) = self.next()? {
            if event == Event::DocumentEnd {
                break;
            }
            root = Some(self.node(event, &span)?);
        }
        let line = root.as_ref().map_or(start.start.line().max(1), |root: &Node| root.line);
        Ok(Document { root, duplicates: std::mem::take(&mut self.duplicates), line })
    }

    /// The node that begins with `event`.
    fn node(&mut self, event: Event<'a>, span: &Span) -> Result<Node, Fault> {
        let line = span.start.line().max(1);
        let end = span.end.line().max(line);
        match event {
            Event::Scalar(text, style, anchor, _) => {
                self.spend(1, text.len(), line)?;
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                };
                let node = Node { line, end, value: Value::Scalar { text: text.into_owned(), style } };
                self.anchored(anchor, node)
            }
            Event::SequenceStart(anchor, _) => {
                let (items, end) = self.nested(line, Self::items)?;
                self.anchored(anchor, Node { line, end, value: Value::List(items) })
            }
            Event::MappingStart(anchor, _) => {
                let (entries, end) = self.nested(line, Self::entries)?;
                self.anchored(anchor, Node { line, end, value: Value::Map(entries) })
            }
            Event::Alias(anchor) => {
                let named = self.anchors.get(&anchor).cloned();
                let named =
                    named.ok_or_else(|| Fault { line, what: "an alias inside what it stands for".to_owned() })?;
                let (nodes, bytes) = named.weight();
                self.spend(nodes, bytes, line)?;
                match self.depth + named.depth() > MAX_DEPTH {
                    true => Err(too_deep(line)),
                    false => Ok(Node { line, end, ..named }),
                }
            }
            _ => Err(Fault { line, what: "the text ends in the middle".to_owned() }),
        }
    }

    fn nested<T>(&mut self, line: usize, read: fn(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.spend(1, 0, line)?;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(too_deep(line));
        }
        let nested = read(self)?;
        self.depth -= 1;
        Ok(nested)
    }

    fn items(&mut self) -> Result<(Vec<Node>, usize), Fault> {
        let mut items = Vec::new();
        let mut last = 1;
        while let Some((event, span)) = self.next()? {
            if event == Event::SequenceEnd {
                return Ok((items, last.max(1)));
            }
            let item = self.node(event, &span)?;
            last = item.end;
            items.push(item);
        }
        Err(Fault { line: last, what: "the text ends in the middle of a list".to_owned() })
    }

    fn entries(&mut self) -> Result<(Vec<Entry>, usize), Fault> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut merged = Vec::new();
        let mut last = 1;
        while let Some((event, span)) = self.next()? {
            if event == Event::MappingEnd {
                merge(&mut entries, merged);
                return Ok((entries, last));
            }
            let key = self.node(event, &span)?;
            let Some((event, span)) = self.next()? else { break };
            let value = self.node(event, &span)?;
            last = value.end.max(key.end);
            let line = key.line;
            let key = match key.value {
                Value::Scalar { text, style: Style::Plain } if text == "<<" => {
                    merged.push(value);
                    continue;
                }
                Value::Scalar { text, .. } => text,
                _ => String::new(),
            };
            if let Some(first) = seen.insert(key.clone(), line) {
                self.duplicates.push(Duplicate { key: key.clone(), first, second: line });
            }
            entries.push(Entry { key, line, value });
        }
        Err(Fault { line: last, what: "the text ends in the middle of a mapping".to_owned() })
    }

    fn anchored(&mut self, anchor: usize, node: Node) -> Result<Node, Fault> {
        if anchor != 0 {
            // A copy is kept, so it is counted.
            let (nodes, bytes) = node.weight();
            self.spend(nodes, bytes, node.line)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn spend(&mut self, nodes: usize, bytes: usize, line: usize) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.nodes > MAX_NODES || self.bytes > MAX_SCALARS {
            return Err(Fault { line, what: format!("the text has more than {MAX_NODES} values") });
        }
        Ok(())
    }
}

fn too_deep(line: usize) -> Fault {
    Fault { line, what: format!("more than {MAX_DEPTH} collections inside each other") }
}

/// Adds what `<<` names; a key that is there already is kept.
fn merge(entries: &mut Vec<Entry>, merged: Vec<Node>) {
    let mut there: HashSet<String> = entries.iter().map(|entry| entry.key.clone()).collect();
    for node in merged {
        let maps = match node.value {
            Value::List(items) => items,
            _ => vec![node],
        };
        for map in maps {
            let Value::Map(more) = map.value else { continue };
            for entry in more {
                if there.insert(entry.key.clone()) {
                    entries.push(entry);
                }
            }
        }
    }
}
