//! A spec before it is built: what is wrong with its text and its local files, without a network.
//! [`RULES`] says what is looked for; [`crate::verify::RULES`] has those of the files.

mod keys;
mod local;

use std::path::Path;

use bootstrap::bundle::layout;
use bootstrap::failure::{Code, Failure};

use self::keys::Key;
use crate::finding::{Finding, Rule};
use crate::lock::Lock;
use crate::project::Project;
use crate::recipe::Recipe;
use crate::spec::Spec;
use crate::{profile, project};

/// The rules over the text of a spec, in the order of `docs/verifying.md`. Ids never change.
pub const RULES: &[Rule] = &[
    Rule::error("spec", "correct the spec; docs/building.md describes every key"),
    Rule::error("file-missing", "correct the path; relative ones start from the spec's directory"),
    Rule::error("url-unpinned", "add sha256, or run cks-iso lock: without it nobody knows what will come"),
    Rule::error("lock-stale", "run cks-iso lock, and look at what changed"),
    Rule::warning("url-branch", "name a release: what a branch gives changes without notice"),
    Rule::warning("url-plain", "write https: what http brings can be changed on its way"),
    Rule::warning("tag-latest", "write the tag of a release: latest is another image tomorrow"),
    Rule::warning("version-skew", "take cri-tools of the same minor version as Kubernetes"),
];

/// What a spec is looked at with.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// What messages call the spec.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
    /// Its directory, which relative paths start from.
    pub directory: &'a Path,
    /// The lock, where there is one.
    pub lock: Option<GivenLock<'a>>,
}

/// The lock that a spec is looked at with.
#[derive(Debug, Clone, Copy)]
pub struct GivenLock<'a> {
    /// Its path.
    pub path: &'a Path,
    /// What it says; none where it is no lock.
    pub lock: Option<&'a Lock>,
    /// Whether it was named, rather than found beside the spec: there it may be another spec's.
    pub is_named: bool,
}

/// Looks for everything that is wrong with a spec, line by line.
///
/// # Errors
/// `IO` when a local file can't be read.
pub fn lint(given: Given<'_>) -> Result<Vec<Finding>, Failure> {
    let keys = match keys::all(given.text) {
        Ok(keys) => keys,
        Err((line, cause)) => return Ok(vec![finding("spec", cause).at(given.name, line)]),
    };
    let mut findings = Vec::new();
    for key in &keys {
        findings.extend(
            url(key, &keys, given.lock.is_some()).into_iter().map(|found| found.at(given.name, Some(key.line))),
        );
        findings.extend(tag(key).map(|found| found.at(given.name, Some(key.line))));
    }
    let mut recipe = None;
    match Spec::parse(given.text) {
        Ok(spec) => {
            let (found, project) = about(&spec, &keys, given)?;
            findings.extend(found);
            findings.extend(project.as_ref().and_then(|project| stale(project, given)));
            recipe = project.map(|project| project.recipe);
        }
        Err(failure) => {
            let (line, cause) = keys::placed(&failure.what, &keys);
            findings.push(finding("spec", cause).at(given.name, line));
        }
    }
    findings.extend(local::files(&keys, recipe.as_ref(), given)?);
    findings.sort_by_key(|found| (found.file.as_deref() != Some(given.name), found.file.clone(), found.line));
    Ok(findings)
}

/// A finding of `rule`, one of these or of `verify`.
fn finding(rule: &'static str, what: impl Into<String>) -> Finding {
    match RULES.iter().find(|known| known.id == rule) {
        Some(known) => known.finding(what),
        None => crate::verify::finding(rule, what),
    }
}

/// What is wrong with the URL of `key`.
fn url(key: &Key, keys: &[Key], locked: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (Some(table), Some(url)) = (key.name.strip_suffix(".url"), &key.text) else { return findings };
    let name = &key.name;
    let checks = [format!("{table}.sha256"), format!("{table}.checksum")];
    if !locked && !keys.iter().any(|other| checks.contains(&other.name)) {
        findings.push(finding("url-unpinned", format!("{name}: a download without sha256, and no lock")));
    }
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let branch = path.split('/').skip(3).find(|part| matches!(*part, "main" | "master" | "HEAD" | "latest"));
    if let Some(branch) = branch {
        findings.push(finding("url-branch", format!("{name}: the URL follows {branch}")));
    }
    if url.starts_with("http://") {
        findings.push(finding("url-plain", format!("{name}: the URL is not https")));
    }
    findings
}

/// An image reference whose tag moves.
fn tag(key: &Key) -> Option<Finding> {
    let of_images = key.name.starts_with("images[") && key.name.ends_with(".reference");
    let reference = key.text.as_ref().filter(|_| of_images)?;
    let moves = !reference.contains('@') && matches!(layout::tag(reference), None | Some("latest"));
    moves.then(|| finding("tag-latest", format!("{}: {reference} has no fixed tag", key.name)))
}

/// A lock that the build can't keep to. One that lies beside a spec that needs none is nobody's business.
fn stale(project: &Project, given: Given<'_>) -> Option<Finding> {
    let GivenLock { path, lock, .. } = given.lock.filter(|lock| lock.is_named || project.recipe.needs_lock())?;
    let what = match lock {
        None => format!("{} is no lock, or one of another version of cks-iso", path.display()),
        Some(lock) => project.check_lock(Some(lock), path).err()?.what,
    };
    Some(finding("lock-stale", what).at(given.name, None))
}

/// What is wrong with a spec that can be read; and what it asks for.
fn about(spec: &Spec, keys: &[Key], given: Given<'_>) -> Result<(Vec<Finding>, Option<Project>), Failure> {
    let (mut findings, mut project) = (Vec::new(), None);
    let (mut files, mut others) = (Vec::new(), Vec::new());
    let line = |name: &str| keys.iter().find(|key| key.name == name).map(|key| key.line);
    let read = |profile: &Path| {
        let path = given.directory.join(profile);
        let text = project::read_text(&path)?;
        files.push(path);
        others.push(text.clone());
        Ok(text)
    };
    match profile::load(spec, read).and_then(|profiles| Recipe::of(spec, &profiles)) {
        Ok(recipe) => {
            for what in recipe.lacks() {
                let rule = if what.contains("dashboard.yaml") { "dashboard" } else { "stock-lacks" };
                findings.push(finding(rule, what).at(given.name, line("kubernetes")));
            }
            let others: Vec<_> = others.iter().map(String::as_str).collect();
            project = Some(Project { path: given.name.into(), recipe, profiles: files, digest: spec.digest(&others) });
        }
        Err(failure) if failure.code == Code::Io => return Err(failure),
        Err(failure) => {
            let (line, cause) = keys::placed(&failure.what, keys);
            findings.push(finding("spec", cause).at(given.name, line));
        }
    }
    if let (Some(kubernetes), Some(crictl)) = (&spec.kubernetes, &spec.cri_tools) {
        let (want, found) = (minor(&kubernetes.version), minor(&crictl.version));
        if want.is_some() && found.is_some() && want != found {
            let what = format!("cri-tools {} beside Kubernetes {}", crictl.version, kubernetes.version);
            findings.push(finding("version-skew", what).at(given.name, line("cri-tools.version")));
        }
    }
    Ok((findings, project))
}

/// Major and minor: `(1, 33)` of `v1.33.1`.
fn minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
