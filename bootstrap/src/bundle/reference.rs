//! The grammar of image references (github.com/distribution/reference v0.6, `reference.go`), and the
//! names under which a node looks an image up.

use super::layout::normalise_reference;

/// Bytes that a repository name may have (distribution: `RepositoryNameTotalLengthMax`).
const MAX_NAME: usize = 255;

/// Characters that a tag may have.
const MAX_TAG: usize = 128;

/// Accepts what Docker, containerd and kubelet take for an image reference:
/// `[domain[:port]/]path[:tag][@sha256:hex]`.
///
/// # Errors
/// The reason, to be put behind the reference: `has an upper-case letter in its repository`.
pub fn check(reference: &str) -> Result<(), &'static str> {
    if reference.is_empty() {
        return Err("is empty");
    }
    if let Some(odd) = reference.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(if odd.is_whitespace() { "has white space" } else { "has a character that no reference may have" });
    }
    let (name, digest) = match reference.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (reference, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Err("has a digest that is not sha256: and 64 hex digits in lower case");
    }
    let (name, tag) = split_tag(name);
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("has a tag with a character that no tag may have, or of more than 128");
    }
    check_name(name)
}

/// A reference, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    /// `docker.io`, `localhost:5000`.
    pub host: &'a str,
    /// `library/busybox`.
    pub path: &'a str,
    /// `1.36`.
    pub tag: Option<&'a str>,
    /// `sha256:` and 64 hex digits.
    pub digest: Option<&'a str>,
}

/// Takes a reference apart that has a host, as [`normalise_reference`] gives it.
///
/// # Errors
/// As [`check`]; also for a reference without a host.
pub fn split(reference: &str) -> Result<Parts<'_>, &'static str> {
    check(reference)?;
    let (name, digest) = match reference.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (reference, None),
    };
    let (name, tag) = split_tag(name);
    match name.split_once('/') {
        Some((host, path)) if is_domain_place(host) => Ok(Parts { host, path, tag, digest }),
        _ => Err("has no host name before its first slash"),
    }
}

/// Whether a tag or a digest says which image of the repository is meant.
#[must_use]
pub fn is_exact(reference: &str) -> bool {
    reference.contains('@') || split_tag(reference).1.is_some()
}

/// The names that an image must have in containerd so that kubelet finds it under `reference`, the first
/// as `ctr image ls` is expected to show it: containerd's CRI plugin drops the tag where there is a digest.
#[must_use]
pub fn names(reference: &str) -> Vec<String> {
    let whole = normalise_reference(reference);
    match whole.split_once('@') {
        Some((name, digest)) => match split_tag(name) {
            (bare, Some(_)) => vec![name.to_owned(), format!("{bare}@{digest}")],
            (_, None) => vec![whole],
        },
        None => vec![whole],
    }
}

/// The name and the tag of a reference without its digest: a colon before the last slash is a port.
fn split_tag(name: &str) -> (&str, Option<&str>) {
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[last..].find(':') {
        Some(colon) => (&name[..last + colon], Some(&name[last + colon + 1..])),
        None => (name, None),
    }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let path = match name.split_once('/') {
        Some((first, path)) if is_domain_place(first) => {
            if !is_domain(first) {
                return Err("has no host name before its first slash");
            }
            path
        }
        _ => name,
    };
    if name.len() > MAX_NAME {
        return Err("has a repository of more than 255 bytes");
    }
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("has an upper-case letter in its repository");
    }
    if !path.split('/').all(is_component) {
        return Err("has a repository that is not words of a-z and 0-9 with . _ - between");
    }
    if path.len() == 64 && path == name && path.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("is the bare hex of a digest");
    }
    Ok(())
}

/// Whether what stands before the first slash is meant as a host (distribution: `splitDockerDomain`).
pub(super) fn is_domain_place(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            let rest_fits = rest.is_empty() || rest.starts_with(':');
            let hex = |byte: u8| byte.is_ascii_hexdigit() || byte == b':';
            if !rest_fits || address.is_empty() || !address.bytes().all(hex) {
                return false;
            }
            ("v6", rest.strip_prefix(':'))
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(label) && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [component.bytes().next(), component.bytes().last()];
    let mut separators = component.split(|c: char| c.is_ascii() && word(c as u8)).filter(|part| !part.is_empty());
    ends.iter().all(|end| end.is_some_and(word))
        && separators.all(|part| matches!(part, "." | "_" | "__") || part.bytes().all(|byte| byte == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    digest.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    #[test]
    fn references_are_told_from_everything_else() {
        let long_tag = format!("a:{}", "t".repeat(129));
        let long_name = "a/".repeat(130) + "b";
        for (reference, good) in [
            ("busybox", true),
            ("busybox:1.36", true),
            ("docker.io/calico/node:v3.28.0", true),
            ("localhost/x", true),
            ("localhost:5000/x:y", true),
            ("host:5000/x", true),
            ("Registry.Example.org/x:Y_z.1-2", true),
            ("[fd00::1]:5000/x", true),
            ("a__b/c---d.e_f", true),
            ("x@sha256:HEX", true),
            ("host:5000/x:t@sha256:HEX", true),
            ("", false),
            ("Busybox", false),
            ("docker.io/Library/x", false),
            ("Library/x", true), // a host without a dot, as Docker reads it
            ("a b", false),
            (" a", false),
            ("a\n", false),
            ("{{ .Values.image }}", false),
            ("<image>", false),
            ("$(IMAGE)", false),
            ("${IMAGE}:v1", false),
            ("https://quay.io/x:v1", false),
            ("a:", false),
            ("a:-x", false),
            ("a:b:c", false),
            ("host:port/x", false),
            ("-host.org/x", false),
            ("a//b", false),
            ("a/", false),
            ("/a", false),
            ("a___b", false),
            ("a._b", false),
            ("a-", false),
            ("größe", false),
            ("a:v1+b", false),
            ("x@sha256:00", false),
            ("x@", false),
            ("x@sha256:HEX@sha256:HEX", false),
            ("HEX", false),
            (long_tag.as_str(), false),
            (long_name.as_str(), false),
        ] {
            let reference = reference.replace("HEX", HEX);
            assert_eq!(check(&reference).is_ok(), good, "{reference}: {:?}", check(&reference));
        }
    }

    #[test]
    fn a_node_finds_an_image_under_its_names() {
        for (reference, want) in [
            ("busybox", vec!["docker.io/library/busybox:latest"]),
            ("quay.io/a/b:v1", vec!["quay.io/a/b:v1"]),
            ("host:5000/a@sha256:HEX", vec!["host:5000/a@sha256:HEX"]),
            ("a/b:v1@sha256:HEX", vec!["docker.io/a/b:v1", "docker.io/a/b@sha256:HEX"]),
        ] {
            let want: Vec<String> = want.iter().map(|name| name.replace("HEX", HEX)).collect();
            assert_eq!(names(&reference.replace("HEX", HEX)), want, "{reference}");
        }
    }

    #[test]
    fn references_are_taken_apart() {
        for (reference, want) in [
            ("docker.io/library/busybox:1", Ok(("docker.io", "library/busybox", Some("1"), false))),
            ("host:5000/a", Ok(("host:5000", "a", None, false))),
            ("[fd00::1]:5000/a/b:1@sha256:HEX", Ok(("[fd00::1]:5000", "a/b", Some("1"), true))),
            ("A/b@sha256:HEX", Ok(("A", "b", None, true))),
            ("busybox", Err("has no host name before its first slash")),
            ("a/b:1", Err("has no host name before its first slash")),
            ("host.org/../a", Err("has a repository that is not words of a-z and 0-9 with . _ - between")),
        ] {
            let reference = reference.replace("HEX", HEX);
            let found = split(&reference).map(|parts| (parts.host, parts.path, parts.tag, parts.digest.is_some()));
            assert_eq!(found, want, "{reference}");
        }
    }

    #[test]
    fn a_port_is_no_tag() {
        for (reference, exact) in
            [("host:5000/a", false), ("host:5000/a:1", true), ("a", false), ("a:1", true), ("a@sha256:0", true)]
        {
            assert_eq!(is_exact(reference), exact, "{reference}");
        }
    }
}
