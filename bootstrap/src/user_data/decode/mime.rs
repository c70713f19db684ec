//! MIME multipart (RFC 2046), as far as user data has it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::Declared;
use crate::failure::Failure;
use crate::user_data::refused;

/// Whether `text` is a MIME message; outside of MIME, cloud-init looks for its version header.
pub(super) fn is_multipart(text: &str, declared: &Declared) -> bool {
    if declared.mime {
        // The headers of a nested multipart stand before it, and were put back for this.
        return declared.content_type.starts_with("multipart/");
    }
    let head = text.trim_start();
    let first = head.lines().next().unwrap_or_default().to_ascii_lowercase();
    let header = ["content-type:", "mime-version:", "from ", "received:", "message-id:", "date:", "subject:"];
    if !header.into_iter().any(|start| first.starts_with(start)) {
        return false;
    }
    let (headers, _) = split(head);
    header_of(&headers, "content-type").is_some_and(|value| value.to_ascii_lowercase().starts_with("multipart/"))
}

/// The parts of a multipart message, each with what its headers declare and its body, decoded.
pub(super) fn parts(text: &str, most: usize) -> Result<Vec<(Declared, Vec<u8>)>, Failure> {
    let (headers, body) = split(text.trim_start());
    let content_type = header_of(&headers, "content-type").unwrap_or_default();
    let boundary = parameter(&content_type, "boundary").filter(|boundary| !boundary.is_empty());
    let boundary = boundary.ok_or_else(|| refused("the MIME header of the user data names no boundary"))?;
    let mut parts = Vec::new();
    let mut open: Option<Vec<&str>> = None;
    let delimiter = format!("--{boundary}");
    for line in body.lines() {
        match line.trim_end().strip_prefix(delimiter.as_str()) {
            Some(end @ ("" | "--")) => {
                if let Some(lines) = open.take() {
                    parts.push(part(&lines.join("\n")));
                }
                if end == "--" {
                    break;
                }
                if parts.len() >= most {
                    return Err(refused(format!("user data of more than {most} parts")));
                }
                open = Some(Vec::new());
            }
            _ => open.iter_mut().for_each(|lines| lines.push(line)),
        }
    }
    // The last boundary may be cut off with the rest.
    parts.extend(open.map(|lines| part(&lines.join("\n"))));
    Ok(parts)
}

fn part(text: &str) -> (Declared, Vec<u8>) {
    let (headers, body) = split(text);
    let content_type = header_of(&headers, "content-type").unwrap_or_default();
    let plain = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let declared = Declared { content_type: plain.clone(), mime: true };
    if plain.starts_with("multipart/") {
        return (declared, text.as_bytes().to_vec());
    }
    let encoding = header_of(&headers, "content-transfer-encoding").unwrap_or_default().to_ascii_lowercase();
    let body = match encoding.trim() {
        "base64" => base64(body).unwrap_or_else(|| body.as_bytes().to_vec()),
        "quoted-printable" => quoted_printable(body),
        _ => body.as_bytes().to_vec(),
    };
    (declared, body)
}

/// Headers, each on one line, and the body.
fn split(text: &str) -> (Vec<String>, &str) {
    let mut headers: Vec<String> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let line = line.trim_end_matches('\r');
        if line.is_empty() {
            return (headers, after);
        }
        match headers.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            // A part without headers begins with its body.
            _ if !is_header(line) => return (headers, rest),
            _ => headers.push(line.to_owned()),
        }
        rest = after;
    }
    (headers, rest)
}

fn is_header(line: &str) -> bool {
    let name = |name: &str| !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    line.starts_with("From ") || line.split_once(':').is_some_and(|(before, _)| name(before))
}

fn header_of(headers: &[String], name: &str) -> Option<String> {
    let value = |header: &String| {
        let (before, value) = header.split_once(':')?;
        before.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    };
    headers.iter().find_map(value)
}

/// `boundary` of `multipart/mixed; boundary="x"`.
fn parameter(value: &str, name: &str) -> Option<String> {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once(';') {
        rest = after.trim_start();
        let Some((key, content)) = rest.split_once('=') else { continue };
        let content = content.trim_start();
        let (content, after) = match content.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => content.split_at(content.find([';', ' ']).unwrap_or(content.len())),
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(content.to_owned());
        }
        rest = after;
    }
    None
}

fn base64(body: &str) -> Option<Vec<u8>> {
    let dense: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD_NO_PAD.decode(dense.trim_end_matches('=')).ok()
}

/// RFC 2045, 6.7; what is no encoding stands for itself.
fn quoted_printable(body: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len());
    let mut rest = body.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'=' {
            bytes.push(*first);
            continue;
        }
        let digit = |byte: &u8| (*byte as char).to_digit(16);
        match after {
            [b'\r', b'\n', ..] => rest = after.get(2..).unwrap_or_default(),
            [b'\n', ..] => rest = after.get(1..).unwrap_or_default(),
            [high, low, ..] if digit(high).is_some() && digit(low).is_some() => {
                let value = digit(high).unwrap_or_default() * 16 + digit(low).unwrap_or_default();
                bytes.extend(u8::try_from(value));
                rest = after.get(2..).unwrap_or_default();
            }
            _ => bytes.push(b'='),
        }
    }
    bytes
}
