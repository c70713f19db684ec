//! `kubeadm init` and `kubeadm join` as a script calls them.

use super::place::{Findings, Place};
use super::{placeholder, refused_at, unfilled};
use crate::failure::Failure;
use crate::node_spec::{CaTrust, CertificateKey, Endpoint, Init, Join, Network, Token};
use crate::text::plain;

mod config;

pub(super) use self::config::config;

/// Flags without a value.
const BARE: [&str; 7] = [
    "upload-certs",
    "experimental-upload-certs",
    "control-plane",
    "experimental-control-plane",
    "discovery-token-unsafe-skip-ca-verification",
    "skip-token-print",
    "skip-certificate-key-print",
];

/// A call of kubeadm, as far as it is understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Call {
    /// Flags by their names, without dashes, in their order.
    flags: Vec<(String, String)>,
    /// What is no flag.
    free: Vec<String>,
    /// Where it stands.
    pub(super) place: Place,
}

impl Call {
    /// Reads the words behind `kubeadm init` or `kubeadm join`.
    pub(super) fn parse(words: &[String], place: Place) -> Self {
        let mut call = Self { place, ..Self::default() };
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|flag| !flag.is_empty())
            else {
                call.free.push(word.clone());
                continue;
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None if BARE.contains(&flag) => (flag, "true".to_owned()),
                None => (flag, words.next_if(|next| !next.starts_with("--")).cloned().unwrap_or_default()),
            };
            call.flags.push((name.to_owned(), value));
        }
        call
    }

    /// The value of the flag, of several the last.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.flags.iter().rfind(|(flag, _)| flag == name).map(|(_, value)| value.trim())
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value != "false")
    }

    /// Whether it joins a control plane node.
    pub(super) fn is_control_plane(&self) -> bool {
        self.has("control-plane") || self.has("experimental-control-plane")
    }

    /// A value that is read by `parse`; none where the flag is missing or empty.
    fn read<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, Failure>) -> Result<Option<T>, Failure> {
        let Some(value) = self.get(name).filter(|value| !value.is_empty()) else { return Ok(None) };
        if let Some(token) = placeholder::first(value) {
            return Err(refused_at(self.place, unfilled(&format!("--{name}"), token)));
        }
        parse(value).map(Some).map_err(|failure| refused_at(self.place, format!("--{name}: {}", failure.what)))
    }

    /// Names the flags that nothing is made of.
    fn name_others(&self, used: &[&str], findings: &mut Findings) {
        // The socket is where our containerd listens, and output is ours.
        let ours = ["cri-socket", "v", "skip-token-print", "skip-certificate-key-print"];
        for (name, value) in &self.flags {
            if used.contains(&name.as_str()) || ours.contains(&name.as_str()) {
                continue;
            }
            let why = match name.as_str() {
                "token-ttl" if value == "0" => continue,
                "token-ttl" => "the token stays valid, as the management server needs it when it adds nodes",
                "ignore-preflight-errors" => "checks are left out by skip-checks of a cks: section",
                "node-name" => "the node is named by its local-hostname, as the management server knows it",
                _ => "this argument of kubeadm is not understood",
            };
            findings.ignore(self.place, format!("--{}", plain(name)), why);
        }
    }

    /// What `kubeadm init` is told on the first control plane node.
    ///
    /// # Errors
    /// `USER_DATA_INVALID` names the flag.
    pub(super) fn init(&self, findings: &mut Findings) -> Result<Init, Failure> {
        let used = [
            "control-plane-endpoint",
            "token",
            "certificate-key",
            "upload-certs",
            "experimental-upload-certs",
            "kubernetes-version",
            "apiserver-cert-extra-sans",
            "pod-network-cidr",
            "service-cidr",
            "skip-phases",
            "config",
        ];
        self.name_others(&used, findings);
        let list = |name: &str| self.read(name, |value| Ok(names(value))).map(Option::unwrap_or_default);
        Ok(Init {
            endpoint: self.read("control-plane-endpoint", Endpoint::parse)?,
            token: self.read("token", Token::parse)?,
            certificate_key: self.read("certificate-key", CertificateKey::parse)?,
            upload_certificates: self.has("upload-certs") || self.has("experimental-upload-certs"),
            kubernetes_version: self.read("kubernetes-version", version)?,
            certificate_sans: list("apiserver-cert-extra-sans")?,
            pod_cidr: self.read("pod-network-cidr", network)?,
            service_cidr: self.read("service-cidr", network)?,
            skip_phases: list("skip-phases")?,
            etcd: None,
            network: Network::Bundle,
            dashboards: Vec::new(),
        })
    }

    /// What `kubeadm join` is told.
    ///
    /// # Errors
    /// `USER_DATA_INVALID` names the flag, or what is missing.
    pub(super) fn join(&self, findings: &mut Findings) -> Result<Join, Failure> {
        let used = [
            "token",
            "discovery-token",
            "certificate-key",
            "control-plane",
            "experimental-control-plane",
            "discovery-token-ca-cert-hash",
            "discovery-token-unsafe-skip-ca-verification",
        ];
        self.name_others(&used, findings);
        let missing = |what: &str| refused_at(self.place, format!("kubeadm join without {what}"));
        let endpoint = self.free.first().ok_or_else(|| missing("the address of the control plane"))?;
        if let Some(token) = placeholder::first(endpoint) {
            return Err(refused_at(self.place, unfilled("the address of the control plane", token)));
        }
        let endpoint = Endpoint::parse(endpoint).map_err(|failure| refused_at(self.place, failure.what))?;
        let token = match self.read("token", Token::parse)? {
            Some(token) => token,
            None => self.read("discovery-token", Token::parse)?.ok_or_else(|| missing("--token"))?,
        };
        let certificate_key = self.read("certificate-key", CertificateKey::parse)?;
        if self.is_control_plane() && certificate_key.is_none() {
            return Err(missing("--certificate-key"));
        }
        let hashes = self.flags.iter().filter(|(name, _)| name == "discovery-token-ca-cert-hash");
        let hashes = hashes.flat_map(|(_, value)| names(value)).map(|hash| ca_hash(&hash));
        let hashes = hashes.collect::<Result<Vec<_>, _>>().map_err(|failure| refused_at(self.place, failure.what))?;
        let trust = if hashes.is_empty() { CaTrust::TokenOnly } else { CaTrust::Pinned(hashes) };
        Ok(Join { endpoint, token, certificate_key, trust })
    }
}

/// `a,b` as a list.
fn names(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// `v1.34.1`, however it is written.
///
/// # Errors
/// `CONFIG_INVALID` repeats it.
pub(super) fn version(value: &str) -> Result<String, Failure> {
    let number = value.trim().trim_start_matches('v');
    let is_number = |part: &str| !part.is_empty() && part.len() < 6 && part.bytes().all(|c| c.is_ascii_digit());
    let (core, rest) = number.split_at(number.find(['-', '+']).unwrap_or(number.len()));
    let rest_is_fine = rest.bytes().all(|c| c.is_ascii_alphanumeric() || b"-+.".contains(&c));
    match core.split('.').count() == 3 && core.split('.').all(is_number) && rest_is_fine {
        true => Ok(format!("v{number}")),
        false => Err(invalid(format!("{:?} is no version like v1.34.1", plain(value)))),
    }
}

/// A network: `10.244.0.0/16`, or two of both families, of which the first is taken.
///
/// # Errors
/// `CONFIG_INVALID` repeats it.
pub(super) fn network(value: &str) -> Result<ipnet::IpNet, Failure> {
    let parse = |text: &str| text.trim().parse::<ipnet::IpNet>();
    match parse(value) {
        Ok(network) if network.trunc() == network => Ok(network),
        Ok(network) => Err(invalid(format!("{value} is not the network {}", network.trunc()))),
        Err(_) => Err(invalid(format!("{:?} is no network like 10.244.0.0/16", plain(value)))),
    }
}

/// `sha256:` and 64 hexadecimal digits, in lower case: kubeadm takes both, and what is found out later is written so.
///
/// # Errors
/// `CONFIG_INVALID` repeats it.
pub(super) fn ca_hash(value: &str) -> Result<String, Failure> {
    let hash = value.trim().to_ascii_lowercase();
    let digits = hash.strip_prefix("sha256:").unwrap_or_default();
    match digits.len() == 64 && digits.bytes().all(|c| c.is_ascii_hexdigit()) {
        true => Ok(hash),
        false => Err(invalid(format!("{:?} is not sha256: and 64 hexadecimal digits", plain(value)))),
    }
}

fn invalid(what: String) -> Failure {
    Failure::new(crate::failure::Code::ConfigInvalid, what)
}

#[cfg(test)]
mod tests;
