//! Certificates of a member and of its clients, made on this node by the cluster's authority.
//!
//! etcd reads its certificates anew for each connection, so renewing needs no restart. A renewed certificate keeps its
//! key: whoever reads the two files between their renames finds a pair that fits.

use std::fs;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bootstrap::etcd::account::Ids;
use bootstrap::etcd::certificates::{DIRECTORY, LIFE_SECONDS, Purpose, Validity, Wanted, wanted};
use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::{Authority, NodeSpec};
use bootstrap::render::kubeadm::{ETCD_CA, ETCD_CLIENT_CERTIFICATE, ETCD_CLIENT_KEY};
use bootstrap::secret::Secret;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate, X509Error};

use crate::files;
use crate::host::{Host, io_failure};

/// A clock that is a little behind must not take a new certificate for one of the future.
const BACKDATED: Duration = Duration::from_secs(300);

/// Which certificates are made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renew {
    /// Those in the last third of their life, and those that do not say what they have to.
    WhenDue,
    /// All of them, with new keys.
    All,
}

/// Makes what the member of `spec` lacks. Nothing without an authority. Says which were made.
///
/// # Errors
/// `CONFIG_INVALID`: the authority can't be used; `IO`.
pub fn of_member(host: &Host, spec: &NodeSpec, ids: Ids, renew: Renew) -> Result<Vec<Purpose>, Failure> {
    let Some(authority) = &spec.etcd_authority else { return Ok(Vec::new()) };
    keep(host, authority)?;
    let mut made = Vec::new();
    for purpose in Purpose::OF_A_MEMBER {
        if Files::of(host, purpose, ids).ensure(authority, &wanted(spec, purpose), renew)? {
            made.push(purpose);
        }
    }
    Ok(made)
}

/// Makes what a control plane lacks to reach an etcd of this authority, where kubeadm is told that it is. Says whether
/// anything was made.
pub(super) fn of_client(host: &Host, authority: &Authority) -> Result<bool, Failure> {
    keep(host, authority)?;
    write_where_other(host, ETCD_CA, &authority.certificate, 0o644)?;
    let wanted = Wanted::of_client("kube-apiserver-etcd-client");
    let files = Files {
        host,
        certificate: ETCD_CLIENT_CERTIFICATE.to_owned(),
        key: ETCD_CLIENT_KEY.to_owned(),
        serves: false,
        owner: (0, 0),
    };
    files.ensure(authority, &wanted, Renew::WhenDue)
}

/// Renews what a control plane was given before; a cluster with etcd of its own has no such authority.
pub(super) fn tend_client(host: &Host) -> Result<(), Failure> {
    if !host.path(ETCD_CLIENT_CERTIFICATE).exists() {
        return Ok(());
    }
    match kept(host) {
        Ok(authority) if authority.key.is_some() => of_client(host, &authority).map(drop),
        _ => Ok(()),
    }
}

/// The authority that the node keeps.
pub(super) fn kept(host: &Host) -> Result<Authority, Failure> {
    let path = host.path(&format!("{DIRECTORY}/ca.crt"));
    let certificate = fs::read_to_string(&path).map_err(|e| io_failure("Reading", &path, e))?;
    let key = fs::read_to_string(host.path(&format!("{DIRECTORY}/ca.key"))).ok().map(Secret::new);
    Ok(Authority { certificate, key })
}

/// How long the member's certificates are valid, by what they are for.
#[must_use]
pub fn validities(host: &Host) -> Vec<(&'static str, Validity)> {
    let read = |name: &'static str| {
        let pem = fs::read(host.path(&format!("{DIRECTORY}/{name}.crt"))).ok()?;
        Some((name, Certificate::of(&pem)?.validity))
    };
    let names = Purpose::OF_A_MEMBER.map(Purpose::file);
    std::iter::once("ca").chain(names).filter_map(read).collect()
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Writes the authority's certificate, and its key where it is told: it is needed for as long as certificates are renewed.
fn keep(host: &Host, authority: &Authority) -> Result<(), Failure> {
    if let Some(key) = &authority.key {
        // Refused before anything is written.
        issuer(authority)?;
        write_where_other(host, &format!("{DIRECTORY}/ca.key"), key.reveal(), 0o600)?;
    }
    write_where_other(host, &format!("{DIRECTORY}/ca.crt"), &authority.certificate, 0o644)
}

fn write_where_other(host: &Host, path: &str, text: &str, mode: u32) -> Result<(), Failure> {
    if fs::read(host.path(path)).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    files::write(&host.prepare(path)?, text.as_bytes(), mode)
}

/// A certificate and its key.
struct Files<'a> {
    host: &'a Host,
    certificate: String,
    key: String,
    /// Whether a server shows it.
    serves: bool,
    owner: (u32, u32),
}

impl<'a> Files<'a> {
    /// Those of a member.
    fn of(host: &'a Host, purpose: Purpose, ids: Ids) -> Self {
        let file = |end: &str| format!("{DIRECTORY}/{}.{end}", purpose.file());
        let owner = if purpose.is_etcds() { (ids.user, ids.group) } else { (0, 0) };
        Self { host, certificate: file("crt"), key: file("key"), serves: purpose.serves(), owner }
    }

    /// Whether they had to be made.
    fn ensure(&self, authority: &Authority, wanted: &Wanted, renew: Renew) -> Result<bool, Failure> {
        let key = fs::read(self.host.path(&self.key)).ok().and_then(|pem| key_of(&pem).ok());
        let certificate = fs::read(self.host.path(&self.certificate)).unwrap_or_default();
        let certificate = Certificate::of(&certificate);
        if let (Some(key), Some(certificate), Renew::WhenDue) = (&key, &certificate, renew)
            && certificate.says(wanted)
            && certificate.is_of(authority)
            && certificate.public_key == key.subject_public_key_info()
            && !certificate.validity.is_due(now())
        {
            return Ok(false);
        }
        let issuer = issuer(authority)?;
        let kept = key.filter(|_| renew == Renew::WhenDue);
        let is_new = kept.is_none();
        let key = match kept {
            Some(key) => key,
            None => KeyPair::generate().map_err(|e| cannot("make a key", &e))?,
        };
        let certificate = issue(&issuer, &key, wanted, self.serves)?;
        // In this order a pair that does not fit is one that the next run sees, and makes anew.
        if is_new {
            self.write(&self.key, &key.serialize_pem(), 0o600)?;
        }
        self.write(&self.certificate, &certificate, 0o644)?;
        Ok(true)
    }

    fn write(&self, path: &str, text: &str, mode: u32) -> Result<(), Failure> {
        files::write_for(&self.host.prepare(path)?, text.as_bytes(), mode, self.owner)
    }
}

/// What of a certificate is looked at.
struct Certificate {
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    public_key: Vec<u8>,
    validity: Validity,
    der: Vec<u8>,
}

impl Certificate {
    fn of(pem: &[u8]) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(pem).ok()?;
        let (_, x509) = X509Certificate::from_der(&der).ok()?;
        let (mut names, mut addresses) = (Vec::new(), Vec::new());
        let alternative = x509.subject_alternative_name().ok()?;
        for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => addresses.push(address(bytes)?),
                _ => {}
            }
        }
        let validity =
            Validity { from: x509.validity().not_before.timestamp(), to: x509.validity().not_after.timestamp() };
        let public_key = x509.public_key().raw.to_vec();
        Some(Self { names, addresses, public_key, validity, der: der.to_vec() })
    }

    fn says(&self, wanted: &Wanted) -> bool {
        let mut addresses = self.addresses.clone();
        addresses.sort();
        self.names == wanted.names && addresses == wanted.addresses
    }

    /// Whether the authority signed it: the certificate that its key is of; any of them where no key is told.
    fn is_of(&self, authority: &Authority) -> bool {
        let Ok((_, own)) = X509Certificate::from_der(&self.der) else { return false };
        let signed = |der: &CertificateDer<'_>| {
            X509Certificate::from_der(der).is_ok_and(|(_, ca)| {
                // An algorithm that is not known here is no reason to make certificates again and again.
                let verified = own.verify_signature(Some(ca.public_key()));
                ca.subject() == own.issuer() && !matches!(verified, Err(X509Error::SignatureVerificationError))
            })
        };
        match &authority.key {
            Some(key) => signer(authority, key).is_ok_and(|(certificate, _)| signed(&certificate)),
            None => CertificateDer::pem_slice_iter(authority.certificate.as_bytes()).flatten().any(|der| signed(&der)),
        }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn key_of(pem: &[u8]) -> Result<KeyPair, String> {
    let der = PrivateKeyDer::from_pem_slice(pem).map_err(|e| e.to_string())?;
    KeyPair::try_from(&der).map_err(|e| e.to_string())
}

/// The authority, ready to sign.
fn issuer(authority: &Authority) -> Result<Issuer<'static, KeyPair>, Failure> {
    let refuse = |why: &str| Failure::new(Code::ConfigInvalid, why);
    let Some(key) = &authority.key else {
        return Err(refuse("the etcd authority's key is not told, and the certificates have to be made anew"));
    };
    let (certificate, key) = signer(authority, key)?;
    let is_ca = X509Certificate::from_der(&certificate).is_ok_and(|(_, x509)| x509.is_ca());
    if !is_ca {
        return Err(refuse("the etcd authority's certificate is not one of an authority (CA:TRUE)"));
    }
    Issuer::from_ca_cert_der(&certificate, key)
        .map_err(|e| refuse(&format!("the etcd authority's certificate can't be used: {e}")))
}

/// The authority's key and the certificate that it is of. Several are told where members trust an old and a new authority.
fn signer(authority: &Authority, key: &Secret) -> Result<(CertificateDer<'static>, KeyPair), Failure> {
    let refuse = |why: &str| Failure::new(Code::ConfigInvalid, why);
    // What the parser says may repeat parts of the key.
    let key = key_of(key.reveal().as_bytes());
    let key = key.map_err(|_| refuse("the etcd authority's key is no private key in PEM"))?;
    let is_of_key = |der: &CertificateDer<'_>| {
        let x509 = X509Certificate::from_der(der);
        x509.is_ok_and(|(_, x509)| x509.public_key().raw == key.subject_public_key_info())
    };
    let mut certificates = CertificateDer::pem_slice_iter(authority.certificate.as_bytes()).flatten();
    let certificate = certificates.find(is_of_key);
    let certificate = certificate.ok_or_else(|| refuse("the etcd authority's key is not that of its certificate"))?;
    Ok((certificate, key))
}

fn issue(issuer: &Issuer<'_, KeyPair>, key: &KeyPair, wanted: &Wanted, serves: bool) -> Result<String, Failure> {
    let mut params = CertificateParams::new(wanted.names.clone()).map_err(|e| cannot("name a certificate", &e))?;
    params.subject_alt_names.extend(wanted.addresses.iter().copied().map(SanType::IpAddress));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, wanted.common_name.clone());
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since.saturating_sub(BACKDATED);
    params.not_after = epoch + since + Duration::from_secs(LIFE_SECONDS);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if serves {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(key, issuer).map_err(|e| cannot("sign a certificate", &e))?;
    Ok(certificate.pem())
}

fn cannot(what: &str, error: &rcgen::Error) -> Failure {
    Failure::new(Code::ConfigInvalid, format!("the etcd authority can't {what}: {error}"))
}

#[cfg(test)]
mod tests;
