//! What a volume's disk is decrypted as: found and proven by what the kernel says of it, like a disk.

use bootstrap::mountinfo::Device;
use bootstrap::volume::VolumeId;
use bootstrap::volume::identity::Evidence;
use bootstrap::volume::luks::Mapping;
use bootstrap::volume::refusal::{Class, Refusal};

use super::devices::{self, Disk};
use crate::host::Host;

/// What names of device-mapper's devices begin with.
const DEVICES: &str = "dm-";

/// What the kernel says of a mapping, by its number; none where the device is no mapping.
#[must_use]
pub fn at(host: &Host, device: Device) -> Option<Mapping> {
    let at = devices::directory(device);
    let name = devices::attribute(host, &format!("{at}/dm/name"))?;
    let uuid = devices::attribute(host, &format!("{at}/dm/uuid")).unwrap_or_default();
    let below = host.names(&format!("{at}/slaves")).into_iter();
    let disks = below.map(|disk| evidence(host, &at, disk)).collect();
    Some(Mapping { name, uuid, disks })
}

/// What a disk below a mapping says of itself. The mapping has it open: its number is no other disk's.
fn evidence(host: &Host, mapping: &str, disk: String) -> Option<Evidence> {
    let device = devices::attribute(host, &format!("{mapping}/slaves/{disk}/dev"))?.parse().ok()?;
    // The link is left when the disk is taken away.
    (!devices::is_gone(host, device)).then(|| devices::evidence(host, disk, device))
}

/// The mapping that has the name of the volume's, whatever it is; its number.
#[must_use]
pub(super) fn named(host: &Host, id: &VolumeId) -> Option<(Device, Mapping)> {
    let wanted = id.mapping_name();
    let all = host.names(devices::BLOCK).into_iter().filter(|name| name.starts_with(DEVICES));
    let all = all.filter_map(|name| devices::attribute(host, &format!("{}/{name}/dev", devices::BLOCK))?.parse().ok());
    let mut all = all.filter_map(|device: Device| at(host, device).map(|mapping| (device, mapping)));
    all.find(|(_, mapping)| mapping.name == wanted)
}

/// The same, where it is a volume's by its UUID, too, perhaps without its disk.
///
/// # Errors
/// `VOLUME_IN_USE` when something else has the name.
pub(super) fn of_volume(host: &Host, id: &VolumeId) -> Result<Option<(Device, Mapping)>, Refusal> {
    match named(host, id) {
        Some((_, mapping)) if mapping.volume().is_none() => Err(foreign(id, &mapping)),
        found => Ok(found),
    }
}

/// The mapping of the volume on `disk`, held open; none where it is not open.
///
/// # Errors
/// `VOLUME_IN_USE` when what has its name is something else, or lies on something else; `DISK_CHANGED`.
pub(super) fn held(host: &Host, id: &VolumeId, disk: &Disk) -> Result<Option<Disk>, Refusal> {
    let Some((device, mapping)) = of_volume(host, id)? else { return Ok(None) };
    prove(id, disk, &mapping)?;
    let Some(name) = devices::name(host, device) else { return Err(changed(id)) };
    let held = Disk::open(host, &name)?;
    // Asked again, now that the number is this mapping's alone.
    let Some(again) = at(host, held.device) else { return Err(changed(id)) };
    prove(id, disk, &again)?;
    Ok(Some(held))
}

/// That a mapping is the volume's, and lies on its disk.
fn prove(id: &VolumeId, disk: &Disk, mapping: &Mapping) -> Result<(), Refusal> {
    let on_disk = mapping.disk().is_some_and(|below| below.device == disk.device);
    let is_volumes = id.serial().is_some_and(|serial| mapping.is_on(&serial));
    if on_disk && is_volumes { Ok(()) } else { Err(foreign(id, mapping)) }
}

/// Whether the kernel lets nothing be written to it.
#[must_use]
pub(super) fn is_read_only(host: &Host, mapping: &Disk) -> bool {
    devices::attribute(host, &format!("{}/ro", devices::directory(mapping.device))).is_some_and(|set| set == "1")
}

fn foreign(id: &VolumeId, mapping: &Mapping) -> Refusal {
    let what = format!("the name {} is taken by another mapping: {mapping}", id.mapping_name());
    Refusal::new(Class::VolumeInUse, what)
}

fn changed(id: &VolumeId) -> Refusal {
    Refusal::new(Class::DiskChanged, format!("{} went away while it was looked at", id.mapping_name()))
}

#[cfg(test)]
mod tests;
