//! What the metadata service says of the machine.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// The metadata of an instance, as CloudStack's virtual router or a ConfigDrive has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// `instance-id`.
    pub instance_id: Option<String>,
    /// `local-hostname`: the name that the management server knows the node by.
    pub local_hostname: Option<String>,
    /// `local-ipv4`.
    pub local_ipv4: Option<IpAddr>,
    /// `availability-zone`.
    pub availability_zone: Option<String>,
    /// Everything else by its key, also what a CNI configuration's details add.
    pub more: BTreeMap<String, String>,
}

impl Metadata {
    /// Reads keys as the metadata service spells them: `local-hostname`.
    pub fn from_keys(keys: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut metadata = Self::default();
        for (key, value) in keys {
            let value = value.trim().to_owned();
            if value.is_empty() {
                continue;
            }
            match key.as_str() {
                "instance-id" => metadata.instance_id = Some(value),
                "local-hostname" => metadata.local_hostname = Some(value),
                "local-ipv4" => metadata.local_ipv4 = value.parse().ok(),
                "availability-zone" => metadata.availability_zone = Some(value),
                _ => drop(metadata.more.insert(key, value)),
            }
        }
        metadata
    }

    /// All of it by the service's keys.
    pub(super) fn keys(&self) -> BTreeMap<&str, String> {
        let own = [
            ("instance-id", self.instance_id.clone()),
            ("local-hostname", self.local_hostname.clone()),
            ("local-ipv4", self.local_ipv4.map(|address| address.to_string())),
            ("availability-zone", self.availability_zone.clone()),
        ];
        let own = own.into_iter().filter_map(|(key, value)| Some((key, value?)));
        own.chain(self.more.iter().map(|(key, value)| (key.as_str(), value.clone()))).collect()
    }
}
