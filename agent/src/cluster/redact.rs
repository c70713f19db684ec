//! Keeps secrets out of what other programs say.

use bootstrap::node_spec::{Membership, NodeSpec};
use bootstrap::secret::MASK;

/// The secrets of a node's cluster, for taking them out of texts.
#[derive(Default)]
pub struct Redactor(Vec<String>);

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor({} secrets)", self.0.len())
    }
}

impl Redactor {
    /// Of everything secret that `spec` holds and that a program may repeat.
    #[must_use]
    pub fn of(spec: &NodeSpec) -> Self {
        let (token, key) = match &spec.membership {
            Some(Membership::FirstControlPlane(init)) => (init.token.as_ref(), init.certificate_key.as_ref()),
            Some(Membership::ControlPlane(join) | Membership::Worker(join)) => {
                (Some(&join.token), join.certificate_key.as_ref())
            }
            Some(Membership::Etcd) | None => (None, None),
        };
        let mut secrets: Vec<String> = Vec::new();
        // The whole token, and its secret part alone.
        secrets.extend(token.map(bootstrap::node_spec::Token::reveal));
        secrets.extend(token.map(|token| token.secret().reveal().to_owned()));
        secrets.extend(key.map(|key| key.reveal().to_owned()));
        for registry in &spec.runtime.registries {
            secrets.extend(registry.password.as_ref().map(|password| password.reveal().to_owned()));
        }
        secrets.retain(|secret| secret.len() >= 4);
        Self(secrets)
    }

    /// `text` with a mask in each secret's place.
    #[must_use]
    pub fn apply(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), MASK))
    }
}

#[cfg(test)]
mod tests {
    use bootstrap::bundle::Role;
    use bootstrap::node_spec::{CaTrust, CertificateKey, Endpoint, Join, Token};

    use super::*;

    #[test]
    fn what_kubeadm_repeats_is_masked() {
        let mut spec = NodeSpec::new(Role::ControlPlane, "c1", None, None).unwrap();
        spec.membership = Some(Membership::ControlPlane(Join {
            endpoint: Endpoint::parse("10.1.1.5").unwrap(),
            token: Token::parse("abcdef.0123456789abcdef").unwrap(),
            certificate_key: CertificateKey::parse(&"0f".repeat(32)).ok(),
            trust: CaTrust::TokenOnly,
        }));
        let redactor = Redactor::of(&spec);
        let said =
            format!("join --token abcdef.0123456789abcdef --certificate-key {} 0123456789abcdef", "0f".repeat(32));
        assert_eq!(redactor.apply(&said), "join --token (secret) --certificate-key (secret) (secret)");
        assert_eq!(format!("{redactor:?}"), "Redactor(3 secrets)");
    }
}
