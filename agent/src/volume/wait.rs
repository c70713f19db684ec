//! Waits for a disk that was attached a moment ago.

use std::fs;
use std::time::{Duration, Instant};

use bootstrap::volume::Serial;
use bootstrap::volume::refusal::{Class, Refusal};

use super::Volumes;
use super::devices::{self, Disk};
use crate::console::TARGET;
use crate::host::Host;
use crate::media::events::Events;

/// The kernel tells of every disk; this is for a message that got lost.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const SCSI_HOSTS: &str = "/sys/class/scsi_host";

impl Volumes {
    /// The disk of `serial`, as soon as it is there; at the latest at `until`, and no longer than the settings say.
    pub(super) fn attached(&self, serial: &Serial, until: Instant) -> Result<Disk, Refusal> {
        let first = devices::find(&self.host, serial);
        if !may_come(&first) {
            return first;
        }
        let runtime = tokio::runtime::Handle::try_current();
        let runtime = runtime.map_err(|e| Refusal::new(Class::Io, "waiting for a disk").with_source(e))?;
        let until = until.min(Instant::now() + self.settings.attach_wait);
        // Subscribed before the next look, or a disk that comes in between is missed.
        let events = runtime.block_on(async { Events::subscribe() });
        tracing::info!(target: TARGET, "waiting for the disk {serial}");
        rescan(&self.host);
        loop {
            let found = devices::find(&self.host, serial);
            let left = until.saturating_duration_since(Instant::now());
            if !may_come(&found) || left.is_zero() {
                if let Ok(disk) = &found {
                    tracing::info!(target: TARGET, "the disk {serial} is there: {}", disk.name);
                }
                return found;
            }
            // Whether something was told or not: the next look tells what is.
            let _ = runtime.block_on(async { tokio::time::timeout(left.min(LOOK_EVERY), events.next()).await });
        }
    }
}

/// Not there yet, or just changing.
fn may_come(found: &Result<Disk, Refusal>) -> bool {
    matches!(found, Err(refusal) if matches!(refusal.class, Class::VolumeNotAttached | Class::DiskChanged))
}

/// Some SCSI controllers tell of a disk only when they are asked; where there is none, nothing is done.
fn rescan(host: &Host) {
    for name in host.names(SCSI_HOSTS) {
        // A controller that is just going away.
        let _ = fs::write(host.path(&format!("{SCSI_HOSTS}/{name}/scan")), "- - -");
    }
}
