//! Proves a bundle: every byte that its manifest tells, every rule of the stock layout, and that nodes find
//! on it what its Kubernetes manifests want. [`RULES`] says what is looked for.

mod content;
mod layout;
mod rules;
pub mod signature;
pub(crate) mod stock;
pub mod yaml;

use bootstrap::bundle::{MANIFEST_PATH, Manifest, VOLUME_ID};
use bootstrap::digest::Digest;
use bootstrap::failure::Failure;
use bootstrap::signature::SIGNATURE_PATH;

pub use self::rules::{RULES, finding};
use crate::bundle::broken_rules;
pub use crate::finding::Finding;
use crate::opened::{Opened, Volume};
use crate::progress::Progress;

/// Looks for everything that is wrong with `bundle`.
///
/// # Errors
/// `IO` when it can't be read; what is wrong with what was read are findings.
pub fn verify(bundle: &Opened, progress: Progress) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    findings.extend(bundle.volume.iter().flat_map(volume));
    findings.extend(unreadable(bundle));
    let paths: Vec<_> = bundle.files.iter().map(|file| file.path.as_str()).collect();
    findings.extend(broken_rules(&paths).into_iter().map(|(rule, what)| finding(rule, what)));
    findings.extend(stock::paths(&paths));
    findings.extend(stock::units(bundle)?);
    let manifest = match bundle.manifest() {
        Ok(Some((manifest, digest))) => {
            findings.extend(bundle.volume.as_ref().and_then(|volume| other_manifest(volume, digest)));
            Some((manifest, digest))
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
    if let Some((manifest, digest)) = &manifest {
        findings.extend(layout::check(bundle, manifest, *digest, progress)?);
        findings.extend(unlisted(bundle, manifest));
        findings.extend(content::entries(bundle, manifest, progress)?);
    }
    let manifest = manifest.map(|(manifest, _)| manifest);
    let archives = content::archives(bundle, manifest.as_ref())?;
    findings.extend(archives.findings);
    findings.extend(yaml::manifests(bundle, &archives.references)?);
    findings.extend(stock::images(&paths, manifest.as_ref(), &archives.references));
    Ok(findings)
}

fn volume(volume: &Volume) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (descriptor, found) in [("primary", Some(&volume.id)), ("Joliet", volume.joliet_id.as_ref())] {
        if let Some(found) = found.filter(|found| *found != VOLUME_ID) {
            let what = format!("the {descriptor} volume descriptor says {found:?}, not {VOLUME_ID}");
            findings.push(finding("volume-id", what));
        }
    }
    if volume.appended > 0 {
        let what = format!("{} bytes lie behind the end of the volume, {} bytes", volume.appended, volume.bytes);
        findings.push(finding("volume-size", what));
    }
    let length = volume.source.length();
    if length < volume.bytes {
        let what = format!("the image ends after {length} of the volume's {} bytes", volume.bytes);
        findings.push(finding("volume-size", what));
    }
    findings
}

fn other_manifest(volume: &Volume, digest: Digest) -> Option<Finding> {
    let what = format!("{MANIFEST_PATH} has the digest {digest}, the volume descriptor says otherwise");
    (volume.application_id != digest.hex()).then(|| finding("manifest-digest", what))
}

/// Files that not everybody may read: the virtual router's web server is nobody special.
fn unreadable(bundle: &Opened) -> Vec<Finding> {
    let files = bundle.files.iter().filter(|file| file.mode & 0o444 != 0o444);
    files.map(|file| finding("file-mode", format!("{} has the mode {:04o}", file.path, file.mode))).collect()
}

fn unlisted(bundle: &Opened, manifest: &Manifest) -> Vec<Finding> {
    let listed = |path: &str| matches!(path, MANIFEST_PATH | SIGNATURE_PATH) || manifest.entry(path).is_some();
    let files = bundle.files.iter().map(|file| &file.path).filter(|path| !listed(path));
    let unlisted = files.map(|path| format!("{path} stands in no entry of the manifest"));
    let others = bundle.others.iter().map(|path| match path.strip_suffix('/') {
        Some(directory) => format!("{directory} is an empty directory"),
        None => format!("{path} is a link, a device or a pipe, which no entry of the manifest is"),
    });
    unlisted.chain(others).map(|what| finding("file-unlisted", what)).collect()
}
