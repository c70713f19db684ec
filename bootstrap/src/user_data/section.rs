//! The `cks:` section: what the agent is told in its own words, at the top level of a cloud-config. Every key is checked;
//! one that is unknown is refused with its line.

mod keys;
mod runtime;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use self::keys::Keys;
use super::kubeadm::{self, Call};
use super::place::{Findings, Place};
use super::shell;
use super::yaml::Entry;
use crate::bundle::Role;
use crate::failure::Failure;
use crate::node_spec::{
    Authority, CertificateKey, Delivery, Endpoint, Init, Network, Proxy, Registration, Registry, Token,
};

/// What a node is, in the words of a `cks:` section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Member {
    /// Begins the cluster.
    FirstControlPlane,
    /// Joins as a further control plane node.
    ControlPlane,
    /// Joins as a worker.
    Worker,
    /// A member of a dedicated etcd cluster.
    Etcd,
}

impl Member {
    const ALL: [(&'static str, Self); 4] = [
        ("first-control-plane", Self::FirstControlPlane),
        ("control-plane", Self::ControlPlane),
        ("worker", Self::Worker),
        ("etcd", Self::Etcd),
    ];

    /// How it is spelled.
    #[must_use]
    pub(super) fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, member)| *member == self).map_or("", |(name, _)| name)
    }

    /// What it is installed as.
    #[must_use]
    pub(super) fn role(self) -> Role {
        match self {
            Self::FirstControlPlane | Self::ControlPlane => Role::ControlPlane,
            Self::Worker => Role::Worker,
            Self::Etcd => Role::Etcd,
        }
    }
}

/// A `cks:` section, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) place: Place,
    pub(super) member: Option<Member>,
    pub(super) node_name: Option<String>,
    pub(super) node_ip: Option<IpAddr>,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) token: Option<Token>,
    pub(super) certificate_key: Option<CertificateKey>,
    pub(super) ca_hashes: Vec<String>,
    /// What `init-arguments` says, with the single keys instead where they are given.
    pub(super) init: Option<Init>,
    pub(super) etcd: Etcd,
    pub(super) network: Option<Asked>,
    pub(super) dashboards: Vec<String>,
    pub(super) delivery: Delivery,
    pub(super) eject: Option<bool>,
    pub(super) registries: Vec<Registry>,
    pub(super) proxy: Option<Proxy>,
    pub(super) registration: Registration,
}

/// Who brings the pod network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Bundle,
    UserData,
    Elsewhere,
}

/// What is said of a dedicated etcd cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Etcd {
    pub(super) place: Place,
    /// Client URLs, for a control plane node.
    pub(super) endpoints: Vec<String>,
    /// Names and peer URLs, for a member.
    pub(super) members: BTreeMap<String, String>,
    pub(super) authority: Option<Authority>,
}

/// Reads the section.
///
/// # Errors
/// `USER_DATA_INVALID` names the key and the line.
pub(super) fn section(entry: &Entry, part: Place, findings: &mut Findings) -> Result<Section, Failure> {
    let mut keys = Keys::new(&entry.value, "cks", part)?;
    let mut section = Section { place: part.at(entry.line), ..Section::default() };
    section.member = keys.choice("role", &Member::ALL)?;
    section.node_name = keys.text("node-name")?;
    section.node_ip = keys.parsed("node-ip", |text| text.parse().map_err(|_| "is no address".to_owned()))?;
    section.endpoint = keys.told("endpoint", Endpoint::parse)?;
    section.token = keys.told("token", Token::parse)?;
    section.certificate_key = keys.told("certificate-key", CertificateKey::parse)?;
    let hashes = keys.list("ca-hashes")?;
    let hashes = hashes.iter().map(|hash| kubeadm::ca_hash(hash)).collect::<Result<_, _>>();
    section.ca_hashes = hashes.map_err(|failure| keys.refuse("ca-hashes", failure.what))?;
    section.init = init(&mut keys, findings)?;
    let networks = [("bundle", Asked::Bundle), ("user-data", Asked::UserData), ("elsewhere", Asked::Elsewhere)];
    section.network = keys.choice("network", &networks)?;
    if let Some(external) = keys.truth("external-cni")? {
        let asked = if external { Asked::UserData } else { Asked::Bundle };
        section.network.get_or_insert(asked);
    }
    section.dashboards = keys.list("dashboards")?;
    let is_file = |name: &&String| name.ends_with(".yaml") && !name.contains('/') && !name.starts_with('.');
    if let Some(name) = section.dashboards.iter().find(|name| !is_file(name)) {
        return Err(keys.refuse("dashboards", format!("{:?} is no YAML file of the bundle", crate::text::plain(name))));
    }
    section.etcd = etcd(&mut keys)?;
    section.delivery = runtime::delivery(&mut keys)?;
    section.eject = keys.truth("eject")?;
    section.registries = runtime::registries(&mut keys)?;
    section.proxy = runtime::proxy(&mut keys)?;
    section.registration = runtime::registration(&mut keys)?;
    section.registration.node_ip = section.node_ip;
    keys.finish()?;
    Ok(section)
}

/// The settings of `kubeadm init`, where there are any.
fn init(keys: &mut Keys<'_>, findings: &mut Findings) -> Result<Option<Init>, Failure> {
    let arguments = keys.text("init-arguments")?;
    let at = keys.place("init-arguments");
    let call = Call::parse(&shell::words(arguments.as_deref().unwrap_or_default()), at);
    let mut init = call.init(findings)?;
    let plain = init.clone();
    init.kubernetes_version = keys.told("kubernetes-version", kubeadm::version)?.or(init.kubernetes_version);
    init.pod_cidr = keys.told("pod-cidr", kubeadm::network)?.or(init.pod_cidr);
    init.service_cidr = keys.told("service-cidr", kubeadm::network)?.or(init.service_cidr);
    init.certificate_sans.extend(keys.list("certificate-sans")?);
    init.skip_phases.extend(keys.list("skip-phases")?);
    if let Some(upload) = keys.truth("upload-certificates")? {
        init.upload_certificates = upload;
    }
    init.network = Network::Bundle;
    Ok((arguments.is_some() || init != plain).then_some(init))
}

fn etcd(keys: &mut Keys<'_>) -> Result<Etcd, Failure> {
    let place = keys.place("etcd");
    let Some(mut inner) = keys.map("etcd")? else { return Ok(Etcd::default()) };
    let mut etcd = Etcd { place, endpoints: inner.list("endpoints")?, ..Etcd::default() };
    let is_url = |url: &str| {
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        rest.is_some_and(|rest| {
            !rest.is_empty() && rest.chars().all(|c| c.is_ascii_graphic() && !"\"'\\$%,".contains(c))
        })
    };
    if let Some(url) = etcd.endpoints.iter().find(|url| !is_url(url)) {
        return Err(
            inner.refuse("endpoints", format!("{:?} is not of the form http://ADDRESS:2379", crate::text::plain(url)))
        );
    }
    etcd.members = inner.texts("members")?;
    if let Some(text) = inner.take_cluster()? {
        etcd.members.extend(text);
    }
    if let Some(url) = etcd.members.values().find(|url| !is_url(url)) {
        return Err(
            inner.refuse("members", format!("{:?} is not of the form http://ADDRESS:2380", crate::text::plain(url)))
        );
    }
    let certificate = inner.pem("ca", "CERTIFICATE")?;
    let key = inner.pem("ca-key", "PRIVATE KEY")?;
    etcd.authority = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(Authority { certificate, key: Some(crate::secret::Secret::new(key)) }),
        (None, None) => None,
        (Some(_), None) => return Err(inner.refuse("ca", "needs ca-key: each node makes its own certificates")),
        (None, Some(_)) => return Err(inner.refuse("ca-key", "needs ca")),
    };
    inner.finish()?;
    Ok(etcd)
}

#[cfg(test)]
mod tests;
