//! The images that Kubernetes manifests name, and whether an ISO has them.

use bootstrap::bundle::{Image, layout, reference};
use bootstrap::failure::{Code, Failure};

use crate::manifests;

/// An image, and who names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// The reference as Docker normalises it, tag and digest kept.
    pub reference: String,
    /// `network.yaml:4410`, `kubernetes`, `the spec`.
    pub by: String,
}

/// The images that the manifest called `name` names, in the order of its lines.
///
/// # Errors
/// `CONTENT_INVALID` names the line.
pub fn of_manifest(name: &str, text: &str) -> Result<Vec<Named>, Failure> {
    let mut found = Vec::new();
    for image in manifests::images(text)? {
        let by = format!("{name}:{}", image.line);
        let reference = layout::normalise_reference(&image.image);
        layout::check_reference(&reference).map_err(|reason| {
            Failure::new(Code::ContentInvalid, format!("line {}: image {:?} {reason}", image.line, image.image))
        })?;
        found.push(Named { reference, by });
    }
    Ok(found)
}

/// What `named` names and `images` lack, a line each, every reference once.
#[must_use]
pub fn missing(named: &[Named], images: &[Image]) -> Vec<String> {
    let has = |name: &String| images.iter().any(|image| image.reference == *name);
    let mut told = std::collections::BTreeSet::new();
    let lacking = named.iter().filter(|named| !reference::names(&named.reference).iter().all(has));
    let lacking = lacking.filter(|named| told.insert(&named.reference));
    lacking.map(|Named { reference, by }| format!("{by}: the image {reference} is not on the ISO")).collect()
}
