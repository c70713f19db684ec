//! Asking servers: clients with their CAs and proxies, redirects, small answers kept in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bootstrap::failure::{Code, Failure};
use futures::StreamExt;
use reqwest::header::HeaderMap;
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, Client, ClientBuilder, NoProxy, Proxy, Response, StatusCode};
use url::Url;

use super::answer::{Tries, Trouble, lost, no_content, refused};
use super::download::Job;
use crate::access::{Access, Patience};
use crate::content::{failed, misnamed};

/// Redirects that are followed in a row.
const MAX_REDIRECTS: usize = 10;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(30);

/// Something that answers a GET: a URL, or a registry, which wants tokens.
pub(crate) trait Ask {
    /// Sends a GET with `headers`; gives answers 200, 206, 304 and 416 only.
    async fn ask(&self, headers: HeaderMap) -> Result<Response, Trouble>;

    /// What messages call it.
    fn shown(&self) -> &str;
}

/// The clients of one run.
#[derive(Debug)]
pub(crate) struct Web<'a> {
    access: &'a Access,
    /// By the CA that they trust beside all others, and whether they follow redirects.
    clients: Mutex<BTreeMap<(Option<PathBuf>, bool), Client>>,
}

impl<'a> Web<'a> {
    pub(crate) fn new(access: &'a Access) -> Self {
        Self { access, clients: Mutex::default() }
    }

    pub(crate) fn access(&self) -> &'a Access {
        self.access
    }

    /// A client that trusts `authority` too.
    pub(crate) fn client(&self, authority: Option<&Path>) -> Result<Client, Failure> {
        self.known(authority, true)
    }

    /// As [`Web::client`], but it follows no redirect: a body goes along with those.
    pub(crate) fn staying(&self, authority: Option<&Path>) -> Result<Client, Failure> {
        self.known(authority, false)
    }

    fn known(&self, authority: Option<&Path>, follows: bool) -> Result<Client, Failure> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (authority.map(Path::to_owned), follows);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let policy = || if follows { Policy::custom(redirect) } else { Policy::none() };
        let client = self.build(authority, &policy)?;
        clients.insert(key, client.clone());
        Ok(client)
    }

    /// A new client, which goes where `policy` lets it.
    pub(crate) fn build(&self, authority: Option<&Path>, policy: &dyn Fn() -> Policy) -> Result<Client, Failure> {
        let mut certificates = Vec::new();
        for path in self.access.authorities().iter().map(PathBuf::as_path).chain(authority) {
            certificates.extend(read_certificates(path)?);
        }
        let usual = self.builder(policy())?.tls_certs_merge(certificates).build();
        // A machine without any CA gets no usual client; http works all the same.
        match usual {
            Ok(client) => Ok(client),
            Err(_) => self.builder(policy())?.tls_certs_only([]).build().map_err(unusable),
        }
    }

    fn builder(&self, policy: Policy) -> Result<ClientBuilder, Failure> {
        let silence = self.access.patience().silence;
        let mut builder = Client::builder()
            .user_agent(concat!("cks-iso/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(silence.min(CONNECT))
            .read_timeout(silence)
            .redirect(policy)
            // It would tell the next server the query, which may be a secret.
            .referer(false)
            // The environment is read by the command line alone.
            .no_proxy();
        let proxies = self.access.proxies();
        let spared = proxies.no_proxy.as_deref().and_then(NoProxy::from_string);
        let mut add = |proxy: reqwest::Result<Proxy>| {
            let proxy = proxy.map_err(|e| {
                Failure::new(Code::ConfigInvalid, "the proxy's URL can't be used").with_source(e.without_url())
            })?;
            builder = std::mem::take(&mut builder).proxy(proxy.no_proxy(spared.clone()));
            Ok::<_, Failure>(())
        };
        if let Some(proxy) = &proxies.http {
            add(Proxy::http(proxy))?;
        }
        if let Some(proxy) = &proxies.https {
            add(Proxy::https(proxy))?;
        }
        Ok(builder)
    }
}

fn unusable(error: reqwest::Error) -> Failure {
    Failure::new(Code::ConfigInvalid, "TLS can't be set up").with_source(error)
}

fn read_certificates(path: &Path) -> Result<Vec<Certificate>, Failure> {
    let none = || {
        Failure::new(Code::ConfigInvalid, format!("{} holds no certificate in PEM", path.display()))
            .with_remedy("name a file with the CA's certificate (-----BEGIN CERTIFICATE-----)")
    };
    let pem = std::fs::read(path).map_err(|e| misnamed("Reading the CA", path, e))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|e| none().with_source(e))?;
    if certificates.is_empty() { Err(none()) } else { Ok(certificates) }
}

fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    match check_redirect(attempt.previous(), attempt.url()) {
        Ok(()) => attempt.follow(),
        Err(why) => attempt.error(why),
    }
}

/// Accepts a bounded number of redirects, and none from https to http: that would be for all to see and
/// to change. Credentials are dropped by the client where host, port or scheme change.
fn check_redirect(previous: &[Url], next: &Url) -> Result<(), &'static str> {
    let encrypted = previous.iter().any(|url| url.scheme() == "https");
    if encrypted && next.scheme() != "https" {
        return Err("it redirects from https to http");
    }
    if !matches!(next.scheme(), "http" | "https") {
        return Err("it redirects to what is neither http nor https");
    }
    if previous.len() > MAX_REDIRECTS {
        return Err("it redirects too often");
    }
    Ok(())
}

/// `url` as it is shown, without user name and password; with the mirror that stands in for it.
pub(crate) fn shown(url: &Url, access: &Access) -> String {
    let mirrored = access.mirrored(url);
    if mirrored == *url { plain(url) } else { format!("{} (of the mirror {})", plain(url), plain(&mirrored)) }
}

fn plain(url: &Url) -> String {
    let mut plain = url.clone();
    // Refused only where there is no host, and http always has one.
    let _ = plain.set_username("").and_then(|()| plain.set_password(None));
    plain.into()
}

/// A URL, asked for by itself.
#[derive(Debug)]
pub(crate) struct Plain<'a> {
    client: Client,
    url: &'a Url,
    shown: &'a str,
}

impl<'a> Plain<'a> {
    pub(crate) fn new(job: &'a Job, web: &Web<'_>) -> Result<Self, Failure> {
        if !matches!(job.url.scheme(), "http" | "https") {
            let what = format!("{}: is no http:// or https:// URL", job.shown);
            return Err(Failure::new(Code::ConfigInvalid, what).with_remedy("correct the URL"));
        }
        Ok(Self { client: web.client(None)?, url: &job.url, shown: &job.shown })
    }
}

impl Ask for Plain<'_> {
    async fn ask(&self, headers: HeaderMap) -> Result<Response, Trouble> {
        let answer = self.client.get(self.url.clone()).headers(headers).send().await;
        let answer = answer.map_err(|e| lost(self.shown, e))?;
        if accepted(answer.status()) { Ok(answer) } else { Err(refused(self.shown, answer.status(), answer.headers())) }
    }

    fn shown(&self) -> &str {
        self.shown
    }
}

/// Whether a status is one that downloads know what to do with.
pub(crate) fn accepted(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 206 | 304 | 416)
}

/// A small answer.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

/// Gets a whole answer of at most `limit` bytes.
pub(crate) async fn load(source: &impl Ask, limit: u64, patience: Patience) -> Result<Loaded, Failure> {
    let mut tries = Tries::new(patience);
    loop {
        match attempt(source, limit).await {
            Ok(loaded) => return Ok(loaded),
            Err(trouble) => tries.next(trouble).await?,
        }
    }
}

async fn attempt(source: &impl Ask, limit: u64) -> Result<Loaded, Trouble> {
    let answer = source.ask(HeaderMap::new()).await?;
    if answer.status() != StatusCode::OK {
        return Err(refused(source.shown(), answer.status(), answer.headers()));
    }
    let headers = answer.headers().clone();
    let bytes = body(answer, limit, source.shown()).await?;
    Ok(Loaded { headers, bytes })
}

/// The body of `answer`, of at most `limit` bytes.
pub(crate) async fn body(answer: Response, limit: u64, shown: &str) -> Result<Vec<u8>, Trouble> {
    let (mut bytes, mut chunks) = (Vec::new(), answer.bytes_stream());
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk.map_err(|e| lost(shown, e))?);
        if bytes.len() as u64 > limit {
            return Err(no_content(shown, &format!("is longer than {limit} bytes")).into());
        }
    }
    Ok(bytes)
}

/// Runs `future` to its end on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| failed("Starting", Path::new("the network runtime"), e))?;
    Ok(runtime.block_on(future))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_encrypted_and_end() {
        let urls = |texts: &[&str]| texts.iter().map(|text| Url::parse(text).unwrap()).collect::<Vec<_>>();
        for (previous, next, ok) in [
            (urls(&["http://a/"]), "http://b/", true),
            (urls(&["http://a/"]), "https://b/", true),
            (urls(&["https://a/"]), "https://b/", true),
            (urls(&["https://a/"]), "http://a/", false),
            (urls(&["http://a/", "https://a/"]), "http://a/", false),
            (urls(&["http://a/"]), "ftp://a/", false),
            (urls(&["https://a/"; 10]), "https://b/", true),
            (urls(&["https://a/"; 11]), "https://b/", false),
        ] {
            assert_eq!(check_redirect(&previous, &Url::parse(next).unwrap()).is_ok(), ok, "{previous:?} {next}");
        }
    }
}
