//! One repository of a registry, and of its mirror.

use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::BlobInfo;
use super::document::{ACCEPTED, MAX_DOCUMENT};
use super::reference::Name;
use super::token::{Asking, Authorization, Challenge};
use crate::access::{Credentials, Endpoint, Patience};
use crate::cache::Cache;
use crate::fetch::answer::{Trouble, lost, no_content, refused};
use crate::fetch::download::Job;
use crate::fetch::web::{Ask, Web, accepted, body, load};
use crate::text::is_html;

/// How often a request is sent with a new token: some expire after few requests, and several downloads
/// share one.
const MAX_TOKENS: usize = 4;

/// What a registry says about an error is not longer.
const MAX_ERROR: u64 = 64 << 10;

/// A repository, at all places that have it.
pub(super) struct Repository<'a> {
    sites: Vec<Site>,
    web: &'a crate::access::Access,
}

/// One place that serves a repository.
struct Site {
    endpoint: Endpoint,
    /// With the mirror's prefix.
    path: String,
    client: Client,
    /// What asks realms for tokens.
    realms: Client,
    /// What the registry took last.
    authorization: Mutex<Option<Authorization>>,
}

impl<'a> Repository<'a> {
    pub(super) fn new(name: &Name, web: &Web<'a>) -> Result<Self, Failure> {
        let endpoints = web.access().endpoints(&name.host, &name.path);
        let mut sites = Vec::new();
        for endpoint in endpoints {
            let authority = endpoint.authority.as_deref();
            let client = web.client(authority)?;
            let realms = match endpoint.credentials {
                // It stands in the body, which no redirect may take to another host.
                Some(Credentials::Identity(_)) => web.staying(authority)?,
                _ => client.clone(),
            };
            let path = format!("{}{}", endpoint.prefix, name.path);
            sites.push(Site { endpoint, path, client, realms, authorization: Mutex::default() });
        }
        Ok(Self { sites, web: web.access() })
    }

    pub(super) fn patience(&self) -> Patience {
        self.web.patience()
    }

    /// The manifest or index under a tag or digest: its bytes are kept in the cache. What the registry says
    /// its digest is, and what was asked for, is checked.
    pub(super) async fn manifest(
        &self,
        of: &str,
        digest: Option<Digest>,
        cache: &Cache,
    ) -> Result<(Digest, Vec<u8>), Failure> {
        let shown = self.shown("manifests", of);
        let part = Part { repository: self, path: format!("manifests/{of}"), shown: shown.clone(), manifest: true };
        let loaded = load(&part, MAX_DOCUMENT, self.patience()).await?;
        if is_html(&loaded.bytes) {
            return Err(no_content(&shown, "is an HTML page"));
        }
        let found = Digest::of(&loaded.bytes);
        let told = loaded.headers.get("docker-content-digest").and_then(|value| value.to_str().ok());
        // One of another algorithm can't be compared, and vouches for nothing.
        let told = told.filter(|told| told.starts_with("sha256:")).and_then(|told| told.parse::<Digest>().ok());
        if let Some(wanted) = [digest, told].into_iter().flatten().find(|wanted| *wanted != found) {
            let what = format!("{shown}: has the digest {found}, not {wanted}");
            return Err(Failure::new(Code::DigestMismatch, what)
                .with_remedy("the registry or its mirror serves wrong bytes: repair it"));
        }
        cache.keep(&loaded.bytes)?;
        Ok((found, loaded.bytes))
    }

    /// How `blob` is downloaded.
    pub(super) fn blob(&self, name: &Name, blob: &BlobInfo) -> Result<(Part<'_, 'a>, Job), Failure> {
        let path = format!("blobs/{}", blob.digest);
        let shown = self.shown("blobs", &blob.digest.to_string());
        let Some(url) = self.sites.first().and_then(|site| site.url(&path)) else {
            return Err(Failure::new(Code::SpecInvalid, format!("{}: its registry is no host", name.whole)));
        };
        let bar = format!("{} {}", name.short(), blob.digest.short());
        let job = Job { url, shown: shown.clone(), name: bar, sha256: Some(blob.digest), size: Some(blob.size) };
        Ok((Part { repository: self, path, shown, manifest: false }, job))
    }

    fn shown(&self, kind: &str, of: &str) -> String {
        let urls = self.sites.iter().filter_map(|site| site.url(&format!("{kind}/{of}")));
        urls.map(String::from).collect::<Vec<_>>().join(" or ")
    }
}

/// A manifest or blob of a repository.
pub(super) struct Part<'r, 'a> {
    repository: &'r Repository<'a>,
    /// `manifests/<tag>` or `blobs/<digest>`.
    path: String,
    shown: String,
    manifest: bool,
}

impl Ask for Part<'_, '_> {
    /// Asks the mirror, then what it stands for if the mirror lacks it.
    async fn ask(&self, headers: HeaderMap) -> Result<Response, Trouble> {
        let mut lacks = None;
        for site in &self.repository.sites {
            match site.ask(&self.path, self.manifest, &headers).await {
                Err(Trouble::Final(failure)) if failure.code == Code::RegistryLacksImage => {
                    lacks = lacks.or(Some(failure));
                }
                other => return other,
            }
        }
        let lacks = lacks.unwrap_or_else(|| Failure::new(Code::RegistryLacksImage, "there is no registry for it"));
        Err(lacks.into())
    }

    fn shown(&self) -> &str {
        &self.shown
    }
}

impl Site {
    fn url(&self, path: &str) -> Option<Url> {
        self.endpoint.base.join(&format!("v2/{}/{path}", self.path)).ok()
    }

    /// Asks with the last authorization, and with a new one where the registry wants that.
    async fn ask(&self, path: &str, manifest: bool, headers: &HeaderMap) -> Result<Response, Trouble> {
        let Some(url) = self.url(path) else {
            return Err(Failure::new(Code::SpecInvalid, format!("{path}: is no path of a registry")).into());
        };
        let mut authorization = self.authorization.lock().await.clone();
        for _ in 0..MAX_TOKENS {
            let mut request = self.client.get(url.clone()).headers(headers.clone());
            if manifest {
                request = request.header(ACCEPT, HeaderValue::from_str(&ACCEPTED.join(", ")).unwrap_or(ANY));
            }
            if let Some(authorization) = &authorization {
                request = authorization.on(request);
            }
            let answer = request.send().await.map_err(|e| lost(url.as_str(), e))?;
            if accepted(answer.status()) {
                return Ok(answer);
            }
            if answer.status() != StatusCode::UNAUTHORIZED || answer.url().host_str() != url.host_str() {
                return Err(self.refusal(answer, &url).await);
            }
            let challenges = Challenge::all(answer.headers());
            authorization = Some(self.renew(authorization, &challenges).await?);
        }
        Err(self.asking().denied("takes no token that it gives").into())
    }

    /// A new authorization, unless another download has got one meanwhile.
    async fn renew(&self, used: Option<Authorization>, challenges: &[Challenge]) -> Result<Authorization, Trouble> {
        let mut held = self.authorization.lock().await;
        if let Some(newer) = held.as_ref().filter(|held| Some(*held) != used.as_ref()) {
            return Ok(newer.clone());
        }
        let authorization = self.asking().authorize(challenges).await?;
        if matches!(authorization, Authorization::Basic(..)) && Some(&authorization) == used.as_ref() {
            return Err(self.asking().denied("refuses the login").into());
        }
        *held = Some(authorization.clone());
        Ok(authorization)
    }

    fn asking(&self) -> Asking<'_> {
        let Endpoint { base, credentials, unasked, .. } = &self.endpoint;
        let (client, repository) = (&self.realms, self.path.as_str());
        Asking { client, base, repository, credentials: credentials.as_ref(), unasked: unasked.as_deref() }
    }

    /// What an answer means that brings nothing.
    async fn refusal(&self, answer: Response, url: &Url) -> Trouble {
        let (status, headers) = (answer.status(), answer.headers().clone());
        let elsewhere = answer.url().host_str() != url.host_str();
        let said = body(answer, MAX_ERROR, url.as_str()).await.unwrap_or_default();
        let said = said_by(&said);
        match status.as_u16() {
            // A registry sends elsewhere by URLs that are good for a while only.
            401 | 403 if elsewhere => {
                let what = format!("{url}: leads to where it is refused: HTTP {status}");
                Trouble::Again(Failure::new(Code::SourceUnreachable, what), None)
            }
            403 => self.asking().denied(&format!("refuses: HTTP {status}{said}")).into(),
            404 | 410 => {
                let what = format!("{url}: HTTP {status}{said}");
                Failure::new(Code::RegistryLacksImage, what).into()
            }
            _ => refused(&format!("{url}{said}"), status, &headers),
        }
    }
}

/// Any type.
const ANY: HeaderValue = HeaderValue::from_static("*/*");

/// The first message of a registry's error document, to be put behind what is known.
fn said_by(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let first = serde_json::from_slice::<Errors>(body).ok().and_then(|all| all.errors.into_iter().next());
    let short = |text: &str| -> String { text.chars().take(200).collect() };
    first.map(|one| format!(" ({}: {})", short(&one.code), short(&one.message))).unwrap_or_default()
}

/// `REGISTRY_DENIED` for `repository` at `base`; `unasked` is a program that was not run.
pub(super) fn denied(base: &Url, repository: &str, why: &str, unasked: Option<&str>) -> Failure {
    let host = base.host_str().unwrap_or_default();
    let port = base.port().map(|port| format!(":{port}")).unwrap_or_default();
    let what = format!("{host}{port}/{repository}: the registry {why}");
    let failure = Failure::new(Code::RegistryDenied, what);
    match unasked {
        Some(program) => failure.with_remedy(format!(
            "{program} may know the login, but cks-iso does not run programs: name user and password-file in the \
             configuration file"
        )),
        None => failure.with_remedy(
            "log in (docker login, skopeo login), name user and password-file in the configuration file, or \
             correct the reference: some registries refuse what they do not have",
        ),
    }
}
