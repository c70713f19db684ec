//! What no manifest tells of an ISO: its descriptors, its directories in both trees, and the bytes between
//! its files. They can show another disc than this to who reads it another way.

use bootstrap::bundle::Manifest;
use bootstrap::digest::Digest;
use bootstrap::disc;
use bootstrap::failure::{Code, Failure};
use bootstrap::signature::SIGNATURE_PATH;

use super::{Finding, finding};
use crate::bundle::File;
use crate::content::Content;
use crate::iso::{Digests, Labels, difference};
use crate::opened::Opened;
use crate::progress::Progress;
use crate::sign;

/// The rule's id.
pub(super) const LAYOUT: &str = "volume-layout";

/// Lays the files of `bundle` out anew, and compares. Nothing is said of what is no ISO, or whose files are
/// not those of its manifest: that is found by other rules.
pub(super) fn check(
    bundle: &Opened,
    manifest: &Manifest,
    digest: Digest,
    progress: Progress,
) -> Result<Option<Finding>, Failure> {
    let Some(volume) = &bundle.volume else { return Ok(None) };
    let Ok((mut files, signatures)) = sign::files_of(bundle, manifest, digest) else { return Ok(None) };
    if signatures.length() > 0 {
        files.insert(1, File { path: SIGNATURE_PATH.to_owned(), mode: 0o644, content: signatures, digest });
    }
    let image = Content::whole(&volume.source);
    let changed = |what: String| Ok(Some(finding(LAYOUT, what)));
    let compared = disc::created(image.reader()).and_then(|epoch| {
        difference(&files, Labels { epoch, manifest: digest, digests: Digests::Computed }, image.reader(), progress)
    });
    match compared {
        Ok(None) => Ok(None),
        Ok(Some(at)) => changed(format!("byte {at} of the image is not as this version of cks-iso writes it")),
        Err(failure) if failure.code == Code::Io => Err(failure),
        Err(failure) => changed(failure.what),
    }
}
