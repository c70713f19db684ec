//! How registries are reached: `certs.d/HOST/hosts.toml` for where and whom to trust, a drop-in for who we are, and a
//! proxy.
//!
//! Passwords are in containerd's own configuration and not in `hosts.toml`: a header there goes to the registry alone,
//! and most registries take no password but for a token that another server gives.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Format, HEAD, quoted, section};
use crate::failure::{Code, Failure};
use crate::node_spec::{Proxy, Registry, Runtime};
use crate::render::kubeadm::CgroupDriver;
use crate::secret::Secret;

/// The directory of registries.
pub const CERTIFICATES: &str = "/etc/containerd/certs.d";

/// The drop-in with passwords; for root alone.
pub const CREDENTIALS: &str = "/etc/containerd/conf.d/51-cks-registries.toml";

/// The environment with the proxy; for root alone, its URL may hold a password.
pub const PROXY: &str = "/etc/containerd/cks-proxy.env";

/// A file that is not part of a plan, because plans are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where.
    pub path: String,
    /// The whole text.
    pub text: Secret,
    /// Permission bits.
    pub mode: u32,
}

impl File {
    fn open(path: String, text: impl Into<String>) -> Self {
        Self { path, text: Secret::new(text), mode: 0o644 }
    }

    fn closed(path: String, text: impl Into<String>) -> Self {
        Self { path, text: Secret::new(text), mode: 0o600 }
    }
}

/// Whether a text is one of ours.
#[must_use]
pub fn is_ours(text: &str) -> bool {
    text.starts_with(HEAD)
}

/// The files that `runtime` asks for; [`CREDENTIALS`] and [`PROXY`] only where there is something to say.
///
/// # Errors
/// `CONFIG_INVALID` names the registry and what is wrong with it.
pub fn files(
    format: Format,
    sandbox_image: Option<&str>,
    cgroup_driver: CgroupDriver,
    runtime: &Runtime,
) -> Result<Vec<File>, Failure> {
    let mut files = Vec::new();
    let mut hosts = Vec::new();
    for registry in &runtime.registries {
        let host = registry.host.to_ascii_lowercase();
        let refuse = |why: String| {
            Failure::new(Code::ConfigInvalid, format!("registry {:?} {why}", crate::text::plain(&registry.host)))
        };
        if hosts.contains(&host) {
            return Err(refuse("stands twice".to_owned()));
        }
        check(registry).map_err(refuse)?;
        files.extend(of_registry(registry, &host));
        hosts.push(host);
    }
    let credentials = credentials(&runtime.registries)?;
    if !credentials.is_empty() {
        files.push(File::closed(
            CREDENTIALS.to_owned(),
            with_credentials(format, sandbox_image, cgroup_driver, &credentials),
        ));
    }
    if let Some(proxy) = runtime.proxy.as_ref().filter(|proxy| **proxy != Proxy::default()) {
        files.push(File::closed(PROXY.to_owned(), environment(proxy)?));
    }
    Ok(files)
}

fn check(registry: &Registry) -> Result<(), String> {
    if registry.host != "_default" && !is_authority(&registry.host) {
        return Err("is no HOST or HOST:PORT".to_owned());
    }
    for endpoint in &registry.endpoints {
        if authority_of(endpoint).is_none() {
            return Err(format!(
                "has endpoint {:?}, which is no http:// or https:// URL",
                crate::text::plain(endpoint)
            ));
        }
    }
    let named = registry.username.is_some() || registry.password.is_some();
    if named && (registry.username.is_none() || registry.password.is_none()) {
        return Err("has a user name without password, or a password without user name".to_owned());
    }
    if registry.host == "_default" && registry.endpoints.is_empty() {
        return Err("stands for all registries of the world: name endpoints".to_owned());
    }
    if registry.client_certificate.is_some() != registry.client_key.is_some() {
        return Err("has a client certificate without key, or a key without certificate".to_owned());
    }
    let pem = [registry.authority.as_deref(), registry.client_certificate.as_deref()];
    if pem.into_iter().flatten().any(|text| !text.contains("-----BEGIN ")) {
        return Err("has a certificate that is not PEM".to_owned());
    }
    Ok(())
}

/// `HOST` or `HOST:PORT`, as references name it.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let name = |host: &str| {
        let label =
            |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        host.len() <= 253 && host.split('.').all(label)
    };
    let six = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host = six.map_or_else(|| name(host), |six| six.parse::<std::net::Ipv6Addr>().is_ok());
    host && port.is_none_or(|port| port.parse().is_ok_and(|port: u16| port != 0))
}

/// The host and port of an URL without user, and what follows them.
fn authority_of(endpoint: &str) -> Option<(&str, &str)> {
    let rest = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"))?;
    let at = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let sound = path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-~".contains(c));
    (is_authority(authority) && sound).then(|| (authority, path.trim_end_matches('/')))
}

fn of_registry(registry: &Registry, host: &str) -> Vec<File> {
    let directory = format!("{CERTIFICATES}/{host}");
    let place = |name: &str| format!("{directory}/{name}");
    let mut files = Vec::new();
    if let Some(authority) = &registry.authority {
        files.push(File::open(place("cks-ca.pem"), authority.as_str()));
    }
    if let (Some(certificate), Some(key)) = (&registry.client_certificate, &registry.client_key) {
        files.push(File::open(place("cks-client.pem"), certificate.as_str()));
        files.push(File::closed(place("cks-client-key.pem"), key.reveal()));
    }
    files.push(File::open(place("hosts.toml"), hosts_toml(registry, &directory)));
    files
}

/// containerd asks the hosts in their order. After them it would ask the server, which is the registry itself unless it
/// is named: so that nobody else is ever asked, it is one of them, and for pushes alone. containerd 1.6 takes no file
/// without hosts.
fn hosts_toml(registry: &Registry, directory: &str) -> String {
    let endpoints = if registry.endpoints.is_empty() {
        vec![format!("https://{}", own_host(registry))]
    } else {
        registry.endpoints.iter().map(|endpoint| endpoint.trim_end_matches('/').to_owned()).collect()
    };
    let mut text = format!("{HEAD}.\n");
    if let Some(first) = endpoints.first() {
        // Writing into a String does not fail.
        let _ = write!(text, "server = {}\ncapabilities = [\"push\"]\n", quoted(first));
    }
    for host in &endpoints {
        let _ = write!(text, "\n[host.{}]\n", quoted(host));
        text += &transport(registry, host, directory, "  ");
    }
    text
}

/// The host that a registry is asked at where no endpoint stands for it.
fn own_host(registry: &Registry) -> &str {
    if registry.host == "docker.io" { "registry-1.docker.io" } else { &registry.host }
}

/// What holds for one endpoint.
fn transport(registry: &Registry, endpoint: &str, directory: &str, indent: &str) -> String {
    let mut text = format!("{indent}capabilities = [\"pull\", \"resolve\"]\n");
    let path = authority_of(endpoint).map_or("", |(_, path)| path);
    if path.starts_with("/v2/") {
        // A project of a registry, named by where its API begins.
        text += &format!("{indent}override_path = true\n");
    }
    // With any of these containerd would try TLS first where plain HTTP is meant.
    if endpoint.starts_with("http://") {
        return text;
    }
    if registry.authority.is_some() {
        text += &format!("{indent}ca = {}\n", quoted(&format!("{directory}/cks-ca.pem")));
    }
    if registry.client_certificate.is_some() {
        let (certificate, key) = (format!("{directory}/cks-client.pem"), format!("{directory}/cks-client-key.pem"));
        text += &format!("{indent}client = [[{}, {}]]\n", quoted(&certificate), quoted(&key));
    }
    if registry.insecure {
        text += &format!("{indent}skip_verify = true\n");
    }
    text
}

type Credentials<'a> = BTreeMap<String, (&'a str, &'a Secret)>;

/// User and password for each host that is really asked.
fn credentials(registries: &[Registry]) -> Result<Credentials<'_>, Failure> {
    let mut all = Credentials::new();
    for registry in registries {
        let (Some(user), Some(password)) = (&registry.username, &registry.password) else { continue };
        let mut hosts: Vec<&str> = registry.endpoints.iter().filter_map(|url| Some(authority_of(url)?.0)).collect();
        if hosts.is_empty() {
            hosts.push(own_host(registry));
        }
        for host in hosts {
            let given = (user.as_str(), password);
            if all.insert(host.to_ascii_lowercase(), given).is_some_and(|other| other != given) {
                let what = format!("registries name different passwords for {host}");
                return Err(Failure::new(Code::ConfigInvalid, what));
            }
        }
    }
    Ok(all)
}

/// In format 2 the section replaces that of the drop-in, so it says all of that, too.
fn with_credentials(
    format: Format,
    sandbox_image: Option<&str>,
    cgroup_driver: CgroupDriver,
    credentials: &Credentials<'_>,
) -> String {
    let mut text = format!("{HEAD}. It holds passwords: for root alone.\nversion = {}\n", format.number());
    if format == Format::V2 {
        text += "\n";
        text += &section(format, sandbox_image, cgroup_driver);
    }
    for (host, (user, password)) in credentials {
        let _ = write!(
            text,
            "\n[{}.registry.configs.{}.auth]\n  username = {}\n  password = {}\n",
            format.images(),
            quoted(host),
            quoted(user),
            quoted(password.reveal())
        );
    }
    text
}

/// As systemd reads an environment file.
fn environment(proxy: &Proxy) -> Result<String, Failure> {
    let no_proxy = (!proxy.no_proxy.is_empty()).then(|| Secret::new(proxy.no_proxy.join(",")));
    let mut text = format!("{HEAD}. It may hold passwords: for root alone.\n");
    for (name, value) in [("HTTP_PROXY", &proxy.http), ("HTTPS_PROXY", &proxy.https), ("NO_PROXY", &no_proxy)] {
        let Some(value) = value else { continue };
        let value = value.reveal();
        if value.chars().any(|c| c.is_control() || c.is_whitespace()) {
            let what = format!("the container runtime's proxy ({name}) has blanks or line breaks");
            return Err(Failure::new(Code::ConfigInvalid, what));
        }
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$").replace('`', "\\`");
        let _ = writeln!(text, "{name}=\"{escaped}\"");
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
