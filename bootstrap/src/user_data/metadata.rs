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
