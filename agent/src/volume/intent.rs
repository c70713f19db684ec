//! A note that a filesystem is being made on a disk, from before the first byte is written until the last one is.
//!
//! Whoever finds it after a kill knows that the disk was proven blank, and that what is on it now came from us: for as long
//! as it is the same attachment of that disk, counted by the kernel that runs. After a reboot, or when the disk was away,
//! somebody else may have written to it, and nothing is concluded.

use std::path::PathBuf;

use bootstrap::volume::Serial;
use bootstrap::volume::refusal::{Class, Refusal};
use serde::{Deserialize, Serialize};

use super::devices::Disk;
use crate::files;
use crate::host::{Host, STATE_DIR};

/// The note of one volume.
#[derive(Debug)]
pub(super) struct Intent {
    path: PathBuf,
    shown: String,
}

/// Which attachment of which disk.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attachment {
    boot: String,
    sequence: String,
    device: String,
    size: u64,
}

impl Intent {
    pub(super) fn of(host: &Host, serial: &Serial) -> Self {
        let shown = format!("{STATE_DIR}/volumes/{serial}.making");
        Self { path: host.path(&shown), shown }
    }

    /// Writes it down.
    pub(super) fn begin(&self, host: &Host, disk: &Disk) -> Result<(), Refusal> {
        // A kernel that does not count attachments: then a filesystem that is half made is refused later on.
        let Some(attachment) = attachment(host, disk)? else { return Ok(()) };
        let text = serde_json::to_vec(&attachment).map_err(|e| self.failed("writing").with_source(e))?;
        let path = host.prepare(&self.shown).map_err(|e| self.failed("writing").with_source(e))?;
        files::write(&path, &text, 0o600).map_err(|e| self.failed("writing").with_source(e))
    }

    /// Whether it is of this very attachment of this disk.
    pub(super) fn is_of(&self, host: &Host, disk: &Disk) -> Result<bool, Refusal> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(self.failed("reading").with_source(e)),
        };
        let Ok(noted) = serde_json::from_slice::<Attachment>(&text) else { return Ok(false) };
        Ok(attachment(host, disk)?.is_some_and(|now| now == noted))
    }

    /// Crosses it out.
    pub(super) fn end(&self) -> Result<(), Refusal> {
        files::remove(&self.path).map_err(|e| self.failed("removing").with_source(e))
    }

    fn failed(&self, doing: &str) -> Refusal {
        Refusal::new(Class::Io, format!("{doing} {}", self.path.display()))
    }
}

fn attachment(host: &Host, disk: &Disk) -> Result<Option<Attachment>, Refusal> {
    let Some(sequence) = disk.sequence(host) else { return Ok(None) };
    // A boot without an id can't be told from another.
    let boot = Some(host.boot_id()).filter(|boot| !boot.is_empty());
    let size = disk.size(host)?;
    Ok(boot.map(|boot| Attachment { boot, sequence, device: disk.device.to_string(), size }))
}
