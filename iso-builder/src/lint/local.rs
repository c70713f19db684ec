//! The files of this machine that a spec names: are they there, and do the manifests fit the archives.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bootstrap::archive;
use bootstrap::bundle::Arch;
use bootstrap::failure::{Code, Failure};

use super::keys::Key;
use super::{Finding, Given, finding};
use crate::content::{Content, Source};
use crate::finding::Level;
use crate::recipe::Recipe;
use crate::verify::yaml;

/// What is wrong with the files.
pub(super) fn files(keys: &[Key], recipe: Option<&Recipe>, given: Given<'_>) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    for key in keys {
        let Some(path) = path_of(key, given.directory) else { continue };
        if let Some(why) = absent(key, &path) {
            let what = format!("{}: {} {why}", key.name, path.display());
            findings.push(finding("file-missing", what).at(given.name, Some(key.line)));
        }
    }
    let archives = archives(keys, given)?;
    findings.extend(archives.findings);
    for key in keys.iter().filter(|key| key.name.starts_with("manifests.")) {
        let Some(path) = path_of(key, given.directory).filter(|path| absent(key, path).is_none()) else { continue };
        let (file, content) = (path.display().to_string(), Content::whole(&Source::open(&path)?));
        if content.length() > yaml::MAX_TEXT {
            let what = format!("has {} bytes: no manifest", content.length());
            findings.push(finding("manifest-yaml", what).at(&file, None));
            continue;
        }
        let (wrong, references) = yaml::read(&file, &content.small(yaml::MAX_TEXT)?);
        findings.extend(wrong.into_iter().map(|found| match found.rule {
            // The build writes it anew; on an ISO it would be wrong.
            "pull-policy" => Finding { level: Level::Warning, ..found },
            _ => found,
        }));
        if archives.are_all && recipe.is_some_and(tells_all) {
            let is_wanted = recipe.is_some_and(|recipe| recipe.incomplete);
            findings.extend(
                yaml::missing(&file, &references, &archives.references)
                    .into_iter()
                    .map(|found| if is_wanted { Finding { level: Level::Warning, ..found } } else { found }),
            );
        }
    }
    Ok(findings)
}

/// Whether no image comes from elsewhere than the archives.
fn tells_all(recipe: &Recipe) -> bool {
    let by_name = recipe.manifest_images || recipe.kubernetes_images.is_some() || !recipe.references.is_empty();
    !by_name
}

/// The path that `key` names: `file = …`, an item of `files = […]`, `directory = …`.
fn path_of(key: &Key, directory: &Path) -> Option<PathBuf> {
    let last = key.name.rsplit('.').next().unwrap_or_default();
    let names = matches!(last, "file" | "directory") || last.starts_with("files[");
    // A manifest may be called `file`, too; its name is no path.
    key.text.as_ref().filter(|_| names && key.name.contains('.')).map(|path| directory.join(path))
}

fn absent(key: &Key, path: &Path) -> Option<&'static str> {
    let is_directory = key.name.ends_with(".directory");
    match std::fs::metadata(path) {
        Err(_) => Some("is not there"),
        Ok(meta) if is_directory != meta.is_dir() => Some(if is_directory { "is no directory" } else { "is no file" }),
        Ok(_) => None,
    }
}

/// The images that a build would have.
struct Archives {
    findings: Vec<Finding>,
    references: BTreeSet<String>,
    /// They are all there is: no image comes from elsewhere.
    are_all: bool,
}

fn archives(keys: &[Key], given: Given<'_>) -> Result<Archives, Failure> {
    let arch = keys.iter().find(|key| key.name == "arch").and_then(|key| Arch::parse(key.text.as_deref()?));
    let mut all = Archives { findings: Vec::new(), references: BTreeSet::new(), are_all: false };
    let of_images = keys.iter().filter(|key| key.name.starts_with("images") && key.text.is_some());
    let local = |key: &Key| key.name.starts_with("images[") && key.name.ends_with("].file");
    let elsewhere = of_images.clone().any(|key| !local(key) && !key.name.ends_with(".sha256"));
    for key in of_images.filter(|key| local(key)) {
        all.are_all = !elsewhere;
        let Some(path) = path_of(key, given.directory).filter(|path| absent(key, path).is_none()) else {
            all.are_all = false;
            break;
        };
        let name = path.display().to_string();
        let at = |found: Finding| found.at(given.name, Some(key.line));
        match archive::read(Content::whole(&Source::open(&path)?).reader(), &name) {
            Ok(archive) => {
                for image in &archive.images {
                    let found = archive.architectures.get(&image.config).map_or("", String::as_str);
                    if arch.is_some() && Arch::parse(found) != arch {
                        let what = format!("{} in {name} is for {found:?}, the spec for another", image.reference);
                        all.findings.push(at(finding("image-arch", what)));
                    }
                }
                all.references.extend(archive.images.into_iter().map(|image| image.reference));
            }
            Err(failure) if failure.code == Code::Io => return Err(failure),
            Err(failure) => {
                all.are_all = false;
                all.findings.push(at(finding("image-archive", failure.what)));
                break;
            }
        }
    }
    Ok(all)
}
