//! Proves an ISO: every byte that its manifest tells, and every rule of the stock layout.

mod content;
pub mod signature;

use bootstrap::bundle::{MANIFEST_PATH, Manifest, VOLUME_ID};
use bootstrap::failure::Failure;
use bootstrap::signature::SIGNATURE_PATH;
use serde::Serialize;

use crate::bundle::broken_rules;
use crate::opened::Opened;
use crate::progress::Progress;

/// Something that is wrong with an ISO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The stable id of the rule; `docs/iso-format.md` lists them.
    pub rule: &'static str,
    /// Object and cause.
    pub what: String,
    /// What a person does about it.
    pub remedy: &'static str,
}

/// The rules with their remedies, in the order of `docs/iso-format.md`.
pub const RULES: [(&str, &str); 23] = [
    ("volume-id", "build the ISO with cks-iso, or with genisoimage -V CDROM: nodes look for that label"),
    ("volume-size", "replace the ISO by the original: bytes were appended to it"),
    ("manifest", "build the ISO with cks-iso build; a stock ISO has no manifest to verify against"),
    ("manifest-digest", "replace the ISO: its manifest is not the one that was built"),
    ("signature-missing", "sign the ISO with cks-iso sign, or get the signed one from who built it"),
    ("signature", "do not use this ISO before it is known who signed it; name that key with --key to trust it"),
    ("entry-missing", REPLACE),
    ("entry-size", REPLACE),
    ("entry-digest", REPLACE),
    ("entry-role", "rebuild the ISO with cks-iso: its manifest gives a file to the wrong nodes"),
    ("file-mode", "rebuild the ISO from files that everybody may read, or with cks-iso"),
    ("file-unlisted", "build the ISO with cks-iso build: files must not be added to a finished ISO"),
    ("member", REPLACE),
    ("member-missing", "rebuild the ISO with upstream's tarball, or the programs themselves"),
    ("blob", REPLACE),
    ("image-list", REPLACE),
    ("image-archive", "keep nothing but image archives in docker/: nodes import every file there"),
    ("image-arch", "rebuild the ISO with images for its architecture"),
    ("elf-arch", "rebuild the ISO with programs for its architecture"),
    ("top-level-first", "rebuild the ISO with cks-iso: the virtual router's wget needs a file before all directories"),
    ("one-match", "keep one file per glob: nodes hand all matches to one tar command"),
    ("name-length", "shorten the name: Joliet cuts it"),
    ("checksum-file", "copy the ISO again together with the files beside it; if they still differ, ask who built it"),
];

const REPLACE: &str = "replace the ISO by the original: it was damaged or changed after the build";

/// A finding of `rule`.
#[must_use]
pub fn finding(rule: &'static str, what: impl Into<String>) -> Finding {
    let remedy = RULES.iter().find(|(id, _)| *id == rule).map_or(REPLACE, |(_, remedy)| remedy);
    Finding { rule, what: what.into(), remedy }
}

/// Looks for everything that is wrong with `iso`.
///
/// # Errors
/// `IO` when the ISO can't be read; what is wrong with what was read are findings.
pub fn verify(iso: &Opened, progress: Progress) -> Result<Vec<Finding>, Failure> {
    let mut findings = volume_ids(iso);
    let appended = iso.appended()?;
    if appended > 0 {
        let what = format!("{appended} bytes lie behind the end of the volume, {} bytes", iso.disc.volume_bytes);
        findings.push(finding("volume-size", what));
    }
    findings.extend(unreadable(iso));
    let paths: Vec<_> = iso.disc.files.iter().map(|file| file.path.as_str()).collect();
    findings.extend(broken_rules(&paths).into_iter().map(|(rule, what)| finding(rule, what)));
    let manifest = match iso.manifest() {
        Ok(Some((manifest, digest))) => {
            if iso.application_id != digest.hex() {
                let what = format!("{MANIFEST_PATH} has the digest {digest}, the volume descriptor says otherwise");
                findings.push(finding("manifest-digest", what));
            }
            Some(manifest)
        }
        Ok(None) => {
            findings.push(finding("manifest", format!("{MANIFEST_PATH} is not there")));
            None
        }
        Err(failure) => {
            findings.push(finding("manifest", failure.what));
            None
        }
    };
    if let Some(manifest) = &manifest {
        findings.extend(unlisted(iso, manifest));
        findings.extend(content::entries(iso, manifest, progress)?);
        findings.extend(content::blobs(iso, manifest, progress)?);
    }
    findings.extend(content::archives(iso, manifest.as_ref())?);
    Ok(findings)
}

fn volume_ids(iso: &Opened) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (descriptor, found) in [("primary", Some(&iso.disc.volume_id)), ("Joliet", iso.joliet_volume_id.as_ref())] {
        if found.is_some_and(|found| found != VOLUME_ID) {
            let what =
                format!("the {descriptor} volume descriptor says {:?}, not {VOLUME_ID}", found.map_or("", |id| id));
            findings.push(finding("volume-id", what));
        }
    }
    findings
}

/// Files that not everybody may read: the virtual router's web server is nobody special.
fn unreadable(iso: &Opened) -> Vec<Finding> {
    let files = iso.disc.files.iter().filter(|file| file.mode & 0o444 != 0o444);
    files.map(|file| finding("file-mode", format!("{} has the mode {:04o}", file.path, file.mode))).collect()
}

fn unlisted(iso: &Opened, manifest: &Manifest) -> Vec<Finding> {
    let listed = |path: &str| path == MANIFEST_PATH || path == SIGNATURE_PATH || manifest.entry(path).is_some();
    let files = iso.disc.files.iter().map(|file| &file.path).filter(|path| !listed(path));
    let unlisted = files.map(|path| format!("{path} stands in no entry of the manifest"));
    let others = iso.disc.others.iter().map(|path| match path.strip_suffix('/') {
        Some(directory) => format!("{directory} is an empty directory"),
        None => format!("{path} is a link, a device or a pipe, which no entry of the manifest is"),
    });
    unlisted.chain(others).map(|what| finding("file-unlisted", what)).collect()
}
