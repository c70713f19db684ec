//! Whether a bundle may be installed: who has to have signed it, and how old it may be.

use crate::failure::{Code, Failure};
use crate::signature::{self, PublicKey, SIGNATURE_PATH};
use crate::version::Version;

/// What this node trusts.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The trusted keys.
    pub keys: Vec<PublicKey>,
    /// Where they come from, for messages and remedies: `/etc/cks-agent/keys`.
    pub directory: String,
    /// How many different trusted keys must have signed.
    pub signatures: usize,
    /// Whether a bundle that fewer of them signed is refused.
    pub signature_required: bool,
    /// Whether a bundle without manifest is refused.
    pub manifest_required: bool,
    /// The oldest version that is installed.
    pub minimum: Option<Version>,
    /// The version that is live on this node, where going back behind it is refused.
    pub installed: Option<Version>,
}

impl Rules {
    /// Refuses a policy that no bundle could meet: more signatures than there are keys.
    ///
    /// # Errors
    /// `KEY_INVALID` names the directory.
    pub fn check(&self) -> Result<(), Failure> {
        let mut different: Vec<&PublicKey> = Vec::new();
        for key in &self.keys {
            if !different.contains(&key) {
                different.push(key);
            }
        }
        if self.signature_required && different.len() < self.signatures {
            let (directory, there, wanted) = (&self.directory, different.len(), self.signatures);
            let what = format!("{directory}: holds {there} trusted keys, and {wanted} must have signed a bundle");
            let remedy = format!("put the public keys (*.pub) of who builds your ISOs into {directory}");
            return Err(Failure::new(Code::KeyInvalid, what).with_remedy(remedy));
        }
        Ok(())
    }

    /// The ids of the trusted keys that signed `manifest`, the exact bytes of `cks-bundle.json`, in the
    /// text `signature`. None is told where too few signed and none has to, and without trusted keys.
    ///
    /// # Errors
    /// `SIGNATURE_MISSING` when too few signed, `SIGNATURE_INVALID` for one that is damaged, or of other
    /// keys alone.
    pub fn signers(&self, manifest: &[u8], signature: Option<&[u8]>) -> Result<Vec<String>, Failure> {
        if self.keys.is_empty() {
            return Ok(Vec::new());
        }
        let Some(signature) = signature else {
            return match self.signature_required {
                true => Err(self.missing(format!("it has no {SIGNATURE_PATH}"))),
                false => Ok(Vec::new()),
            };
        };
        let text = String::from_utf8_lossy(signature);
        let signers = signature::verify(&self.keys, manifest, &text).map_err(|failure| self.invalid(failure))?;
        let ids: Vec<String> = signers.iter().map(|signer| signer.key.id()).collect();
        if ids.len() >= self.signatures {
            return Ok(ids);
        }
        if self.signature_required {
            let what = format!(
                "{} of {} signatures: it is signed by {}, not by {}",
                ids.len(),
                self.signatures,
                ids.join(", "),
                self.ids_but(&ids)
            );
            return Err(self.missing(what));
        }
        Ok(Vec::new())
    }

    /// Whether a bundle without manifest, a stock ISO, may be installed.
    ///
    /// # Errors
    /// `SIGNATURE_MISSING` or `MANIFEST_REQUIRED`.
    pub fn check_legacy(&self) -> Result<(), Failure> {
        let what = "it has no cks-bundle.json";
        match (self.signature_required, self.manifest_required) {
            (true, _) => Err(self.missing(format!("{what}, so nobody can have signed it"))),
            (false, true) => Err(Failure::new(Code::ManifestRequired, what)),
            (false, false) => Ok(()),
        }
    }

    /// Whether a bundle of this Kubernetes version is new enough.
    ///
    /// # Errors
    /// `VERSION_TOO_OLD` names both versions.
    pub fn check_version(&self, kubernetes: Option<&str>) -> Result<(), Failure> {
        let refuse = |what: String| Failure::new(Code::VersionTooOld, what);
        let version = kubernetes.and_then(Version::parse);
        if let Some(minimum) = &self.minimum {
            let Some(version) = &version else {
                let is = kubernetes.unwrap_or("none");
                return Err(refuse(format!("its Kubernetes version is {is}, and trust.minimum-version {minimum}")));
            };
            if version.is_before(minimum) {
                return Err(refuse(format!("{version} is older than trust.minimum-version, {minimum}")));
            }
        }
        match (&version, &self.installed) {
            (Some(version), Some(installed)) if version.is_before(installed) => Err(refuse(format!(
                "{version} is older than {installed}, which is installed"
            ))
            .with_remedy(format!("attach an ISO of {installed} or newer; to go back on purpose: --allow-downgrade"))),
            _ => Ok(()),
        }
    }

    fn missing(&self, what: String) -> Failure {
        let directory = &self.directory;
        Failure::new(Code::SignatureMissing, what).with_remedy(format!(
            "sign the ISO with a key that {directory} trusts (cks-iso sign --add); or trust whom you know: put the .pub into {directory}"
        ))
    }

    fn invalid(&self, mut failure: Failure) -> Failure {
        let directory = &self.directory;
        failure.what = format!("{}; trusted are {}", failure.what, self.ids_but(&[]));
        failure.with_remedy(format!(
            "ask who built this ISO and sign it again; only if you know the signer: put the .pub into {directory}"
        ))
    }

    /// The ids of the trusted keys without those of `known`.
    fn ids_but(&self, known: &[String]) -> String {
        let mut ids: Vec<String> = self.keys.iter().map(PublicKey::id).filter(|id| !known.contains(id)).collect();
        ids.sort();
        ids.dedup();
        if ids.is_empty() { "any other trusted key".to_owned() } else { ids.join(", ") }
    }
}

#[cfg(test)]
mod tests;
