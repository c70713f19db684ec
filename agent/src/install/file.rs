//! An entry of the bundle that becomes a file.

use std::io::Read as _;
use std::sync::Arc;

use bootstrap::bundle::{Arch, Entry, Kind};
use bootstrap::failure::{Code, Failure};

use super::{Site, check_program, drop_file};
use crate::files;

/// As much of a file as tells what it is; a unit is smaller than this.
const HEAD_BYTES: u64 = 64 << 10;

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
            let _ = intake.take(HEAD_BYTES).read_to_end(&mut head);
            Ok(head)
        })
        .await?;
    check_content(entry, &head, site.arch).inspect_err(|_| drop_file(&partial))?;
    let full = site.host.prepare(path)?;
    files::publish(&partial, &full, mode)?;
    site.journal.saw_file(path, &full, digest)?;
    if entry.sha256.is_none() {
        site.journal.learned(site.bundle.id, &entry.path, digest, Vec::new())?;
    }
    Ok(())
}

/// Refuses what is not what its name says: stock ISOs hold error pages that were saved as files (CloudStack
/// issue 10295).
fn check_content(entry: &Entry, head: &[u8], arch: Arch) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(head);
    let what = match entry.kind {
        Kind::Kubernetes => return check_program(&entry.path, head, arch),
        Kind::KubeletUnit | Kind::KubeletDropIn if !text.lines().any(|line| line.trim() == "[Service]") => {
            "is no unit: it has no section [Service]"
        }
        Kind::ClusterManifest if text.trim_start().starts_with('<') => "is no YAML: it begins as HTML or XML does",
        _ => return Ok(()),
    };
    Err(Failure::new(Code::ContentInvalid, format!("{} {what}", entry.path)))
}
