//! The keys of a `cks:` section that are of delivery, container runtime and registration.

use std::collections::BTreeMap;

use super::keys::Keys;
use crate::failure::Failure;
use crate::node_spec::{Delivery, Proxy, Registration, Registry, Taint, check_label};
use crate::secret::{Secret, shown_url};
use crate::signature::PublicKey;
use crate::text::plain;

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
        check_label(key, value).map_err(|failure| keys.refuse_as("labels", failure))?;
    }
    let taints = keys.list("taints")?;
    for taint in &taints {
        Taint::parse(taint).map_err(|failure| keys.refuse_as("taints", failure))?;
    }
    let skip_checks = keys.list("skip-checks")?;
    Ok(Registration { labels, taints, node_ip: None, skip_checks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_checked() {
        for (text, expected) in
            [("90s", Some(90)), ("1h30m", Some(5400)), ("1200", Some(1200)), ("0", None), ("8d", None), ("200h", None)]
        {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
    }
}
