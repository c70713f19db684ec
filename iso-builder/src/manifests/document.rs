//! Documents as values with places. An alias is the same node once more, so that a text's size bounds
//! the document; whoever walks it counts steps.

use std::borrow::Cow;
use std::collections::HashMap;

use bootstrap::failure::Failure;
use saphyr_parser::{Event, ScalarStyle};

use super::events::{Events, MAX_DEPTH, Place, invalid, too_deep};

/// Nodes of one document.
pub const MAX_NODES: usize = 1 << 20;

/// Nodes visited in all documents of a text, those behind aliases each time: what ends an alias bomb.
pub const MAX_STEPS: usize = 4 << 20;

/// A node of a [`Document`].
pub(super) type Id = usize;

#[derive(Debug)]
pub(super) struct Document<'a> {
    nodes: Vec<Node<'a>>,
}

#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) place: Place,
    pub(super) value: Value<'a>,
}

#[derive(Debug)]
pub(super) enum Value<'a> {
    Scalar(Cow<'a, str>, ScalarStyle),
    Sequence(Vec<Id>),
    Mapping(Vec<(Id, Id)>),
}

/// Steps that are left.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn new() -> Self {
        Self(MAX_STEPS)
    }

    pub(super) fn spend(&mut self, steps: usize, place: Place) -> Result<(), Failure> {
        self.0 = self.0.checked_sub(steps).ok_or_else(|| invalid(place, "aliases make this text too large"))?;
        Ok(())
    }
}

/// The keys of a mapping with those merged in by `<<`, as kubectl reads them (sigs.k8s.io/yaml 1.4): what
/// stands last counts, of equal keys and of a key and a `<<`.
#[derive(Debug, Default)]
pub(super) struct Fields<'d> {
    pub(super) list: Vec<(&'d str, Id)>,
    at: HashMap<&'d str, usize>,
}

impl<'d> Fields<'d> {
    pub(super) fn get(&self, key: &str) -> Option<Id> {
        self.at.get(key).map(|at| self.list[*at].1)
    }

    fn set(&mut self, key: &'d str, value: Id) {
        match self.at.get(key) {
            Some(at) => self.list[*at].1 = value,
            None => {
                self.at.insert(key, self.list.len());
                self.list.push((key, value));
            }
        }
    }
}

impl<'a> Document<'a> {
    /// The root: the node that began first.
    pub(super) const ROOT: Id = 0;

    pub(super) fn node(&self, id: Id) -> &Node<'a> {
        &self.nodes[id]
    }

    pub(super) fn place(&self, id: Id) -> Place {
        self.nodes[id].place
    }

    /// The text of a scalar that is not null.
    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match &self.nodes[id].value {
            Value::Scalar(text, ScalarStyle::Plain) if is_null(text) => None,
            Value::Scalar(text, _) => Some(text),
            _ => None,
        }
    }

    pub(super) fn is_null(&self, id: Id) -> bool {
        matches!(&self.nodes[id].value, Value::Scalar(text, ScalarStyle::Plain) if is_null(text))
    }

    pub(super) fn items(&self, id: Id) -> &[Id] {
        match &self.nodes[id].value {
            Value::Sequence(items) => items,
            _ => &[],
        }
    }

    /// The fields of a mapping; none for anything else.
    pub(super) fn fields(&self, id: Id, budget: &mut Budget) -> Result<Option<Fields<'_>>, Failure> {
        let Value::Mapping(_) = self.nodes[id].value else { return Ok(None) };
        let mut fields = Fields::default();
        self.gather(id, 0, &mut fields, budget)?;
        Ok(Some(fields))
    }

    fn gather<'d>(&'d self, id: Id, depth: usize, fields: &mut Fields<'d>, budget: &mut Budget) -> Result<(), Failure> {
        let Value::Mapping(pairs) = &self.nodes[id].value else { return Ok(()) };
        budget.spend(1 + pairs.len(), self.place(id))?;
        if depth > MAX_DEPTH {
            return Err(too_deep(self.place(id)));
        }
        for (key, value) in pairs {
            match &self.nodes[*key].value {
                Value::Scalar(text, ScalarStyle::Plain) if text == "<<" => match &self.nodes[*value].value {
                    // Of several the first counts.
                    Value::Sequence(several) => {
                        for one in several.iter().rev() {
                            self.gather(*one, depth + 1, fields, budget)?;
                        }
                    }
                    _ => self.gather(*value, depth + 1, fields, budget)?,
                },
                Value::Scalar(text, _) => fields.set(text, *value),
                _ => {}
            }
        }
        Ok(())
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// The documents of a text, one at a time.
pub(super) struct Documents<'a> {
    events: Events<'a>,
}

/// A document that is being read.
#[derive(Default)]
struct Growing<'a> {
    nodes: Vec<Node<'a>>,
    /// The open collections, and what each holds so far.
    open: Vec<(Id, Vec<Id>)>,
    anchors: HashMap<usize, Id>,
}

impl<'a> Documents<'a> {
    pub(super) fn new(text: &'a str) -> Result<Self, Failure> {
        Ok(Self { events: Events::new(text)? })
    }

    /// The next document, none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Document<'a>>, Failure> {
        let mut growing = Growing::default();
        while let Some(located) = self.events.next()? {
            let place = located.place;
            match located.event {
                Event::DocumentEnd => return Ok(Some(Document { nodes: growing.nodes })),
                Event::Scalar(text, style, anchor, _) => growing.leaf(place, anchor, Value::Scalar(text, style))?,
                Event::SequenceStart(anchor, _) => growing.begin(place, anchor, Value::Sequence(Vec::new()))?,
                Event::MappingStart(anchor, _) => growing.begin(place, anchor, Value::Mapping(Vec::new()))?,
                Event::SequenceEnd | Event::MappingEnd => growing.end(),
                Event::Alias(anchor) => growing.alias(anchor),
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {}
            }
        }
        Ok(None)
    }
}

impl<'a> Growing<'a> {
    fn add(&mut self, place: Place, anchor: usize, value: Value<'a>) -> Result<Id, Failure> {
        let id = self.nodes.len();
        if id >= MAX_NODES {
            return Err(invalid(place, format!("more than {MAX_NODES} values in one document")));
        }
        self.nodes.push(Node { place, value });
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        Ok(id)
    }

    fn attach(&mut self, id: Id) {
        if let Some((_, children)) = self.open.last_mut() {
            children.push(id);
        }
    }

    fn leaf(&mut self, place: Place, anchor: usize, value: Value<'a>) -> Result<(), Failure> {
        let id = self.add(place, anchor, value)?;
        self.attach(id);
        Ok(())
    }

    fn begin(&mut self, place: Place, anchor: usize, value: Value<'a>) -> Result<(), Failure> {
        let id = self.add(place, anchor, value)?;
        self.attach(id);
        self.open.push((id, Vec::new()));
        Ok(())
    }

    fn end(&mut self) {
        let Some((id, children)) = self.open.pop() else { return };
        match &mut self.nodes[id].value {
            Value::Mapping(pairs) => *pairs = children.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect(),
            Value::Sequence(items) => *items = children,
            Value::Scalar(..) => {}
        }
    }

    fn alias(&mut self, anchor: usize) {
        if let Some(&id) = self.anchors.get(&anchor) {
            self.attach(id);
        }
    }
}
