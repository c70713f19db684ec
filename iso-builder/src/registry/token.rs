//! Who asks: the challenge of a registry, and the token that its realm gives for it (distribution spec,
//! "Token Authentication Specification"; RFC 9110, 11.6.1).

use bootstrap::failure::Failure;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use url::Url;

use super::repository::denied;
use crate::access::{Credentials, Secret};
use crate::fetch::answer::{Trouble, lost, no_content, refused};
use crate::fetch::web::body;
use crate::text::is_html;

/// No token is longer.
const MAX_ANSWER: u64 = 1 << 20;

/// How a registry wants to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// `bearer`, `basic`, …
    scheme: String,
    parameters: Vec<(String, String)>,
}

/// What is sent with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Authorization {
    Basic(String, Secret),
    Bearer(Secret),
}

impl Authorization {
    pub(super) fn on(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Basic(user, password) => request.basic_auth(user, Some(password.reveal())),
            Self::Bearer(token) => request.bearer_auth(token.reveal()),
        }
    }
}

impl Challenge {
    /// The challenges of an answer.
    pub(super) fn all(headers: &HeaderMap) -> Vec<Self> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        texts.flat_map(Self::parse).collect()
    }

    fn parse(text: &str) -> Vec<Self> {
        let mut challenges: Vec<Self> = Vec::new();
        let mut rest = text.trim_start_matches([' ', '\t', ',']);
        while !rest.is_empty() {
            let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
            match (value, challenges.last_mut()) {
                (Some(value), Some(challenge)) => {
                    let (value, after) = parameter(value.trim_start_matches([' ', '\t']));
                    challenge.parameters.push((word.to_ascii_lowercase(), value));
                    rest = after;
                }
                // A parameter of nothing: the header is broken.
                (Some(_), None) => return challenges,
                (None, _) => {
                    challenges.push(Self { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                    rest = after;
                }
            }
            rest = rest.trim_start_matches([' ', '\t', ',']);
        }
        challenges
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A parameter's value, quoted or not, and what follows.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([' ', '\t', ',']).unwrap_or(text.len()));
        return (value.to_owned(), rest);
    };
    let (mut value, mut chars) = (String::new(), quoted.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// Who asks which registry for what.
pub(super) struct Asking<'a> {
    pub(super) client: &'a Client,
    /// The registry, as `https://host/`.
    pub(super) base: &'a Url,
    /// The repository there.
    pub(super) repository: &'a str,
    pub(super) credentials: Option<&'a Credentials>,
    /// The program that would know the credentials.
    pub(super) unasked: Option<&'a str>,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

impl Asking<'_> {
    /// Answers one of `challenges`.
    pub(super) async fn authorize(&self, challenges: &[Challenge]) -> Result<Authorization, Trouble> {
        let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        match (of("bearer"), of("basic"), self.credentials) {
            (Some(bearer), _, _) => self.token(bearer).await,
            (None, Some(_), Some(Credentials::Basic(user, password))) => {
                Ok(Authorization::Basic(user.clone(), password.clone()))
            }
            (None, Some(_), _) => Err(self.denied("wants a user and a password").into()),
            (None, None, _) => Err(self.denied("refuses, and does not say what it wants").into()),
        }
    }

    /// `REGISTRY_DENIED`, for the reason `why`.
    pub(super) fn denied(&self, why: &str) -> Failure {
        denied(self.base, self.repository, why, self.unasked)
    }

    async fn token(&self, challenge: &Challenge) -> Result<Authorization, Trouble> {
        let realm = challenge.get("realm").and_then(|realm| Url::parse(realm).ok());
        let realm = realm.filter(|realm| matches!(realm.scheme(), "http" | "https"));
        let Some(mut realm) = realm else {
            return Err(self.denied("wants a token, and does not say where from").into());
        };
        if self.base.scheme() == "https" && realm.scheme() != "https" {
            return Err(self.denied("wants the password sent without encryption").into());
        }
        let scope = format!("repository:{}:pull", self.repository);
        let mut fields = vec![("scope", challenge.get("scope").unwrap_or(&scope))];
        fields.extend(challenge.get("service").map(|service| ("service", service)));
        let request = match self.credentials {
            Some(Credentials::Identity(token)) => {
                fields.push(("grant_type", "refresh_token"));
                fields.push(("client_id", "cks-iso"));
                fields.push(("refresh_token", token.reveal()));
                let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish();
                let kind = ("content-type", "application/x-www-form-urlencoded");
                self.client.post(realm.clone()).header(kind.0, kind.1).body(form)
            }
            login => {
                realm.query_pairs_mut().extend_pairs(&fields);
                match login {
                    Some(Credentials::Basic(user, password)) => {
                        self.client.get(realm.clone()).basic_auth(user, Some(password.reveal()))
                    }
                    _ => self.client.get(realm.clone()),
                }
            }
        };
        realm.set_query(None);
        self.send(request, realm.as_str()).await
    }

    async fn send(&self, request: RequestBuilder, shown: &str) -> Result<Authorization, Trouble> {
        let answer = request.send().await.map_err(|e| lost(shown, e))?;
        let status = answer.status();
        if matches!(status.as_u16(), 400 | 401 | 403) {
            let who = if self.credentials.is_some() { "the login" } else { "anonymous users" };
            return Err(self.denied(&format!("refuses {who} a token (HTTP {status} of {shown})")).into());
        }
        if status.is_redirection() {
            return Err(self
                .denied(&format!("has a realm that sends the login elsewhere (HTTP {status} of {shown})"))
                .into());
        }
        if !status.is_success() {
            return Err(refused(shown, status, answer.headers()));
        }
        let bytes = body(answer, MAX_ANSWER, shown).await?;
        let none = |why: &str| Trouble::from(no_content(shown, why));
        if is_html(&bytes) {
            return Err(none("is an HTML page, not a token"));
        }
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|_| none("gives no token"))?;
        let given = [answer.token, answer.access_token].into_iter().flatten().find(|token| !token.is_empty());
        let token = given.ok_or_else(|| none("gives no token"))?;
        // What can't stand in a header is no token.
        if token.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Authorization::Bearer(Secret::new(token)))
        } else {
            Err(none("gives no token"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_taken_apart() {
        let one = Challenge::parse(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io", scope="repository:a/b:pull,push""#,
        );
        assert_eq!(one.len(), 1);
        assert_eq!(one[0].get("realm"), Some("https://auth.docker.io/token"));
        assert_eq!(one[0].get("scope"), Some("repository:a/b:pull,push"));
        let two = Challenge::parse(r#"Basic realm="a \"b\"", BEARER Realm = x , Service=y"#);
        assert_eq!(two[0].get("realm"), Some(r#"a "b""#));
        assert_eq!(
            (two[1].scheme.as_str(), two[1].get("realm"), two[1].get("service")),
            ("bearer", Some("x"), Some("y"))
        );
        for text in ["", ",", "=", "realm=x", "Basic", "Bearer realm=\"open", "Bearer realm="] {
            assert!(Challenge::parse(text).iter().all(|challenge| challenge.get("service").is_none()), "{text}");
        }
    }
}
