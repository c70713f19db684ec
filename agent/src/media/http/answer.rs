//! What an answer's head means for the range that was asked for. Nothing here reads or waits.

use std::time::{Duration, SystemTime};

use bootstrap::failure::{Code, Failure};
use hyper::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED,
    RETRY_AFTER,
};
use hyper::{Response, StatusCode};

use super::super::tree::check_size;

/// The longest that a server may send us away.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// A range of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    /// The file's size, where it is known.
    pub(super) size: Option<u64>,
    pub(super) offset: u64,
    pub(super) length: u64,
    /// Whether the server has answered a range before.
    pub(super) ranges_seen: bool,
}

/// What comes of an answer.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Its body is taken, after so many bytes that were not asked for; the file has `size` bytes.
    Take { skip: u64, size: Option<u64> },
    /// The server contradicts itself: asked again it may do better.
    Odd(Failure),
    /// Asking again is of no use, or the next try's matter.
    Failed(Failure),
}

/// What tells one version of a file from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Validator {
    /// `"abc"`, `W/"abc"`, or a date.
    pub(super) text: String,
    /// Fit for `If-Range` (RFC 9110 §13.1.5).
    pub(super) strong: bool,
}

impl Validator {
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        if let Some(tag) = text(headers, &ETAG) {
            return Some(Self { text: tag.to_owned(), strong: tag.starts_with('"') });
        }
        let modified = text(headers, &LAST_MODIFIED)?;
        let date = |text: &str| httpdate::parse_http_date(text).ok();
        // A file that is younger than its date can tell may change once more within the same second.
        let settled = || Some(date(text(headers, &DATE)?)?.duration_since(date(modified)?).ok()?.as_secs() >= 1);
        Some(Self { text: modified.to_owned(), strong: settled().unwrap_or(false) })
    }
}

pub(super) fn judge<B>(what: &str, answer: &Response<B>, ask: Ask) -> Verdict {
    let headers = answer.headers();
    let odd = |why: &str| Verdict::Odd(Failure::new(Code::SourceInvalid, format!("{what}: {why}")));
    if let Some(coding) = text(headers, &CONTENT_ENCODING).filter(|coding| *coding != "identity") {
        return odd(&format!("comes encoded ({coding}), which was not asked for"));
    }
    match answer.status() {
        StatusCode::PARTIAL_CONTENT => part(what, headers, ask),
        StatusCode::OK => whole(what, headers, ask),
        StatusCode::RANGE_NOT_SATISFIABLE => match (content_range(headers), ask.size) {
            (Some((_, Some(total))), Some(size)) if total >= size => odd("refuses a range that the file has"),
            _ => {
                let end = ask.offset + ask.length;
                let failure = Failure::new(Code::SourceTruncated, format!("{what}: ends before byte {end}"));
                Verdict::Odd(failure)
            }
        },
        status => Verdict::Failed(refused(what, status)),
    }
}

fn part(what: &str, headers: &HeaderMap, ask: Ask) -> Verdict {
    let odd = |why: String| Verdict::Odd(Failure::new(Code::SourceInvalid, format!("{what}: {why}")));
    if text(headers, &CONTENT_TYPE).is_some_and(|kind| kind.starts_with("multipart/")) {
        return odd("answers one range in several parts".to_owned());
    }
    let Some((Some((first, last)), total)) = content_range(headers) else {
        return odd("answers a range without Content-Range".to_owned());
    };
    if let (Some(total), Some(size)) = (total, ask.size)
        && let Err(failure) = check_size(what, total, size)
    {
        return Verdict::Failed(failure);
    }
    let whole = total.or(ask.size);
    let asked_last = (ask.offset + ask.length - 1).min(whole.map_or(u64::MAX, |size| size.saturating_sub(1)));
    if (first, last) != (ask.offset, asked_last) {
        return odd(format!("answers bytes {first}-{last}, asked for {}-{asked_last}", ask.offset));
    }
    match content_length(headers) {
        Some(length) if length != last - first + 1 => odd(format!("announces {length} bytes for {first}-{last}")),
        _ => Verdict::Take { skip: 0, size: whole },
    }
}

/// The whole file came, though a range was asked for.
fn whole(what: &str, headers: &HeaderMap, ask: Ask) -> Verdict {
    let length = content_length(headers);
    if let (Some(length), Some(size)) = (length, ask.size)
        && let Err(failure) = check_size(what, length, size)
    {
        return Verdict::Odd(failure);
    }
    let ignored = Failure::new(Code::SourceInvalid, format!("{what}: the server ignores byte ranges"));
    match ask.size.or(length) {
        Some(size) if ask.offset == 0 && ask.length == size => Verdict::Take { skip: 0, size: Some(size) },
        _ if ask.ranges_seen => Verdict::Odd(ignored),
        // A server without ranges: what was fetched before is read again and passed over.
        Some(size) if ask.offset + ask.length == size => Verdict::Take { skip: ask.offset, size: Some(size) },
        _ => Verdict::Failed(ignored),
    }
}

/// A status that is no answer to what was asked.
pub(super) fn refused(what: &str, status: StatusCode) -> Failure {
    let code = match status {
        StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN => Code::SourceFileMissing,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Code::SourceUnreachable,
        status if status.is_server_error() => Code::SourceUnreachable,
        _ => Code::SourceInvalid,
    };
    let failure = Failure::new(code, format!("{what}: HTTP {status}"));
    match status {
        StatusCode::UNAUTHORIZED => failure.with_remedy("name the source as https://user:password@host/…"),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            failure.with_remedy("give http.proxy in /etc/cks-agent/config.toml its user and password")
        }
        _ => failure,
    }
}

/// How long the server wants us to stay away: in seconds or until a date (RFC 9110 §10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = text(headers, &RETRY_AFTER)?.trim();
    let asked = match value.parse().ok() {
        Some(seconds) => Duration::from_secs(seconds),
        None => httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(asked.min(LONGEST_RETRY_AFTER))
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    text(headers, &CONTENT_LENGTH)?.parse().ok()
}

/// First and last byte, and the file's size.
type ContentRange = (Option<(u64, u64)>, Option<u64>);

/// `Content-Range: bytes 5-9/100`, `bytes 5-9/*` or `bytes */100` (RFC 9110 §14.4).
fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    let (range, total) = text(headers, &CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('/')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    if range == "*" {
        return Some((None, total));
    }
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((Some((first, last)), total))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(verdict: &Verdict) -> String {
        match verdict {
            Verdict::Take { skip, .. } => format!("take after {skip}"),
            Verdict::Odd(failure) => format!("odd {}", failure.code),
            Verdict::Failed(failure) => failure.code.to_string(),
        }
    }

    fn answer(status: u16, headers: &[(&'static str, &str)]) -> Response<()> {
        let mut answer = Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        answer.body(()).unwrap()
    }

    #[test]
    fn answers_to_a_range() {
        let rest = Ask { size: Some(100), offset: 60, length: 40, ranges_seen: true };
        let middle = Ask { length: 20, ..rest };
        let all = Ask { offset: 0, length: 100, ..rest };
        let never = |ask: Ask| Ask { ranges_seen: false, ..ask };
        let range = |text: &'static str| ("content-range", text);
        let length = |text: &'static str| ("content-length", text);
        type Headers = Vec<(&'static str, &'static str)>;
        let table: [(Ask, u16, Headers, &str); 24] = [
            (rest, 206, vec![range("bytes 60-99/100"), length("40")], "take after 0"),
            (rest, 206, vec![range("bytes 60-99/*")], "take after 0"),
            (rest, 206, vec![], "odd SOURCE_INVALID"),
            (rest, 206, vec![range("bytes 0-39/100")], "odd SOURCE_INVALID"),
            (rest, 206, vec![range("bytes 60-98/100")], "odd SOURCE_INVALID"),
            (rest, 206, vec![range("bytes 99-60/100")], "odd SOURCE_INVALID"),
            (rest, 206, vec![range("bytes 60-99/100"), length("41")], "odd SOURCE_INVALID"),
            (rest, 206, vec![range("bytes 60-99/99")], "SOURCE_TRUNCATED"),
            (rest, 206, vec![range("bytes 60-99/101")], "DIGEST_MISMATCH"),
            (rest, 206, vec![("content-type", "multipart/byteranges; boundary=x")], "odd SOURCE_INVALID"),
            (rest, 206, vec![range("bytes 60-99/100"), ("content-encoding", "gzip")], "odd SOURCE_INVALID"),
            (all, 200, vec![length("100")], "take after 0"),
            (all, 200, vec![], "take after 0"),
            (all, 200, vec![length("99")], "odd SOURCE_TRUNCATED"),
            (all, 200, vec![length("512"), ("content-type", "text/html")], "odd DIGEST_MISMATCH"),
            (rest, 200, vec![length("100")], "odd SOURCE_INVALID"),
            (never(rest), 200, vec![length("100")], "take after 60"),
            (never(middle), 200, vec![length("100")], "SOURCE_INVALID"),
            (rest, 416, vec![range("bytes */100")], "odd SOURCE_INVALID"),
            (rest, 416, vec![range("bytes */60")], "odd SOURCE_TRUNCATED"),
            (rest, 404, vec![], "SOURCE_FILE_MISSING"),
            (rest, 503, vec![], "SOURCE_UNREACHABLE"),
            (rest, 429, vec![], "SOURCE_UNREACHABLE"),
            (rest, 400, vec![], "SOURCE_INVALID"),
        ];
        for (ask, status, headers, expected) in table {
            assert_eq!(told(&judge("x", &answer(status, &headers), ask)), expected, "{status} {headers:?} {ask:?}");
        }
    }

    #[test]
    fn what_tells_versions_apart() {
        let of = |headers: &[(&'static str, &str)]| {
            Validator::of(answer(200, headers).headers()).map(|validator| (validator.text, validator.strong))
        };
        let (modified, later) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:50:37 GMT");
        assert_eq!(of(&[("etag", "\"a\""), ("last-modified", modified)]), Some(("\"a\"".to_owned(), true)));
        assert_eq!(of(&[("etag", "W/\"a\"")]), Some(("W/\"a\"".to_owned(), false)));
        assert_eq!(of(&[("last-modified", modified), ("date", later)]), Some((modified.to_owned(), true)));
        assert_eq!(of(&[("last-modified", modified), ("date", modified)]), Some((modified.to_owned(), false)));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn how_long_a_server_sends_us_away() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (value, seconds) in [
            ("7", Some(7)),
            ("0", Some(0)),
            ("86400", Some(60)),
            ("Sun, 06 Nov 1994 08:49:42 GMT", Some(5)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-3", None),
        ] {
            let answer = answer(503, &[("retry-after", value)]);
            assert_eq!(retry_after(answer.headers(), now), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
