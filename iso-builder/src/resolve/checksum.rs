//! Checksum files as upstreams publish them.

use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};

use crate::text::check_text;

/// The sha256 of the file `name` in a checksum file called `what` in messages: a bare digest, or lines of
/// `digest  name` (coreutils, `SHA256SUMS`) or `SHA256 (name) = digest` (BSD).
///
/// # Errors
/// `CONTENT_INVALID` when it is no checksum file, or does not name the file.
pub fn find(text: &str, name: &str, what: &str) -> Result<Digest, Failure> {
    let refuse = |why: &str| {
        Failure::new(Code::ContentInvalid, format!("{what} {why}"))
            .with_remedy("correct checksum in the spec, or tell the sha256 itself")
    };
    check_text(what, text.as_bytes()).map_err(|failure| Failure {
        remedy: Some("correct the version or the checksum's URL in the spec".to_owned()),
        ..failure
    })?;
    let mut lines = 0;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        lines += 1;
        let Some((digest, file)) = entry(line) else { continue };
        let base = |path: &str| path.rsplit('/').next() == Some(name);
        match file {
            // A lone digest stands for the file that it lies beside.
            None if text.trim() == line => return Ok(digest),
            Some(file) if base(file) => return Ok(digest),
            _ => {}
        }
    }
    let why = match lines {
        0 | 1 => format!("has no sha256 of {name}"),
        _ => format!("has {lines} lines, and none is a sha256 of {name}"),
    };
    Err(refuse(&why))
}

/// The digest of a line, and the file that the line names.
fn entry(line: &str) -> Option<(Digest, Option<&str>)> {
    if let Some(rest) = line.strip_prefix("SHA256 (") {
        let (file, digest) = rest.rsplit_once(") = ")?;
        return Some((digest.parse().ok()?, Some(file)));
    }
    match line.split_once(char::is_whitespace) {
        None => Some((line.parse().ok()?, None)),
        Some((digest, file)) => Some((digest.parse().ok()?, Some(file.trim_start().trim_start_matches('*')))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const B: &str = "cb8379ac2098aa165029e3938a51da0bcecfc008fd6795f401178647f96c5b34";

    #[test]
    fn every_published_form_is_read() {
        for text in [
            A.to_owned(),
            format!("{A}\n"),
            format!("{A}  f.tgz\n"),
            format!("{A} *f.tgz"),
            format!("{A}  ./dist/f.tgz"),
            format!("# sums\n{B}  g.tgz\r\n{A}  f.tgz\r\n"),
            format!("SHA256 (g.tgz) = {B}\nSHA256 (f.tgz) = {A}\n"),
            format!("{B}  af.tgz\n{A}  f.tgz\n"),
        ] {
            assert_eq!(find(&text, "f.tgz", "sums").unwrap().hex(), A, "{text:?}");
        }
    }

    #[test]
    fn what_says_nothing_of_the_file_is_refused() {
        for (text, want) in [
            ("<!DOCTYPE html><title>404</title>".to_owned(), "is an HTML page"),
            (String::new(), "is empty"),
            ("Not Found".to_owned(), "no sha256 of f.tgz"),
            (format!("{B}  g.tgz"), "no sha256 of f.tgz"),
            (format!("{A}\n{B}\n"), "none is a sha256 of f.tgz"),
            (A[..63].to_owned(), "no sha256"),
            (format!("{A}{A}"), "no sha256"),
        ] {
            let failure = find(&text, "f.tgz", "http://a/sums").unwrap_err();
            assert_eq!(failure.code, Code::ContentInvalid);
            assert!(failure.what.starts_with("http://a/sums ") && failure.what.contains(want), "{failure}");
        }
    }
}
