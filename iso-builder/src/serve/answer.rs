//! What a request gets of a file: all of it, a part, or only word that it is unchanged (RFC 9110 §13, §14).

use hyper::header::{HeaderMap, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};

/// What a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// 200.
    Whole,
    /// 206: `length` bytes from `from`.
    Part { from: u64, length: u64 },
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416.
    Unsatisfiable,
}

/// A file as requests see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Version<'a> {
    /// Strong, with its quotes.
    pub(super) etag: &'a str,
    /// As in `Last-Modified`.
    pub(super) modified: &'a str,
    /// Bytes.
    pub(super) length: u64,
}

/// Decides. Dates are compared as texts: a client sends back the one it got.
pub(super) fn decide(headers: &HeaderMap, is_get: bool, version: Version<'_>) -> Answer {
    let lists = |name: HeaderName| headers.get_all(name).into_iter().map(|value| value.to_str().unwrap_or_default());
    let one = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if headers.contains_key(IF_MATCH) && !lists(IF_MATCH).any(|list| names(list, version.etag, false)) {
        return Answer::PreconditionFailed;
    }
    let unchanged = if headers.contains_key(IF_NONE_MATCH) {
        lists(IF_NONE_MATCH).any(|list| names(list, version.etag, true))
    } else {
        one(IF_MODIFIED_SINCE).is_some_and(|date| date.trim() == version.modified)
    };
    if unchanged {
        return Answer::NotModified;
    }
    // What a client has is of another version than this: it gets all of this one.
    let same = |value: &str| value.trim() == version.etag || value.trim() == version.modified;
    match one(RANGE) {
        Some(range) if is_get && one(IF_RANGE).is_none_or(same) => part(range, version.length),
        _ => Answer::Whole,
    }
}

/// Whether a list of entity tags has `etag`. A weak one matches where `weak` is enough.
fn names(list: &str, etag: &str, weak: bool) -> bool {
    list.split(',').map(str::trim).any(|tag| {
        let tag = if weak { tag.strip_prefix("W/").unwrap_or(tag) } else { tag };
        tag == "*" || tag == etag
    })
}

/// One range of bytes. What is no range, and several ranges, get the whole file, as the RFC allows.
fn part(range: &str, length: u64) -> Answer {
    let spec = match range.trim().split_once('=') {
        Some((unit, spec)) if unit.eq_ignore_ascii_case("bytes") && !spec.contains(',') => spec.trim(),
        _ => return Answer::Whole,
    };
    let Some((first, last)) = spec.split_once('-') else { return Answer::Whole };
    let number = |text: &str| match text {
        "" => Some(None),
        // More digits than any file has bytes: beyond its end.
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => Some(Some(text.parse().unwrap_or(u64::MAX))),
        _ => None,
    };
    match (number(first), number(last)) {
        (Some(Some(first)), Some(Some(last))) if last < first => Answer::Whole,
        (Some(Some(first)), Some(last)) if first < length => {
            let end = last.map_or(length, |last: u64| last.saturating_add(1).min(length));
            Answer::Part { from: first, length: end - first }
        }
        (Some(None), Some(Some(count))) if count > 0 && length > 0 => {
            Answer::Part { from: length.saturating_sub(count), length: count.min(length) }
        }
        (Some(Some(_)), Some(_)) | (Some(None), Some(Some(_))) => Answer::Unsatisfiable,
        _ => Answer::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: Version<'static> = Version { etag: "\"a\"", modified: "Sun, 06 Nov 1994 08:49:37 GMT", length: 100 };

    fn answer(headers: &[(&str, &str)], is_get: bool, version: Version<'_>) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        decide(&map, is_get, version)
    }

    #[test]
    fn ranges_are_the_bytes_they_name() {
        let part = |from, length| Answer::Part { from, length };
        for (range, want) in [
            ("bytes=0-9", part(0, 10)),
            ("bytes=10-", part(10, 90)),
            ("bytes=99-", part(99, 1)),
            ("bytes=-7", part(93, 7)),
            ("bytes=-700", part(0, 100)),
            ("bytes=90-1000", part(90, 10)),
            ("Bytes= 0-0", part(0, 1)),
            ("bytes=0-99999999999999999999999", part(0, 100)),
            ("bytes=100-", Answer::Unsatisfiable),
            ("bytes=99999999999999999999999-", Answer::Unsatisfiable),
            ("bytes=100-200", Answer::Unsatisfiable),
            ("bytes=-0", Answer::Unsatisfiable),
            ("bytes=9-0", Answer::Whole),
            ("bytes=0-1,5-6", Answer::Whole),
            ("bytes=-", Answer::Whole),
            ("bytes=a-b", Answer::Whole),
            ("bytes=+1-2", Answer::Whole),
            ("bytes 0-1", Answer::Whole),
            ("lines=0-1", Answer::Whole),
            ("", Answer::Whole),
        ] {
            assert_eq!(answer(&[("range", range)], true, VERSION), want, "{range}");
            assert_eq!(answer(&[("range", range)], false, VERSION), Answer::Whole, "HEAD {range}");
        }
        let empty = Version { length: 0, ..VERSION };
        for (range, want) in [("bytes=0-", Answer::Unsatisfiable), ("bytes=-1", Answer::Unsatisfiable)] {
            assert_eq!(answer(&[("range", range)], true, empty), want);
        }
    }

    #[test]
    fn conditions_are_about_this_version() {
        const DATE: &str = VERSION.modified;
        let ten = Answer::Part { from: 0, length: 10 };
        for (headers, want) in [
            (&[("if-none-match", "\"a\"")][..], Answer::NotModified),
            (&[("if-none-match", "W/\"a\"")], Answer::NotModified),
            (&[("if-none-match", "\"b\", \"a\"")], Answer::NotModified),
            (&[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")], Answer::NotModified),
            (&[("if-none-match", "*")], Answer::NotModified),
            (&[("if-none-match", "\"b\""), ("if-modified-since", DATE)], Answer::Whole),
            (&[("if-modified-since", DATE)], Answer::NotModified),
            (&[("if-modified-since", "Sun, 06 Nov 1994 08:49:38 GMT")], Answer::Whole),
            (&[("if-match", "\"a\"")], Answer::Whole),
            (&[("if-match", "*")], Answer::Whole),
            (&[("if-match", "W/\"a\"")], Answer::PreconditionFailed),
            (&[("if-match", "\"b\"")], Answer::PreconditionFailed),
            (&[("range", "bytes=0-9"), ("if-range", "\"a\"")], ten),
            (&[("range", "bytes=0-9"), ("if-range", DATE)], ten),
            (&[("range", "bytes=0-9"), ("if-range", "\"b\"")], Answer::Whole),
            (&[("range", "bytes=0-9"), ("if-range", "W/\"a\"")], Answer::Whole),
            (&[("range", "bytes=0-9"), ("if-none-match", "\"a\"")], Answer::NotModified),
        ] {
            assert_eq!(answer(headers, true, VERSION), want, "{headers:?}");
        }
    }
}
