//! Where a source lies: nothing but what is below it is ever asked for, whatever a server says.

use base64::Engine as _;
use bootstrap::bundle::autoindex::{percent_decode, percent_encode_path};
use bootstrap::failure::{Code, Failure};
use hyper::header::HeaderValue;
use url::Url;

/// A directory or a file on a web server.
#[derive(Debug, Clone)]
pub struct Place {
    /// The URL, without user, password and fragment; a directory's ends in `/`.
    pub url: Url,
    /// `Authorization`, where the URL had a user.
    pub(super) authorization: Option<HeaderValue>,
}

impl Place {
    /// The directory called `name`.
    ///
    /// # Errors
    /// `CONFIG_INVALID` for what is no URL of a web server.
    pub fn directory(name: &str) -> Result<Self, Failure> {
        let mut place = Self::parse(name)?;
        place.url.set_query(None);
        if !place.url.path().ends_with('/') {
            place.url.set_path(&format!("{}/", place.url.path()));
        }
        Ok(place)
    }

    /// The file called `name`; a query is part of its name.
    ///
    /// # Errors
    /// As [`Place::directory`].
    pub fn file(name: &str) -> Result<Self, Failure> {
        Self::parse(name)
    }

    fn parse(name: &str) -> Result<Self, Failure> {
        let refuse =
            |why: String| Failure::new(Code::ConfigInvalid, format!("source {}: {why}", without_password(name)));
        let mut url = Url::parse(name).map_err(|e| refuse(e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(refuse("only http:// and https:// URLs are read".to_owned()));
        }
        let authorization = authorization(&url).map_err(refuse)?;
        // Both fail only for URLs without a host.
        let _ = (url.set_username(""), url.set_password(None));
        url.set_fragment(None);
        Ok(Self { url, authorization })
    }

    /// The URL of the entry `path` of this directory.
    ///
    /// # Errors
    /// `SOURCE_INVALID` when that would lie elsewhere.
    pub fn entry(&self, path: &str) -> Result<Url, Failure> {
        let refuse = |why: &dyn std::fmt::Display| {
            Failure::new(Code::SourceInvalid, format!("{path:?} below {}: {why}", shown(&self.url)))
        };
        let url = self.url.join(&format!("./{}", percent_encode_path(path))).map_err(|e| refuse(&e))?;
        if self.holds(&url) { Ok(url) } else { Err(refuse(&"leads elsewhere")) }
    }

    /// Where a redirect of `from` to `location` leads.
    ///
    /// # Errors
    /// `SOURCE_INVALID` when that is not below this place.
    pub fn redirected(&self, from: &Url, location: &str) -> Result<Url, Failure> {
        let refuse = |target: &str| {
            let what = format!("{}: redirects to {target}, which is not below the source", shown(from));
            Failure::new(Code::SourceInvalid, what)
        };
        let mut url = from.join(location).map_err(|_| refuse(location))?;
        url.set_fragment(None);
        if self.holds(&url) { Ok(url) } else { Err(refuse(&shown(&url))) }
    }

    /// Whether `url` is on the same server and below: for a file, in its directory.
    fn holds(&self, url: &Url) -> bool {
        let directory = self.url.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        let rest = url.path().strip_prefix(directory).filter(|rest| rest.starts_with('/'));
        // A server may take an escaped slash or dot for a plain one.
        let plain = |rest: &str| {
            let mut text = rest.to_owned();
            for _ in 0..2 {
                text = percent_decode(&text)?;
            }
            Some(text)
        };
        let stays = |rest: &str| {
            plain(rest).is_some_and(|text| {
                !text.contains(|c: char| c == '\\' || c.is_control()) && text.split('/').all(|name| name != "..")
            })
        };
        self.url.origin() == url.origin()
            && url.username().is_empty()
            && url.password().is_none()
            && rest.is_some_and(stays)
    }
}

/// `Basic` for the user of a URL; none without one.
pub(super) fn authorization(url: &Url) -> Result<Option<HeaderValue>, String> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let decoded = |text: &str| percent_decode(text).ok_or_else(|| "its user or password is no UTF-8".to_owned());
    let pair = format!("{}:{}", decoded(url.username())?, decoded(url.password().unwrap_or_default())?);
    let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let mut value = HeaderValue::from_str(&text).map_err(|e| e.to_string())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// A URL for messages: a query may hold a token.
#[must_use]
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for URLs without a host.
    let _ = (url.set_username(""), url.set_password(None));
    if url.query().is_some() {
        url.set_query(None);
        return format!("{url}?…");
    }
    url.to_string()
}

/// The name of a source for messages and documents: without user, password and what else may be secret.
#[must_use]
pub fn without_password(name: &str) -> String {
    let Some((scheme, rest)) = name.split_once("://") else { return name.to_owned() };
    let (authority, path) = rest.find(['/', '?', '#']).map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match path.split_once('?') {
        Some((path, _)) => format!("{scheme}://{host}{path}?…"),
        None => format!("{scheme}://{host}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_lie_below_the_prefix() {
        let place = Place::directory("http://10.1.1.1/cks-iso").unwrap();
        let url = |path| place.entry(path).map(|url| url.to_string());
        assert_eq!(url("docker/pause:3.10.tar").unwrap(), "http://10.1.1.1/cks-iso/docker/pause%3A3.10.tar");
        assert_eq!(url("a:b").unwrap(), "http://10.1.1.1/cks-iso/a%3Ab");
        for path in ["../metadata/x", "a/../../x", "a/..\\..\\x", "%2e%2e/../../x", "a\nb"] {
            match url(path) {
                Err(failure) => assert_eq!(failure.code, Code::SourceInvalid),
                Ok(url) => assert!(url.starts_with("http://10.1.1.1/cks-iso/"), "{path}: {url}"),
            }
        }
    }

    #[test]
    fn redirects_stay_below_the_prefix() {
        let place = Place::directory("http://u:p@10.1.1.1/cks-iso/").unwrap();
        let from = place.entry("docker/a.tar").unwrap();
        for (location, to) in [
            ("b.tar", Some("http://10.1.1.1/cks-iso/docker/b.tar")),
            ("/cks-iso/c?x=1", Some("http://10.1.1.1/cks-iso/c?x=1")),
            ("../../metadata/", None),
            ("/cks-iso/..%2f..%2fmetadata", None),
            ("/cks-iso/%252e%252e/metadata", None),
            ("/cks-iso/..\\metadata", None),
            ("/cks-iso/%5c..%5cmetadata", None),
            ("/cks-isolated/a", None),
            ("http://10.1.1.2/cks-iso/docker/a.tar", None),
            ("https://10.1.1.1/cks-iso/docker/a.tar", None),
            ("//10.1.1.2/cks-iso/", None),
            ("http://10.1.1.1:81/cks-iso/", None),
            ("http://x:y@10.1.1.1/cks-iso/a", None),
        ] {
            let target = place.redirected(&from, location).map(|url| url.to_string());
            assert_eq!(target.as_deref().ok(), to, "{location}: {target:?}");
        }
        let iso = Place::file("https://h/a/x.iso?token=1").unwrap();
        assert_eq!(iso.redirected(&iso.url, "y.iso").unwrap().as_str(), "https://h/a/y.iso");
        assert!(iso.redirected(&iso.url, "../y.iso").is_err());
    }

    #[test]
    fn no_password_is_shown() {
        for (name, shown) in [
            ("http://user:secret@10.1.1.1/cks-iso/", "http://10.1.1.1/cks-iso/"),
            ("http://user:sec@ret@h:81?token=secret", "http://h:81?…"),
            ("https://h/x.iso?token=secret", "https://h/x.iso?…"),
            ("http://10.1.1.1/a@b/", "http://10.1.1.1/a@b/"),
            ("/dev/sr0", "/dev/sr0"),
            ("vr", "vr"),
        ] {
            assert_eq!(without_password(name), shown);
        }
        let place = Place::directory("http://user:secret@h/x").unwrap();
        assert_eq!(place.url.as_str(), "http://h/x/");
        assert_eq!(place.authorization.unwrap(), "Basic dXNlcjpzZWNyZXQ=");
        let failure = Place::directory("http://user:secret@h:notaport/").unwrap_err();
        assert!(failure.code == Code::ConfigInvalid && !failure.what.contains("secret"), "{}", failure.what);
    }
}
