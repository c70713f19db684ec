//! An entry of the bundle that becomes a file.

use std::io::Read as _;
use std::sync::Arc;

use bootstrap::bundle::{Entry, Kind};
use bootstrap::failure::Failure;

use super::{Site, check_program, drop_file};
use crate::files;

/// Installs `entry` as the file `path` with the permission bits `mode`.
///
/// # Errors
/// `DIGEST_MISMATCH`, `CONTENT_INVALID`, `ARCH_MISMATCH`, `NO_SPACE`, `SOURCE_…`; the file that was
/// there before then stays.
pub async fn install(site: &Arc<Site>, entry: &Entry, path: &str, mode: u32) -> Result<(), Failure> {
    let (head, digest, partial) = site
        .fetch(entry, |intake| {
            let mut head = Vec::new();
            // A failing source is told by `finish`, with its own code.
            let _ = intake.take(64).read_to_end(&mut head);
            Ok(head)
        })
        .await?;
    if entry.kind == Kind::Kubernetes {
        check_program(&entry.path, &head, site.arch).inspect_err(|_| drop_file(&partial))?;
    }
    let full = site.host.prepare(path)?;
    files::publish(&partial, &full, mode)?;
    site.journal.saw_file(path, &full, digest)?;
    if entry.sha256.is_none() {
        site.journal.learned(site.bundle.id, &entry.path, digest, Vec::new())?;
    }
    Ok(())
}
