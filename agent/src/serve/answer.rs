//! What is answered to a request.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bootstrap::failure::{Code, Failure};
use bootstrap::state::NodeState;
use futures::stream::{self, StreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Semaphore;

use super::States;
use crate::csi;
use crate::host::Host;
use crate::metrics::{self, Syntax};

/// Clients that follow at once; the other connections stay free for those that ask and go.
const FOLLOWERS: usize = 16;
/// More than a person or a program can make use of is not sent.
const PAUSE: Duration = Duration::from_millis(200);

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Answers every request from the latest state.
#[derive(Debug)]
pub(super) struct Answers {
    host: Host,
    states: States,
    volumes: Option<csi::Watched>,
    followers: Arc<Semaphore>,
}

impl Answers {
    pub(super) fn new(host: Host, states: States, volumes: Option<csi::Watched>) -> Self {
        Self { host, states, volumes, followers: Arc::new(Semaphore::new(FOLLOWERS)) }
    }

    /// The answer; nothing that is asked for changes anything.
    pub(super) async fn to(&self, request: &Request<Incoming>) -> Response<Body> {
        let asks = [Method::GET, Method::HEAD].contains(request.method());
        let follows = request.uri().query() == Some("watch");
        match request.uri().path() {
            "/v1/status" | "/metrics" | "/healthz" if !asks => {
                let mut refusal = of(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
                refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                refusal
            }
            "/v1/status" if follows && request.method() == Method::GET => self.follow(),
            "/v1/status" => of(StatusCode::OK, JSON, line(self.states.borrow().as_ref())),
            "/metrics" => match self.metrics().await {
                Ok(text) => of(StatusCode::OK, METRICS, text),
                Err(failure) => of(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{failure}\n")),
            },
            "/healthz" => of(StatusCode::OK, TEXT, "ok\n"),
            _ => of(StatusCode::NOT_FOUND, TEXT, "there are /v1/status, /v1/status?watch, /metrics and /healthz\n"),
        }
    }

    async fn metrics(&self) -> Result<String, Failure> {
        let (host, state, volumes) = (self.host.clone(), self.states.borrow().clone(), self.volumes.clone());
        let text = tokio::task::spawn_blocking(move || {
            metrics::text(&host, state.as_ref(), volumes.as_ref(), Syntax::OpenMetrics)
        });
        text.await.map_err(|e| Failure::new(Code::Io, "Gathering the metrics").with_source(e))?
    }

    /// The state now and whenever it changes, until the client goes.
    fn follow(&self) -> Response<Body> {
        let Ok(place) = Arc::clone(&self.followers).try_acquire_owned() else {
            return of(StatusCode::SERVICE_UNAVAILABLE, TEXT, "too many clients follow already\n");
        };
        let mut states = self.states.clone();
        states.mark_changed();
        let lines = stream::unfold((states, place, false), async |(mut states, place, paused)| {
            if paused {
                tokio::time::sleep(PAUSE).await;
            }
            states.changed().await.ok()?;
            let text = line(states.borrow_and_update().as_ref());
            Some((Ok(Frame::data(Bytes::from(text))), (states, place, true)))
        });
        let mut answer = Response::new(StreamBody::new(lines.boxed()).boxed_unsync());
        answer.headers_mut().insert(CONTENT_TYPE, LINES);
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}

fn line(state: Option<&NodeState>) -> String {
    serde_json::to_string(&state).unwrap_or_default() + "\n"
}

fn of(status: StatusCode, kind: HeaderValue, text: impl Into<Bytes>) -> Response<Body> {
    let mut answer = Response::new(Full::new(text.into()).boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
