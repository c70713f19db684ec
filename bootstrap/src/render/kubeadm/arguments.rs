//! Arguments for `kubeadm init` that a bundle carries, as parts of kubeadm's configuration: kubeadm takes a
//! configuration or such arguments, never both.

use ipnet::IpNet;

use crate::failure::{Code, Failure};

/// What a bundle asks of kubeadm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments {
    /// `--pod-network-cidr`: one network, or one of each family.
    pub pod_cidr: Option<String>,
    /// `--service-cidr`.
    pub service_cidr: Option<String>,
    /// `--service-dns-domain`.
    pub dns_domain: Option<String>,
    /// `--image-repository`.
    pub image_repository: Option<String>,
    /// `--skip-phases`.
    pub skip_phases: Vec<String>,
    /// `--feature-gates`.
    pub feature_gates: Vec<(String, bool)>,
    /// `--apiserver-cert-extra-sans`.
    pub certificate_sans: Vec<String>,
    /// `--ignore-preflight-errors`.
    pub ignored_errors: Vec<String>,
}

impl Arguments {
    /// Reads a bundle's arguments, one each: `--name=value`.
    ///
    /// # Errors
    /// `MANIFEST_INVALID` names an argument that can't be part of a configuration, or that is the node's to choose and
    /// not the bundle's.
    pub fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let mut all = Self::default();
        for argument in arguments {
            all.take(argument).map_err(|why| {
                let argument = crate::text::plain(argument);
                Failure::new(Code::ManifestInvalid, format!("kubeadm argument {argument} of the bundle {why}"))
                    .with_remedy("rebuild the ISO without it: node.kubeadm_arguments of its spec")
            })?;
        }
        Ok(all)
    }

    fn take(&mut self, argument: &str) -> Result<(), String> {
        let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
        let name = name.strip_prefix("--").ok_or("is no --name=value")?;
        // As for kubeadm itself, the last one counts: a spec comes after its profiles.
        let set = |place: &mut Option<String>, value: Result<String, String>| value.map(|value| *place = Some(value));
        match name {
            "pod-network-cidr" => set(&mut self.pod_cidr, networks(value)),
            "service-cidr" => set(&mut self.service_cidr, networks(value)),
            "service-dns-domain" => set(&mut self.dns_domain, word(value)),
            "image-repository" => set(&mut self.image_repository, word(value)),
            "skip-phases" => extend(&mut self.skip_phases, value),
            "apiserver-cert-extra-sans" => extend(&mut self.certificate_sans, value),
            "ignore-preflight-errors" => extend(&mut self.ignored_errors, value),
            "feature-gates" => {
                for gate in items(value)? {
                    self.feature_gates.push(feature_gate(&gate)?);
                }
                Ok(())
            }
            // cks-agent says these itself, and `init` always uploads where the wish does.
            "upload-certs" | "skip-token-print" | "skip-certificate-key-print" => Ok(()),
            "token"
            | "token-ttl"
            | "certificate-key"
            | "node-name"
            | "cri-socket"
            | "config"
            | "kubernetes-version"
            | "control-plane-endpoint"
            | "apiserver-advertise-address"
            | "apiserver-bind-port"
            | "patches"
            | "cert-dir" => Err("is the node's to say, not the bundle's".to_owned()),
            _ => Err("is not known: it can't be made part of a kubeadm configuration".to_owned()),
        }
    }
}

fn extend(list: &mut Vec<String>, value: &str) -> Result<(), String> {
    for item in items(value)? {
        if !list.contains(&item) {
            list.push(item);
        }
    }
    Ok(())
}

fn items(value: &str) -> Result<Vec<String>, String> {
    value.split(',').map(word).collect()
}

fn word(value: &str) -> Result<String, String> {
    let value = value.trim();
    let sound = value.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@=*".contains(c));
    if value.is_empty() {
        Err("has no value".to_owned())
    } else if sound {
        Ok(value.to_owned())
    } else {
        Err("has a value of other characters than a-z, 0-9 and ._-/:@=*".to_owned())
    }
}

fn networks(value: &str) -> Result<String, String> {
    let networks = items(value)?;
    let sound = networks.len() <= 2 && networks.iter().all(|network| network.parse::<IpNet>().is_ok());
    if sound { Ok(networks.join(",")) } else { Err("is no network, nor one of each family".to_owned()) }
}

fn feature_gate(gate: &str) -> Result<(String, bool), String> {
    let (name, value) = gate.split_once('=').ok_or("has a feature gate without =true or =false")?;
    let value = value.to_ascii_lowercase().parse().map_err(|_| "has a feature gate without =true or =false")?;
    Ok((name.to_owned(), value))
}
