//! The logins of Docker's `config.json` and podman's `auth.json`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bootstrap::failure::{Code, Failure};
use serde::Deserialize;

use super::{Credentials, Secret};

/// Docker Hub's name in these files.
const HUB: &str = "index.docker.io";

/// Who somebody is to which registry.
#[derive(Debug, Clone, Default)]
pub(super) struct Logins {
    /// `host`, or `host/namespace` as podman writes it.
    known: BTreeMap<String, Credentials>,
    /// Registries whose login a program keeps.
    kept: BTreeMap<String, String>,
    /// The program that keeps all others.
    keeper: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct File {
    auths: BTreeMap<String, Auth>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    identitytoken: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Logins {
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let broken = |why: String| {
            Failure::new(Code::ConfigInvalid, why).with_remedy("log in anew (docker login, skopeo login)")
        };
        let file: File = serde_json::from_str(text).map_err(|e| {
            broken(format!("the file of logins: line {}, column {}: is no such JSON", e.line(), e.column()))
        })?;
        let mut known = BTreeMap::new();
        for (key, auth) in file.auths {
            let login = auth.login().map_err(|why| broken(format!("the file of logins: auths.{key:?}: {why}")))?;
            if let Some(login) = login {
                known.insert(normalise(&key), login);
            }
        }
        let kept = file.cred_helpers.into_iter().map(|(key, program)| (normalise(&key), program)).collect();
        Ok(Self { known, kept, keeper: file.creds_store.filter(|program| !program.is_empty()) })
    }

    /// The login for `repository` at `host`, or else the program that may keep one.
    pub(super) fn of(&self, host: &str, repository: &str) -> (Option<Credentials>, Option<String>) {
        let host = normalise(host);
        let whole = format!("{host}/{repository}");
        let mut key = whole.as_str();
        loop {
            if let Some(login) = self.known.get(key) {
                return (Some(login.clone()), None);
            }
            match key.rfind('/') {
                Some(at) => key = &key[..at],
                None => break,
            }
        }
        let program = self.kept.get(&host).or(self.keeper.as_ref());
        (None, program.map(|program| format!("docker-credential-{program}")))
    }
}

impl Auth {
    fn login(self) -> Result<Option<Credentials>, &'static str> {
        if let Some(token) = self.identitytoken.filter(|token| !token.is_empty()) {
            return Ok(Some(Credentials::Identity(Secret::new(token))));
        }
        if let Some(auth) = self.auth.filter(|auth| !auth.is_empty()) {
            let text = base64(&auth).and_then(|bytes| String::from_utf8(bytes).ok());
            let text = text.ok_or("auth is no base64")?;
            let (user, password) = text.split_once(':').ok_or("auth holds no user:password")?;
            // Docker pads passwords with NUL.
            return Ok(Some(Credentials::Basic(user.to_owned(), Secret::new(password.trim_end_matches('\0')))));
        }
        match (self.username, self.password) {
            (Some(user), Some(password)) => Ok(Some(Credentials::Basic(user, Secret::new(password)))),
            _ => Ok(None),
        }
    }
}

/// `https://index.docker.io/v1/` → `index.docker.io`; Docker Hub has one name of several.
fn normalise(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    let (host, rest) = key.split_once('/').map_or((key, None), |(host, rest)| (host, Some(rest)));
    let host = if matches!(host, "docker.io" | "registry-1.docker.io") { HUB } else { host };
    rest.map_or_else(|| host.to_owned(), |rest| format!("{host}/{rest}"))
}

/// The bytes of a base64 text (RFC 4648, section 4), with or without padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text.trim().trim_end_matches('=')).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Basic(user.to_owned(), Secret::new(password)))
    }

    #[test]
    fn logins_are_found_by_the_longest_name() {
        let logins = Logins::parse(
            r#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
                "quay.io": {"auth": "cXVheTpwOnc="},
                "quay.io/calico": {"username": "c", "password": "x"},
                "ghcr.io": {"identitytoken": "refresh"},
                "empty.org": {}
            }, "credHelpers": {"gcr.io": "gcloud"}, "credsStore": "desktop", "HttpHeaders": {"a": "b"}}"#,
        )
        .unwrap();
        let gcloud = Some("docker-credential-gcloud".to_owned());
        let desktop = Some("docker-credential-desktop".to_owned());
        for (host, repository, want) in [
            ("docker.io", "library/busybox", (basic("hub", "pw"), None)),
            ("quay.io", "tigera/operator", (basic("quay", "p:w"), None)),
            ("quay.io", "calico/node", (basic("c", "x"), None)),
            ("quay.io", "calico2/node", (basic("quay", "p:w"), None)),
            ("ghcr.io", "a/b", (Some(Credentials::Identity(Secret::new("refresh"))), None)),
            ("gcr.io", "a", (None, gcloud)),
            ("empty.org", "a", (None, desktop)),
        ] {
            assert_eq!(logins.of(host, repository), want, "{host}/{repository}");
        }
    }

    #[test]
    fn broken_files_are_refused_without_telling_secrets() {
        for text in ["", "7", r#"{"auths": {"a": {"auth": "c2VjcmV0"}}}"#, r#"{"auths": {"a": {"auth": "se cret"}}}"#] {
            let failure = Logins::parse(text).unwrap_err();
            assert_eq!(failure.code, Code::ConfigInvalid);
            assert!(!failure.what.contains("c2Vj") && !failure.what.contains("cret"), "{failure}");
        }
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, want) in
            [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar"), ("Zg", "f")]
        {
            assert_eq!(base64(text).unwrap(), want.as_bytes());
        }
        assert_eq!(base64("Z"), None);
        assert_eq!(base64("Zm9-"), None);
    }
}
