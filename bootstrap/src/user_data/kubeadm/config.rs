//! `kubeadm-config.yaml`, which the server writes for a cluster with dedicated etcd nodes.

use super::{Call, network, version};
use crate::failure::Failure;
use crate::node_spec::{CertificateKey, Endpoint, ExternalEtcd, Init, Token};
use crate::text::plain;
use crate::user_data::place::{Findings, Place};
use crate::user_data::yaml::{self, Document, Node};
use crate::user_data::{placeholder, refused_at, unfilled};

/// What the configuration says, with what the call of kubeadm that names it adds.
///
/// # Errors
/// `USER_DATA_INVALID` names the line and the key.
pub(in crate::user_data) fn config(
    text: &str,
    place: Place,
    call: &Call,
    findings: &mut Findings,
) -> Result<Init, Failure> {
    let documents = yaml::documents(text)
        .map_err(|fault| refused_at(place.down(fault.line - 1), format!("kubeadm-config.yaml: {}", fault.what)))?;
    let mut reader = Reader { place, findings };
    let mut init = call.init(reader.findings)?;
    init.certificate_sans.clear();
    for Document { root, .. } in &documents {
        let Some(root) = root else { continue };
        match root.get("kind").and_then(Node::text) {
            Some("ClusterConfiguration") => reader.cluster(root, &mut init)?,
            Some("InitConfiguration") => reader.init(root, &mut init)?,
            other => {
                let what = format!("kubeadm-config.yaml: kind {}", plain(other.unwrap_or("none")));
                reader.findings.ignore(reader.at(root), what, "it is not understood");
            }
        }
    }
    Ok(init)
}

struct Reader<'f> {
    place: Place,
    findings: &'f mut Findings,
}

impl Reader<'_> {
    fn at(&self, node: &Node) -> Place {
        self.place.down(node.line.saturating_sub(1))
    }

    fn read<T>(
        &self,
        node: Option<&Node>,
        key: &str,
        parse: impl Fn(&str) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        let Some(node) = node.filter(|node| !node.is_null()) else { return Ok(None) };
        let refuse = |what: String| refused_at(self.at(node), what);
        let text = node.text().ok_or_else(|| refuse(format!("{key} is a text, not {}", node.kind())))?;
        if let Some(token) = placeholder::first(text) {
            return Err(refuse(unfilled(key, token)));
        }
        parse(text).map(Some).map_err(|failure| refuse(format!("{key}: {}", failure.what)))
    }

    fn texts(&self, node: Option<&Node>, key: &str) -> Result<Vec<String>, Failure> {
        let Some(node) = node.filter(|node| !node.is_null()) else { return Ok(Vec::new()) };
        let items =
            node.list().ok_or_else(|| refused_at(self.at(node), format!("{key} is a list, not {}", node.kind())))?;
        let read = |item: &Node| self.read(Some(item), key, |text| Ok(text.to_owned()));
        items.iter().filter_map(|item| read(item).transpose()).collect()
    }

    fn cluster(&mut self, root: &Node, init: &mut Init) -> Result<(), Failure> {
        init.endpoint = self.read(root.get("controlPlaneEndpoint"), "controlPlaneEndpoint", Endpoint::parse)?;
        init.kubernetes_version = self.read(root.get("kubernetesVersion"), "kubernetesVersion", version)?;
        init.certificate_sans = self.texts(root.at(&["apiServer", "certSANs"]), "apiServer.certSANs")?;
        init.pod_cidr = self.read(root.at(&["networking", "podSubnet"]), "networking.podSubnet", network)?;
        init.service_cidr =
            self.read(root.at(&["networking", "serviceSubnet"]), "networking.serviceSubnet", network)?;
        if let Some(external) = root.at(&["etcd", "external"]) {
            let endpoints = self.texts(external.get("endpoints"), "etcd.external.endpoints")?;
            for file in ["caFile", "certFile", "keyFile"].into_iter().filter_map(|key| external.get(key)) {
                let why = "etcd's authority is given by etcd of a cks: section";
                self.findings.ignore(self.at(file), "etcd.external: a file of certificates", why);
            }
            init.etcd = (!endpoints.is_empty()).then_some(ExternalEtcd { endpoints, authority: None });
        }
        let known =
            ["apiVersion", "kind", "apiServer", "controlPlaneEndpoint", "etcd", "networking", "kubernetesVersion"];
        self.name_others(root, &known);
        Ok(())
    }

    fn init(&mut self, root: &Node, init: &mut Init) -> Result<(), Failure> {
        let tokens = root.get("bootstrapTokens").and_then(Node::list).unwrap_or_default();
        let token = tokens.first().and_then(|first| first.get("token"));
        init.token = self.read(token, "bootstrapTokens.token", Token::parse)?;
        init.certificate_key = self.read(root.get("certificateKey"), "certificateKey", CertificateKey::parse)?;
        init.skip_phases = self.texts(root.get("skipPhases"), "skipPhases")?;
        if let Some(address) = root.at(&["localAPIEndpoint", "advertiseAddress"]) {
            // On an isolated network it is the address of the virtual router, which this machine doesn't have.
            let why = "the node announces its own address";
            self.findings.ignore(self.at(address), "localAPIEndpoint.advertiseAddress", why);
        }
        let known = [
            "apiVersion",
            "kind",
            "bootstrapTokens",
            "certificateKey",
            "skipPhases",
            "localAPIEndpoint",
            "nodeRegistration",
        ];
        self.name_others(root, &known);
        Ok(())
    }

    fn name_others(&mut self, root: &Node, known: &[&str]) {
        for entry in root.map().unwrap_or_default().iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let at = self.place.down(entry.line.saturating_sub(1));
            self.findings.ignore(at, format!("kubeadm-config.yaml: {}", plain(&entry.key)), "it is not understood");
        }
    }
}
