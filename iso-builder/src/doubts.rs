//! What a person has to look at in the manifests, although the ISO can be built: an image that is not
//! told, and one that nodes ask a registry for although they have it.

use std::path::Path;

use bootstrap::failure::Failure;

use crate::bundle::{MAX_TEXT, named};
use crate::cache::Cache;
use crate::content::{Content, Source};
use crate::lock::Lock;
use crate::manifests;
use crate::project::Project;
use crate::replace;

/// More lines than these are counted, not shown.
pub const MAX_SHOWN: usize = 12;

/// The doubts about the manifest called `name`, by line; `text` is as it was before
/// [`manifests::if_not_present`], which heals most of them.
///
/// # Errors
/// `CONTENT_INVALID` names the line.
pub fn of_manifest(name: &str, text: &str) -> Result<Vec<String>, Failure> {
    let survey = manifests::survey(&manifests::if_not_present(text)?)?;
    let pulled = survey.references.iter().filter(|reference| reference.pulls_always()).map(|reference| {
        let what = "nodes pull it although they have it, for its tag is latest and it has no imagePullPolicy";
        (reference.line, format!("{}: {what}; replace the tag", reference.image))
    });
    let unclear = survey.unclear.iter().map(|unclear| {
        let at = [unclear.object.as_str(), unclear.path.as_str()].into_iter().filter(|part| !part.is_empty());
        let at = at.collect::<Vec<_>>().join(", ");
        (unclear.line, format!("{at}: {}; add the image to [[images]] if it is needed", unclear.why))
    });
    let mut doubts: Vec<_> = pulled.chain(unclear).collect();
    doubts.sort();
    doubts.dedup();
    Ok(doubts.into_iter().map(|(line, what)| format!("{name}:{line}: {what}")).collect())
}

/// No more of `doubts` than a person reads.
#[must_use]
pub fn bounded(mut doubts: Vec<String>) -> Vec<String> {
    if doubts.len() > MAX_SHOWN {
        let more = doubts.len() - (MAX_SHOWN - 1);
        doubts.truncate(MAX_SHOWN - 1);
        doubts.push(format!("{more} more places of the manifests do not tell their image, or have the tag latest"));
    }
    doubts
}

/// The doubts about the manifests of `lock`, [`bounded`]; they are where making the lock has left them.
///
/// # Errors
/// As for [`of_manifest`]; `IO`.
pub fn of_lock(project: &Project, lock: &Lock, cache: &Cache) -> Result<Vec<String>, Failure> {
    let mut doubts = Vec::new();
    for file in &lock.files {
        let Some(name) = file.key.strip_prefix("manifests.") else { continue };
        let path = match (&file.file, file.chart, file.sha256) {
            (Some(path), None, _) => project.resolve(Path::new(path)),
            (_, _, Some(sha256)) => cache.path(sha256),
            _ => continue,
        };
        let bytes = Content::whole(&Source::open(&path)?).small(MAX_TEXT)?;
        let (text, _) = replace::apply(String::from_utf8_lossy(&bytes).into_owned(), &file.replaced);
        doubts.extend(of_manifest(name.trim_matches('"'), &text).map_err(|failure| named(&file.key, failure))?);
    }
    Ok(bounded(doubts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_told_and_what_is_pulled_anyway_stands_with_its_line() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - image: a/b:latest\n\
                    \x20   env: [{name: X_IMAGE, valueFrom: {fieldRef: {}}}]\n  - image: c/d\n  - image: e/f:latest\n\
                    \x20   imagePullPolicy: Always\n  - image: g/h:1\n";
        let doubts = of_manifest("network.yaml", text).unwrap();
        let starts: Vec<_> = doubts.iter().map(|doubt| doubt.splitn(4, ':').take(3).collect::<String>()).collect();
        // The policy of line 10 is rewritten, so its image is no doubt.
        assert_eq!(
            starts,
            ["network.yaml6 a/b", "network.yaml7 Pod a, spec.containers[0].env[0]", "network.yaml8 c/d"]
        );
        assert!(doubts[1].ends_with("add the image to [[images]] if it is needed"), "{}", doubts[1]);
        assert_eq!(
            of_manifest("a.yaml", "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: 'a:1'}]}").unwrap(),
            [""; 0]
        );
        assert!(of_manifest("a.yaml", "a: [").is_err());
    }

    #[test]
    fn many_are_counted() {
        let many = |count: usize| (0..count).map(|at| at.to_string()).collect::<Vec<_>>();
        assert_eq!(bounded(many(MAX_SHOWN)), many(MAX_SHOWN));
        let shown = bounded(many(1000));
        assert_eq!((shown.len(), shown[0].as_str()), (MAX_SHOWN, "0"));
        assert!(shown[MAX_SHOWN - 1].starts_with("989 more"), "{shown:?}");
    }
}
