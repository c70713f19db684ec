//! Texts that nobody but their user may see: tokens, keys, passwords.

use std::fmt;

use serde::{Serialize, Serializer};

/// What is shown in a secret's place.
pub const MASK: &str = "(secret)";

/// A secret. `Debug`, `Display` and serialisation show [`MASK`]; [`Secret::reveal`] is the only way to its text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for where it is used: a file of mode 0600, the body of a request.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// An URL as it is shown: without user and password.
#[must_use]
pub fn shown_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((user, _)) => format!("{scheme}://{MASK}{}", rest.get(user.len()..).unwrap_or_default()),
        None => url.to_owned(),
    }
}

/// Serialises URLs as they are shown.
pub(crate) fn shown_urls<S: Serializer>(urls: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(urls.iter().map(|url| shown_url(url)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_user_and_password() {
        for (url, shown) in [
            ("http://u:p@h/x@y", "http://(secret)@h/x@y"),
            ("https://u:p@q@h", "https://(secret)@h"),
            ("http://h/a@b", "http://h/a@b"),
            ("disc", "disc"),
        ] {
            assert_eq!(shown_url(url), shown);
        }
    }

    #[test]
    fn a_secret_is_shown_nowhere() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?}"), "(secret) (secret)");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"(secret)\"");
        assert_eq!(secret.reveal(), "hunter2");
    }
}
