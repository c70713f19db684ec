//! Reads Kubernetes manifests: which images they name, what kinds of objects they hold, and the same
//! manifest with `imagePullPolicy: IfNotPresent`. `docs/building.md` ("Images named by manifests")
//! has the rules.

mod applyable;
mod custom;
mod document;
mod embedded;
mod events;
mod found;
mod objects;
mod policy;
mod survey;
#[cfg(test)]
mod tests;

use bootstrap::failure::Failure;

pub use applyable::check_applyable;
pub use bootstrap::bundle::reference::names;
pub use document::{MAX_NODES, MAX_STEPS};
pub use events::{MAX_DEPTH, MAX_MARKS, MAX_TEXT};
pub use found::MAX_FOUND;
pub use objects::{MAX_OBJECTS, objects};
pub use policy::if_not_present;

/// An image that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The reference as written, without quotes: `calico/node:v3.28.0`; put together where the manifest
    /// has it in parts. It keeps to [`bootstrap::bundle::reference`].
    pub image: String,
    /// Line of the text, from 1. Behind an alias that of the anchored text.
    pub line: usize,
    /// Column, in characters from 1.
    pub column: usize,
    /// Whose it is: `Deployment kube-system/coredns`.
    pub object: String,
    /// Where in it: `spec.template.spec.containers[0].image`.
    pub path: String,
    /// What names it.
    pub origin: Origin,
    /// The container's `imagePullPolicy`, an image volume's `pullPolicy`; none elsewhere or unset.
    pub policy: Option<String>,
}

/// What names an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A container, initContainer or ephemeralContainer.
    Container,
    /// A volume whose source is an image.
    Volume,
    /// A variable like `RELATED_IMAGE_X`, of a container or of a ConfigMap.
    Environment,
    /// A command-line argument like `--sidecar-image=REF`.
    Argument,
    /// A field of a custom resource.
    Custom,
}

impl Reference {
    /// Whether kubelet asks a registry although the node has the image: by policy, or by the tag
    /// `latest` where there is none. Rewriting by [`if_not_present`] heals the first, only a tag or
    /// digest the second.
    #[must_use]
    pub fn pulls_always(&self) -> bool {
        use bootstrap::bundle::layout::{normalise_reference, tag};
        let run = matches!(self.origin, Origin::Container | Origin::Volume);
        match self.policy.as_deref() {
            Some(policy) => run && policy == "Always",
            None => run && !self.image.contains('@') && tag(&normalise_reference(&self.image)) == Some("latest"),
        }
    }
}

/// A place that names an image, or makes something else name one, without telling which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unclear {
    /// Line of the text, from 1.
    pub line: usize,
    /// Column, in characters from 1.
    pub column: usize,
    /// Whose it is: `Installation default`.
    pub object: String,
    /// Where in it: `spec.registry`; empty for the object itself.
    pub path: String,
    /// What is not told, one line: `\`quay.io/x/y\` has neither tag nor digest`.
    pub why: String,
}

/// What [`survey`] finds, by line and column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// The images.
    pub references: Vec<Reference>,
    /// What a person has to look at: an image is perhaps missing in `references`.
    pub unclear: Vec<Unclear>,
}

/// An object of a manifest. A field that it lacks is empty; a document that is no mapping lacks all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// `kube-system`.
    pub namespace: String,
    /// `coredns`.
    pub name: String,
    /// Line of the text on which it begins, from 1.
    pub line: usize,
}

/// Every image that the manifests in `text` name.
///
/// # Errors
/// `CONTENT_INVALID` with line and column where the text is no YAML, is beyond a limit, or where a
/// workload's image is no reference.
pub fn images(text: &str) -> Result<Vec<Reference>, Failure> {
    Ok(survey(text)?.references)
}

/// Every image that the manifests in `text` name, and what could not be told.
///
/// # Errors
/// As for [`images`].
pub fn survey(text: &str) -> Result<Survey, Failure> {
    survey::survey(text)
}
