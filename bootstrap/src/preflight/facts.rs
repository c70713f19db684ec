//! What was seen of a machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::SystemTime;

use ipnet::IpNet;

/// The machine as it is now; none, or nothing in a list, where it could not be seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// The version of control groups.
    pub cgroup: Option<Cgroup>,
    /// Controllers of cgroup v2.
    pub controllers: BTreeSet<String>,
    /// Those of the modules asked for that are loaded or part of the kernel; none where that can't be told.
    pub modules: Option<BTreeSet<String>>,
    /// Kernel settings asked for: key → value.
    pub sysctls: BTreeMap<String, String>,
    /// Kernel settings that can't be written, with the reason.
    pub unwritable: BTreeMap<String, String>,
    /// Swap in use: devices and files.
    pub swaps: Vec<String>,
    /// Swap that comes back at the next boot: lines of `/etc/fstab`, with their numbers.
    pub swaps_of_fstab: Vec<(usize, String)>,
    /// Who listens at which TCP port.
    pub listeners: Vec<Listener>,
    /// Networks that the machine has routes to or addresses in, with the interface; not the default route.
    pub networks: Vec<(IpNet, String)>,
    /// The machine's own addresses.
    pub addresses: Vec<IpAddr>,
    /// The address that packets to the control plane leave from.
    pub reaches_endpoint_from: Option<IpAddr>,
    /// The address that packets to everybody leave from.
    pub reaches_default_from: Option<IpAddr>,
    /// What the endpoint's name resolves to, or why it does not.
    pub endpoint_addresses: Option<Result<Vec<IpAddr>, String>>,
    /// The machine's own clock.
    pub now: Option<SystemTime>,
    /// Another clock, and whose it is.
    pub reference: Option<(SystemTime, String)>,
    /// Filesystems by the directory that lies on them, or will.
    pub room: BTreeMap<String, Room>,
    /// Processors.
    pub processors: Option<usize>,
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// The kernel's name for the machine.
    pub host_name: Option<String>,
    /// Whether that name resolves.
    pub host_name_resolves: Option<bool>,
    /// Whether `localhost` resolves to a loopback address.
    pub localhost_resolves: Option<bool>,
    /// Those of the programs asked for that are missing; none where that can't be told.
    pub missing_programs: Option<BTreeSet<String>>,
    /// `KUBELET_EXTRA_ARGS` of the distribution's file, with its path.
    pub kubelet_arguments: Option<(String, String)>,
}

/// A version of control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroup {
    /// Version 1, or version 1 with an empty tree of version 2 beside it.
    V1,
    /// Version 2.
    V2,
}

/// A program that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where; unspecified means everywhere.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// The program, and its process id; none where it can't be told.
    pub program: Option<(String, u32)>,
}

/// Room on a filesystem, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// All of it.
    pub total: u64,
    /// What may still be written.
    pub free: u64,
}
