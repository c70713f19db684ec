//! What a server of a test gives back.

use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use super::Request;

/// An answer to one request.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Arc<Vec<u8>>,
    pub(super) broken: Option<Break>,
}

/// How a body ends before its announced length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// The connection is closed in order after so many bytes of the body.
    Close(usize),
    /// The connection is reset after so many bytes of the body.
    Reset(usize),
}

impl Answer {
    /// A body with status and media type.
    #[must_use]
    pub fn new(status: u16, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("Content-Type", media_type.to_owned())];
        Self { status, headers, body: Arc::new(body.into()), broken: None }
    }

    /// A file, of which a client may ask for a range.
    #[must_use]
    pub fn file(body: Arc<Vec<u8>>) -> Self {
        let headers =
            vec![("Content-Type", "application/octet-stream".to_owned()), ("Accept-Ranges", "bytes".to_owned())];
        Self { status: 200, headers, body, broken: None }
    }

    /// The page that web sites give where there is nothing.
    #[must_use]
    pub fn page(status: u16) -> Self {
        let text = "<!DOCTYPE html>\n<html><head><title>Sorry</title></head><body><h1>Sorry</h1></body></html>\n";
        Self::new(status, "text/html; charset=utf-8", text)
    }

    /// That ends early.
    #[must_use]
    pub fn broken(mut self, broken: Break) -> Self {
        self.broken = Some(broken);
        self
    }

    /// Writes it and notes in `request` what was sent.
    pub(super) fn send(&self, request: &mut Request, to: &mut impl Write) -> io::Result<()> {
        let whole = self.body.len();
        let ranges = self.status == 200 && self.headers.iter().any(|(name, _)| *name == "Accept-Ranges");
        let range = request.range.as_deref().filter(|_| ranges).map(|range| parse(range, whole));
        let (status, part) = match &range {
            None => (self.status, 0..whole),
            Some(Some(part)) => (206, part.clone()),
            Some(None) => (416, 0..0),
        };
        request.status = status;
        let body = &self.body[part.clone()];
        let mut head = format!("HTTP/1.1 {status} Answer\r\nContent-Length: {}\r\n", body.len());
        if status == 206 {
            head += &format!("Content-Range: bytes {}-{}/{whole}\r\n", part.start, part.end - 1);
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        to.write_all(head.as_bytes())?;
        to.write_all(b"\r\n")?;
        let body = if request.method == "HEAD" { &body[..0] } else { body };
        let body = match self.broken {
            Some(Break::Close(after) | Break::Reset(after)) => &body[..after.min(body.len())],
            None => body,
        };
        for piece in body.chunks(64 << 10) {
            to.write_all(piece)?;
            request.bytes += piece.len() as u64;
        }
        to.flush()
    }
}

/// `bytes=4-`, `bytes=4-9`: what is meant of `whole` bytes, when there is any of it.
fn parse(range: &str, whole: usize) -> Option<Range<usize>> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let from = from.parse().ok()?;
    let end = if to.is_empty() { whole } else { whole.min(to.parse::<usize>().ok()? + 1) };
    (from < end).then_some(from..end)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_range_is_what_there_is_of_it() {
        for (range, expected) in [
            ("bytes=4-", Some(4..10)),
            ("bytes=4-4", Some(4..5)),
            ("bytes=0-99", Some(0..10)),
            ("bytes=10-", None),
            ("bytes=-3", None),
            ("lines=1-2", None),
        ] {
            assert_eq!(parse(range, 10), expected, "{range}");
        }
    }
}
