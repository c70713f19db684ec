//! Who signed an ISO, and whether the files beside it are about it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use bootstrap::bundle::{MANIFEST_MAX_BYTES, MANIFEST_PATH};
use bootstrap::digest::Hasher;
use bootstrap::failure::{Code, Failure};
use bootstrap::signature::{self, PublicKey, SIGNATURE_MAX_BYTES, SIGNATURE_PATH};
use serde::Serialize;
use sha2::{Digest as _, Sha512};

use super::layout::LAYOUT;
use super::{Finding, finding};
use crate::bundle::named;
use crate::content::{Content, failed, misnamed};
use crate::finding::Level;
use crate::opened::Opened;
use crate::progress::Progress;
use crate::sums;

/// Whose signatures count.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The trusted keys; with any, one of them must have signed.
    pub keys: Vec<PublicKey>,
    /// Whether an unsigned ISO is a finding without keys, too.
    pub required: bool,
}

/// A signature found on an ISO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signature {
    /// The id of the key that it names.
    pub key: String,
    /// Its trusted comment.
    pub comment: String,
    /// Whether a trusted key made it. Without, it proves nothing.
    pub proven: bool,
}

impl Trust {
    /// Reads the public keys at `paths`.
    ///
    /// # Errors
    /// `KEY_INVALID`, `CONFIG_INVALID` or `IO` name the path.
    pub fn read(paths: &[PathBuf], required: bool) -> Result<Self, Failure> {
        let mut keys = Vec::new();
        for path in paths {
            let text = bytes_of(File::open(path).map_err(|e| misnamed("Opening", path, e))?, path)?;
            let read = PublicKey::parse_all(&String::from_utf8_lossy(&text));
            keys.extend(read.map_err(|failure| named(&path.display().to_string(), failure))?);
        }
        Ok(Self { keys, required })
    }

    /// The signatures in `signature`, the file over `manifest_json`, and what is wrong with them.
    #[must_use]
    pub fn check(&self, manifest_json: &[u8], signature: Option<&[u8]>) -> (Vec<Signature>, Vec<Finding>) {
        let Some(signature) = signature else {
            let wanted = self.required || !self.keys.is_empty();
            let missing = finding("signature-missing", format!("{SIGNATURE_PATH} is not there"));
            return (Vec::new(), wanted.then_some(missing).into_iter().collect());
        };
        let text = String::from_utf8_lossy(signature);
        let wrong = |failure: Failure| vec![finding("signature", format!("{SIGNATURE_PATH}: {}", failure.what))];
        let claims = match signature::claims(&text) {
            Ok(claims) => claims,
            Err(failure) => return (Vec::new(), wrong(failure)),
        };
        let (mut signers, mut findings) = (Vec::new(), Vec::new());
        if !self.keys.is_empty() {
            match signature::verify(&self.keys, manifest_json, &text) {
                Ok(found) => signers = found,
                Err(failure) => findings = wrong(failure),
            }
        }
        let proven = |id: &str| signers.iter().any(|signer| signer.key.id() == id);
        let found = claims.into_iter().map(|claim| Signature {
            proven: proven(&claim.id),
            key: claim.id,
            comment: claim.comment,
        });
        (found.collect(), findings)
    }

    /// As [`Trust::check`], of a bundle; of a stock one nothing but that no key signed it.
    ///
    /// # Errors
    /// `IO` when it can't be read.
    pub fn check_bundle(&self, bundle: &Opened) -> Result<(Vec<Signature>, Vec<Finding>), Failure> {
        let read = |path: &str, limit| match bundle.file(path) {
            Some(file) => match file.content.small(limit) {
                Err(failure) if failure.code == Code::ContentInvalid => Ok(Some(Vec::new())),
                other => other.map(Some),
            },
            None => Ok(None),
        };
        let json = read(MANIFEST_PATH, MANIFEST_MAX_BYTES)?.unwrap_or_default();
        Ok(self.check(&json, read(SIGNATURE_PATH, SIGNATURE_MAX_BYTES)?.as_deref()))
    }

    /// The checksums and the signature in the files beside the ISO at `path`, where there are any; and
    /// whether a trusted key signed the whole ISO, byte by byte.
    ///
    /// # Errors
    /// `IO` when the ISO or one of them can't be read.
    pub fn check_beside(
        &self,
        bundle: &Opened,
        path: &Path,
        progress: Progress,
    ) -> Result<(Vec<Finding>, bool), Failure> {
        // The very file that is open, whatever has its name by now.
        let Some(volume) = bundle.volume.as_ref().filter(|_| path.is_file()) else {
            return Ok((Vec::new(), false));
        };
        let (whole, mut proven) = (Content::whole(&volume.source), false);
        let mut findings = checksums(path, &whole, progress)?;
        let minisig = sums::beside(path, sums::MINISIG);
        if let Some(text) = small(&minisig)? {
            let text = String::from_utf8_lossy(&text);
            let ours = |id: &str| self.keys.iter().any(|key| key.id() == id);
            // Only the key that signed last signs the whole ISO: of another one nothing can be said, and
            // the manifest's signature is what counts.
            let checked = signature::claims(&text).and_then(|claims| match claims.iter().any(|c| ours(&c.id)) {
                true => signature::verify_reader(&self.keys, whole.reader(), &text).map(|_| true),
                false => Ok(false),
            });
            match checked {
                Err(failure) if failure.code == Code::Io => return Err(failure),
                Err(failure) => findings.push(finding("signature", format!("{}: {}", minisig.display(), failure.what))),
                Ok(whole) => proven = whole,
            }
        }
        Ok((findings, proven))
    }

    /// Makes an error of what lies outside of the signed files, where a trusted key has to vouch for the
    /// ISO and none did for all its bytes.
    #[must_use]
    pub fn weighed(&self, finding: Finding, proven: bool) -> Finding {
        if finding.rule == LAYOUT && !self.keys.is_empty() && !proven {
            return Finding { level: Level::Error, ..finding };
        }
        finding
    }
}

fn checksums(path: &Path, whole: &Content, progress: Progress) -> Result<Vec<Finding>, Failure> {
    let mut told = Vec::new();
    for suffix in [sums::SHA256, sums::SHA512] {
        let file = sums::beside(path, suffix);
        told.extend(small(&file)?.map(|text| (suffix, sums::told(&text, path), file)));
    }
    if told.is_empty() {
        return Ok(Vec::new());
    }
    let (mut sha256, mut sha512) = (Hasher::default(), Sha512::new());
    let bar = progress.start("Checksums", whole.length());
    let (mut reader, mut buf) = (whole.reader(), vec![0; 256 << 10]);
    loop {
        let count = reader.read(&mut buf).map_err(|e| failed("Reading", path, e))?;
        if count == 0 {
            break;
        }
        sha256.update(&buf[..count]);
        sha512.update(&buf[..count]);
        bar.add(count as u64);
    }
    bar.finish();
    let (sha256, sha512) = (sha256.finish().hex(), sums::hex(&sha512.finalize()));
    let wrong = told.into_iter().filter_map(|(suffix, told, file)| {
        let found = if suffix == sums::SHA256 { &sha256 } else { &sha512 };
        let what = match told {
            Some(told) if told == *found => return None,
            Some(told) => format!("{} tells {told}, the ISO has {found}", file.display()),
            None => format!("{} does not tell of this ISO", file.display()),
        };
        Some(finding("checksum-file", what))
    });
    Ok(wrong.collect())
}

/// The bytes of the small file at `path`; none where there is no file.
fn small(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    match File::open(path) {
        Ok(file) => bytes_of(file, path).map(Some),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("Opening", path, e)),
    }
}

/// All bytes of a small file; a larger one, cut here, is neither checksum nor key nor signature.
fn bytes_of(file: File, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    file.take(SIGNATURE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| failed("Reading", path, e))?;
    Ok(bytes)
}
