//! How this machine reaches the world: mirrors, registries, proxies, CAs, credentials. It is no part of a
//! spec or a lock: the same lock gives the same ISO behind any mirror.

mod docker;
mod file;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootstrap::failure::Failure;
pub use bootstrap::secret::Secret;
use url::Url;

use crate::content::misnamed;

/// The settings of this machine. The default reaches everything directly and anonymously.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// URL prefix → URL prefix (which may hold a password), the longest first.
    mirrors: Vec<(String, Secret)>,
    registries: BTreeMap<String, Registry>,
    proxies: Proxies,
    authorities: Vec<PathBuf>,
    docker: docker::Logins,
    patience: Patience,
    offline: bool,
}

/// What the file says about one registry, or about its mirror where it names one.
#[derive(Debug, Clone, Default)]
struct Registry {
    mirror: Option<Url>,
    /// Whether the registry itself is asked for what the mirror lacks.
    fallback: bool,
    authority: Option<PathBuf>,
    insecure: bool,
    user: Option<String>,
    password_file: Option<PathBuf>,
    /// What stands in the password file, once it is read.
    password: Option<Secret>,
}

/// The proxies, as `http://proxy:3128`.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For `http://` URLs.
    pub http: Option<String>,
    /// For `https://` URLs.
    pub https: Option<String>,
    /// What is reached directly: `localhost,10.0.0.0/8,.example.org`.
    pub no_proxy: Option<String>,
}

/// How long the network is believed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Tries in a row that may bring nothing new, beyond the first.
    pub retries: u32,
    /// The first pause between two tries; it doubles up to [`Patience::longest`].
    pub pause: Duration,
    /// The longest pause, also where a server asks for a longer one.
    pub longest: Duration,
    /// How long a server may be silent.
    pub silence: Duration,
    /// Downloads at once.
    pub parallel: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            retries: 5,
            pause: Duration::from_millis(500),
            longest: Duration::from_secs(30),
            silence: Duration::from_secs(60),
            parallel: 4,
        }
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |proxy: &Option<String>| proxy.as_deref().map(crate::text::without_users);
        f.debug_struct("Proxies")
            .field("http", &shown(&self.http))
            .field("https", &shown(&self.https))
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// Who somebody is to a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// User and password.
    Basic(String, Secret),
    /// A refresh token of OAuth 2 (`identitytoken` of Docker's file).
    Identity(Secret),
}

/// A place that serves a registry's protocol.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// `https://host:port/prefix/`, without `v2/`.
    pub(crate) base: Url,
    /// What goes between `/v2/` and the repository: `k8s/` of a mirror, or nothing.
    pub(crate) prefix: String,
    pub(crate) authority: Option<PathBuf>,
    pub(crate) credentials: Option<Credentials>,
    /// The program that would know the credentials, which is not run.
    pub(crate) unasked: Option<String>,
}

impl Access {
    /// Reads the text of a configuration file that lies in `directory`, from where its relative paths start.
    /// Files that it names are not read: see [`Access::read`].
    ///
    /// # Errors
    /// `CONFIG_INVALID` names the key.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, Failure> {
        file::parse(text, directory)
    }

    /// Reads the configuration file at `path`.
    ///
    /// # Errors
    /// `CONFIG_INVALID` when it is missing, or names the key; `IO` when it can't be read.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidData => file::invalid("it is no text"),
            _ => misnamed("Reading", path, e),
        });
        let directory = crate::partial::directory_of(path);
        text.and_then(|text| Self::parse(&text, directory))
            .map_err(|failure| crate::bundle::named(&path.display().to_string(), failure))?
            .with_passwords()
    }

    /// Reads the password files.
    fn with_passwords(mut self) -> Result<Self, Failure> {
        for (host, registry) in &mut self.registries {
            let Some(path) = &registry.password_file else { continue };
            let text = std::fs::read_to_string(path).map_err(|e| {
                let why = format!("registries.{host:?}: Reading the password file");
                misnamed(&why, path, e)
            })?;
            registry.password = Some(Secret::new(text.trim_end_matches(['\r', '\n'])));
        }
        Ok(self)
    }

    /// With the logins of Docker's `config.json` (or podman's `auth.json`), given as text, for the
    /// registries that have no user yet.
    ///
    /// # Errors
    /// `CONFIG_INVALID` when it is no such file; nothing of it is told.
    pub fn with_docker(mut self, text: &str) -> Result<Self, Failure> {
        self.docker = docker::Logins::parse(text)?;
        Ok(self)
    }

    /// With the proxies of the environment, where the file names none.
    #[must_use]
    pub fn with_proxies(mut self, proxies: Proxies) -> Self {
        let Proxies { http, https, no_proxy } = &mut self.proxies;
        *http = http.take().or(proxies.http);
        *https = https.take().or(proxies.https);
        *no_proxy = no_proxy.take().or(proxies.no_proxy);
        self
    }

    /// With other patience.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Without the network: what the cache lacks is `NOT_CACHED`.
    #[must_use]
    pub fn offline(mut self) -> Self {
        self.offline = true;
        self
    }

    /// Whether the network is not to be touched.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    pub(crate) fn patience(&self) -> Patience {
        self.patience
    }

    pub(crate) fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// The CAs that are trusted beside the system's.
    pub(crate) fn authorities(&self) -> &[PathBuf] {
        &self.authorities
    }

    /// Where `url` is fetched from: by the longest prefix among the mirrors.
    pub(crate) fn mirrored(&self, url: &Url) -> Url {
        let text = url.as_str();
        let mut found = self.mirrors.iter().filter_map(|(from, to)| Some((text.strip_prefix(from.as_str())?, to)));
        // What is no URL was refused when the file was read: only the rest of `url` is added here.
        found
            .next()
            .and_then(|(rest, to)| Url::parse(&format!("{}{rest}", to.reveal())).ok())
            .unwrap_or_else(|| url.clone())
    }

    /// Where images of `repository` at `host` are asked for, in this order.
    pub(crate) fn endpoints(&self, host: &str, repository: &str) -> Vec<Endpoint> {
        let registry = self.registries.get(host);
        let mirror = registry.and_then(|registry| registry.mirror.as_ref());
        let mut endpoints = Vec::new();
        if let (Some(registry), Some(mirror)) = (registry, mirror) {
            endpoints.push(self.mirror(registry, mirror, repository));
        }
        if mirror.is_none() || registry.is_some_and(|registry| registry.fallback) {
            endpoints.extend(self.direct(host, repository));
        }
        endpoints
    }

    fn direct(&self, host: &str, repository: &str) -> Option<Endpoint> {
        // Settings beside a mirror are the mirror's.
        let own = self.registries.get(host).filter(|registry| registry.mirror.is_none());
        let scheme = if own.is_some_and(|registry| registry.insecure) { "http" } else { "https" };
        let server = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let base = Url::parse(&format!("{scheme}://{server}/")).ok()?;
        let (credentials, unasked) = self.login(own, host, repository);
        let authority = own.and_then(|registry| registry.authority.clone());
        Some(Endpoint { base, prefix: String::new(), authority, credentials, unasked })
    }

    fn mirror(&self, registry: &Registry, mirror: &Url, repository: &str) -> Endpoint {
        let host = host_of(mirror);
        let own = self.registries.get(&host).filter(|registry| registry.mirror.is_none());
        let prefix = mirror.path().trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let mut base = mirror.clone();
        base.set_path("/");
        let with_user = Some(registry).filter(|registry| registry.user.is_some()).or(own);
        let (credentials, unasked) = self.login(with_user, &host, &format!("{prefix}{repository}"));
        let authority = registry.authority.clone().or_else(|| own.and_then(|own| own.authority.clone()));
        Endpoint { base, prefix, authority, credentials, unasked }
    }

    fn login(
        &self,
        registry: Option<&Registry>,
        host: &str,
        repository: &str,
    ) -> (Option<Credentials>, Option<String>) {
        let own = registry.and_then(|registry| {
            let password = registry.password.clone()?;
            Some(Credentials::Basic(registry.user.clone()?, password))
        });
        match own {
            Some(own) => (Some(own), None),
            None => self.docker.of(host, repository),
        }
    }
}

/// `host` or `host:port`, as image references write it.
fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests;
