//! `/etc/cks-agent/config.toml`: what an operator may settle. Every key has a default, and no file is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootstrap::failure::{Code, Failure};
use bootstrap::preflight::Check;
use bootstrap::render::kubeadm::CgroupDriver;
use bootstrap::volume::filesystem::Kind;
use clap::ValueEnum;
use serde::Deserialize;

use crate::csi::DRIVER;
use crate::host::{Host, io_failure};

/// Where the file is, below the root.
pub const CONFIG_PATH: &str = "/etc/cks-agent/config.toml";

/// The file as it is written; durations as `30s`, `5m`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where bundles are looked for, best first: `disc` (every disc that is or gets attached), `vr` (the network's
    /// virtual router), an URL, a path.
    pub sources: Vec<String>,
    /// How long a source or containerd may keep a run waiting.
    #[serde(deserialize_with = "duration")]
    pub wait: Duration,
    /// Old version directories that are kept for a way back.
    pub keep: u32,
    /// Whether the management server's scripts are taken over.
    pub adopt: bool,
    /// Where the node's user data is.
    pub metadata: Metadata,
    /// What has to vouch for a bundle.
    pub trust: Trust,
    /// How HTTP sources are spoken to.
    pub http: Http,
    /// What becomes of a disc.
    pub disc: Disc,
    /// The containerd that images go into.
    pub containerd: Containerd,
    /// How the machine is checked before it becomes a node.
    pub preflight: Preflight,
    /// How the node becomes a member of its cluster.
    pub cluster: Cluster,
    /// What is kept of a dedicated etcd cluster.
    pub etcd: Etcd,
    /// How the node's volumes are served.
    pub csi: Csi,
}

/// Section `csi`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Csi {
    /// Whether `serve` is the CSI Node service. Off, for the driver's DaemonSet is still what CloudStack deploys, and two
    /// can't be.
    pub enabled: bool,
    /// Where kubelet and the sidecars reach it.
    pub socket: PathBuf,
    /// kubelet's directory (`--root-dir`).
    pub kubelet: PathBuf,
    /// Whether kubelet is told of it; without, the Go registrar does that.
    pub register: bool,
    /// The instance's UUID; else the metadata's, or the hypervisor's.
    pub node_id: Option<String>,
    /// The UUID of the zone.
    pub zone: Option<String>,
    /// Data disks that may be attached; else what CloudStack allows the hypervisor.
    pub max_volumes: Option<u32>,
    /// How long a disk may take to appear; kubelet asks again.
    #[serde(deserialize_with = "duration")]
    pub attach_wait: Duration,
    /// The kind of a new filesystem where no StorageClass says one.
    #[serde(deserialize_with = "filesystem")]
    pub default_filesystem: Kind,
}

/// Section `cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cluster {
    /// How long becoming a member may take, from the moment that the node is installed. The management server gives up
    /// on a cluster after an hour (`cloud.kubernetes.cluster.start.timeout`).
    #[serde(deserialize_with = "duration")]
    pub wait: Duration,
    /// Who makes control groups: the kubelet and containerd have to agree.
    pub cgroup_driver: CgroupDriver,
    /// Whether the kubelet may run on cgroup v1, which it refuses since Kubernetes 1.35.
    pub allow_cgroup_v1: bool,
    /// Preflight checks of kubeadm's that may fail: `SystemVerification`.
    pub kubeadm_ignores: Vec<String>,
}

/// Section `etcd`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Etcd {
    /// Scheduled snapshots that are kept.
    pub snapshots: usize,
    /// Where snapshots go that are not told otherwise.
    pub directory: PathBuf,
}

/// Section `trust`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Trust {
    /// The policy; without one, a signature is required as soon as there is a trusted key.
    pub policy: Option<Policy>,
    /// Directory of the trusted minisign keys, `*.pub`.
    pub keys: PathBuf,
    /// How many different trusted keys must have signed.
    pub signatures: usize,
    /// The oldest Kubernetes version that is installed: `v1.33.0`.
    pub minimum_version: Option<String>,
    /// Keys that the user data tells, besides: as texts of minisign's public keys.
    #[serde(skip)]
    pub told: Vec<String>,
}

/// Section `metadata`: a machine that no data source of CloudStack serves. What is named here always counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Metadata {
    /// A file with the user data.
    pub user_data: Option<PathBuf>,
    /// A directory with metadata; and with the user data, where that is not named.
    pub directory: Option<PathBuf>,
}

/// Section `http`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Http {
    /// The proxy for http and https; never asked for the virtual router that `vr` finds.
    pub proxy: Option<String>,
    /// Hosts and domains that are reached without it.
    pub no_proxy: Vec<String>,
    /// Files with certificates (PEM) of authorities that are trusted besides the public ones.
    pub ca: Vec<PathBuf>,
    /// Connections to one server at once.
    pub connections: usize,
    /// How long a connection may bring nothing.
    #[serde(deserialize_with = "duration")]
    pub inactivity: Duration,
}

/// Section `disc`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Disc {
    /// Whether a disc is ejected as soon as nothing more is needed from it.
    pub eject: bool,
}

/// Section `containerd`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Containerd {
    /// Its socket; without one, `run/containerd/containerd.sock` below the root.
    pub socket: Option<PathBuf>,
    /// The snapshotter that its CRI plugin uses.
    pub snapshotter: String,
}

/// Section `preflight`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Preflight {
    /// Names of checks that are left out, besides those that user data names; `all` stands for all.
    pub skip: Vec<String>,
}

/// What has to vouch for a bundle's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// A bundle that no trusted key signed is refused.
    RequireSignature,
    /// A bundle without manifest is refused.
    RequireManifest,
    /// A stock ISO is taken, and that is said loudly.
    AcceptLegacy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sources: ["disc", "vr", "/opt/cks/media"].map(str::to_owned).to_vec(),
            wait: Duration::from_secs(300),
            keep: 1,
            adopt: true,
            metadata: Metadata::default(),
            trust: Trust::default(),
            http: Http::default(),
            disc: Disc::default(),
            containerd: Containerd::default(),
            cluster: Cluster::default(),
            preflight: Preflight::default(),
            etcd: Etcd::default(),
            csi: Csi::default(),
        }
    }
}

impl Default for Csi {
    fn default() -> Self {
        let kubelet = PathBuf::from("/var/lib/kubelet");
        Self {
            enabled: false,
            socket: kubelet.join("plugins").join(DRIVER).join("csi.sock"),
            kubelet,
            register: true,
            node_id: None,
            zone: None,
            max_volumes: None,
            attach_wait: Duration::from_secs(60),
            default_filesystem: Kind::Ext4,
        }
    }
}

impl Default for Etcd {
    fn default() -> Self {
        Self { snapshots: 7, directory: PathBuf::from(bootstrap::etcd::snapshots::DIRECTORY) }
    }
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            policy: None,
            keys: PathBuf::from("/etc/cks-agent/keys"),
            signatures: 1,
            minimum_version: None,
            told: Vec::new(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self { proxy: None, no_proxy: Vec::new(), ca: Vec::new(), connections: 4, inactivity: Duration::from_secs(30) }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(50 * 60),
            cgroup_driver: CgroupDriver::default(),
            allow_cgroup_v1: false,
            kubeadm_ignores: Vec::new(),
        }
    }
}

impl Default for Containerd {
    fn default() -> Self {
        Self { socket: None, snapshotter: "overlayfs".to_owned() }
    }
}

impl Config {
    /// Reads `path`; without one, the file of `host` where there is one.
    ///
    /// # Errors
    /// `CONFIG_INVALID` names the file and the key; `IO`.
    pub fn read(host: &Host, path: Option<&Path>) -> Result<Self, Failure> {
        let (path, named) = path.map_or_else(|| (host.path(CONFIG_PATH), false), |path| (path.to_owned(), true));
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).map_err(|mut failure| {
                failure.what = format!("{}: {}", path.display(), failure.what);
                failure
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !named => Ok(Self::default()),
            Err(e) => Err(io_failure("Reading", &path, e)),
        }
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    /// `CONFIG_INVALID` names the key and its line.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let refuse =
            |why: String| Failure::new(Code::ConfigInvalid, why).with_remedy("docs/operator.md lists every key");
        let config: Self = toml::from_str(text).map_err(|e| refuse(unreadable(text, &e)))?;
        let wrong = [
            (config.sources.is_empty(), "sources: at least one is needed"),
            (config.trust.signatures == 0, "trust.signatures: at least 1"),
            (!(1..=64).contains(&config.http.connections), "http.connections: 1 to 64"),
            (config.etcd.snapshots == 0, "etcd.snapshots: at least 1"),
            (!config.etcd.directory.is_absolute(), "etcd.directory: an absolute path"),
            (config.http.inactivity < Duration::from_secs(1), "http.inactivity: at least 1s"),
            (!config.csi.socket.is_absolute(), "csi.socket: an absolute path"),
            (!config.csi.kubelet.is_absolute(), "csi.kubelet: an absolute path"),
            (config.csi.max_volumes == Some(0), "csi.max-volumes: at least 1"),
        ];
        Check::named(&config.preflight.skip).map_err(|failure| refuse(format!("preflight.skip: {}", failure.what)))?;
        match wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
            Some((_, why)) => Err(refuse(why.to_owned())),
            None => Ok(config),
        }
    }
}

/// What is wrong with the text, and where; the line itself may hold the proxy's password.
fn unreadable(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let number = before.matches('\n').count();
    let line = text.lines().nth(number).unwrap_or_default();
    let key = line.split_once('=').map_or_else(String::new, |(key, _)| format!(", {}", key.trim()));
    format!("line {}{key}: {}", number + 1, error.message())
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    patience(&text).map_err(|why| serde::de::Error::custom(format!("{text:?} is no time: {why}")))
}

fn filesystem<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Kind, D::Error> {
    Kind::parse(&String::deserialize(deserializer)?).map_err(|refusal| serde::de::Error::custom(refusal.what))
}

/// A time that a clock can still show.
///
/// # Errors
/// What is wrong with `text`, for people.
pub fn patience(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    if duration > Duration::from_secs(365 * 24 * 3600) {
        return Err("is longer than a year".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod example;
#[cfg(test)]
mod tests;
