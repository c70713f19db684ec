//! Paths of a tar as bytes, made plain by their text alone. Pure.

/// `path` without empty, `.` and inner `..` components. An absolute path has no `..` above `/`; a relative one
/// keeps those that lead out of it. The empty path is `.`.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    let absolute = path.first() == Some(&b'/');
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => drop(parts.pop()),
            b".." if absolute => {}
            part => parts.push(part),
        }
    }
    let mut cleaned = if absolute { b"/".to_vec() } else { Vec::with_capacity(path.len()) };
    cleaned.extend_from_slice(&parts.join(&b'/'));
    if cleaned.is_empty() { b".".to_vec() } else { cleaned }
}

/// `base` below `directory`, clean. Empty ones count as not there.
pub(super) fn join(directory: &[u8], base: &[u8]) -> Vec<u8> {
    match (directory, base) {
        (b"", b"") => Vec::new(),
        (b"", only) | (only, b"") => clean(only),
        (directory, base) => clean(&[directory, base].join(&b'/')),
    }
}

/// The part up to and with the last `/`, and the part behind it.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    path.split_at(path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1))
}

/// `path` without the slashes around it.
pub(super) fn bare(path: &[u8]) -> &[u8] {
    let start = path.iter().take_while(|&&byte| byte == b'/').count();
    let end = path.len() - path[start..].iter().rev().take_while(|&&byte| byte == b'/').count();
    &path[start..end]
}

/// Whether the clean path leads out of where it starts.
pub(super) fn leads_out(cleaned: &[u8]) -> bool {
    cleaned == b".." || cleaned.starts_with(b"../")
}

/// `path` as people read it.
pub(super) fn shown(path: &[u8]) -> String {
    bootstrap::text::plain(&String::from_utf8_lossy(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_path_says_where_it_leads() {
        let table: [(&str, &str); 14] = [
            ("", "."),
            (".", "."),
            ("./", "."),
            ("/", "/"),
            ("a//b/./c/", "a/b/c"),
            ("./a", "a"),
            ("a/..", "."),
            ("a/../../b", "../b"),
            ("../../a", "../../a"),
            ("/../a", "/a"),
            ("/a/../..", "/"),
            ("..", ".."),
            ("a/b/../../..", ".."),
            ("..a/b..", "..a/b.."),
        ];
        for (path, want) in table {
            assert_eq!(clean(path.as_bytes()), want.as_bytes(), "{path}");
        }
        assert!(leads_out(b"..") && leads_out(b"../x") && !leads_out(b"..x") && !leads_out(b"a/.."));
    }

    #[test]
    fn joining_and_splitting_are_each_other_s_reverse() {
        assert_eq!(join(b"a/b", b"../c"), b"a/c");
        assert_eq!(join(b"/", b".."), b"/");
        assert_eq!(join(b"", b"x"), b"x");
        assert_eq!(join(b"", b""), b"");
        assert_eq!(split(b"a/b/c"), (&b"a/b/"[..], &b"c"[..]));
        assert_eq!(split(b"c"), (&b""[..], &b"c"[..]));
        assert_eq!(split(b"/"), (&b"/"[..], &b""[..]));
        assert_eq!(bare(b"/a/b/"), b"a/b");
        assert_eq!(bare(b"//"), b"");
    }
}
