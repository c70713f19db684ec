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
