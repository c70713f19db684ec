//! Signs an ISO: the same files anew, with the signature of the manifest among them. The manifest vouches
//! for every other byte.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bootstrap::bundle::{MANIFEST_MAX_BYTES, MANIFEST_PATH, Manifest};
use bootstrap::digest::Digest;
use bootstrap::disc;
use bootstrap::failure::{Code, Failure};
use bootstrap::signature::{self, SIGNATURE_MAX_BYTES, SIGNATURE_PATH};
use bootstrap::text::plain;
use serde::Serialize;

use crate::bundle::{File, named};
use crate::content::{Content, Source};
use crate::iso::{Digests, Image, Labels};
use crate::keys::SecretKey;
use crate::opened::Opened;
use crate::output;
use crate::partial::Partial;
use crate::progress::Progress;
use crate::sums::{Companions, Release};

/// What is signed, and where to.
#[derive(Debug, Clone)]
pub struct Options {
    /// The ISO.
    pub iso: PathBuf,
    /// The signed ISO; without it, it takes the place of the other.
    pub output: Option<PathBuf>,
    /// Whether the signatures of other keys stay.
    pub add: bool,
    /// Where progress is shown.
    pub progress: Progress,
}

/// A signed ISO.
#[derive(Debug, Clone, Serialize)]
pub struct Signed {
    /// The ISO.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// The digest of the ISO.
    pub sha256: Digest,
    /// The digest of its `cks-bundle.json`.
    pub manifest_sha256: Digest,
    /// The ids of the keys whose signatures are on it; only the last that signed is known to be right.
    pub keys: Vec<String>,
    /// What stands beside the ISO.
    pub beside: Companions,
}

/// The trusted comment of a signature: what was signed. No clock is asked, so that signing again makes the
/// same bytes.
#[must_use]
pub fn comment(epoch: u64, bundle: &str, file: &str) -> String {
    format!("timestamp:{epoch}\tbundle:{}\tfile:{}\thashed", plain(bundle), plain(file))
}

/// The signature of `manifest_json` by `key`, as a file of the ISO.
///
/// # Errors
/// `MANIFEST_INVALID` or `MANIFEST_UNSUPPORTED` when that is no manifest.
pub fn signature_file(manifest_json: &[u8], key: &SecretKey, epoch: u64) -> Result<File, Failure> {
    let manifest = Manifest::parse(manifest_json)?;
    Ok(file_of(key.sign_bytes(manifest_json, &comment(epoch, &manifest.name, MANIFEST_PATH))))
}

fn file_of(text: String) -> File {
    let digest = Digest::of(text.as_bytes());
    File { path: SIGNATURE_PATH.to_owned(), mode: 0o644, content: Content::bytes(text.into_bytes()), digest }
}

/// Puts the signature of `key` onto an ISO that `cks-iso` made. The result has the bytes that a build with
/// this key would have.
///
/// # Errors
/// `MANIFEST_REQUIRED` on a stock ISO; `DIGEST_MISMATCH` when a byte is not as the manifest tells: nobody
/// should vouch for that; those of opening and writing an ISO. What was at the output stays then.
pub fn sign(options: &Options, key: &SecretKey) -> Result<Signed, Failure> {
    let output = options.output.as_deref().unwrap_or(&options.iso);
    let mut read = vec![key.path().to_owned()];
    if !output::is_same(output, &options.iso) {
        read.push(options.iso.clone());
    }
    output::check(output, &read)?;
    // First of all: from now on no other program puts another ISO in the place of the one that is read.
    let partial = Partial::begin(output)?;
    let iso = Opened::open(&options.iso)?;
    let naming = |failure| named(&options.iso.display().to_string(), failure);
    let (manifest, digest) = iso.manifest().map_err(naming)?.ok_or_else(|| naming(stock()))?;
    let epoch = disc::created(Content::whole(&Source::open(&options.iso)?).reader()).map_err(naming)?;
    let (mut files, old) = files_of(&iso, &manifest, digest).map_err(naming)?;
    let json = files.first().map(|file| file.content.small(MANIFEST_MAX_BYTES)).transpose()?.unwrap_or_default();
    let mut signature = signature_file(&json, key, epoch)?;
    if options.add {
        signature = beside_others(&old, &signature, key).map_err(naming)?;
    }
    let keys = signature::claims(&text_of(&signature.content)?)?.into_iter().map(|claim| claim.id).collect();
    files.insert(1, signature);

    let image = Image::plan(&files, Labels { epoch, manifest: digest, digests: Digests::Told })?;
    let release = Release { output, manifest: &manifest, manifest_digest: digest, epoch, key: Some(key) };
    let written = release.write(&image, partial, options.progress).map_err(damaged)?;
    let (size, sha256) = (written.size, written.sha256);
    Ok(Signed { path: output.to_owned(), size, sha256, manifest_sha256: digest, keys, beside: release.companions() })
}

fn stock() -> Failure {
    Failure::new(Code::ManifestRequired, "it is a stock ISO, without a manifest to sign")
        .with_remedy("build an ISO with cks-iso build, or make one of it with cks-iso import; then sign that one")
}

fn other(what: String) -> Failure {
    Failure::new(Code::DigestMismatch, what).with_remedy("sign the original: cks-iso verify tells what differs here")
}

/// A file that is not what the manifest tells stops the writing as a changed input does.
fn damaged(failure: Failure) -> Failure {
    match failure.what.strip_suffix(" changed while it was packed") {
        Some(_) => other(format!("{}, or is not what its manifest tells", failure.what)),
        None => failure,
    }
}

/// The files of the ISO as a build lays them out, without signatures; and those.
///
/// # Errors
/// `DIGEST_MISMATCH` where they are not what the manifest tells.
pub(crate) fn files_of(iso: &Opened, manifest: &Manifest, digest: Digest) -> Result<(Vec<File>, Content), Failure> {
    if iso.volume.as_ref().is_none_or(|volume| volume.application_id != digest.hex()) {
        return Err(other(format!("{MANIFEST_PATH} is not the one that the volume descriptor tells")));
    }
    if let Some(path) = iso.others.first() {
        return Err(other(format!("{path} is no file, so the manifest can't tell it")));
    }
    let (mut files, mut old) = (Vec::new(), Content::default());
    let mut missing: BTreeSet<&str> = manifest.entries.iter().map(|entry| entry.path.as_str()).collect();
    for found in &iso.files {
        let content = found.content.clone();
        if found.path == SIGNATURE_PATH {
            old = content;
            continue;
        }
        let told = match manifest.entry(&found.path) {
            _ if found.path == MANIFEST_PATH => Some(digest),
            Some(entry) if entry.size == content.length() => entry.sha256,
            Some(_) => return Err(other(format!("{} has another size than the manifest tells", found.path))),
            None => None,
        };
        let digest = told.ok_or_else(|| other(format!("{} stands in no entry of the manifest", found.path)))?;
        missing.remove(found.path.as_str());
        files.push(File { path: found.path.clone(), mode: found.mode, content, digest });
    }
    match missing.first() {
        Some(path) => Err(other(format!("{path} is not there"))),
        None => {
            // A build writes the manifest first.
            files.sort_by_key(|file| file.path != MANIFEST_PATH);
            Ok((files, old))
        }
    }
}

/// The signatures of `old` with the new one: in the place of this key's older one, or at the end.
fn beside_others(old: &Content, new: &File, key: &SecretKey) -> Result<File, Failure> {
    let new = text_of(&new.content)?;
    let mut texts = Vec::new();
    if old.length() > 0 {
        for claim in signature::claims(&text_of(old)?).map_err(|failure| named(SIGNATURE_PATH, failure))? {
            texts.push(if claim.id == key.id() { new.clone() } else { claim.text });
        }
    }
    if !texts.contains(&new) {
        texts.push(new);
    }
    Ok(file_of(texts.concat()))
}

fn text_of(content: &Content) -> Result<String, Failure> {
    let none = |_| Failure::new(Code::SignatureInvalid, format!("{SIGNATURE_PATH} is no text"));
    String::from_utf8(content.small(SIGNATURE_MAX_BYTES)?).map_err(none)
}
