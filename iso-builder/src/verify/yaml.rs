//! The Kubernetes manifests of a bundle: can they be applied, and does a node without a network have
//! every image that they name.

use std::collections::BTreeSet;

use bootstrap::bundle::{Kind, layout};
use bootstrap::failure::Failure;

use super::{Finding, finding};
use crate::manifests::{self, Reference, names};
use crate::opened::Opened;
use crate::text;

/// A manifest larger than this is none.
pub const MAX_TEXT: u64 = 8 << 20;

/// The name that the kubelet asks containerd for when a pod says `image`: with a digest the tag is dropped.
#[must_use]
pub fn asked_for(image: &str) -> String {
    names(image).pop().unwrap_or_default()
}

/// What is wrong with the manifest `file` in itself, and the images that it names.
#[must_use]
pub fn read(file: &str, bytes: &[u8]) -> (Vec<Finding>, Vec<Reference>) {
    let text = String::from_utf8_lossy(bytes);
    let checked = text::check_text(file, bytes).and_then(|()| manifests::check_applyable(file, &text));
    let survey = match checked.and_then(|()| manifests::survey(&text)) {
        Ok(survey) => survey,
        Err(failure) => {
            let what = failure.what.strip_prefix(file).unwrap_or(&failure.what);
            let (line, what) = placed(what.trim_start_matches([':', ' ']));
            return (vec![finding("manifest-yaml", what).at(file, line)], Vec::new());
        }
    };
    let always = survey.references.iter().filter(|reference| reference.pulls_always()).map(|reference| {
        let why = if reference.policy.is_some() { "imagePullPolicy: Always" } else { "the tag latest and no policy" };
        let what = format!("{} has {why} for {}", reference.object, reference.image);
        finding("pull-policy", what).at(file, Some(reference.line))
    });
    let unclear = survey.unclear.iter().map(|place| {
        let what = format!("{} {}: {}", place.object, place.path, place.why);
        finding("image-unclear", what).at(file, Some(place.line))
    });
    (always.chain(unclear).collect(), survey.references)
}

/// `line 12, column 3: cause` → line 12 and the cause.
fn placed(what: &str) -> (Option<usize>, String) {
    let parts = || {
        let (line, rest) = what.strip_prefix("line ")?.split_once(", column ")?;
        Some((line.parse().ok()?, rest.split_once(": ")?.1.to_owned()))
    };
    match parts() {
        Some((line, cause)) => (Some(line), cause),
        None => (None, what.to_owned()),
    }
}

/// The references that none of `held` answers.
#[must_use]
pub fn missing(file: &str, references: &[Reference], held: &BTreeSet<String>) -> Vec<Finding> {
    let missing = references.iter().filter_map(|reference| {
        let name = asked_for(&reference.image);
        let how = if name == reference.image { String::new() } else { format!(", asked for as {name}") };
        let what = format!("{} wants the image {}{how}, which no archive names", reference.object, reference.image);
        (!held.contains(&name)).then(|| finding("image-missing", what).at(file, Some(reference.line)))
    });
    missing.collect()
}

/// All manifests of `bundle`, whose archives name the images `held`.
pub(super) fn manifests(bundle: &Opened, held: &BTreeSet<String>) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    for file in bundle.files.iter().filter(|file| layout::kind_of(&file.path) == Kind::ClusterManifest) {
        if file.content.length() > MAX_TEXT {
            let what = format!("has {} bytes: no manifest", file.content.length());
            findings.push(finding("manifest-yaml", what).at(&file.path, None));
            continue;
        }
        let (wrong, references) = read(&file.path, &file.content.small(MAX_TEXT)?);
        findings.extend(wrong);
        findings.extend(missing(&file.path, &references, held));
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_asked_for_as_containerd_names_them() {
        for (image, name) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("calico/node:v3", "docker.io/calico/node:v3"),
            ("quay.io/a/b:v1@sha256:00", "quay.io/a/b@sha256:00"),
            ("quay.io/a/b@sha256:00", "quay.io/a/b@sha256:00"),
            ("localhost:5000/a:1@sha256:00", "localhost:5000/a@sha256:00"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
        ] {
            assert_eq!(asked_for(image), name);
        }
    }

    #[test]
    fn the_place_of_a_failure_is_read() {
        assert_eq!(placed("line 12, column 3: a tab"), (Some(12), "a tab".to_owned()));
        assert_eq!(placed("too many"), (None, "too many".to_owned()));
    }
}
