//! User data in files of the machine: those that the settings name, and NoCloud's seed.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bootstrap::datasource;
use bootstrap::failure::{Code, Failure};
use bootstrap::user_data::Metadata;

use super::{AHEAD, Found, Look, USER_DATA_MAX_BYTES, VALUE_MAX_BYTES, is_this_machine, text};
use crate::config;
use crate::files::small;
use crate::host::{Host, io_failure};

/// Where NoCloud's data lies; of cloud-init's data sources the one for machines without a cloud.
const SEEDS: [&str; 2] = ["/var/lib/cloud/seed/nocloud", "/var/lib/cloud/seed/nocloud-net"];
/// Names of the user data in a directory.
const USER_DATA: [&str; 3] = ["user-data", "user_data.txt", "user_data"];
/// Names of documents that hold all metadata.
const DOCUMENTS: [&str; 2] = ["meta-data", "meta_data.json"];

/// The user data in the file `path`; none where there is no such file.
///
/// # Errors
/// `USER_DATA_INVALID` when it is longer than CloudStack's; `IO`.
pub fn user_data(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    small(path, USER_DATA_MAX_BYTES).map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge => too_long(&path.display().to_string()),
        _ => io_failure("Reading user data", path, error),
    })
}

/// The refusal of user data that is too long for CloudStack.
pub fn too_long(source: &str) -> Failure {
    let what = format!("{source}: user data has more than {} MiB", USER_DATA_MAX_BYTES >> 20);
    Failure::new(Code::UserDataInvalid, what).with_remedy("shorten it, or compress it with gzip")
}

/// What the settings name; none where they name nothing.
///
/// # Errors
/// `CONFIG_INVALID` when there is no such file; `IO`.
pub(super) fn named(host: &Host, settings: &config::Metadata) -> Result<Option<Found>, Failure> {
    let directory_of = |path: &PathBuf| directory(path).map(Some);
    let metadata = settings.directory.as_ref().map_or(Ok(None), directory_of)?;
    let path = match (&settings.user_data, &settings.directory) {
        (Some(path), _) => path.clone(),
        (None, Some(directory)) => {
            let places = USER_DATA.map(|name| directory.join(name));
            let [first, ..] = &places;
            places.iter().find(|path| path.exists()).unwrap_or(first).clone()
        }
        (None, None) => return Ok(None),
    };
    let user_data = self::user_data(&path)?;
    let missing = || {
        Failure::new(Code::ConfigInvalid, format!("{}: there is no such file", path.display()))
            .with_remedy("name the file with the user data, or the directory that it is in")
    };
    let mut metadata = metadata.unwrap_or_default();
    metadata.local_hostname.get_or_insert_with(|| host.name());
    Ok(Some(Found { metadata, user_data: user_data.ok_or_else(missing)?, source: path.display().to_string() }))
}

/// Metadata in a directory: a file for each key (`instance-id`, `instance-id.txt`), or one document with all of them
/// (`meta-data` as NoCloud has it, `meta_data.json` as OpenStack has it).
///
/// # Errors
/// `CONFIG_INVALID` when it is no directory; `IO`.
pub fn directory(path: &Path) -> Result<Metadata, Failure> {
    let entries = fs::read_dir(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            Failure::new(Code::ConfigInvalid, format!("{}: is no directory with metadata", path.display()))
        }
        _ => io_failure("Reading metadata in", path, e),
    })?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    let (mut keys, mut documents) = (BTreeMap::new(), Metadata::default());
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if USER_DATA.contains(&name.as_str()) || datasource::keys(&name).is_empty() {
            continue;
        }
        let limit = if DOCUMENTS.contains(&name.as_str()) { USER_DATA_MAX_BYTES } else { VALUE_MAX_BYTES };
        let bytes = small(&file, limit).map_err(|e| io_failure("Reading", &file, e))?.unwrap_or_default();
        let value = String::from_utf8_lossy(&bytes).into_owned();
        if DOCUMENTS.contains(&name.as_str()) {
            documents = datasource::nocloud(&value);
        } else {
            keys.insert(name.strip_suffix(".txt").unwrap_or(&name).to_owned(), value);
        }
    }
    let mut metadata = datasource::from_keys(keys);
    metadata.instance_id = metadata.instance_id.or(documents.instance_id);
    metadata.local_hostname = metadata.local_hostname.or(documents.local_hostname);
    metadata.local_ipv4 = metadata.local_ipv4.or(documents.local_ipv4);
    metadata.availability_zone = metadata.availability_zone.or(documents.availability_zone);
    for (key, value) in documents.more {
        metadata.more.entry(key).or_insert(value);
    }
    Ok(metadata)
}

/// Looks at NoCloud's seeds for the `looks`th time. A template may have kept its builder's: unless a seed names this very
/// machine, the cloud is asked first.
pub(super) async fn seed(host: &Host, looks: u32) -> Look {
    for seed in SEEDS {
        let place = host.path(seed);
        let metadata = datasource::nocloud(&text(&place.join("meta-data")));
        let Some(id) = metadata.instance_id.as_deref() else { continue };
        let path = place.join("user-data");
        let Ok(user_data) = small(&path, USER_DATA_MAX_BYTES) else { continue };
        if looks == 0 && !is_this_machine(host, id) {
            tokio::time::sleep(AHEAD).await;
        }
        let (user_data, source) = (user_data.unwrap_or_default(), path.display().to_string());
        let found = Box::new(Found { metadata, user_data, source });
        return if found.user_data.is_empty() { Look::WithoutUserData(found) } else { Look::Found(found) };
    }
    // Most machines have none, and nobody wants to know.
    Look::Nothing(Vec::new())
}
