//! What the last successful run made of this node, so that later commands need no arguments.

use std::net::IpAddr;
use std::path::PathBuf;

use bootstrap::bundle::{Manifest, Role};
use bootstrap::digest::Digest;
use bootstrap::failure::Failure;
use bootstrap::node_spec::NodeSpec;
use bootstrap::plan::Bundle;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::host::{Host, STATE_DIR};

/// The document `/var/lib/cks-agent/node.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// What the node is in its cluster.
    pub role: Role,
    /// Its name.
    pub node_name: String,
    /// The address that others reach it at.
    pub node_ip: Option<IpAddr>,
    /// The members of its etcd cluster, as `--etcd-initial-cluster` takes them.
    pub etcd_initial_cluster: Option<String>,
    /// Where its bundle was looked for, best first.
    pub sources: Vec<String>,
    /// containerd's socket, where it was named.
    pub containerd: Option<PathBuf>,
    /// The snapshotter that its images are unpacked with.
    pub snapshotter: String,
    /// The bundle that is installed.
    pub bundle: BundleRecord,
}

/// The bundle that is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleRecord {
    /// Its digest.
    pub id: Digest,
    /// Its version directory.
    pub directory: String,
    /// Its Kubernetes version, where it brings one.
    pub kubernetes: Option<String>,
    /// Of a stock ISO: what was learned about its content while it was installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned: Option<Box<Manifest>>,
}

impl BundleRecord {
    /// What is worth to be kept of `bundle`.
    #[must_use]
    pub fn of(bundle: &Bundle) -> Self {
        Self {
            id: bundle.id,
            directory: bundle.directory(),
            kubernetes: bundle.manifest.kubernetes.clone(),
            learned: bundle.derived.then(|| Box::new(bundle.manifest.clone())),
        }
    }
}

impl NodeRecord {
    /// The node as its last successful run left it; none before the first.
    ///
    /// # Errors
    /// `STATE_INVALID` and `IO` name the file.
    pub fn read(host: &Host) -> Result<Option<Self>, Failure> {
        files::read_json(&host.path(&path()))
    }

    /// Keeps it; the file stays as it is when it says the same already.
    ///
    /// # Errors
    /// `NO_SPACE` and `IO` name the file.
    pub fn write(&self, host: &Host) -> Result<(), Failure> {
        if Self::read(host).ok().flatten().as_ref() == Some(self) {
            return Ok(());
        }
        files::write_json(&host.prepare(&path())?, self, 0o600)
    }

    /// The wish that the run was given.
    ///
    /// # Errors
    /// `CONFIG_INVALID` names the value, where somebody changed the file.
    pub fn spec(&self) -> Result<NodeSpec, Failure> {
        NodeSpec::new(self.role, &self.node_name, self.node_ip, self.etcd_initial_cluster.as_deref())
    }
}

fn path() -> String {
    format!("{STATE_DIR}/node.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        assert_eq!(NodeRecord::read(&host).unwrap(), None);
        let record = NodeRecord {
            role: Role::Etcd,
            node_name: "etcd-1".to_owned(),
            node_ip: Some([10, 1, 1, 12].into()),
            etcd_initial_cluster: Some("etcd-1=http://10.1.1.12:2380".to_owned()),
            sources: vec!["vr".to_owned()],
            containerd: None,
            snapshotter: "overlayfs".to_owned(),
            bundle: BundleRecord {
                id: Digest::of(b"x"),
                directory: "/opt/cks/v1.33.1-x".to_owned(),
                kubernetes: Some("v1.33.1".to_owned()),
                learned: None,
            },
        };
        record.write(&host).unwrap();
        assert_eq!(NodeRecord::read(&host).unwrap().as_ref(), Some(&record));
        assert_eq!(record.spec().unwrap().node_name, "etcd-1");
        std::fs::write(host.path(&path()), "{").unwrap();
        assert_eq!(NodeRecord::read(&host).unwrap_err().code, bootstrap::failure::Code::StateInvalid);
        record.write(&host).unwrap();
        assert_eq!(NodeRecord::read(&host).unwrap(), Some(record));
    }
}
