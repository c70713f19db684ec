//! Is this a text file, and not the error page of a download.

use bootstrap::failure::{Code, Failure};

/// Whether `head` begins like HTML: no YAML document, unit file or program does.
#[must_use]
pub fn is_html(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let begins = |prefix: &[u8]| head.get(..prefix.len()).is_some_and(|found| found.eq_ignore_ascii_case(prefix));
    [&b"<!doctype"[..], b"<html", b"<head", b"<body", b"<?xml"].into_iter().any(begins)
}

/// Accepts the bytes of a configuration text.
///
/// # Errors
/// `CONTENT_INVALID` names `what` and says why.
pub fn check_text(what: &str, bytes: &[u8]) -> Result<(), Failure> {
    let why = if is_html(bytes) {
        "is an HTML page"
    } else if bytes.trim_ascii().is_empty() {
        "is empty"
    } else if std::str::from_utf8(bytes).is_err() || bytes.contains(&0) {
        "is no text"
    } else {
        return Ok(());
    };
    Err(Failure::new(Code::ContentInvalid, format!("{what} {why}"))
        .with_remedy("replace it with the real file: a download was perhaps an error page"))
}

/// `text` without the user names and passwords of the URLs in it.
#[must_use]
pub fn without_users(text: &str) -> String {
    let mut parts = text.split("://");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| matches!(c, '/' | '"' | '\'') || c.is_whitespace()).unwrap_or(part.len());
        let host = part[..end].rfind('@').map_or(0, |at| at + 1);
        shown = shown + "://" + &part[host..];
    }
    shown
}

/// `value` as a TOML string on one line.
#[must_use]
pub fn quoted(value: &str) -> String {
    let text = toml::Value::from(value).to_string();
    match text.contains('\n') {
        // One line each; but for DEL, JSON's escapes are TOML's.
        true => serde_json::Value::from(value).to_string().replace('\u{7f}', "\\u007f"),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_cut_out_of_urls() {
        for (text, want) in [
            ("a https://me:se@cret@b/c@d and ftp://e", "a https://b/c@d and ftp://e"),
            ("url = \"http://me@b\" # f@g", "url = \"http://b\" # f@g"),
            ("none@all", "none@all"),
        ] {
            assert_eq!(without_users(text), want);
        }
    }

    #[test]
    fn error_pages_are_told_from_manifests() {
        for (bytes, good) in [
            (&b"apiVersion: v1\n"[..], true),
            (b"[Unit]\n", true),
            (b"# <html>\nkind: List\n", true),
            (b"\n <!DOCTYPE HTML PUBLIC>", false),
            (b"\xef\xbb\xbf<html>", false),
            (b"<?xml version=\"1.0\"?><Error/>", false),
            (b" \n", false),
            (b"\x7fELF\0", false),
        ] {
            assert_eq!(check_text("network.yaml", bytes).is_ok(), good, "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
