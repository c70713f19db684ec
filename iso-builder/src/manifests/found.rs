//! What a walk has found so far, and how it is told: bounded, whatever the text repeats.

use bootstrap::bundle::reference;
use bootstrap::failure::Failure;
use bootstrap::text::plain;

use super::document::Budget;
use super::events::{Place, invalid};
use super::{Origin, Reference, Survey, Unclear};

/// References and unclear places of one text.
pub const MAX_FOUND: usize = 10_000;

/// Characters of a key or value in a message.
const SHOWN: usize = 80;

pub(super) struct Found {
    pub(super) survey: Survey,
    pub(super) budget: Budget,
}

/// A step into an object.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'d> {
    Key(&'d str),
    At(usize),
}

/// Where something was found.
pub(super) struct Spot {
    pub(super) place: Place,
    pub(super) object: String,
    pub(super) path: String,
}

impl Found {
    pub(super) fn new() -> Self {
        Self { survey: Survey::default(), budget: Budget::new() }
    }

    pub(super) fn reference(
        &mut self,
        spot: Spot,
        image: String,
        origin: Origin,
        policy: Option<String>,
    ) -> Result<(), Failure> {
        self.count(spot.place)?;
        let Spot { place: Place { line, column }, object, path } = spot;
        let reference = Reference { image, line, column, object, path, origin, policy };
        self.survey.references.push(reference);
        Ok(())
    }

    pub(super) fn unclear(&mut self, spot: Spot, why: impl Into<String>) -> Result<(), Failure> {
        self.count(spot.place)?;
        let Spot { place: Place { line, column }, object, path } = spot;
        self.survey.unclear.push(Unclear { line, column, object, path, why: why.into() });
        Ok(())
    }

    /// A text of which only the author knows that it is an image: it counts when it is a reference with
    /// tag or digest.
    pub(super) fn weak(&mut self, spot: Spot, text: &str, origin: Origin) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        match reference::check(text) {
            Err(why) => self.unclear(spot, format!("`{}` is no image reference: it {why}", shown(text))),
            Ok(()) if reference::is_exact(text) => self.reference(spot, text.to_owned(), origin, None),
            Ok(()) => self.unclear(spot, format!("`{}` has neither tag nor digest", shown(text))),
        }
    }

    fn count(&self, place: Place) -> Result<(), Failure> {
        if self.survey.references.len() + self.survey.unclear.len() >= MAX_FOUND {
            return Err(invalid(place, format!("more than {MAX_FOUND} images")));
        }
        Ok(())
    }
}

/// `text` for a message: short, and nothing in it that a terminal obeys.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => plain(&text[..end]) + "…",
        None => plain(text),
    }
}

/// `spec.containers[0].image`; a key with other characters than a name has is quoted.
pub(super) fn path(steps: &[Step<'_>]) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            Step::At(index) => path += &format!("[{index}]"),
            Step::Key(key) if key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') => {
                if !path.is_empty() {
                    path.push('.');
                }
                path += &shown(key);
            }
            Step::Key(key) => path += &format!("[\"{}\"]", shown(key)),
        }
    }
    path
}
