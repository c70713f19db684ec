//! Fields of custom resources that are images: `image` and `xImage`, as text or in parts.

use bootstrap::bundle::reference;
use bootstrap::failure::Failure;

use super::Origin;
use super::document::{Fields, Id};
use super::found::shown;
use super::survey::Walk;

impl<'d> Walk<'d, '_, '_> {
    /// The field at `value`; `siblings` stand beside it.
    pub(super) fn custom(&mut self, siblings: &Fields<'d>, value: Id) -> Result<(), Failure> {
        let document = self.document;
        if let Some(parts) = document.fields(value, &mut self.found.budget)? {
            return self.parts(&parts, "repository", "tag");
        }
        let Some(text) = document.text(value).filter(|text| !is_other(text)) else { return Ok(()) };
        let beside = |key| siblings.get(key).and_then(|id| document.text(id)).is_some();
        if beside("repository") && beside("version") && !reference::is_exact(text) {
            // The GPU operator's way: {repository, image, version}.
            return self.parts(siblings, "image", "version");
        }
        let spot = self.spot_of(value);
        match reference::check(text) {
            // Where names of pods' images are configured, another fragment is not said to be applied.
            Ok(()) if reference::is_exact(text) && self.shift.as_ref().is_some_and(|shift| shift.configuration) => {
                self.found.unclear(spot, format!("`{}` stands in a configuration file: is it an image?", shown(text)))
            }
            _ => self.found.weak(spot, text, Origin::Custom),
        }
    }

    /// `{registry, repository, tag, digest}`, or with `image` below `repository` and `version`.
    fn parts(&mut self, parts: &Fields<'d>, name: &str, tag: &str) -> Result<(), Failure> {
        let document = self.document;
        let text = |key: &str| parts.get(key).and_then(|id| document.text(id)).filter(|text| !text.is_empty());
        let (Some(place), Some(named)) = (parts.get(name), text(name)) else { return Ok(()) };
        let above = if name == "image" { text("repository") } else { text("registry") };
        let mut image = above.map_or(String::new(), |above| format!("{}/", cut(above)));
        image += cut(named);
        match (text(tag), text("digest")) {
            // A digest where the tag goes, as the GPU operator takes it.
            (Some(tag), None) if tag.starts_with("sha256:") => image = image + "@" + cut(tag),
            (tag, digest) => {
                image += &tag.map_or(String::new(), |tag| format!(":{}", cut(tag)));
                image += &digest.map_or(String::new(), |digest| format!("@{}", cut(digest)));
            }
        }
        let spot = self.spot_of(place);
        if self.shift.as_ref().is_some_and(|shift| shift.configuration) {
            return self.found.unclear(spot, format!("`{}` stands in a configuration file", shown(&image)));
        }
        self.found.weak(spot, &image, Origin::Custom)
    }
}

/// A part of a reference; what is longer than any reference need not be whole to be refused.
fn cut(text: &str) -> &str {
    text.char_indices().nth(600).map_or(text, |(end, _)| &text[..end])
}

/// Truth values and numbers: `useImage: true`.
fn is_other(text: &str) -> bool {
    matches!(text, "true" | "false" | "True" | "False") || text.parse::<f64>().is_ok()
}
