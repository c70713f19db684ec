//! A request and the list → a response.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bootstrap::bundle::autoindex::percent_decode;
use bootstrap::failure::Code;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LAST_MODIFIED,
    LOCATION, RANGE, USER_AGENT, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};

use super::Running;
use super::answer::{Answer, Version, decide};
use super::body::Answered;
use super::log::{Entry, Log};
use super::site::{Found, Resource, Site};
use crate::content::Content;

/// Longer texts of a request are cut in the log.
const LOGGED: usize = 4096;

/// Answers a request of `client`.
pub(super) async fn respond(
    request: Request<Incoming>,
    client: IpAddr,
    site: Arc<Site>,
    log: Log,
    running: Running,
) -> Response<Answered> {
    let entry = entry(&request, client, log);
    let is_get = request.method() == Method::GET;
    let reply = if is_get || request.method() == Method::HEAD {
        answer(&request, is_get, &site).await
    } else {
        Reply::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered").with(ALLOW, "GET, HEAD")
    };
    reply.finish(request.method() == Method::HEAD, entry, running)
}

async fn answer(request: &Request<Incoming>, is_get: bool, site: &Site) -> Reply {
    let Some(path) = percent_decode(request.uri().path()) else {
        return Reply::text(StatusCode::BAD_REQUEST, "the path is no percent-encoded UTF-8");
    };
    let found = path.strip_prefix('/').map_or(Found::Nothing, |path| site.find(path));
    match found {
        Found::File(resource) => file(request, is_get, resource).await,
        Found::Directory(path) => {
            Reply::text(StatusCode::MOVED_PERMANENTLY, "the directory is elsewhere").with(LOCATION, &path)
        }
        Found::Nothing => Reply::text(StatusCode::NOT_FOUND, "nothing is here"),
    }
}

async fn file(request: &Request<Incoming>, is_get: bool, resource: Arc<Resource>) -> Reply {
    let Resource { length, .. } = *resource;
    let version = Version { etag: &resource.etag, modified: &resource.modified, length };
    let decided = decide(request.headers(), is_get, version);
    let (status, from, length) = match decided {
        Answer::Whole => (StatusCode::OK, 0, length),
        Answer::Part { from, length } => (StatusCode::PARTIAL_CONTENT, from, length),
        Answer::NotModified => (StatusCode::NOT_MODIFIED, 0, 0),
        Answer::PreconditionFailed => {
            return Reply::text(StatusCode::PRECONDITION_FAILED, "the file is another one").describing(&resource);
        }
        Answer::Unsatisfiable => {
            return Reply::text(StatusCode::RANGE_NOT_SATISFIABLE, "the range begins behind the end of the file")
                .with(CONTENT_RANGE, &format!("bytes */{length}"));
        }
    };
    let opening = Arc::clone(&resource);
    let opened = tokio::task::spawn_blocking(move || {
        opening.open().map_err(|failure| {
            eprintln!("warning: {}", bootstrap::text::plain(&failure.to_string()));
            failure.code
        })
    });
    let content = match opened.await {
        Ok(Ok(content)) => content,
        Ok(Err(Code::SourceFileMissing)) => {
            return Reply::text(StatusCode::SERVICE_UNAVAILABLE, "the file changed on the server");
        }
        _ => return Reply::text(StatusCode::INTERNAL_SERVER_ERROR, "the file can't be read"),
    };
    let reply = Reply { response: Response::new(()), content, from, length }.status(status).describing(&resource);
    match status {
        StatusCode::PARTIAL_CONTENT => {
            reply.with(CONTENT_RANGE, &format!("bytes {from}-{}/{}", from + length - 1, resource.length))
        }
        _ => reply,
    }
}

/// A response before its body.
struct Reply {
    response: Response<()>,
    content: Content,
    from: u64,
    length: u64,
}

impl Reply {
    fn text(status: StatusCode, text: &str) -> Self {
        let content = Content::bytes(format!("{} {text}\n", status.as_u16()).into_bytes());
        let length = content.length();
        let reply = Self { response: Response::new(()), content, from: 0, length };
        reply.status(status).with(CONTENT_TYPE, "text/plain;charset=UTF-8")
    }

    fn status(mut self, status: StatusCode) -> Self {
        *self.response.status_mut() = status;
        self
    }

    /// With a header; what is no header value comes from a file's name, and is left out.
    fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.response.headers_mut().insert(name, value);
        }
        self
    }

    fn describing(self, resource: &Resource) -> Self {
        let reply = self.with(ETAG, &resource.etag).with(LAST_MODIFIED, &resource.modified);
        let reply = reply.with(ACCEPT_RANGES, "bytes").with(X_CONTENT_TYPE_OPTIONS, "nosniff");
        match reply.response.headers().contains_key(CONTENT_TYPE) {
            true => reply,
            false => reply.with(CONTENT_TYPE, resource.content_type),
        }
    }

    fn finish(self, is_head: bool, mut entry: Entry, running: Running) -> Response<Answered> {
        let status = self.response.status();
        entry.status = status.as_u16();
        let reply = match status {
            StatusCode::NOT_MODIFIED => self,
            _ => {
                let length = self.length.to_string();
                self.with(CONTENT_LENGTH, &length)
            }
        };
        let Self { response, content, from, length } = reply;
        let length = if is_head { 0 } else { length };
        response.map(|()| Answered::new(content, from, length, entry, running))
    }
}

fn entry(request: &Request<Incoming>, client: IpAddr, log: Log) -> Entry {
    let header = |name: HeaderName| {
        let value = request.headers().get(name)?;
        Some(cut(&String::from_utf8_lossy(value.as_bytes())))
    };
    let uri = request.uri();
    Entry {
        client: client.to_canonical(),
        method: cut(request.method().as_str()),
        target: cut(&uri.path_and_query().map_or_else(|| uri.to_string(), ToString::to_string)),
        protocol: format!("{:?}", request.version()),
        agent: header(USER_AGENT),
        range: header(RANGE),
        status: 0,
        sent: 0,
        began: Instant::now(),
        log,
    }
}

fn cut(text: &str) -> String {
    text.chars().take(LOGGED).collect()
}
