//! The parser's events with limits and places: nothing of a text is believed before it is counted.

use std::collections::HashSet;
use std::ops::Range;

use bootstrap::failure::{Code, Failure};
use bootstrap::text::plain;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput};

/// The longest text that is read, in bytes. Calico's largest manifest has 2.5 MB.
pub const MAX_TEXT: usize = 8 << 20;

/// Characters with a meaning to YAML (`[ ] { } , :`) in one text: the parser holds a flow collection's
/// tokens until it ends.
pub const MAX_MARKS: usize = 1 << 20;

/// Collections inside each other, also by way of aliases. Large CRDs have 60.
pub const MAX_DEPTH: usize = 200;

/// Where something stands; both from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Place {
    /// The place `text` further on.
    fn after(self, text: &str) -> Self {
        let breaks = text.matches("\r\n").count();
        let lines = text.matches(['\r', '\n']).count() - breaks;
        match text.rfind(['\r', '\n']) {
            Some(at) => Self { line: self.line + lines, column: text[at + 1..].chars().count() + 1 },
            None => Self { line: self.line, column: self.column + text.chars().count() },
        }
    }
}

/// What is wrong at `place`.
pub(super) fn invalid(place: Place, cause: impl AsRef<str>) -> Failure {
    let what = format!("line {}, column {}: {}", place.line, place.column, plain(cause.as_ref()));
    Failure::new(Code::ContentInvalid, what).with_remedy("correct the manifest at that line")
}

/// One event, where it stands, and its bytes in the text. The bytes of a scalar begin with its anchor and
/// tag; a quoted one's go on to the end of its line.
#[derive(Debug)]
pub(super) struct Located<'a> {
    pub(super) event: Event<'a>,
    pub(super) place: Place,
    pub(super) range: Range<usize>,
}

/// The events of a text, bounded.
pub(super) struct Events<'a> {
    text: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    offsets: Offsets,
    /// The open collections, by their anchor; 0 for none.
    open: Vec<usize>,
    /// The anchors of this document: the parser lets them live on in the next, YAML doesn't.
    anchors: HashSet<usize>,
}

impl<'a> Events<'a> {
    pub(super) fn new(text: &'a str) -> Result<Self, Failure> {
        let start = Place { line: 1, column: 1 };
        if text.len() > MAX_TEXT {
            return Err(invalid(start, format!("the text is longer than {} MiB", MAX_TEXT >> 20)));
        }
        if text.bytes().filter(|byte| b"[]{},:".contains(byte)).nth(MAX_MARKS).is_some() {
            return Err(invalid(start, format!("the text has more than {MAX_MARKS} of [ ] {{ }} , :")));
        }
        let (parser, offsets) = (Parser::new_from_str(text), Offsets::new(text));
        Ok(Self { text, parser, offsets, open: Vec::new(), anchors: HashSet::new() })
    }

    /// The next event, none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Located<'a>>, Failure> {
        let Some(next) = self.parser.next_event() else { return Ok(None) };
        let (event, span) = next.map_err(|e| invalid(place(e.marker()), e.info()))?;
        let at = place(&span.start);
        self.nest(&event, at)?;
        let range = self.offsets.byte(self.text, span.start.index())..self.offsets.byte(self.text, span.end.index());
        let place = match &event {
            Event::Scalar(_, style, ..) => at.after(&self.text[range.start..self.content(&range, *style)]),
            _ => at,
        };
        Ok(Some(Located { event, place, range }))
    }

    fn nest(&mut self, event: &Event<'_>, at: Place) -> Result<(), Failure> {
        match event {
            Event::DocumentStart(_) => self.anchors.clear(),
            Event::MappingStart(anchor, _) | Event::SequenceStart(anchor, _) => {
                self.open.push(*anchor);
                self.anchors.insert(*anchor);
            }
            Event::Scalar(_, _, anchor, _) if *anchor != 0 => drop(self.anchors.insert(*anchor)),
            Event::MappingEnd | Event::SequenceEnd => drop(self.open.pop()),
            Event::Alias(anchor) if self.open.contains(anchor) => {
                return Err(invalid(at, "an alias inside what it stands for"));
            }
            Event::Alias(anchor) if !self.anchors.contains(anchor) => {
                return Err(invalid(at, "an alias for an anchor of another document"));
            }
            _ => {}
        }
        if self.open.len() > MAX_DEPTH {
            return Err(too_deep(at));
        }
        Ok(())
    }

    /// Where the content of the scalar at `range` begins, behind anchor, tag and a block scalar's header.
    pub(super) fn content(&self, range: &Range<usize>, style: ScalarStyle) -> usize {
        let mut rest = &self.text[range.clone()];
        loop {
            rest = rest.trim_start();
            let end = match rest.bytes().next() {
                Some(b'&' | b'!') => rest.find(char::is_whitespace),
                Some(b'#') if style != ScalarStyle::Literal && style != ScalarStyle::Folded => rest.find('\n'),
                // A block scalar behind an anchor: its header ends with the line.
                Some(b'|' | b'>') if range.end - rest.len() > range.start => rest.find('\n'),
                _ => break,
            };
            let header = rest.starts_with(['|', '>']);
            rest = end.map_or("", |end| &rest[end..]);
            if header {
                rest = rest.trim_start();
                break;
            }
        }
        // An empty scalar may have nothing but its anchor.
        range.end - rest.len()
    }
}

pub(super) fn too_deep(place: Place) -> Failure {
    invalid(place, format!("more than {MAX_DEPTH} collections inside each other"))
}

fn place(marker: &Marker) -> Place {
    Place { line: marker.line().max(1), column: marker.col() + 1 }
}

/// Byte offsets of characters: the parser counts characters.
struct Offsets {
    /// The offset of every 64th character; empty where each character is one byte.
    every: Vec<usize>,
}

const STEP: usize = 64;

impl Offsets {
    fn new(text: &str) -> Self {
        if text.is_ascii() {
            return Self { every: Vec::new() };
        }
        Self { every: text.char_indices().step_by(STEP).map(|(at, _)| at).collect() }
    }

    fn byte(&self, text: &str, character: usize) -> usize {
        if self.every.is_empty() {
            return character.min(text.len());
        }
        let Some(start) = self.every.get(character / STEP) else { return text.len() };
        text[*start..].char_indices().nth(character % STEP).map_or(text.len(), |(at, _)| start + at)
    }
}
