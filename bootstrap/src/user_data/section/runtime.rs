//! The keys of a `cks:` section that are of delivery, container runtime and registration.

use std::collections::BTreeMap;

use super::keys::Keys;
use crate::failure::Failure;
use crate::node_spec::{Delivery, Proxy, Registration, Registry};
use crate::secret::{Secret, shown_url};
use crate::signature::PublicKey;
use crate::text::plain;

/// Labels of Kubernetes' own namespaces that a kubelet may give itself (Kubernetes, `--node-labels`).
const ALLOWED: [&str; 9] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "beta.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
];

/// How the bundle comes to the node; `eject` is read by itself.
pub(super) fn delivery(keys: &mut Keys<'_>) -> Result<Delivery, Failure> {
    let policies = ["require-signature", "require-manifest", "accept-legacy"].map(|name| (name, name));
    let sources = keys.list("sources")?;
    if sources.iter().any(|source| source.trim().is_empty() || source.chars().any(char::is_control)) {
        return Err(keys.refuse("sources", "an empty source"));
    }
    let router = keys.parsed("router", |text| text.parse().map_err(|_| "is no address".to_owned()))?;
    let policy = keys.choice("policy", &policies)?.map(str::to_owned);
    let trusted = keys.list("keys")?;
    for key in &trusted {
        PublicKey::parse(key).map_err(|failure| keys.refuse("keys", failure.what))?;
    }
    let wait_seconds = keys.parsed("wait", seconds)?;
    Ok(Delivery { sources, router, policy, keys: trusted, eject: false, wait_seconds })
}

/// `90s`, `20m`, `1h30m`, `1200`.
fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || "is no time like 20m".to_owned();
    let mut total: u64 = 0;
    let mut number = String::new();
    for c in text.chars().filter(|c| !c.is_whitespace()) {
        let unit = match c {
            '0'..='9' => {
                number.push(c);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(wrong()),
        };
        let count: u64 = number.parse().map_err(|_| wrong())?;
        total = total.saturating_add(count.saturating_mul(unit));
        number.clear();
    }
    if !number.is_empty() {
        total = total.saturating_add(number.parse().map_err(|_| wrong())?);
    }
    match total {
        0 => Err(wrong()),
        _ if total > 7 * 24 * 3600 => Err("is longer than a week".to_owned()),
        _ => Ok(total),
    }
}

pub(super) fn registries(keys: &mut Keys<'_>) -> Result<Vec<Registry>, Failure> {
    let mut registries = Vec::new();
    for (host, mut inner) in keys.each("registries")? {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-:[]_".contains(c);
        if host.is_empty() || !host.chars().all(allowed) {
            return Err(keys.refuse("registries", format!("{:?} is no host of a registry", plain(host))));
        }
        let endpoints = inner.list("mirrors")?;
        if let Some(url) = endpoints.iter().find(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            return Err(inner.refuse("mirrors", format!("{:?} is no URL", plain(&shown_url(url)))));
        }
        if endpoints.iter().any(|url| shown_url(url) != *url) {
            return Err(inner.refuse("mirrors", "an URL with a password in it: give username and password"));
        }
        let registry = Registry {
            host: host.to_owned(),
            endpoints,
            username: inner.text("username")?,
            password: inner.text("password")?.map(Secret::new),
            authority: inner.pem("ca", "CERTIFICATE")?,
            client_certificate: inner.pem("client-certificate", "CERTIFICATE")?,
            client_key: inner.pem("client-key", "PRIVATE KEY")?.map(Secret::new),
            insecure: inner.truth("insecure")?.unwrap_or_default(),
        };
        if registry.username.is_some() != registry.password.is_some() {
            return Err(inner.refuse("username", "username and password belong together"));
        }
        if registry.client_certificate.is_some() != registry.client_key.is_some() {
            return Err(inner.refuse("client-certificate", "client-certificate and client-key belong together"));
        }
        inner.finish()?;
        registries.push(registry);
    }
    Ok(registries)
}

pub(super) fn proxy(keys: &mut Keys<'_>) -> Result<Option<Proxy>, Failure> {
    let Some(mut inner) = keys.map("proxy")? else { return Ok(None) };
    let mut url = |key: &'static str| -> Result<Option<Secret>, Failure> {
        let Some(url) = inner.text(key)? else { return Ok(None) };
        // It may hold a password, so it is not repeated.
        match url.starts_with("http://") || url.starts_with("https://") {
            true => Ok(Some(Secret::new(url.trim()))),
            false => Err(inner.refuse(key, "is no URL like http://proxy.example.org:3128")),
        }
    };
    let (http, https) = (url("http")?, url("https")?);
    let proxy = Proxy { http, https, no_proxy: inner.list("no-proxy")? };
    inner.finish()?;
    Ok(Some(proxy))
}

pub(super) fn registration(keys: &mut Keys<'_>) -> Result<Registration, Failure> {
    let labels: BTreeMap<String, String> = keys.texts("labels")?;
    for (key, value) in &labels {
        label(key, value).map_err(|why| keys.refuse("labels", why))?;
    }
    let taints = keys.list("taints")?;
    for taint in &taints {
        self::taint(taint).map_err(|why| keys.refuse("taints", why))?;
    }
    let skip_checks = keys.list("skip-checks")?;
    Ok(Registration { labels, taints, node_ip: None, skip_checks })
}

/// A name as labels and taints have them: 63 of `a-zA-Z0-9._-`, the ends alphanumeric.
fn is_name(name: &str) -> bool {
    let inner = name.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c));
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    inner && name.len() <= 63 && ends(name.as_bytes().first()) && ends(name.as_bytes().last())
}

fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => prefix.len() <= 253 && prefix.split('.').all(is_name) && is_name(name),
        None => is_name(key),
    }
}

fn label(key: &str, value: &str) -> Result<(), String> {
    if !is_key(key) || !(value.is_empty() || is_name(value)) {
        return Err(format!("{:?} is no label", plain(&format!("{key}={value}"))));
    }
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    let within = |domain: &str| prefix == domain || prefix.ends_with(&format!(".{domain}"));
    let own = ["kubelet.kubernetes.io", "node.kubernetes.io"].into_iter().any(within);
    if (within("kubernetes.io") || within("k8s.io")) && !own && !ALLOWED.contains(&key) {
        return Err(format!("{key} is a label that no kubelet may give itself (NodeRestriction)"));
    }
    Ok(())
}

fn taint(text: &str) -> Result<(), String> {
    let wrong = || format!("{:?} is not of the form KEY=VALUE:NoSchedule", plain(text));
    let (what, effect) = text.rsplit_once(':').ok_or_else(wrong)?;
    let (key, value) = what.split_once('=').unwrap_or((what, ""));
    let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect);
    match known && is_key(key) && (value.is_empty() || is_name(value)) {
        true => Ok(()),
        false => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_labels_and_taints_are_checked() {
        for (text, expected) in
            [("90s", Some(90)), ("1h30m", Some(5400)), ("1200", Some(1200)), ("0", None), ("8d", None), ("200h", None)]
        {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
        for (key, value, fine) in [
            ("rack", "a1", true),
            ("example.org/rack", "", true),
            ("node.kubernetes.io/x", "y", true),
            ("topology.kubernetes.io/zone", "z", true),
            ("node-role.kubernetes.io/worker", "", false),
            ("-a", "", false),
            ("a", "b c", false),
        ] {
            assert_eq!(label(key, value).is_ok(), fine, "{key}");
        }
        for (text, fine) in [("a=b:NoSchedule", true), ("a:NoExecute", true), ("a=b", false), ("a=b:Never", false)] {
            assert_eq!(taint(text).is_ok(), fine, "{text}");
        }
    }
}
