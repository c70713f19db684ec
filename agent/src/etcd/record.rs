//! What is known of this node's membership across runs: `/var/lib/cks-agent/etcd.json`.

use std::fs;
use std::net::IpAddr;

use bootstrap::bundle::Role;
use bootstrap::etcd::standing::Past;
use bootstrap::etcd::wal::Identity;
use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::NodeSpec;
use serde::{Deserialize, Serialize};

use super::certificates;
use crate::files;
use crate::host::{Host, STATE_DIR, io_failure};

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The member's name.
    pub(super) name: String,
    /// The address that others reach it at.
    pub(super) address: Option<IpAddr>,
    /// The members as they were told, `(name, peer URL)`.
    pub(super) members: Vec<(String, String)>,
    /// Whether they speak TLS.
    pub(super) tls: bool,
    /// Who it is, once it was seen to serve.
    pub(super) identity: Option<Identity>,
    /// The members as the cluster had them then: others may have joined who were not told here.
    #[serde(default)]
    pub(super) seen: Vec<(String, String)>,
}

impl Record {
    /// It is being made a member.
    pub(super) fn begun(spec: &NodeSpec) -> Self {
        Self {
            name: spec.node_name.clone(),
            address: spec.address,
            members: spec.etcd_members.clone(),
            tls: spec.etcd_authority.is_some(),
            identity: None,
            seen: Vec::new(),
        }
    }

    /// It was seen to serve, with the members `seen`.
    pub(super) fn member(spec: &NodeSpec, identity: Identity, seen: Vec<(String, String)>) -> Self {
        Self { identity: Some(identity), seen, ..Self::begun(spec) }
    }

    /// Whether it was told of nobody else.
    pub(super) fn is_told_alone(&self) -> bool {
        self.members.iter().all(|(name, _)| *name == self.name)
    }

    /// Whether nobody else is known to be, or to have been, a member.
    pub(super) fn is_alone(&self) -> bool {
        self.is_told_alone() && self.seen.iter().all(|(name, _)| *name == self.name)
    }

    pub(super) fn past(&self) -> Past {
        self.identity.map_or(Past::Begun, Past::Member)
    }

    /// Refuses a wish that would tear this member out of its cluster: that knows it by its name and its peer URL.
    ///
    /// # Errors
    /// `ETCD_FOREIGN`.
    pub(super) fn fits(&self, spec: &NodeSpec) -> Result<(), Failure> {
        if self.identity.is_none() {
            return Ok(());
        }
        let known = NodeSpec { address: self.address, etcd_authority: None, ..spec.clone() }.peer_url();
        let known = if self.tls { known.replacen("http:", "https:", 1) } else { known };
        let (name, url) = (&spec.node_name, spec.peer_url());
        if self.name == *name && known == url {
            return Ok(());
        }
        let what = format!("this node is {} at {known} in its cluster, and is told to be {name} at {url}", self.name);
        Err(Failure::new(Code::EtcdForeign, what).with_remedy(
            "give it the name, address and authority that it had; docs/etcd.md tells how to move a cluster to others",
        ))
    }

    /// As the last run left it; none before the first.
    pub(super) fn read(host: &Host) -> Result<Option<Self>, Failure> {
        let path = host.path(&path());
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_failure("Reading", &path, e)),
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| Failure::new(Code::StateInvalid, format!("{}: {e}", path.display())))
    }

    pub(super) fn write(&self, host: &Host) -> Result<(), Failure> {
        if Self::read(host).is_ok_and(|written| written.as_ref() == Some(self)) {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        files::write(&host.prepare(&path())?, text.as_bytes(), 0o600)
    }

    /// The wish that made the node what it is, with the authority that it keeps.
    pub(super) fn spec(&self, host: &Host) -> Result<NodeSpec, Failure> {
        let members = self.members.iter().map(|(name, url)| format!("{name}={url}")).collect::<Vec<_>>().join(",");
        let members = Some(members).filter(|members| !members.is_empty());
        let mut spec = NodeSpec::new(Role::Etcd, &self.name, self.address, members.as_deref())?;
        spec.etcd_authority = if self.tls { Some(certificates::kept(host)?) } else { None };
        Ok(spec)
    }
}

/// Where the document is.
pub(super) fn path() -> String {
    format!("{STATE_DIR}/etcd.json")
}
