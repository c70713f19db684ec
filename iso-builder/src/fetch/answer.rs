//! What a server's answer means: go on, try again, or give up.

use std::error::Error;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::time::Duration;

use bootstrap::failure::{Code, Failure};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, HeaderMap, RETRY_AFTER};
use url::Url;

use crate::access::Patience;

/// Why an attempt ended.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Another try would end the same.
    Final(Failure),
    /// Another try may succeed, after the time that the server asks for, if any.
    Again(Failure, Option<Duration>),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Final(failure)
    }
}

/// Counts the tries that brought nothing.
#[derive(Debug)]
pub(crate) struct Tries {
    patience: Patience,
    made: u32,
}

impl Tries {
    pub(crate) fn new(patience: Patience) -> Self {
        Self { patience, made: 0 }
    }

    /// The last try brought something.
    pub(crate) fn reset(&mut self) {
        self.made = 0;
    }

    /// Waits for the next try.
    ///
    /// # Errors
    /// The failure of the last one, when it was the last.
    pub(crate) async fn next(&mut self, trouble: Trouble) -> Result<(), Failure> {
        match trouble {
            Trouble::Final(failure) => Err(failure),
            Trouble::Again(failure, _) if self.made >= self.patience.retries => Err(failure),
            Trouble::Again(_, asked) => {
                self.made += 1;
                tokio::time::sleep(pause(self.patience, self.made, asked)).await;
                Ok(())
            }
        }
    }
}

/// The pause before try `number` (from 1): doubled each time, a random half off so that many machines do
/// not come back at once; or what the server asks for. Never longer than the longest.
fn pause(patience: Patience, number: u32, asked: Option<Duration>) -> Duration {
    let doubled = patience.pause.saturating_mul(1 << number.saturating_sub(1).min(16));
    let bounded = doubled.min(patience.longest);
    let random = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
    let jittered = bounded.mul_f64(0.5 + random / 2.0);
    asked.map_or(jittered, |asked| asked.max(jittered)).min(patience.longest)
}

/// What an HTTP status means that is no success.
pub(crate) fn refused(shown: &str, status: StatusCode, headers: &HeaderMap) -> Trouble {
    let what = format!("{shown}: HTTP {status}");
    match status.as_u16() {
        404 | 410 => Failure::new(Code::SourceFileMissing, what).with_remedy("correct the version or the URL").into(),
        500..=599 | 408 | 429 => {
            let failure = Failure::new(Code::SourceUnreachable, what).with_remedy("try again later");
            Trouble::Again(failure, retry_after(headers))
        }
        _ => Failure::new(Code::SourceInvalid, what)
            .with_remedy("correct the URL, or its user and password, or try again later")
            .into(),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    // A date is not read: the usual pause does.
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// What a broken connection means.
pub(crate) fn lost(shown: &str, error: reqwest::Error) -> Trouble {
    let error = error.without_url();
    if error.is_redirect() {
        let what = format!("{shown}: leads nowhere: {}", innermost(&error));
        return Failure::new(Code::SourceInvalid, what).with_remedy("name the URL that it should lead to").into();
    }
    if error.is_builder() {
        let what = format!("{shown}: can't be asked for");
        return Failure::new(Code::ConfigInvalid, what).with_remedy("correct the URL").with_source(error).into();
    }
    if chain(&error).any(|error| error.to_string().contains("invalid peer certificate")) {
        let what = format!("{shown}: its certificate is not trusted");
        let remedy = "name the CA that signed it in the configuration file (ca = …), or install ca-certificates";
        return Failure::new(Code::SourceInvalid, what).with_remedy(remedy).with_source(error).into();
    }
    let ended = chain(&error).any(|error| {
        let io = error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof);
        io || error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message)
    });
    if ended && (error.is_body() || error.is_decode()) {
        return Trouble::Again(truncated(shown, "the connection ended before the last byte").with_source(error), None);
    }
    Trouble::Again(Failure::new(Code::SourceUnreachable, shown).with_source(error), None)
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

fn innermost(error: &reqwest::Error) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

/// A download that ended too early.
pub(crate) fn truncated(shown: &str, why: &str) -> Failure {
    Failure::new(Code::SourceTruncated, format!("{shown}: {why}"))
        .with_remedy("look whether the server has the whole file, and run again: it goes on where it stopped")
}

/// A download that is not what it should be.
pub(crate) fn no_content(shown: &str, why: &str) -> Failure {
    Failure::new(Code::ContentInvalid, format!("{shown} {why}"))
        .with_remedy("open the URL in a browser: a proxy or a login page may answer instead of the server")
}

/// Whether a page of HTML or XML may be what is asked for.
pub(crate) fn may_be_html(url: &Url) -> bool {
    let path = url.path().to_ascii_lowercase();
    [".html", ".htm", ".xhtml", ".xml", ".svg"].into_iter().any(|end| path.ends_with(end))
}

/// `Content-Range`: where the part begins, where it is told, and how long the whole is (RFC 9110, 14.4).
pub(crate) fn content_range(headers: &HeaderMap) -> Option<(Option<u64>, Option<u64>)> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.trim().strip_prefix("bytes ")?.trim().split_once('/')?;
    let start = match range {
        "*" => None,
        _ => Some(range.split_once('-')?.0.parse().ok()?),
    };
    let total = match total {
        "*" => None,
        _ => Some(total.parse().ok()?),
    };
    Some((start, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_in_their_bound() {
        let patience = Patience::default();
        for (number, least, most) in [(1, 0.25, 0.5), (3, 1.0, 2.0), (40, 15.0, 30.0)] {
            for _ in 0..50 {
                let pause = pause(patience, number, None).as_secs_f64();
                assert!((least..=most).contains(&pause), "{number}: {pause}");
            }
        }
        assert_eq!(pause(patience, 1, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(pause(patience, 1, Some(Duration::from_secs(7000))), patience.longest);
    }

    #[test]
    fn content_ranges_are_read() {
        for (text, want) in [
            ("bytes 5-9/10", Some((Some(5), Some(10)))),
            ("bytes 5-9/*", Some((Some(5), None))),
            ("bytes */10", Some((None, Some(10)))),
            ("bytes x-9/10", None),
            ("items 5-9/10", None),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_RANGE, text.parse().unwrap())]);
            assert_eq!(content_range(&headers), want, "{text}");
        }
    }

    #[test]
    fn statuses_have_their_codes() {
        for (status, code, again) in [
            (404, Code::SourceFileMissing, false),
            (410, Code::SourceFileMissing, false),
            (401, Code::SourceInvalid, false),
            (403, Code::SourceInvalid, false),
            (408, Code::SourceUnreachable, true),
            (429, Code::SourceUnreachable, true),
            (503, Code::SourceUnreachable, true),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, "3".parse().unwrap())]);
            match refused("u", StatusCode::from_u16(status).unwrap(), &headers) {
                Trouble::Final(failure) => assert!(!again && failure.code == code, "{status}"),
                Trouble::Again(failure, asked) => {
                    assert!(again && failure.code == code && asked == Some(Duration::from_secs(3)), "{status}");
                }
            }
        }
    }
}
