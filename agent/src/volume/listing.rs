//! Which volumes are staged and published on this machine, and whether each is what it is said to be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bootstrap::mountinfo::{Device, Mount};
use bootstrap::volume::VolumeId;
use bootstrap::volume::encryption::LUKS2;
use bootstrap::volume::refusal::Refusal;
use serde::{Deserialize, Serialize};

use super::{devices, mapping, mounts};
use crate::files::small;
use crate::host::Host;

/// What kubelet writes down beside the mounts of a CSI volume (`pkg/volume/csi/csi_plugin.go`).
const NOTE: &str = "vol_data.json";
const NOTE_BYTES: u64 = 64 << 10;
/// The name of kubelet's staging target paths.
const STAGED: &str = "globalmount";

/// A volume that is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Found {
    /// Its id, as kubelet wrote it down.
    pub volume: String,
    /// The kernel's name of its disk.
    pub disk: Option<String>,
    /// The disk's number.
    pub device: Option<String>,
    /// The serial that its disk says it has.
    pub serial: Option<String>,
    /// How it is encrypted; none where it is not.
    pub encryption: Option<&'static str>,
    /// The name of what its disk is decrypted as.
    pub mapping: Option<String>,
    /// The filesystem.
    pub filesystem: String,
    /// Where it is staged.
    pub staged: Vec<PathBuf>,
    /// Where it is published.
    pub published: Vec<PathBuf>,
    /// What is wrong with it: the disk is another one than the volume's, or is gone.
    pub wrong: Option<String>,
}

#[derive(Deserialize)]
struct Note {
    #[serde(rename = "driverName")]
    driver: String,
    #[serde(rename = "volumeHandle")]
    handle: String,
}

/// The volumes of `driver` below `kubelet`'s directory.
///
/// # Errors
/// `IO`.
pub fn list(host: &Host, kubelet: &Path, driver: &str) -> Result<Vec<Found>, Refusal> {
    let table = mounts::table(host)?;
    // It may be a symbolic link, and the table knows none; where it is missing, nothing is mounted below.
    let kubelet = &std::fs::canonicalize(kubelet).unwrap_or_else(|_| kubelet.to_owned());
    let mut found: BTreeMap<(String, Option<Device>), Found> = BTreeMap::new();
    for mount in table.below(kubelet) {
        let Some(note) = note(&mount.path).filter(|note| note.driver == driver) else { continue };
        let block = mounts::node_at(&mount.path)?;
        let device = block.or_else(|| mounts::device_of(host, mount));
        let entry = found.entry((note.handle.clone(), device));
        let entry = entry.or_insert_with(|| volume(host, &note.handle, mount, device, block.is_some()));
        let staged = mount.path.file_name().is_some_and(|name| name == STAGED);
        if staged { &mut entry.staged } else { &mut entry.published }.push(mount.path.clone());
    }
    Ok(found.into_values().collect())
}

fn volume(host: &Host, handle: &str, mount: &Mount, device: Option<Device>, block: bool) -> Found {
    let mapping = device.and_then(|device| mapping::at(host, device)).filter(|mapping| mapping.volume().is_some());
    let evidence = match &mapping {
        Some(mapping) => mapping.disk().cloned(),
        None => device.map(|device| devices::evidence(host, device.to_string(), device)),
    };
    let serial = evidence.as_ref().and_then(|evidence| evidence.serials.first().map(|(_, serial)| serial.clone()));
    let expected = VolumeId::parse(handle).ok().and_then(|id| id.serial());
    let wrong = match (device, expected) {
        (Some(device), _) if devices::is_gone(host, device) => Some("its disk is gone".to_owned()),
        (Some(device), Some(expected)) if devices::is_serial(host, device, &expected) => None,
        (Some(_), Some(expected)) => {
            let is = serial.as_deref().unwrap_or("a disk without serial");
            Some(format!("what is mounted is {is}, and the volume's disk is {expected}"))
        }
        (None, _) => Some(format!("what is mounted, {}, is no disk", mount.source)),
        (_, None) => Some("its id is no UUID, as CloudStack's volumes have".to_owned()),
    };
    let filesystem = if block { "block".to_owned() } else { mount.kind.clone() };
    let below = if mapping.is_some() { evidence.map(|disk| disk.device) } else { device };
    let disk = below.and_then(|device| devices::name(host, device));
    let device = below.map(|device| device.to_string());
    let (volume, staged, published) = (handle.to_owned(), Vec::new(), Vec::new());
    let (encryption, mapping) = (mapping.as_ref().map(|_| LUKS2), mapping.map(|mapping| mapping.name));
    Found { volume, disk, device, serial, encryption, mapping, filesystem, staged, published, wrong }
}

/// kubelet's note on the mount at `path`: beside it. That of a block volume's lies in `data` of the directory above; its
/// mounts are named after the pod.
fn note(path: &Path) -> Option<Note> {
    let beside = path.parent()?;
    let volume = beside.file_name()?;
    let places = [
        Some(beside.join(NOTE)),
        beside.parent().and_then(Path::parent).map(|devices| devices.join(volume).join("data").join(NOTE)),
    ];
    places.into_iter().flatten().find_map(|place| {
        let bytes = small(&place, NOTE_BYTES).ok().flatten()?;
        serde_json::from_slice(&bytes).ok()
    })
}
