//! A ConfigDrive: a disc with `cloudstack/` or `openstack/latest/`, whatever its label. Read in user space: no mount, and
//! no iso9660 in the kernel.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bootstrap::datasource;
use bootstrap::disc::{self, Disc};
use bootstrap::failure::{Code, Failure};

use super::{Found, Look, USER_DATA_MAX_BYTES, VALUE_MAX_BYTES};
use crate::host::Host;
use crate::media::discs;
use crate::report;

/// The directory of CloudStack's keys, and what their files end in.
const KEYS: (&str, &str) = ("cloudstack/metadata/", ".txt");
/// Where the user data is, best first.
const USER_DATA: [&str; 2] = ["cloudstack/userdata/user_data.txt", "openstack/latest/user_data"];
const META_DATA: &str = "openstack/latest/meta_data.json";

/// Looks at every disc that there is.
pub(super) async fn look(host: &Host) -> Look {
    let host = host.clone();
    let looking = tokio::task::spawn_blocking(move || {
        let mut reasons = Vec::new();
        for device in discs::list(&host) {
            let name = device.node.display().to_string();
            // Most devices are no discs, and an empty drive is not worth a word.
            if !discs::is_iso(&device.node).unwrap_or(false) {
                continue;
            }
            match read(&device.node, &name) {
                Ok(Some(found)) => return Look::Found(Box::new(found)),
                Ok(None) => {}
                Err(failure) => reasons.push((name, report::chain(&failure))),
            }
        }
        if reasons.is_empty() {
            reasons.push(("ConfigDrive".to_owned(), "no disc that holds one".to_owned()));
        }
        Look::Nothing(reasons)
    });
    looking.await.unwrap_or_else(|e| Look::Nothing(vec![("ConfigDrive".to_owned(), e.to_string())]))
}

/// What the disc `node` says; none where it is no ConfigDrive.
fn read(node: &Path, name: &str) -> Result<Option<Found>, Failure> {
    let file = discs::open(node).map_err(|e| Failure::new(Code::SourceUnreachable, e.to_string()))?;
    let disc = disc::read(&file)?;
    let is_one =
        disc.files.iter().any(|file| ["cloudstack/", "openstack/latest/"].iter().any(|at| file.path.starts_with(at)));
    if !is_one {
        return Ok(None);
    }
    let text = |path: &str| -> Result<Option<String>, Failure> {
        let bytes = bytes(&file, &disc, path, VALUE_MAX_BYTES)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    };
    let mut metadata = text(META_DATA)?.and_then(|text| datasource::openstack(&text)).unwrap_or_default();
    let mut keys = BTreeMap::new();
    for path in disc.files.iter().map(|file| file.path.as_str()) {
        let Some(key) = path.strip_prefix(KEYS.0).and_then(|name| name.strip_suffix(KEYS.1)) else { continue };
        keys.insert(key.to_owned(), text(path)?.unwrap_or_default());
    }
    // CloudStack's own keys say more than what was made of them for OpenStack's.
    let own = datasource::from_keys(keys);
    metadata.instance_id = own.instance_id.or(metadata.instance_id);
    metadata.local_hostname = own.local_hostname.or(metadata.local_hostname);
    metadata.local_ipv4 = own.local_ipv4.or(metadata.local_ipv4);
    metadata.availability_zone = own.availability_zone.or(metadata.availability_zone);
    metadata.more.extend(own.more);
    metadata.instance_id = metadata.instance_id.or_else(|| metadata.more.get("vm-id").cloned());
    if metadata.instance_id.is_none() {
        return Err(Failure::new(Code::SourceInvalid, "is a ConfigDrive that tells no instance id"));
    }
    let mut user_data = None;
    for path in USER_DATA {
        user_data =
            user_data.map_or_else(|| bytes(&file, &disc, path, USER_DATA_MAX_BYTES), |known| Ok(Some(known)))?;
    }
    Ok(Some(Found { metadata, user_data: user_data.unwrap_or_default(), source: name.to_owned() }))
}

/// The file `path` of a disc; none where it is not there.
fn bytes(file: &File, disc: &Disc, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
    let Some(entry) = disc.file(path) else { return Ok(None) };
    if entry.size > limit {
        return Err(Failure::new(Code::SourceInvalid, format!("{path} has {} bytes, {limit} are allowed", entry.size)));
    }
    let mut all = Vec::new();
    for range in entry.ranges(0, entry.size).unwrap_or_default() {
        let mut part = vec![0; usize::try_from(range.length).unwrap_or_default()];
        let read = file.read_exact_at(&mut part, range.offset);
        read.map_err(|e| Failure::new(Code::SourceTruncated, path.to_owned()).with_source(e))?;
        all.extend(part);
    }
    Ok(Some(all))
}
