//! Debian's `docker-registry` inside a private network, filled by `skopeo`: in the clear, or with TLS and
//! tokens. It stands for all registries of the world; the repository's first part says which one is meant.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use bootstrap::digest::Digest;
use tempfile::TempDir;

use crate::authority::Authority;
use crate::leash::{Daemon, POLL};
use crate::netns::{ADDRESS, Netns};
use crate::process::Command;
use crate::published::{self, Layout};
use crate::tokens::{FILLER, ISSUER, SERVICE, Tokens};
use crate::{scratch, web};

/// The port of the registry.
pub const PORT: u16 = 5000;
/// The port of its token server.
pub const TOKEN_PORT: u16 = 5002;

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    /// Who signed its certificate, where it has one.
    pub authority: Option<Authority>,
    /// Its token server, where it wants tokens.
    pub tokens: Option<Tokens>,
    network: String,
    serve: Command,
    daemon: Daemon,
    directory: TempDir,
}

/// One line of the access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD`, `PUT`.
    pub method: String,
    /// `v2/registry.k8s.io/pause/manifests/3.10`.
    pub path: String,
    /// HTTP status.
    pub status: u16,
    /// Bytes of the body.
    pub bytes: u64,
}

impl Registry {
    /// Without TLS, for everybody.
    ///
    /// # Errors
    /// When it doesn't answer within 20 s.
    pub fn plain(netns: &Netns) -> Result<Self> {
        Self::start(netns, scratch("registry")?, None, None, false)
    }

    /// With TLS by a private CA and with tokens: anybody may pull.
    ///
    /// # Errors
    /// When it doesn't answer within 20 s; without openssl.
    pub fn guarded(netns: &Netns) -> Result<Self> {
        let directory = scratch("registry")?;
        let authority = Authority::new(directory.path())?;
        let identity = authority.issue(ADDRESS)?;
        let tokens = Tokens::start(netns, &format!("{ADDRESS}:{TOKEN_PORT}"), &identity, directory.path(), false)?;
        Self::start(netns, directory, Some(authority), Some(tokens), false)
    }

    /// With TLS by a private CA, for those alone who have a certificate of it and know the password (`FILLER`).
    ///
    /// # Errors
    /// When it doesn't answer within 20 s; without openssl.
    pub fn private(netns: &Netns) -> Result<Self> {
        let directory = scratch("registry")?;
        let authority = Authority::new(directory.path())?;
        let identity = authority.issue(ADDRESS)?;
        let tokens = Tokens::start(netns, &format!("{ADDRESS}:{TOKEN_PORT}"), &identity, directory.path(), true)?;
        let own = authority.issue("10.1.1.2")?;
        // The names that skopeo looks for.
        for (from, name) in [(&own.certificate, "client.cert"), (&own.key, "client.key")] {
            let place = directory.path().join("trust").join(name);
            fs::copy(from, &place).with_context(|| format!("Copying {}", from.display()))?;
            Command::new("chown").arg("1000:1000").arg(&place).ok()?;
        }
        Self::start(netns, directory, Some(authority), Some(tokens), true)
    }

    fn start(
        netns: &Netns,
        directory: TempDir,
        authority: Option<Authority>,
        tokens: Option<Tokens>,
        private: bool,
    ) -> Result<Self> {
        let home = directory.path().join("home");
        fs::create_dir(&home).context("Making a directory for skopeo")?;
        Command::new("chown").arg("1000:1000").arg(&home).ok()?;
        let config = directory.path().join("config.yml");
        fs::write(&config, render(directory.path(), tokens.as_ref(), private))
            .context("Writing the registry's configuration")?;
        let serve = netns.enter(Command::new("docker-registry").arg("serve").arg(&config));
        // Not where a test's own environment says that logs and traces go.
        let serve = serve.under("env", ["-u", "OTEL_TRACES_EXPORTER"]);
        let daemon = serve.daemon(&directory.path().join("log"))?;
        let mut registry = Self { authority, tokens, network: netns.path(), serve, daemon, directory };
        registry.ready()?;
        Ok(registry)
    }

    fn ready(&mut self) -> Result<()> {
        let network = self.network.clone();
        let answers = || web::inside(&network, || Ok(TcpStream::connect((ADDRESS, PORT))?)).is_ok();
        self.daemon.ready(Duration::from_secs(20), answers).context("Starting docker-registry")
    }

    /// Ends it. What it holds stays.
    ///
    /// # Errors
    /// When it can't be killed.
    pub fn stop(&mut self) -> Result<()> {
        self.daemon.kill()
    }

    /// Starts it again after [`Registry::stop`]; its log begins anew.
    ///
    /// # Errors
    /// When it doesn't answer within 20 s.
    pub fn start_again(&mut self) -> Result<()> {
        self.daemon = self.serve.daemon(&self.directory.path().join("log"))?;
        self.ready()
    }

    /// `https://10.1.1.1:5000`, or `http://…`.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://{ADDRESS}:{PORT}")
    }

    /// Takes in every image of a layout with all its architectures, under its reference as a path:
    /// `registry.k8s.io/pause:3.10`.
    ///
    /// # Errors
    /// When skopeo refuses.
    pub fn fill(&self, layout: &Layout) -> Result<()> {
        let source = layout.directory.display();
        let copy = |reference: &&String| {
            let from = format!("oci:{source}:{reference}");
            self.skopeo(&["copy", "--all", "--quiet"], "dest", &[&from, &self.named(reference)]).ok().map(drop)
        };
        let references: Vec<&String> = layout.images().keys().collect();
        // Most of a copy's time is waiting.
        std::thread::scope(|scope| {
            let copies = references.chunks(references.len().div_ceil(4).max(1));
            let copies: Vec<_> = copies.map(|some| scope.spawn(move || some.iter().try_for_each(copy))).collect();
            copies.into_iter().try_for_each(|copy| copy.join().map_err(|_| anyhow!("A copy panicked"))?)
        })
    }

    /// Takes in an archive of `docker save`: one architecture, Docker's media types.
    ///
    /// # Errors
    /// When skopeo refuses.
    pub fn fill_from_archive(&self, archive: &Path, reference: &str) -> Result<()> {
        // Behind the path skopeo wants to see a name, and none with a colon in the path.
        let plain = self.directory.path().join("archive.tar");
        fs::copy(archive, &plain).with_context(|| format!("Copying {}", archive.display()))?;
        let from = format!("docker-archive:{}", plain.display());
        self.skopeo(&["copy", "--quiet"], "dest", &[&from, &self.named(reference)]).ok().map(drop)
    }

    /// What skopeo calls an image of this registry: `docker://10.1.1.1:5000/registry.k8s.io/pause:3.10`.
    #[must_use]
    pub fn named(&self, reference: &str) -> String {
        format!("docker://{ADDRESS}:{PORT}/{reference}")
    }

    /// `skopeo` inside the network. `side` says which of its two ends this registry is: `src`, `dest`, or
    /// nothing for a command with one.
    #[must_use]
    pub fn skopeo(&self, command: &[&str], side: &str, args: &[&str]) -> Command {
        let option = |name: &str| if side.is_empty() { format!("--{name}") } else { format!("--{side}-{name}") };
        let home = self.directory.path().join("home");
        let mut skopeo = published::skopeo(&home).args(command);
        match &self.authority {
            None => skopeo = skopeo.arg(format!("{}=false", option("tls-verify"))),
            Some(_) => skopeo = skopeo.arg(option("cert-dir")).arg(self.directory.path().join("trust")),
        }
        if self.tokens.is_some() && side == "dest" {
            skopeo = skopeo.arg(option("creds")).arg(format!("{}:{}", FILLER.0, FILLER.1));
        }
        skopeo.args(args).network(&self.network)
    }

    /// The file that holds a blob: for tests that spoil or take away one.
    #[must_use]
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        let start = hex.get(..2).unwrap_or_default().to_owned();
        self.directory.path().join("storage/docker/registry/v2/blobs/sha256").join(start).join(&hex).join("data")
    }

    /// Every request so far, in the order of their ends.
    ///
    /// # Errors
    /// When the log can't be read.
    pub fn requests(&self) -> Result<Vec<Request>> {
        // A line comes a moment after its answer; this one's comes after all of them.
        let mark = format!("mark-{:?}", Instant::now()).replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let url = format!("{}/v2/?{mark}", self.url());
        Command::new("curl").args(["-sk", "--max-time", "5", &url]).network(&self.network).ok()?;
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let log = fs::read_to_string(self.directory.path().join("log")).context("Reading the registry's log")?;
            if log.contains(&mark) {
                let own = |request: &Request| !request.path.starts_with("v2/?mark");
                return Ok(log.lines().filter_map(parse).filter(own).collect());
            }
            ensure!(Instant::now() < deadline, "docker-registry has not logged a request within 10 s");
            std::thread::sleep(POLL);
        }
    }
}

fn render(directory: &Path, tokens: Option<&Tokens>, private: bool) -> String {
    let place = directory.display();
    let mut text = format!(
        r#"version: 0.1
log:
  level: warn
storage:
  filesystem:
    rootdirectory: {place}/storage
  maintenance:
    uploadpurging:
      enabled: false
http:
  addr: {ADDRESS}:{PORT}
"#
    );
    if let Some(tokens) = tokens {
        let clients = if private { format!("    clientcas:\n      - {place}/trust/ca.crt\n") } else { String::new() };
        text += &format!(
            r#"  tls:
    certificate: {place}/server-{ADDRESS}.crt
    key: {place}/server-{ADDRESS}.key
{clients}auth:
  token:
    realm: {}
    service: {SERVICE}
    issuer: {ISSUER}
    rootcertbundle: {}
"#,
            tokens.realm,
            tokens.certificate.display()
        );
    }
    text
}

/// `10.1.1.1 - - [time] "GET /v2/… HTTP/1.1" 200 1043 "" "agent"`; the log has other lines, too.
fn parse(line: &str) -> Option<Request> {
    let mut parts = line.split('"');
    let (_, request, told) = (parts.next()?, parts.next()?, parts.next()?);
    let mut words = request.split(' ');
    let (method, path, protocol) = (words.next()?, words.next()?, words.next()?);
    let mut numbers = told.split_whitespace();
    let (status, bytes) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    let path = path.trim_start_matches('/').to_owned();
    protocol.starts_with("HTTP/").then(|| Request { method: method.to_owned(), path, status, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_line_is_a_request() {
        let line = r#"10.1.1.1 - - [21/Nov/2026:15:00:00 +0000] "GET /v2/a/blobs/sha256:0 HTTP/2.0" 206 412 "" "x/1""#;
        let request = parse(line).unwrap();
        assert_eq!((request.method.as_str(), request.status, request.bytes), ("GET", 206, 412));
        assert_eq!(request.path, "v2/a/blobs/sha256:0");
        assert_eq!(parse(r#"time="2026-11-21T15:00:00Z" level=error msg="b" a c"#), None);
    }
}
