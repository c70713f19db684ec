//! A certificate authority for one test, made by the openssl of the distribution.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::process::Command;

/// A private CA. Its files lie in a directory of the test.
#[derive(Debug, Clone)]
pub struct Authority {
    /// The CA's certificate, PEM; alone in its directory, as skopeo's `--cert-dir` wants it.
    pub certificate: PathBuf,
    key: PathBuf,
    directory: PathBuf,
}

/// A server's certificate and key, PEM files.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key, PKCS #8.
    pub key: PathBuf,
}

const KEY: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

impl Authority {
    /// Makes one in `directory`.
    ///
    /// # Errors
    /// Without openssl.
    pub fn new(directory: &Path) -> Result<Self> {
        let (trust, key) = (directory.join("trust"), directory.join("ca.key"));
        fs::create_dir(&trust).with_context(|| format!("Making {}", trust.display()))?;
        let certificate = trust.join("ca.crt");
        let request = Command::new("openssl").args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=Test CA"]);
        request.args(KEY).arg("-keyout").arg(&key).arg("-out").arg(&certificate).ok()?;
        Ok(Self { certificate, key, directory: directory.to_owned() })
    }

    /// A certificate for the server at an IP address.
    ///
    /// # Errors
    /// When openssl refuses.
    pub fn issue(&self, address: &str) -> Result<Identity> {
        let at = |suffix: &str| self.directory.join(format!("server-{address}.{suffix}"));
        let (certificate, key, request, names) = (at("crt"), at("key"), at("csr"), at("names"));
        fs::write(&names, format!("subjectAltName=IP:{address}\n")).context("Writing a certificate's names")?;
        let ask = Command::new("openssl").args(["req", "-nodes", "-subj", "/CN=server"]).args(KEY);
        ask.arg("-keyout").arg(&key).arg("-out").arg(&request).ok()?;
        let sign = Command::new("openssl").args(["x509", "-req", "-days", "2", "-CAcreateserial", "-in"]).arg(&request);
        let sign = sign.arg("-CA").arg(&self.certificate).arg("-CAkey").arg(&self.key);
        sign.arg("-extfile").arg(&names).arg("-out").arg(&certificate).ok()?;
        Ok(Identity { certificate, key })
    }
}
