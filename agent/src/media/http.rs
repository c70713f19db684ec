//! HTTP as a transport: byte ranges of files below one place on one server.
//!
//! What a [`Server`] promises: nothing beside or above its place is asked for; never more connections than
//! allowed; a file that changes is noticed; an answer is taken only when it is exactly what was asked for. A
//! break is told, not mended: `media::stream` goes on at the byte after it.

mod answer;
mod body;
mod lanes;
pub mod place;
mod route;
mod width;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bootstrap::failure::{Code, Failure};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HOST, IF_RANGE, LOCATION, PROXY_AUTHORIZATION, RANGE, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use rand::Rng as _;
use url::{Position, Url};

use self::answer::{Ask, Validator, Verdict, content_length, judge, refused, retry_after};
use self::body::Flow;
use self::lanes::Lanes;
use self::place::{Place, shown};
use self::route::Route;
use crate::config;

pub use self::body::Body;
pub use self::lanes::HeldOff;

/// How often an answer that contradicts itself is asked for.
const TRIES: u32 = 3;
/// The pause between two of them, up to twice as long.
const TRY_PAUSE: Duration = Duration::from_millis(100);
const MAX_REDIRECTS: u32 = 3;
/// Of a page that tells that there is no such file.
const MAX_REFUSAL_BYTES: u64 = 64 << 10;
/// A file that changed this often is asked for without a condition: several servers answer in turn.
const MAX_CHANGES: u64 = 2;

/// A place on a web server.
#[derive(Debug)]
pub struct Server {
    /// Where it is.
    pub place: Place,
    route: Route,
    lanes: Arc<Lanes>,
    inactivity: Duration,
    versions: Mutex<HashMap<Url, Version>>,
    ranges_seen: AtomicBool,
}

/// Which version of a file the bytes so far are of.
#[derive(Debug, Clone)]
struct Version {
    first: Validator,
    latest: Validator,
    changes: u64,
}

/// What a server says about a file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Told {
    /// It has so many bytes.
    Size(u64),
    /// It is there.
    Unsized,
}

/// Until when the server of a failed request wants to be left alone.
#[must_use]
pub fn held_off(failure: &Failure) -> Option<Instant> {
    failure.source.as_ref()?.downcast_ref::<HeldOff>().map(|held| held.until)
}

impl Server {
    /// The server of `place`; nothing is asked yet. `direct`: by no proxy.
    ///
    /// # Errors
    /// `CONFIG_INVALID` names the setting.
    pub fn new(place: Place, http: &config::Http, direct: bool) -> Result<Self, Failure> {
        Ok(Self {
            route: Route::to(&place.url, http, direct)?,
            place,
            lanes: Arc::new(Lanes::new(http.connections)),
            inactivity: http.inactivity,
            versions: Mutex::default(),
            ranges_seen: AtomicBool::new(false),
        })
    }

    /// The bytes `offset .. offset + length` of the file at `url`, which has `size` bytes.
    ///
    /// # Errors
    /// `SOURCE_FILE_MISSING`, `SOURCE_TRUNCATED`, `SOURCE_INVALID`, `SOURCE_UNREACHABLE` name the URL.
    pub async fn range(&self, url: &Url, size: u64, offset: u64, length: u64) -> Result<Body, Failure> {
        if length == 0 {
            // HTTP has no empty range, and an empty file needs no request.
            return Ok(Body::empty(shown(url)));
        }
        self.part(url, Some(size), offset, length).await.map(|(body, _)| body)
    }

    /// The first `length` bytes of a file of unknown size, and that size.
    ///
    /// # Errors
    /// As [`Server::range`]; `SOURCE_INVALID` also when the server answers no byte ranges.
    pub async fn beginning(&self, url: &Url, length: u64) -> Result<(Body, u64), Failure> {
        let (body, size) = self.part(url, None, 0, length).await?;
        let untold = || Failure::new(Code::SourceInvalid, format!("{}: does not tell its size", shown(url)));
        Ok((body, size.ok_or_else(untold)?))
    }

    async fn part(
        &self,
        url: &Url,
        size: Option<u64>,
        offset: u64,
        length: u64,
    ) -> Result<(Body, Option<u64>), Failure> {
        let what = shown(url);
        let mut tries = 0;
        loop {
            let ranges_seen = self.ranges_seen.load(Ordering::Relaxed);
            let ask = Ask { size, offset, length, ranges_seen };
            let condition = self.condition(url);
            let range = format!("bytes={offset}-{}", offset + length - 1);
            let wanted = [Some((RANGE, range)), condition.clone().map(|tag| (IF_RANGE, tag))];
            let (flow, answer) = match self.ask(Method::GET, url, wanted.into_iter().flatten().collect()).await {
                Ok(answered) => answered,
                Err(failure) if failure.code == Code::SourceInvalid && tries + 1 < TRIES => {
                    tries += 1;
                    pause().await;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            let good = answer.status() == StatusCode::OK || answer.status() == StatusCode::PARTIAL_CONTENT;
            let changed = good && self.saw(url, &answer, offset > 0);
            if changed && condition.is_some() && answer.status() == StatusCode::OK && offset > 0 {
                // The same range of the file as it is now; whether its bytes fit, their digest tells.
                continue;
            }
            match judge(&what, &answer, ask) {
                Verdict::Take { skip, size: whole } => {
                    if answer.status() == StatusCode::PARTIAL_CONTENT {
                        self.ranges_seen.store(true, Ordering::Relaxed);
                    }
                    let length = whole.map_or(length, |whole| length.min(whole.saturating_sub(offset)));
                    return Ok((Body::new(flow, skip, length, what), whole));
                }
                Verdict::Failed(failure) => return Err(failure),
                Verdict::Odd(failure) if tries + 1 >= TRIES => return Err(failure),
                Verdict::Odd(failure) => tracing::debug!("{}: asked again", failure.what),
            }
            tries += 1;
            drop(flow);
            pause().await;
        }
    }

    /// A small file or page as a whole; none where there is none (yet).
    ///
    /// # Errors
    /// As [`Server::range`]; `SOURCE_INVALID` when it has more than `limit` bytes.
    pub(crate) async fn small(&self, url: &Url, limit: u64) -> Result<Result<Vec<u8>, StatusCode>, Failure> {
        let what = shown(url);
        let mut tries = 0;
        loop {
            let outcome = match self.ask(Method::GET, url, Vec::new()).await {
                Ok((flow, answer)) => match answer.status() {
                    // Not there, or not there yet: the router opens its web root while it mounts the disc.
                    status @ (StatusCode::NOT_FOUND | StatusCode::FORBIDDEN) => {
                        // Read to its end, the page leaves a connection that the next request can use.
                        let _ = flow.all(&what, MAX_REFUSAL_BYTES).await;
                        return Ok(Err(status));
                    }
                    StatusCode::OK => {
                        let length = content_length(answer.headers());
                        match judge(
                            &what,
                            &answer,
                            Ask { size: length, offset: 0, length: length.unwrap_or(0), ranges_seen: false },
                        ) {
                            Verdict::Odd(failure) => Err(failure),
                            _ => return flow.all(&what, limit).await.map(Ok),
                        }
                    }
                    status => Err(refused(&what, status)),
                },
                Err(failure) => Err(failure),
            };
            match outcome {
                Err(failure) if failure.code == Code::SourceInvalid && tries + 1 < TRIES => tries += 1,
                outcome => return outcome,
            }
            pause().await;
        }
    }

    /// What the server says about a file, and which version of it this is.
    ///
    /// # Errors
    /// As [`Server::range`].
    pub(super) async fn look(&self, url: &Url) -> Result<Told, Failure> {
        let (flow, answer) = self.ask(Method::HEAD, url, Vec::new()).await?;
        if answer.status() != StatusCode::OK {
            return Err(refused(&shown(url), answer.status()));
        }
        self.saw(url, &answer, false);
        flow.all(&shown(url), 0).await?;
        // Apache 2.4 leaves the length out for an empty file.
        Ok(content_length(answer.headers()).map_or(Told::Unsized, Told::Size))
    }

    /// Which version of a file the first answer was of, in words of the server.
    pub fn validator(&self, url: &Url) -> Option<String> {
        self.versions().get(url).map(|version| version.first.text.clone())
    }

    /// How often a file was another one when it was asked for its rest.
    pub fn changes(&self, url: &Url) -> u64 {
        self.versions().get(url).map_or(0, |version| version.changes)
    }

    /// `If-Range` for a file.
    fn condition(&self, url: &Url) -> Option<String> {
        let versions = self.versions();
        let version = versions.get(url).filter(|version| version.latest.strong && version.changes < MAX_CHANGES)?;
        Some(version.latest.text.clone())
    }

    /// Remembers the version of an answer; true when it is another one than before. `rest`: bytes of the file
    /// were taken before.
    fn saw(&self, url: &Url, answer: &Response<()>, rest: bool) -> bool {
        let Some(latest) = Validator::of(answer.headers()) else { return false };
        let mut versions = self.versions();
        let Some(version) = versions.get_mut(url) else {
            versions.insert(url.clone(), Version { first: latest.clone(), latest, changes: 0 });
            return false;
        };
        // A date becomes fit for a condition by getting older.
        let changed = version.latest.text != latest.text;
        version.latest = latest;
        if changed && rest {
            version.changes += 1;
            tracing::warn!("{} has changed on the server while it was fetched", shown(url));
        }
        changed
    }

    fn versions(&self) -> MutexGuard<'_, HashMap<Url, Version>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a request, redirects followed, and its body.
    async fn ask(&self, method: Method, url: &Url, headers: Headers) -> Result<(Flow, Response<()>), Failure> {
        let (mut url, mut redirects) = (url.clone(), 0);
        loop {
            let (flow, answer) = self.answered(&method, &url, &headers).await?;
            let moved = [301, 302, 303, 307, 308].contains(&answer.status().as_u16());
            let location = answer.headers().get(LOCATION).filter(|_| moved).and_then(|value| value.to_str().ok());
            let Some(location) = location else { return Ok((flow, answer)) };
            let target = self.place.redirected(&url, location)?;
            redirects += 1;
            if redirects > MAX_REDIRECTS {
                let what = format!("{}: redirects more than {MAX_REDIRECTS} times", shown(&url));
                return Err(Failure::new(Code::SourceInvalid, what));
            }
            url = target;
        }
    }

    /// The answer to one request. One that an idle connection lost is sent again over a new one.
    async fn answered(&self, method: &Method, url: &Url, headers: &Headers) -> Result<(Flow, Response<()>), Failure> {
        let what = shown(url);
        let mut fresh = false;
        loop {
            self.lanes.admit(&what).await?;
            let mut lane = match self.lanes.take(&self.route, fresh).await {
                Ok(lane) => lane,
                // The queue of a server that is full takes no more, and says nothing.
                Err(e) if e.kind() == io::ErrorKind::TimedOut && self.lanes.are_others(0) => {
                    self.lanes.queued();
                    fresh = false;
                    continue;
                }
                Err(e) => return Err(self.unreachable(&what, &e.to_string())),
            };
            let request = self.request(method, url, headers)?;
            let Some(sender) = lane.sender.as_mut() else {
                return Err(Failure::new(Code::SourceUnreachable, what));
            };
            let patience = if lane.used { self.inactivity } else { self.lanes.patience(self.inactivity) };
            let since = Instant::now();
            match tokio::time::timeout(patience, sender.send_request(request)).await {
                Err(_) if patience < self.inactivity => {
                    self.lanes.queued();
                    fresh = false;
                }
                Err(_) => return Err(silent(&what, self.inactivity)),
                Ok(Ok(answer)) => {
                    let (head, incoming) = answer.into_parts();
                    let answer = Response::from_parts(head, ());
                    self.left_alone(&what, &answer)?;
                    if !lane.used {
                        self.lanes.welcomed(since.elapsed());
                    }
                    return Ok((self.flow(incoming, lane), answer));
                }
                Ok(Err(_)) if lane.used => fresh = true,
                Ok(Err(e)) => return Err(self.unreachable(&what, &cause(&e))),
            }
        }
    }

    fn flow(&self, incoming: Incoming, lane: lanes::Lane) -> Flow {
        Flow { incoming, lane, lanes: Arc::clone(&self.lanes), inactivity: self.inactivity }
    }

    /// Refuses an answer that asks for being left alone.
    fn left_alone(&self, what: &str, answer: &Response<()>) -> Result<(), Failure> {
        let status = answer.status();
        if status != StatusCode::SERVICE_UNAVAILABLE && status != StatusCode::TOO_MANY_REQUESTS {
            return Ok(());
        }
        let asked = retry_after(answer.headers(), SystemTime::now());
        let held = self.lanes.refused(&format!("HTTP {status}"), asked);
        let mut failure = refused(what, status).with_source(held);
        if let Some(asked) = asked {
            failure.what += &format!(", asks to come back in {} s", asked.as_secs());
        }
        Err(failure)
    }

    fn unreachable(&self, what: &str, why: &str) -> Failure {
        let held = self.lanes.refused(why, None);
        Failure::new(Code::SourceUnreachable, format!("{what}: {why}")).with_source(held)
    }

    fn request(&self, method: &Method, url: &Url, headers: &Headers) -> Result<Request<Empty<Bytes>>, Failure> {
        let plain_proxy = self.route.by_plain_proxy();
        let target = if plain_proxy.is_some() { url.as_str() } else { &url[Position::BeforePath..] };
        let host = &url[Position::BeforeHost..Position::AfterPort];
        let mut request = Request::builder().method(method.clone()).uri(target).header(HOST, host);
        request = request.header(USER_AGENT, concat!("cks-agent/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = &self.place.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(Some(authorization)) = plain_proxy {
            request = request.header(PROXY_AUTHORIZATION, authorization);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let invalid = |e| Failure::new(Code::SourceInvalid, format!("{}: {e}", shown(url)));
        request.body(Empty::new()).map_err(invalid)
    }
}

type Headers = Vec<(hyper::header::HeaderName, String)>;

async fn pause() {
    let pause = TRY_PAUSE.mul_f64(rand::rng().random_range(1.0..2.0));
    tokio::time::sleep(pause).await;
}

fn silent(what: &str, inactivity: Duration) -> Failure {
    let what = format!("{what}: brought nothing for {} s", inactivity.as_secs_f64());
    Failure::new(Code::SourceUnreachable, what)
}

fn broken(what: &str, error: &hyper::Error) -> Failure {
    Failure::new(Code::SourceUnreachable, format!("{what}: {}", cause(error)))
}

/// hyper's own text tells where, the causes below it what.
fn cause(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause: &dyn std::error::Error = error;
    while let Some(below) = cause.source() {
        cause = below;
        text = cause.to_string();
    }
    text
}
