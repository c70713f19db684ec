//! A ConfigDrive, as CloudStack makes it (4.20, `ConfigDriveBuilder`): a disc with the label `config-2`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::process::Command;

/// What such a disc tells.
#[derive(Debug)]
pub struct ConfigDrive<'a> {
    /// The instance's UUID.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Who may log in.
    pub public_key: &'a str,
    /// Decoded.
    pub user_data: &'a str,
}

impl ConfigDrive<'_> {
    /// Makes the disc, below the directory `within`.
    ///
    /// # Errors
    /// When a file can't be written; without genisoimage.
    pub fn make(&self, within: &Path) -> Result<PathBuf> {
        let Self { id, name, public_key, user_data } = self;
        let tree = within.join("config-drive");
        let put = |path: &str, text: &str| -> Result<()> {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap_or(&tree)).with_context(|| format!("Making {}", path.display()))?;
            fs::write(&path, text).with_context(|| format!("Writing {}", path.display()))
        };
        put("cloudstack/userdata/user_data.txt", user_data)?;
        put("cloudstack/password/vm_password.txt", "")?;
        let keys = [
            ("service-offering", "Small Instance"),
            ("availability-zone", "zone-1"),
            ("local-hostname", name),
            ("public-hostname", name),
            ("instance-id", id),
            ("vm-id", id),
            ("public-keys", public_key),
            ("hypervisor-host-name", "host-1"),
        ];
        for (key, value) in keys {
            put(&format!("cloudstack/metadata/{key}.txt"), value)?;
        }
        let about = json!({ "uuid": id, "hostname": name, "name": name, "local-hostname": name, "instance-id": id,
            "availability_zone": "zone-1", "public_keys": { "default": public_key } });
        put("openstack/latest/meta_data.json", &about.to_string())?;
        put("openstack/latest/user_data", user_data)?;
        put("openstack/latest/vendor_data.json", "{}")?;
        put("openstack/latest/network_data.json", r#"{"links":[],"networks":[],"services":[]}"#)?;
        let disc = within.join("config-2.iso");
        let make = Command::new("genisoimage").args(["-quiet", "-J", "-r", "-V", "config-2", "-o"]).arg(&disc);
        make.arg(&tree).ok().context("Making a ConfigDrive")?;
        Ok(disc)
    }
}
