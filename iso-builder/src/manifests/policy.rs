//! `imagePullPolicy: IfNotPresent` everywhere, by replacing the bytes of the values alone.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use bootstrap::failure::Failure;
use saphyr_parser::{Event, ScalarStyle};

use super::events::{Events, Located, Place, invalid};

const KEY: &str = "imagePullPolicy";
const WANTED: &str = "IfNotPresent";

/// `text` with `IfNotPresent` in place of every `imagePullPolicy` that is written as a text, quoted or
/// not; every other byte stays, and none is added where there is no value. Manifests inside the texts of
/// others stay as they are.
///
/// # Errors
/// `CONTENT_INVALID` with line and column where `text` is no YAML or beyond a limit, where a policy
/// is a text of several words, or an anchor of one is used as something else too.
pub fn if_not_present(text: &str) -> Result<String, Failure> {
    let mut rewrite = Rewrite::default();
    let mut events = Events::new(text)?;
    while let Some(located) = events.next()? {
        rewrite.event(text, &events, &located)?;
    }
    let mut written = String::with_capacity(text.len());
    let mut done = 0;
    for range in rewrite.ranges {
        written += &text[done..range.start];
        written += WANTED;
        done = range.end;
    }
    written += &text[done..];
    Ok(written)
}

/// An open collection.
enum Open {
    Sequence,
    /// A mapping: whether a key comes next, and whether the last key was [`KEY`].
    Mapping {
        at_key: bool,
        policy: bool,
    },
}

#[derive(Default)]
struct Rewrite {
    open: Vec<Open>,
    /// Bytes to replace, in order.
    ranges: Vec<Range<usize>>,
    /// Anchors of all scalars, and of those that are policies.
    scalars: HashSet<usize>,
    policies: HashMap<usize, Place>,
}

impl Rewrite {
    fn event(&mut self, text: &str, events: &Events<'_>, located: &Located<'_>) -> Result<(), Failure> {
        match &located.event {
            Event::Scalar(value, style, anchor, _) => {
                self.scalars.extend(Some(*anchor).filter(|anchor| *anchor != 0));
                if self.is_policy() {
                    self.ranges.extend(range(text, events, located, value, *style)?);
                    if *anchor != 0 {
                        self.policies.insert(*anchor, located.place);
                    }
                }
                self.node(value == KEY);
            }
            Event::Alias(anchor) => {
                if self.is_policy() && self.scalars.contains(anchor) {
                    self.ranges.push(located.range.clone());
                } else if self.policies.contains_key(anchor) {
                    return Err(invalid(located.place, "the anchor of an imagePullPolicy is used as something else"));
                }
                self.node(false);
            }
            Event::SequenceStart(..) => self.open.push(Open::Sequence),
            Event::MappingStart(..) => self.open.push(Open::Mapping { at_key: true, policy: false }),
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
                self.node(false);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the next node is the value of an `imagePullPolicy`.
    fn is_policy(&self) -> bool {
        matches!(self.open.last(), Some(Open::Mapping { at_key: false, policy: true }))
    }

    /// A node has ended; `is_key` tells whether it reads [`KEY`].
    fn node(&mut self, is_key: bool) {
        if let Some(Open::Mapping { at_key, policy }) = self.open.last_mut() {
            *policy = *at_key && is_key;
            *at_key = !*at_key;
        }
    }
}

/// The bytes of a policy, without quotes; none where nothing is written.
fn range(
    text: &str,
    events: &Events<'_>,
    located: &Located<'_>,
    value: &str,
    style: ScalarStyle,
) -> Result<Option<Range<usize>>, Failure> {
    let start = events.content(&located.range, style);
    let content = &text[start..located.range.end];
    let word = value.trim();
    let found = match style {
        ScalarStyle::Plain => (!value.is_empty()).then(|| start..start + content.trim_end().len()),
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => {
            let Some(end) = closing_quote(content) else {
                return Err(invalid(located.place, "a quoted imagePullPolicy without end"));
            };
            Some(start + 1..start + end)
        }
        ScalarStyle::Literal | ScalarStyle::Folded if word.is_empty() => None,
        ScalarStyle::Literal | ScalarStyle::Folded => {
            let Some(at) = content.rfind(word).filter(|_| !word.contains(char::is_whitespace)) else {
                return Err(invalid(located.place, "an imagePullPolicy of several words"));
            };
            Some(start + at..start + at + word.len())
        }
    };
    Ok(found)
}

/// Where the quote ends that `content` begins with.
fn closing_quote(content: &str) -> Option<usize> {
    let bytes = content.as_bytes();
    let quote = *bytes.first()?;
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (quote == b'"' && byte == b'\\') || (quote == b'\'' && bytes[at..].starts_with(b"''"));
        if escaped {
            at += 2;
        } else if byte == quote {
            return Some(at);
        } else {
            at += 1;
        }
    }
    None
}
