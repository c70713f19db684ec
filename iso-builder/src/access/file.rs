//! The configuration file's text, key by key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootstrap::failure::{Code, Failure};
use serde::Deserialize;
use url::Url;

use super::{Access, Patience, Proxies, Registry, Secret};

/// More at once than this serves nobody.
const MOST_PARALLEL: usize = 32;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    mirrors: BTreeMap<String, String>,
    registries: BTreeMap<String, RegistryTable>,
    http: HttpTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RegistryTable {
    mirror: Option<String>,
    fallback: Option<bool>,
    ca: Option<PathBuf>,
    insecure: bool,
    user: Option<String>,
    password_file: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct HttpTable {
    proxy: Option<String>,
    https_proxy: Option<String>,
    no_proxy: Option<String>,
    ca: Vec<PathBuf>,
    retries: Option<u32>,
    timeout_seconds: Option<u64>,
    parallel: Option<usize>,
}

impl std::fmt::Debug for HttpTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HttpTable")
    }
}

/// The failure of a key.
pub(super) fn invalid(what: impl Into<String>) -> Failure {
    Failure::new(Code::ConfigInvalid, what)
        .with_remedy("correct the configuration file; docs/downloads.md has every key")
}

pub(super) fn parse(text: &str, directory: &Path) -> Result<Access, Failure> {
    let file: File = toml::from_str(text).map_err(|e| {
        let before = |at: usize| text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count();
        let line = e.span().map_or(0, |span| before(span.start)) + 1;
        // Without the line itself: it may hold a password.
        invalid(format!("line {line}: {}", crate::text::without_users(e.message())))
    })?;
    let mut mirrors = Vec::new();
    for (from, to) in &file.mirrors {
        let to = prefix(&format!("mirrors.{:?}", shown(from)), to)?;
        mirrors.push((prefix("mirrors", from)?, Secret::new(to)));
    }
    mirrors.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then(a.cmp(b)));
    let mut registries = BTreeMap::new();
    for (host, table) in file.registries {
        let key = format!("registries.{host:?}");
        registries.insert(host.clone(), registry(&key, &host, table, directory)?);
    }
    let HttpTable { proxy, https_proxy, no_proxy, ca, .. } = &file.http;
    check_proxy("http.proxy", proxy.as_deref())?;
    check_proxy("http.https-proxy", https_proxy.as_deref())?;
    let proxies = Proxies { http: proxy.clone(), https: https_proxy.clone(), no_proxy: no_proxy.clone() };
    let authorities = ca.iter().map(|path| directory.join(path)).collect();
    let patience = patience(&file.http)?;
    Ok(Access { mirrors, registries, proxies, authorities, patience, ..Access::default() })
}

fn shown(text: &str) -> String {
    crate::text::without_users(text)
}

/// A URL prefix, which ends where a directory ends: else `https://a.org` would match `https://a.org.evil.net`.
fn prefix(key: &str, text: &str) -> Result<String, Failure> {
    let refuse = |why: &str| Err(invalid(format!("{key}: {} {why}", shown(text))));
    match Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") || !url.has_host() => {
            refuse("is no http:// or https:// URL")
        }
        Ok(url) if url.query().is_some() || url.fragment().is_some() => refuse("has a query or a fragment"),
        Ok(url) if !url.path().ends_with('/') => refuse("does not end in /"),
        Ok(url) => Ok(url.into()),
        Err(_) => refuse("is no URL"),
    }
}

fn registry(key: &str, host: &str, table: RegistryTable, directory: &Path) -> Result<Registry, Failure> {
    let wrong = |why: &str| Err(invalid(format!("{key}{why}")));
    let named = Url::parse(&format!("https://{host}/"));
    if !named.is_ok_and(|url| url.host_str().is_some() && url.path() == "/" && url.username().is_empty()) {
        return wrong(": is no host or host:port");
    }
    let mirror = match table.mirror.as_deref().map(Url::parse) {
        None => None,
        Some(Ok(url)) if matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none() => {
            if !url.username().is_empty() || url.password().is_some() {
                return wrong(".mirror: has a user in its URL: say user and password-file");
            }
            Some(url)
        }
        Some(_) => return wrong(".mirror: is no http:// or https:// URL"),
    };
    if mirror.is_some() && table.insecure {
        return wrong(".insecure: is for a registry without mirror; write http:// in mirror");
    }
    if mirror.is_none() && table.fallback.is_some() {
        return wrong(".fallback: there is no mirror to fall back from");
    }
    if table.user.is_some() != table.password_file.is_some() {
        return wrong(": user and password-file go together");
    }
    Ok(Registry {
        mirror,
        fallback: table.fallback.unwrap_or(true),
        authority: table.ca.map(|path| directory.join(path)),
        insecure: table.insecure,
        user: table.user,
        password_file: table.password_file.map(|path| directory.join(path)),
        password: None,
    })
}

fn check_proxy(key: &str, proxy: Option<&str>) -> Result<(), Failure> {
    match proxy.map(Url::parse) {
        None => Ok(()),
        Some(Ok(url)) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(()),
        Some(_) => Err(invalid(format!("{key}: is no http:// or https:// URL"))),
    }
}

fn patience(table: &HttpTable) -> Result<Patience, Failure> {
    let usual = Patience::default();
    let parallel = table.parallel.unwrap_or(usual.parallel);
    if !(1..=MOST_PARALLEL).contains(&parallel) {
        return Err(invalid(format!("http.parallel: {parallel} is not in 1 to {MOST_PARALLEL}")));
    }
    let silence = match table.timeout_seconds {
        Some(0) => return Err(invalid("http.timeout-seconds: 0 would never wait")),
        Some(seconds) => Duration::from_secs(seconds),
        None => usual.silence,
    };
    Ok(Patience { retries: table.retries.unwrap_or(usual.retries), silence, parallel, ..usual })
}
