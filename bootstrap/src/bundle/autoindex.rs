//! Directory listings as HTTP servers write them (Apache's mod_autoindex, nginx, Python's
//! `http.server`): which names does a page list?

/// One name of a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The name as on the disc, percent-decoded, without a final `/`.
    pub name: String,
    /// Whether the link ends in `/`.
    pub directory: bool,
}

/// The names directly below the page. Sort links (`?C=N;O=D`), the parent, absolute links and links to
/// other hosts are no content and are left out; so is everything that would lead elsewhere.
#[must_use]
pub fn parse(html: &str) -> Vec<Link> {
    let mut links: Vec<Link> = hrefs(html).filter_map(|href| link(&href)).collect();
    links.sort();
    links.dedup();
    links
}

fn hrefs(html: &str) -> impl Iterator<Item = String> + '_ {
    let mut rest = html;
    std::iter::from_fn(move || {
        loop {
            let at = find_ignoring_case(rest, "href")?;
            rest = rest.get(at + 4..)?;
            let Some(value) = rest.trim_start().strip_prefix('=') else { continue };
            let value = value.trim_start();
            let end = match value.chars().next()? {
                quote @ ('"' | '\'') => value[1..].find(quote).map(|end| (1, end + 1)),
                _ => value.find(|c: char| c.is_whitespace() || c == '>').map(|end| (0, end)),
            };
            let (start, end) = end?;
            rest = &value[end..];
            return Some(unescape_html(&value[start..end]));
        }
    })
}

fn find_ignoring_case(text: &str, needle: &str) -> Option<usize> {
    text.as_bytes().windows(needle.len()).position(|window| window.eq_ignore_ascii_case(needle.as_bytes()))
}

fn link(href: &str) -> Option<Link> {
    let path = href.split(['?', '#']).next().unwrap_or_default();
    // A name with a colon is written `./pause:3.10.tar`, or the colon would make it a scheme.
    let path = path.strip_prefix("./").unwrap_or(path);
    let (path, directory) = path.strip_suffix('/').map_or((path, false), |path| (path, true));
    let name = percent_decode(path)?;
    let leads_elsewhere = name.is_empty()
        || name == "."
        || name == ".."
        || name.contains(|c: char| c.is_control() || c == '/' || c == '\\')
        || path.contains("://");
    (!leads_elsewhere).then_some(Link { name, directory })
}

/// What a percent-encoded text says; none where an escape is no byte, or the bytes are no UTF-8.
#[must_use]
pub fn percent_decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            let digit = |at| char::from(*bytes.get(at)?).to_digit(16);
            decoded.push(u8::try_from(digit(at + 1)? << 4 | digit(at + 2)?).ok()?);
            at += 3;
        } else {
            decoded.push(byte);
            at += 1;
        }
    }
    String::from_utf8(decoded).ok()
}

fn unescape_html(text: &str) -> String {
    // `&amp;` last, so that an escaped escape stays one.
    text.replace("&quot;", "\"").replace("&#39;", "'").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// A name as a path segment of a URL: everything but unreserved characters is escaped (RFC 3986 §2.3).
#[must_use]
pub fn percent_encode_path(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_link_is_understood() {
        for (href, want) in [
            (r#"<a href="kubelet">x</a>"#, Some(("kubelet", false))),
            (r#"<A HREF='docker/'>x</A>"#, Some(("docker", true))),
            (r#"<a href=plain>x</a>"#, Some(("plain", false))),
            (r#"<a class="n" href = "./pause:3.10.tar">"#, Some(("pause:3.10.tar", false))),
            (r#"<a href="pause%3A3.10.tar">"#, Some(("pause:3.10.tar", false))),
            (r#"<a href="pause%3a3.10.tar">"#, Some(("pause:3.10.tar", false))),
            (r#"<a href="a&amp;b">"#, Some(("a&b", false))),
            (r#"<a href="caf%C3%A9/">"#, Some(("café", true))),
            (r#"<a href="?C=N;O=D">Name</a>"#, None),
            (r#"<a href="?C=M&amp;O=A">"#, None),
            (r#"<a href="/">Parent Directory</a>"#, None),
            (r#"<a href="/cks-iso/">"#, None),
            (r#"<a href="../">"#, None),
            (r#"<a href="..">"#, None),
            (r#"<a href="%2e%2e/">"#, None),
            (r#"<a href="a%2Fb">"#, None),
            (r#"<a href="../../etc/passwd">"#, None),
            (r#"<a href="http://elsewhere/x">"#, None),
            (r#"<a href="%zz">"#, None),
            (r#"<a href="%+1">"#, None),
            (r#"<a href="%4">"#, None),
            (r#"<a href="open"#, None),
            (r#"<a href"#, None),
        ] {
            let got = parse(href);
            let got = got.first().map(|link| (link.name.as_str(), link.directory));
            assert_eq!(got, want, "{href}");
        }
    }

    #[test]
    fn a_page_of_apache_gives_its_names_once() {
        let page = include_str!("../../tests/data/apache-autoindex.html");
        let names: Vec<_> = parse(page).into_iter().map(|link| (link.name, link.directory)).collect();
        assert_eq!(
            names,
            [
                ("10-kubeadm.conf".to_owned(), false),
                ("cni".to_owned(), true),
                ("cni plugins & more.txt".to_owned(), false),
                ("docker".to_owned(), true),
                ("pause:3.10.tar".to_owned(), false),
            ]
        );
    }

    #[test]
    fn encoding_is_what_decoding_undoes() {
        let name = "docker/a b:c%#?é.tar";
        assert_eq!(percent_encode_path(name), "docker/a%20b%3Ac%25%23%3F%C3%A9.tar");
        assert_eq!(percent_decode(&percent_encode_path(name)).as_deref(), Some(name));
    }
}
