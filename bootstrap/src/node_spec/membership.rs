//! What a node does in its cluster once it is installed.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use super::cni::CniStep;
use crate::failure::{Code, Failure};
use crate::secret::Secret;

/// The port that the API server listens on, and that every release of CloudStack asks at.
pub const API_PORT: u16 = 6443;

/// What a node does in its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "as", rename_all = "kebab-case")]
pub enum Membership {
    /// Begins the cluster: `kubeadm init`.
    FirstControlPlane(Box<Init>),
    /// Joins as a further control plane node.
    ControlPlane(Join),
    /// Joins as a worker.
    Worker(Join),
    /// Serves as a member of a dedicated etcd cluster.
    Etcd,
}

/// What `kubeadm init` is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Init {
    /// The stable address of the control plane; without one, this node's own.
    pub endpoint: Option<Endpoint>,
    /// The token that others join with; without one, kubeadm makes one.
    pub token: Option<Token>,
    /// The key that the uploaded certificates are encrypted with.
    pub certificate_key: Option<CertificateKey>,
    /// Whether certificates are uploaded for further control plane nodes.
    pub upload_certificates: bool,
    /// `v1.34.1`; without one, the version of the bundle.
    pub kubernetes_version: Option<String>,
    /// More names and addresses for the API server's certificate.
    pub certificate_sans: Vec<String>,
    /// The network of pods.
    pub pod_cidr: Option<IpNet>,
    /// The network of services; without one, kubeadm's default, 10.96.0.0/12.
    pub service_cidr: Option<IpNet>,
    /// Phases that kubeadm leaves out: `addon/kube-proxy`.
    pub skip_phases: Vec<String>,
    /// The dedicated etcd cluster; without one, etcd runs on the control plane nodes.
    pub etcd: Option<ExternalEtcd>,
    /// Who brings the pod network.
    pub network: Network,
    /// Manifests of the bundle of which the first that is there is applied: `dashboard.yaml`, `headlamp.yaml`.
    pub dashboards: Vec<String>,
}

/// What `kubeadm join` is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Join {
    /// Where the API server is asked.
    pub endpoint: Endpoint,
    /// The token.
    pub token: Token,
    /// The key of the uploaded certificates; needed by a further control plane node.
    pub certificate_key: Option<CertificateKey>,
    /// How the cluster's authority is known.
    pub trust: CaTrust,
}

/// How a joining node knows the cluster's certificate authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaTrust {
    /// By these digests of its public key: `sha256:…` as kubeadm writes them.
    Pinned(Vec<String>),
    /// By nothing but the token, whose holder signed what the API server tells everybody (`cluster-info`): all that
    /// CloudStack's user data makes possible.
    TokenOnly,
}

/// Who brings the pod network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// `network.yaml` of the bundle.
    #[default]
    Bundle,
    /// What the user's CNI configuration says, in its order.
    UserData(Vec<CniStep>),
    /// Somebody else, later.
    Elsewhere,
}

/// A dedicated etcd cluster, as the API server is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExternalEtcd {
    /// Client URLs of its members: `http://10.1.1.12:2379`.
    pub endpoints: Vec<String>,
    /// The authority that its members' certificates are of; none with plain HTTP.
    pub authority: Option<Authority>,
}

/// A certificate authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Authority {
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its private key, PEM; where certificates are made on this node.
    pub key: Option<Secret>,
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Endpoint {
    /// Reads `10.1.1.5:6443`, `api.example.org`, `[fd00::1]:6443`; without a port it is [`API_PORT`].
    ///
    /// # Errors
    /// `CONFIG_INVALID` names the text and the rule.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let refuse =
            || Failure::new(Code::ConfigInvalid, format!("{:?} is no HOST:PORT", crate::text::plain(text.trim())));
        let text = text.trim();
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { host: address.to_string(), port: API_PORT });
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(refuse)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| refuse())?;
                (host, rest.strip_prefix(':').or_else(|| rest.is_empty().then_some("6443")).ok_or_else(refuse)?)
            }
            None => text.split_once(':').unwrap_or((text, "6443")),
        };
        let name = |c: char| c.is_ascii_alphanumeric() || "-.:".contains(c);
        if host.is_empty() || host.len() > 253 || !host.chars().all(name) {
            return Err(refuse());
        }
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(refuse)?;
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A bootstrap token: an id that everybody may see and a secret (Kubernetes, `bootstrap.kubernetes.io/token`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Token {
    /// Six characters.
    pub id: String,
    secret: Secret,
}

impl Token {
    /// Reads `abcdef.0123456789abcdef`.
    ///
    /// # Errors
    /// `CONFIG_INVALID`; the text is not repeated, it may be half of a real one.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let part = |part: &str, length| {
            part.len() == length && part.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        };
        match text.trim().split_once('.') {
            Some((id, secret)) if part(id, 6) && part(secret, 16) => {
                Ok(Self { id: id.to_owned(), secret: Secret::new(secret) })
            }
            _ => Err(Failure::new(
                Code::ConfigInvalid,
                "the bootstrap token is not of the form abcdef.0123456789abcdef (a-z, 0-9)",
            )),
        }
    }

    /// The whole token, for a file of mode 0600 or the header of a request.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{}.{}", self.id, self.secret.reveal())
    }

    /// The part behind the dot.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }
}

/// The key of the uploaded certificates: 32 bytes in hexadecimal (kubeadm, `--certificate-key`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateKey(Secret);

impl CertificateKey {
    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// `CONFIG_INVALID`; the text is not repeated.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let text = text.trim();
        if text.len() == 64 && text.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Ok(Self(Secret::new(text)));
        }
        Err(Failure::new(Code::ConfigInvalid, "the certificate key is not 64 hexadecimal digits"))
    }

    /// The key, for a file of mode 0600.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_they_are_written() {
        for (text, shown) in [
            ("10.1.1.5:6443", Some("10.1.1.5:6443")),
            (" 10.1.1.5\n", Some("10.1.1.5:6443")),
            ("API.example.org:443", Some("api.example.org:443")),
            ("fd00::1", Some("[fd00::1]:6443")),
            ("[fd00::1]:443", Some("[fd00::1]:443")),
            ("[fd00::1]", Some("[fd00::1]:6443")),
            ("", None),
            ("a:0", None),
            ("a:65536", None),
            ("a b:1", None),
            ("[x]:1", None),
            ("[fd00::1]x", None),
            ("{{ k8s_control_node.join_ip }}:6443", None),
        ] {
            assert_eq!(Endpoint::parse(text).ok().map(|endpoint| endpoint.to_string()).as_deref(), shown, "{text}");
        }
    }

    #[test]
    fn a_token_shows_its_id_alone() {
        let token = Token::parse("abcdef.0123456789abcdef").unwrap();
        assert_eq!(format!("{token:?}"), "Token { id: \"abcdef\", secret: (secret) }");
        assert_eq!(token.reveal(), "abcdef.0123456789abcdef");
        for text in ["", "abcdef", "abcdef.", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcde", "{{ token }}"] {
            let failure = Token::parse(text).unwrap_err();
            assert!(text.is_empty() || !failure.what.contains(&format!("{text:?}")), "{}", failure.what);
        }
    }

    #[test]
    fn a_certificate_key_is_shown_nowhere() {
        let key = CertificateKey::parse(&"0f".repeat(32)).unwrap();
        assert_eq!(format!("{key:?}"), "CertificateKey((secret))");
        assert!(CertificateKey::parse("0f").is_err() && CertificateKey::parse(&"0g".repeat(32)).is_err());
    }
}
