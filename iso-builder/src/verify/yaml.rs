//! The Kubernetes manifests of a bundle: can they be applied, and does a node without a network have
//! every image that they name.

use std::collections::BTreeSet;

use bootstrap::bundle::{Kind, layout};
use bootstrap::failure::Failure;

use super::{Finding, finding};
use crate::manifests::{self, Reference};
use crate::opened::Opened;
use crate::text;

/// A manifest larger than this is none.
pub const MAX_TEXT: u64 = 8 << 20;

/// The name that the kubelet asks containerd for when a pod says `image`: normalised as Docker does, and
/// with a digest the tag does not count (containerd, `ParseDockerRef`).
#[must_use]
pub fn asked_for(image: &str) -> String {
    let full = layout::normalise_reference(image);
    match full.split_once('@') {
        Some((named, digest)) => {
            let path_at = named.rfind('/').map_or(0, |at| at + 1);
            let end = named[path_at..].find(':').map_or(named.len(), |at| path_at + at);
            format!("{}@{digest}", &named[..end])
        }
        None => full,
    }
}

/// What is wrong with the manifest `file` in itself, and the images that it names.
#[must_use]
pub fn read(file: &str, bytes: &[u8]) -> (Vec<Finding>, Vec<Reference>) {
    let unusable = |what: String| (vec![finding("manifest-yaml", what).at(file, None)], Vec::new());
    if let Err(failure) = text::check_text("it", bytes) {
        return unusable(failure.what);
    }
    let text = String::from_utf8_lossy(bytes);
    let read = manifests::objects(&text).and_then(|objects| Ok((objects, manifests::images(&text)?)));
    let (objects, references) = match read {
        Ok(read) => read,
        Err(failure) => {
            let (line, what) = placed(&failure.what);
            return (vec![finding("manifest-yaml", what).at(file, line)], Vec::new());
        }
    };
    let mut findings = Vec::new();
    for object in &objects {
        let lacks = match (object.kind.is_empty(), object.api_version.is_empty()) {
            (true, _) => "kind",
            (_, true) => "apiVersion",
            _ => continue,
        };
        let what = format!("an object without {lacks} can't be applied");
        findings.push(finding("manifest-yaml", what).at(file, Some(object.line)));
    }
    if objects.is_empty() {
        findings.push(finding("manifest-yaml", "holds no object").at(file, None));
    }
    findings.extend(pull_policies(file, &text));
    (findings, references)
}

/// `line 12, column 3: cause` → line 12 and the rest.
fn placed(what: &str) -> (Option<usize>, String) {
    let line = || {
        let (line, rest) = what.strip_prefix("line ")?.split_once([',', ':'])?;
        Some((line.parse().ok()?, rest.rsplit_once("column ").map_or(rest, |(_, rest)| rest)))
    };
    match line() {
        Some((line, rest)) => {
            let cause = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':' || c == ' ');
            (Some(line), cause.to_owned())
        }
        None => (None, what.to_owned()),
    }
}

/// Lines that say `Always`: those that the builder would write anew.
fn pull_policies(file: &str, text: &str) -> Vec<Finding> {
    let Ok(better) = manifests::if_not_present(text) else { return Vec::new() };
    let lines = text.lines().zip(better.lines()).enumerate();
    let always = lines.filter(|(_, (line, better))| line != better && line.contains("Always"));
    always.map(|(at, _)| finding("pull-policy", "imagePullPolicy is Always").at(file, Some(at + 1))).collect()
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
