//! Whether what an API server tells everybody (`kube-public/cluster-info`) was signed by whoever holds the token, and
//! which certificate authority it names.
//!
//! The signature is a detached JWS (RFC 7515) with HS256, made by the controller `bootstrapsigner` for each token
//! (Kubernetes, `cluster-bootstrap/token/jws`). kubeadm checks the same; done here first, a wrong token and a wrong
//! authority have codes of their own, and the join can be pinned to the authority that was found.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::failure::{Code, Failure};
use crate::node_spec::{CaTrust, Token};

/// A cluster's certificate authority, as a signed `cluster-info` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The authority's certificates, PEM.
    pub authority: String,
    /// Digests of their public keys, as kubeadm pins them: `sha256:…`.
    pub hashes: Vec<String>,
}

#[derive(Deserialize)]
struct ConfigMap {
    #[serde(default)]
    data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

/// What `answer`, the JSON of the config map `cluster-info`, proves to the holder of `token` who knows the authority
/// by `trust`.
///
/// # Errors
/// `TOKEN_REFUSED` when no such token is known there or it is another one with the same id; `CA_MISMATCH` when the
/// authority is not the pinned one; `API_UNREACHABLE` when the answer is no `cluster-info`.
pub fn check(answer: &[u8], token: &Token, trust: &CaTrust) -> Result<Found, Failure> {
    let strange = |why: &str| Failure::new(Code::ApiUnreachable, format!("cluster-info of the API server: {why}"));
    let map: ConfigMap = serde_json::from_slice(answer).map_err(|_| strange("is no config map"))?;
    let kubeconfig = map.data.get("kubeconfig").ok_or_else(|| strange("has no kubeconfig yet"))?;
    // The controller that signs comes a moment after the map; a cluster all of whose tokens have ended looks the same.
    if !map.data.keys().any(|key| key.starts_with("jws-kubeconfig-")) {
        return Err(strange("is signed for no token: the cluster has just begun, or all of its tokens have ended")
            .with_remedy("wait a moment; else make a token on the control plane: kubeadm token create"));
    }
    let Some(signature) = map.data.get(&format!("jws-kubeconfig-{}", token.id)) else {
        let what = format!("the cluster does not know the token {}.…, or it has ended", token.id);
        return Err(Failure::new(Code::TokenRefused, what));
    };
    if !is_signed(kubeconfig.as_bytes(), signature, token) {
        let what = format!("the cluster knows a token {}.…, but with another secret", token.id);
        return Err(Failure::new(Code::TokenRefused, what));
    }
    let authority = authority_of(kubeconfig).ok_or_else(|| strange("names no certificate authority"))?;
    let hashes = hashes(&authority).map_err(|why| strange(&why))?;
    if let CaTrust::Pinned(pins) = trust
        && !hashes.iter().any(|hash| pins.iter().any(|pin| pin.eq_ignore_ascii_case(hash)))
    {
        let what = format!("the authority is {}, not the pinned {}", hashes.join(", "), pins.join(", "));
        return Err(Failure::new(Code::CaMismatch, what));
    }
    Ok(Found { authority, hashes })
}

/// Whether `signature` is the token's over `payload`.
fn is_signed(payload: &[u8], signature: &str, token: &Token) -> bool {
    let mut parts = signature.split('.');
    let (Some(head), Some(""), Some(tail), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let header = URL_SAFE_NO_PAD.decode(head).ok().and_then(|header| serde_json::from_slice::<Header>(&header).ok());
    let (Some(header), Ok(tail)) = (header, URL_SAFE_NO_PAD.decode(tail)) else { return false };
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(token.secret().reveal().as_bytes()) else { return false };
    mac.update(head.as_bytes());
    mac.update(b".");
    mac.update(URL_SAFE_NO_PAD.encode(payload).as_bytes());
    header.alg == "HS256" && header.kid == token.id && mac.verify_slice(&tail).is_ok()
}

/// The certificates of a kubeconfig's first cluster, PEM. The file is written by kubeadm, one field a line.
#[must_use]
pub fn authority_of(kubeconfig: &str) -> Option<String> {
    let fields = kubeconfig.lines().filter_map(|line| line.trim().trim_start_matches("- ").split_once(':'));
    let data = fields.filter(|(key, _)| *key == "certificate-authority-data").map(|(_, value)| value);
    let pem = STANDARD.decode(data.into_iter().next()?.trim().trim_matches('"')).ok()?;
    String::from_utf8(pem).ok()
}

/// The digests of the public keys of all certificates in `pem`, as kubeadm pins them.
///
/// # Errors
/// In words: there is none, or one can't be read.
pub fn hashes(pem: &str) -> Result<Vec<String>, String> {
    let mut hashes = Vec::new();
    for block in x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes()) {
        let block = block.map_err(|e| format!("a certificate can't be read: {e}"))?;
        let (_, certificate) =
            X509Certificate::from_der(&block.contents).map_err(|e| format!("a certificate can't be read: {e}"))?;
        let digest = Sha256::digest(certificate.public_key().raw);
        hashes.push(digest.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}")));
    }
    if hashes.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(hashes) }
}

/// The span in which all certificates of `pem` are valid, as seconds since 1970.
#[must_use]
pub fn validity(pem: &str) -> Option<(i64, i64)> {
    let mut span: Option<(i64, i64)> = None;
    for block in x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes()) {
        let block = block.ok()?;
        let (_, certificate) = X509Certificate::from_der(&block.contents).ok()?;
        let (from, to) = (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
        span = Some(span.map_or((from, to), |(begin, end)| (begin.max(from), end.min(to))));
    }
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by openssl, as is the digest of its public key: what kubeadm's documentation has one do.
    const CA: &str = include_str!("testdata/ca.crt");
    const PIN: &str = include_str!("testdata/ca.sha256");

    fn token() -> Token {
        Token::parse("abcdef.0123456789abcdef").unwrap()
    }

    fn kubeconfig() -> String {
        let data = STANDARD.encode(CA);
        format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {data}\n    server: https://10.1.1.5:6443\n  name: \"\"\n"
        )
    }

    fn signed(payload: &str, token: &Token) -> String {
        let head = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"HS256\",\"kid\":\"{}\"}}", token.id));
        let mut mac = Hmac::<Sha256>::new_from_slice(token.secret().reveal().as_bytes()).unwrap();
        mac.update(format!("{head}.{}", URL_SAFE_NO_PAD.encode(payload)).as_bytes());
        format!("{head}..{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    fn answer(kubeconfig: &str, id: &str, signature: &str) -> Vec<u8> {
        let data = BTreeMap::from([
            ("kubeconfig".to_owned(), kubeconfig.to_owned()),
            (format!("jws-kubeconfig-{id}"), signature.to_owned()),
        ]);
        serde_json::to_vec(&BTreeMap::from([("data", data)])).unwrap()
    }

    #[test]
    fn the_holder_of_the_token_learns_the_authority() {
        let text = kubeconfig();
        let found = check(&answer(&text, "abcdef", &signed(&text, &token())), &token(), &CaTrust::TokenOnly).unwrap();
        assert_eq!(found.authority, CA);
        assert_eq!(found.hashes, [PIN.trim()]);
        let pinned = CaTrust::Pinned(vec![PIN.trim().to_ascii_uppercase().replace("SHA256", "sha256")]);
        assert!(check(&answer(&text, "abcdef", &signed(&text, &token())), &token(), &pinned).is_ok());
        let (from, to) = validity(CA).unwrap();
        assert!(from < to);
    }

    #[test]
    fn everything_else_has_a_code_of_its_own() {
        let text = kubeconfig();
        let good = signed(&text, &token());
        let other = Token::parse("abcdef.0000000000000000").unwrap();
        let pinned = CaTrust::Pinned(vec![format!("sha256:{}", "0".repeat(64))]);
        let unsigned = serde_json::to_vec(&serde_json::json!({"data": {"kubeconfig": text}})).unwrap();
        for (answer, trust, code) in [
            (b"<html>".to_vec(), CaTrust::TokenOnly, Code::ApiUnreachable),
            (b"{}".to_vec(), CaTrust::TokenOnly, Code::ApiUnreachable),
            (answer(&text, "zzzzzz", &good), CaTrust::TokenOnly, Code::TokenRefused),
            (unsigned, CaTrust::TokenOnly, Code::ApiUnreachable),
            (answer(&text, "abcdef", &signed(&text, &other)), CaTrust::TokenOnly, Code::TokenRefused),
            (answer(&(text.clone() + " "), "abcdef", &good), CaTrust::TokenOnly, Code::TokenRefused),
            (answer(&text, "abcdef", "a.b.c"), CaTrust::TokenOnly, Code::TokenRefused),
            (answer("x", "abcdef", &signed("x", &token())), CaTrust::TokenOnly, Code::ApiUnreachable),
            (answer(&text, "abcdef", &good), pinned, Code::CaMismatch),
        ] {
            let failure = check(&answer, &token(), &trust).unwrap_err();
            assert_eq!(failure.code, code, "{}", failure.what);
            assert!(!failure.what.contains("0123456789abcdef"), "{}", failure.what);
        }
    }
}
