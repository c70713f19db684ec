//! What the server's text, the `cks:` section and the metadata say together: a [`NodeSpec`].

use super::Metadata;
use super::place::{Findings, Place};
use super::section::{Asked, Member, Section};
use super::server::{self, Server, Task};
use super::{refused, refused_at};
use crate::failure::{Code, Failure};
use crate::node_spec::cni::CniStep;
use crate::node_spec::{
    CaTrust, Delivery, ExternalEtcd, Init, Join, Membership, Network, NodeSpec, Registration, Registry, Runtime,
    secured,
};

/// All that is said of a node.
#[derive(Debug)]
pub(super) struct Said<'a> {
    pub(super) server: Option<&'a Server>,
    pub(super) section: Option<&'a Section>,
    /// The user's CNI configuration; none where there is none.
    pub(super) cni: Option<&'a [CniStep]>,
    pub(super) metadata: &'a Metadata,
}

impl Said<'_> {
    /// The wish; none where nobody says what the node is.
    ///
    /// # Errors
    /// `USER_DATA_INVALID`: something is missing, or two texts contradict each other.
    pub(super) fn spec(&self, findings: &mut Findings) -> Result<Option<NodeSpec>, Failure> {
        let Some(member) = self.member()? else { return Ok(None) };
        let name = self.node_name(findings)?;
        let etcd = match self.server.map(|server| &server.task) {
            Some(Task::Etcd(etcd)) => Some(etcd),
            _ => None,
        };
        let own = self.section.and_then(|section| section.node_ip).or(self.metadata.local_ipv4);
        let address = etcd.and_then(|etcd| etcd.address).or(own);
        let cluster = match (member, self.section.filter(|section| !section.etcd.members.is_empty())) {
            (Member::Etcd, Some(section)) => {
                let members = section.etcd.members.iter();
                let plain = |url: &String| {
                    url.strip_prefix("https://").map_or_else(|| url.clone(), |rest| format!("http://{rest}"))
                };
                Some(members.map(|(name, url)| format!("{name}={}", plain(url))).collect::<Vec<_>>().join(","))
            }
            (Member::Etcd, None) => etcd.map(|etcd| etcd.cluster.clone()),
            _ => None,
        };
        let place = etcd.map(|etcd| etcd.place).or(self.section.map(|section| section.place)).unwrap_or_default();
        let mut spec = NodeSpec::new(member.role(), &name, address, cluster.as_deref())
            .map_err(|failure| refused_at(place, failure.what))?;
        if let Some(authority) =
            self.section.and_then(|section| section.etcd.authority.clone()).filter(|_| member == Member::Etcd)
        {
            spec = spec.with_etcd_authority(authority);
        }
        spec.membership = Some(self.membership(member, findings)?);
        spec.delivery = self.delivery();
        spec.runtime = self.runtime();
        spec.registration = self.section.map_or_else(Registration::default, |section| section.registration.clone());
        self.name_unused(member, findings);
        Ok(Some(spec))
    }

    fn member(&self) -> Result<Option<Member>, Failure> {
        let server = self.server.map(|server| match server.task {
            Task::Init(_) => Member::FirstControlPlane,
            Task::JoinControlPlane(_) => Member::ControlPlane,
            Task::JoinWorker(_) => Member::Worker,
            Task::Etcd(_) => Member::Etcd,
        });
        match (server, self.section.and_then(|section| Some((section.place, section.member?)))) {
            (Some(server), Some((place, own))) if server != own => {
                let what = format!(
                    "cks.role is {}, but the management server's scripts make this node a {}",
                    own.as_str(),
                    server.as_str()
                );
                Err(refused_at(place, what))
            }
            (server, own) => Ok(server.or(own.map(|(_, member)| member))),
        }
    }

    fn node_name(&self, findings: &mut Findings) -> Result<String, Failure> {
        let told = self.metadata.local_hostname.as_deref().map(|name| name.trim().to_ascii_lowercase());
        let own =
            self.section.and_then(|section| section.node_name.as_deref()).map(|name| name.trim().to_ascii_lowercase());
        if let Some(Task::Etcd(etcd)) = self.server.map(|server| &server.task) {
            // The other members know it by this name, whatever the machine is called.
            if told.as_ref().is_some_and(|told| *told != etcd.name) {
                findings.warn(etcd.place, "etcd --name is not the local-hostname of the metadata");
            }
            return Ok(etcd.name.clone());
        }
        if let (Some(own), Some(told)) = (&own, &told)
            && own != told
        {
            let place = self.section.map_or_else(Place::default, |section| section.place);
            let text = format!("cks.node-name is {own}, but the management server looks for the node as {told}");
            findings.warn(place, crate::text::plain(&text));
        }
        own.or(told).ok_or_else(|| {
            refused("nobody names this node: the metadata has no local-hostname, and the user data no cks.node-name")
                .with_remedy("give the metadata (--metadata DIR), or a node-name in the cks: section")
        })
    }

    fn membership(&self, member: Member, findings: &mut Findings) -> Result<Membership, Failure> {
        Ok(match member {
            Member::FirstControlPlane => Membership::FirstControlPlane(Box::new(self.init(findings))),
            Member::ControlPlane => Membership::ControlPlane(self.join(true)?),
            Member::Worker => Membership::Worker(self.join(false)?),
            Member::Etcd => Membership::Etcd,
        })
    }

    fn init(&self, findings: &mut Findings) -> Init {
        let empty = Section::default();
        let section = self.section.unwrap_or(&empty);
        let server = match self.server.map(|server| &server.task) {
            Some(Task::Init(init)) => Some((**init).clone()),
            _ => None,
        };
        let own = section.init.clone();
        let mut init = server.clone().or_else(|| own.clone()).unwrap_or_default();
        if let (Some(_), Some(own)) = (server, own) {
            // What the section says counts; lists add up.
            init.endpoint = own.endpoint.or(init.endpoint);
            init.token = own.token.or(init.token);
            init.certificate_key = own.certificate_key.or(init.certificate_key);
            init.kubernetes_version = own.kubernetes_version.or(init.kubernetes_version);
            init.pod_cidr = own.pod_cidr.or(init.pod_cidr);
            init.service_cidr = own.service_cidr.or(init.service_cidr);
            init.upload_certificates |= own.upload_certificates;
            init.certificate_sans.extend(own.certificate_sans);
            init.skip_phases.extend(own.skip_phases);
        }
        init.endpoint = section.endpoint.clone().or(init.endpoint);
        init.token = section.token.clone().or(init.token);
        init.certificate_key = section.certificate_key.clone().or(init.certificate_key);
        // A key that nobody uploads certificates with is of no use.
        init.upload_certificates |= init.certificate_key.is_some();
        init.certificate_sans.dedup();
        self.etcd_of(section, &mut init);
        init.network = self.network(section, findings);
        init.dashboards = self.dashboards(section);
        init
    }

    /// What the section names; else what the server's script applies, in its order; else whatever the bundle has. Each
    /// release of the management server finds the Kubernetes Dashboard, only 4.23 finds Headlamp.
    fn dashboards(&self, section: &Section) -> Vec<String> {
        let server = self.server.map(|server| server.node.dashboards.clone()).unwrap_or_default();
        let told = if section.dashboards.is_empty() { server } else { section.dashboards.clone() };
        if told.is_empty() { server::DASHBOARDS.map(str::to_owned).to_vec() } else { told }
    }

    fn etcd_of(&self, section: &Section, init: &mut Init) {
        if !section.etcd.endpoints.is_empty() {
            init.etcd = Some(ExternalEtcd { endpoints: section.etcd.endpoints.clone(), authority: None });
        }
        if let (Some(etcd), Some(authority)) = (&mut init.etcd, &section.etcd.authority) {
            etcd.endpoints = etcd.endpoints.iter().map(|url| secured(url)).collect();
            etcd.authority = Some(authority.clone());
        }
    }

    fn network(&self, section: &Section, findings: &mut Findings) -> Network {
        let external = self.server.and_then(|server| server.node.external_cni);
        let told = match external {
            Some(true) => Some(Asked::UserData),
            Some(false) => Some(Asked::Bundle),
            None => self.cni.map(|_| Asked::UserData),
        };
        let place = if section.place == Place::default() { Place::default() } else { section.place };
        match (section.network.or(told).unwrap_or(Asked::Bundle), self.cni) {
            (Asked::UserData, Some(steps)) => Network::UserData(steps.to_vec()),
            (Asked::UserData, None) => {
                findings.warn(
                    place,
                    "a CNI configuration is announced, but the user data has none: nobody brings a pod network",
                );
                Network::Elsewhere
            }
            (asked, Some(_)) => {
                let why = "the pod network is not the user's: it is left to cloud-init";
                findings.ignore(
                    Place { origin: super::Origin::Cni, line: 0 },
                    "the text behind the management server's",
                    why,
                );
                if asked == Asked::Bundle { Network::Bundle } else { Network::Elsewhere }
            }
            (Asked::Bundle, None) => Network::Bundle,
            (Asked::Elsewhere, None) => Network::Elsewhere,
        }
    }

    fn join(&self, control_plane: bool) -> Result<Join, Failure> {
        let server = match self.server.map(|server| &server.task) {
            Some(Task::JoinControlPlane(join) | Task::JoinWorker(join)) => Some(join),
            _ => None,
        };
        let empty = Section::default();
        let section = self.section.unwrap_or(&empty);
        let missing =
            |key: &str| refused_at(section.place, format!("cks.{key} is missing: a node that joins needs it"));
        let endpoint = section.endpoint.clone().or_else(|| server.map(|join| join.endpoint.clone()));
        let token = section.token.clone().or_else(|| server.map(|join| join.token.clone()));
        let certificate_key =
            section.certificate_key.clone().or_else(|| server.and_then(|join| join.certificate_key.clone()));
        if control_plane && certificate_key.is_none() {
            return Err(missing("certificate-key"));
        }
        let trust = match section.ca_hashes.is_empty() {
            true => server.map_or(CaTrust::TokenOnly, |join| join.trust.clone()),
            false => CaTrust::Pinned(section.ca_hashes.clone()),
        };
        Ok(Join {
            endpoint: endpoint.ok_or_else(|| missing("endpoint"))?,
            token: token.ok_or_else(|| missing("token"))?,
            certificate_key: certificate_key.filter(|_| control_plane),
            trust,
        })
    }

    fn delivery(&self) -> Delivery {
        let node = self.server.map(|server| &server.node);
        let own = self.section.map(|section| section.delivery.clone()).unwrap_or_default();
        let eject = self.section.and_then(|section| section.eject).or(node.map(|node| node.eject)).unwrap_or_default();
        Delivery {
            router: own.router.or(node.and_then(|node| node.router)),
            wait_seconds: own.wait_seconds.or(node.and_then(|node| node.wait_seconds)),
            eject,
            ..own
        }
    }

    fn runtime(&self) -> Runtime {
        let mut registries: Vec<Registry> = self.section.map(|section| section.registries.clone()).unwrap_or_default();
        if let Some(registry) = self.server.and_then(|server| server.node.registry.clone())
            && !registries.iter().any(|own| own.host == registry.host)
        {
            registries.push(registry);
        }
        Runtime { registries, proxy: self.section.and_then(|section| section.proxy.clone()) }
    }

    /// Names what a section says of another kind of node.
    fn name_unused(&self, member: Member, findings: &mut Findings) {
        let Some(section) = self.section else { return };
        let joins = matches!(member, Member::ControlPlane | Member::Worker);
        let etcd = !section.etcd.endpoints.is_empty() || !section.etcd.members.is_empty();
        let unused = [
            (section.init.is_some() && member != Member::FirstControlPlane, "settings of kubeadm init"),
            (!section.ca_hashes.is_empty() && !joins, "ca-hashes"),
            (section.network.is_some() && member != Member::FirstControlPlane, "network"),
            (etcd && joins, "etcd"),
            (section.token.is_some() && member == Member::Etcd, "token"),
        ];
        for (_, what) in unused.into_iter().filter(|(unused, _)| *unused) {
            findings.ignore(
                section.place,
                format!("cks: {what}"),
                format!("a node of role {} has no use for it", member.as_str()),
            );
        }
    }
}

/// What somebody should know of what the server prescribes.
pub(super) fn remarks(server: &Server, spec: &NodeSpec, part: Place, findings: &mut Findings) {
    // An authority that is not pinned is told of by whoever joins, with the digest to pin.
    let plain_etcd = match &spec.membership {
        Some(Membership::Etcd) => spec.etcd_authority.is_none(),
        Some(Membership::FirstControlPlane(init)) => init.etcd.as_ref().is_some_and(|etcd| etcd.authority.is_none()),
        _ => false,
    };
    if plain_etcd {
        findings.warn(part.at(0), "etcd speaks plain HTTP: whoever is in the guest network reads and writes the cluster; cks.etcd.ca makes it TLS");
    }
    if server::has_certificates(server) {
        let why = "they are of CloudStack's authority; nothing of Kubernetes uses them";
        findings.ignore(part.at(0), "/etc/kubernetes/pki/cloudstack", why);
    }
}

/// The refusal of user data that asks for nothing that is known.
pub(super) fn unknown() -> Failure {
    Failure::new(Code::UserDataUnknown, "the user data asks for no node that is known: its scripts are left alone")
}
