//! What user data may say beside role and cluster: where bytes come from, who vouches for them, how the container
//! runtime reaches registries, how the node is labelled.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::secret::{Secret, shown_url, shown_urls};

/// How the bundle comes to the node.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// Where the bundle is looked for, best first; empty: as the settings say. An URL may hold a password, and is shown
    /// without it.
    #[serde(serialize_with = "shown_urls")]
    pub sources: Vec<String>,
    /// The virtual router that serves the ISO, where the management server names one.
    pub router: Option<IpAddr>,
    /// `require-signature`, `require-manifest`, `accept-legacy`; none: as the settings say.
    pub policy: Option<String>,
    /// Trusted minisign keys, besides those of the template.
    pub keys: Vec<String>,
    /// Whether a disc is ejected when nothing more is needed from it.
    pub eject: bool,
    /// How long the bundle may keep the node waiting, in seconds; none: as the settings say.
    pub wait_seconds: Option<u64>,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources: Vec<String> = self.sources.iter().map(|source| shown_url(source)).collect();
        f.debug_struct("Delivery")
            .field("sources", &sources)
            .field("router", &self.router)
            .field("policy", &self.policy)
            .field("keys", &self.keys)
            .field("eject", &self.eject)
            .field("wait_seconds", &self.wait_seconds)
            .finish()
    }
}

/// What the container runtime is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Runtime {
    /// Registries that need more than their name.
    pub registries: Vec<Registry>,
    /// How registries are reached.
    pub proxy: Option<Proxy>,
}

/// A registry (containerd, `certs.d/HOST/hosts.toml`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Registry {
    /// The host that references name: `docker.io`, `harbor.example.org:5000`; `_default` for all others.
    pub host: String,
    /// Where it is asked instead, best first: `https://harbor.example.org`; empty: at the host itself.
    pub endpoints: Vec<String>,
    /// The user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// Authorities that its certificate may be of, PEM.
    pub authority: Option<String>,
    /// The client certificate, PEM.
    pub client_certificate: Option<String>,
    /// The client certificate's key, PEM.
    pub client_key: Option<Secret>,
    /// Whether its certificate is not looked at.
    pub insecure: bool,
}

/// A proxy for the container runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Proxy {
    /// For http.
    pub http: Option<Secret>,
    /// For https.
    pub https: Option<Secret>,
    /// Hosts, domains and networks that are reached without it.
    pub no_proxy: Vec<String>,
}

/// What the kubelet registers the node with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Registration {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Taints, as `kubectl taint` takes them: `key=value:NoSchedule`.
    pub taints: Vec<String>,
    /// The address that the kubelet registers; none: the one that reaches the control plane.
    pub node_ip: Option<IpAddr>,
    /// Checks of the machine that are left out, by name.
    pub skip_checks: Vec<String>,
}
