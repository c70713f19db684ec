//! What commands have in common that download: cache, configuration, progress.

use std::path::{Path, PathBuf};

use bootstrap::failure::Failure;
use clap::Args;

use super::set;
use crate::access::{Access, Proxies};
use crate::cache::Cache;
use crate::content::misnamed;
use crate::opened::{self, Opened};
use crate::progress::{Choice, Progress};

/// How a command reaches a URL; to be flattened into its arguments.
#[derive(Debug, Clone, Default, Args)]
pub struct Line {
    /// How this machine reaches the world: mirrors, proxies, CAs, logins [env: CKS_ISO_CONFIG]
    /// [default: $XDG_CONFIG_HOME/cks-iso/config.toml or ~/.config/cks-iso/config.toml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How progress is shown, on standard error.
    #[arg(long, value_name = "HOW", default_value = "auto")]
    progress: Choice,
}

/// How a command reaches what it downloads, and where it keeps that.
#[derive(Debug, Clone, Default, Args)]
pub struct Reach {
    /// Where downloads are kept [env: CKS_ISO_CACHE] [default: $XDG_CACHE_HOME/cks-iso or ~/.cache/cks-iso].
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Use the cache only, and no network.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    line: Line,
}

impl Line {
    /// Opens `source`, an ISO, a directory or a URL. Only a URL needs a configuration.
    ///
    /// # Errors
    /// As [`Opened::at`]; `CONFIG_INVALID` and `IO` of the configuration.
    pub fn open(&self, source: &Path, json: bool) -> Result<Opened, Failure> {
        let access = match opened::url(source) {
            Some(_) => self.access()?,
            None => Access::default(),
        };
        Opened::at(source, &access, self.progress(json))
    }

    /// The configuration, with the proxies of the environment.
    fn access(&self) -> Result<Access, Failure> {
        let named = self.config.clone().or_else(|| set("CKS_ISO_CONFIG").map(PathBuf::from));
        let usual = || home("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("cks-iso/config.toml"));
        let access = match named.or_else(|| usual().filter(|path| path.exists())) {
            Some(path) => Access::read(&path)?,
            None => Access::default(),
        };
        Ok(access.with_proxies(proxies()))
    }

    /// Where progress is shown by a command whose result is `json`.
    #[must_use]
    pub fn progress(&self, json: bool) -> Progress {
        self.progress.settle(json, is_dumb())
    }
}

impl Reach {
    /// The cache.
    #[must_use]
    pub fn cache(&self) -> Cache {
        Cache::new(self.cache.clone().unwrap_or_else(default_cache))
    }

    /// The configuration, with the logins of Docker and the proxies of the environment.
    ///
    /// # Errors
    /// `CONFIG_INVALID` names the file and key; `IO` a file that can't be read.
    pub fn access(&self) -> Result<Access, Failure> {
        let access = self.line.access()?;
        let access = match logins() {
            Some(path) => {
                let text = std::fs::read_to_string(&path).map_err(|e| misnamed("Reading", &path, e))?;
                let named = |failure| crate::bundle::named(&path.display().to_string(), failure);
                access.with_docker(&text).map_err(named)?
            }
            None => access,
        };
        Ok(if self.offline { access.offline() } else { access })
    }

    /// Where progress is shown by a command whose result is `json`.
    #[must_use]
    pub fn progress(&self, json: bool) -> Progress {
        self.line.progress(json)
    }
}

/// Whether the terminal can't draw.
pub(super) fn is_dumb() -> bool {
    set("TERM").is_some_and(|term| term == "dumb")
}

fn default_cache() -> PathBuf {
    if let Some(cache) = set("CKS_ISO_CACHE") {
        return cache.into();
    }
    home("XDG_CACHE_HOME", ".cache").unwrap_or_else(|| PathBuf::from(".cache")).join("cks-iso")
}

/// The directory that `variable` names, or `usual` in the home directory.
fn home(variable: &str, usual: &str) -> Option<PathBuf> {
    set(variable).map(PathBuf::from).or_else(|| in_home(usual))
}

fn in_home(usual: &str) -> Option<PathBuf> {
    set("HOME").map(|home| PathBuf::from(home).join(usual))
}

/// The file of Docker's or podman's logins, if there is one.
fn logins() -> Option<PathBuf> {
    let podman = set("REGISTRY_AUTH_FILE").map(PathBuf::from);
    let docker = || set("DOCKER_CONFIG").map(|dir| PathBuf::from(dir).join("config.json"));
    let usual = || in_home(".docker/config.json");
    podman.or_else(docker).or_else(usual).filter(|path| path.exists())
}

fn proxies() -> Proxies {
    let first = |names: &[&str]| {
        let value = names.iter().find_map(|name| set(name))?;
        Some(value.to_string_lossy().into_owned())
    };
    // Often a SOCKS proxy, meant for other programs.
    let all = || first(&["all_proxy", "ALL_PROXY"]).filter(|proxy| proxy.starts_with("http"));
    Proxies {
        http: first(&["http_proxy", "HTTP_PROXY"]).or_else(all),
        https: first(&["https_proxy", "HTTPS_PROXY"]).or_else(all),
        no_proxy: first(&["no_proxy", "NO_PROXY"]),
    }
}
