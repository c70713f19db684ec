//! Manifests inside manifests: the values of a ConfigMap that are YAML themselves, as the pod that a
//! storage provisioner starts. What is configuration or a template for another program is not known to
//! be applied: it is told as unclear.

use bootstrap::failure::Failure;
use saphyr_parser::ScalarStyle;

use super::document::{Documents, Id, Value};
use super::events::Place;
use super::found::{Spot, Step, path};
use super::survey::{Walk, heads};

/// Where an inner text lies in the outer one.
#[derive(Debug, Clone)]
pub(super) struct Shift {
    /// The outer scalar.
    place: Place,
    /// Lines and columns before the inner text's first; none where the scalar is not literal (`|`) and
    /// inner places can't be told.
    before: Option<(usize, usize)>,
    /// The path of the scalar: `data["pod.yaml"]`.
    pub(super) within: String,
    /// Whether the inner document says of no object what it is.
    pub(super) configuration: bool,
}

impl Shift {
    pub(super) fn outer(&self, inner: Place) -> Place {
        match self.before {
            Some((lines, columns)) => Place { line: inner.line + lines, column: inner.column + columns },
            None => self.place,
        }
    }
}

/// Searches the text at `value` of `walk`'s document.
pub(super) fn search(walk: &mut Walk<'_, '_, '_>, value: Id) -> Result<(), Failure> {
    let document = walk.document;
    let Value::Scalar(text, style) = &document.node(value).value else { return Ok(()) };
    let place = document.place(value);
    // What is read once more costs once more.
    walk.found.budget.spend(text.len() / 8, place)?;
    if !(text.contains('\n') || text.starts_with(['{', '['])) || !text.contains("mage") {
        return Ok(());
    }
    let shift = shift(walk, place, text, *style);
    let before = (walk.found.survey.references.len(), walk.found.survey.unclear.len());
    if text.contains("{{") || inside(walk, text, &shift)?.is_none() {
        // What a text began with is not known to be YAML where its end is not.
        walk.found.survey.references.truncate(before.0);
        walk.found.survey.unclear.truncate(before.1);
        let why = if text.contains("{{") {
            "a template for another program names images"
        } else if walk.steps.last().is_some_and(is_yaml_name) {
            "a text that is no YAML names images"
        } else {
            return Ok(());
        };
        if let Some(line) = text.lines().position(names_image) {
            let place = shift.outer(Place { line: line + 1, column: 1 });
            let spot = Spot { place, object: walk.object.clone(), path: path(&walk.steps) };
            walk.found.unclear(spot, why)?;
        }
    }
    Ok(())
}

fn shift(walk: &Walk<'_, '_, '_>, place: Place, text: &str, style: ScalarStyle) -> Shift {
    // The place is that of the first line with content.
    let content = text.trim_start_matches('\n');
    let spaces = content.len() - content.trim_start_matches(' ').len();
    let before = (place.line.checked_sub(1 + text.len() - content.len())).zip(place.column.checked_sub(1 + spaces));
    Shift {
        place,
        before: before.filter(|_| style == ScalarStyle::Literal),
        within: path(&walk.steps),
        configuration: false,
    }
}

/// Walks the documents of `text`; none where it is no YAML.
fn inside(walk: &mut Walk<'_, '_, '_>, text: &str, shift: &Shift) -> Result<Option<()>, Failure> {
    let Ok(mut documents) = Documents::new(text) else { return Ok(None) };
    loop {
        let document = match documents.next() {
            Ok(Some(document)) => document,
            Ok(None) => return Ok(Some(())),
            Err(_) => return Ok(None),
        };
        for head in heads(&document, &mut walk.found.budget)? {
            let configuration = head.kind.is_empty() || head.api_version.is_empty();
            let mut inner = Walk::new(&document, walk.found, walk.object.clone(), &head);
            inner.shift = Some(Shift { configuration, ..shift.clone() });
            if configuration {
                inner.fragment(head.id)?;
            } else {
                inner.object(&head)?;
            }
        }
    }
}

fn is_yaml_name(step: &Step<'_>) -> bool {
    matches!(step, Step::Key(key) if [".yaml", ".yml", ".json"].iter().any(|end| key.ends_with(end)))
}

/// Whether a line has a key `image` with a value, as YAML or JSON writes it.
fn names_image(line: &str) -> bool {
    let line = line.trim_start().trim_start_matches("- ").trim_start();
    let line = line.strip_prefix('"').unwrap_or(line);
    let rest = line.strip_prefix("image").map(|rest| rest.strip_prefix('"').unwrap_or(rest));
    rest.and_then(|rest| rest.strip_prefix(':')).is_some_and(|value| !value.trim().is_empty())
}
