//! What a data source says about the machine itself.

use std::collections::BTreeMap;

use serde::Serialize;

/// A machine's metadata, as CloudStack names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// The instance's UUID.
    pub instance_id: Option<String>,
    /// Its name in the network.
    pub local_hostname: Option<String>,
    /// Its address in the guest network.
    pub local_ipv4: Option<String>,
    /// Its zone.
    pub availability_zone: Option<String>,
    /// Every other key, also those that the user gave.
    pub more: BTreeMap<String, String>,
}
