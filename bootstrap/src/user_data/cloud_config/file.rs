//! One item of `write_files`, as cloud-init takes it.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use flate2::read::MultiGzDecoder;

use crate::user_data::decode::MAX_DECODED;
use crate::user_data::yaml::{Fault, Node, Value};

/// A file that user data writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::user_data) struct WriteFile {
    /// Its path.
    pub(in crate::user_data) path: String,
    /// The line of the item.
    pub(in crate::user_data) line: usize,
    /// Its text.
    pub(in crate::user_data) content: String,
    /// The line of the user data that its text begins in, where it is not encoded.
    pub(in crate::user_data) content_line: usize,
    /// Permission bits, where they are given.
    pub(in crate::user_data) mode: Option<u32>,
    /// Its owner, where one is given.
    pub(in crate::user_data) owner: Option<String>,
    /// Whether its text is added to what the file holds.
    pub(in crate::user_data) append: bool,
    /// Keys of the item that are not understood.
    pub(in crate::user_data) other: Vec<String>,
}

/// Bytes that the gzipped files of one user data may still have.
#[derive(Debug)]
pub(in crate::user_data) struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(MAX_DECODED)
    }
}

/// Reads an item of `write_files`.
///
/// # Errors
/// What is wrong with it, and the line.
pub(in crate::user_data) fn write_file(node: &Node, room: &mut Room) -> Result<WriteFile, Fault> {
    let fault = |line: usize, what: String| Fault { line, what };
    let Some(entries) = node.map() else {
        return Err(fault(
            node.line,
            format!("an item of write_files is a mapping with path and content, not {}", node.kind()),
        ));
    };
    let path = node.get("path").and_then(Node::text).unwrap_or_default().trim().to_owned();
    if path.is_empty() {
        return Err(fault(node.line, "an item of write_files without path".to_owned()));
    }
    let text = match node.get("content") {
        None => String::new(),
        Some(content) => match &content.value {
            Value::Scalar { text, .. } => text.clone(),
            _ => return Err(fault(content.line, format!("content of {path} is a text, not {}", content.kind()))),
        },
    };
    let encoding = node.get("encoding").and_then(Node::text).unwrap_or("text/plain").to_ascii_lowercase();
    let content_line = node.get("content").map_or(node.line, Node::first_line);
    let content =
        decoded(text, &encoding, room).map_err(|what| fault(content_line, format!("content of {path}: {what}")))?;
    let mode = match node.get("permissions").and_then(Node::text) {
        None => None,
        Some(text) => Some(mode(text).ok_or_else(|| fault(node.line, format!("permissions of {path} are not octal")))?),
    };
    let owner = node.get("owner").and_then(Node::text).map(str::to_owned);
    let append = node.get("append").and_then(Node::truth).unwrap_or_default();
    let known = ["path", "content", "encoding", "permissions", "owner", "append", "defer"];
    let other = entries.iter().map(|entry| &entry.key).filter(|key| !known.contains(&key.as_str())).cloned().collect();
    Ok(WriteFile { path, line: node.line, content, content_line, mode, owner, append, other })
}

fn decoded(text: String, encoding: &str, room: &mut Room) -> Result<String, String> {
    let (gzip, base64) = match encoding {
        "" | "text/plain" => return Ok(text),
        "b64" | "base64" => (false, true),
        "gz" | "gzip" => (true, false),
        "gz+b64" | "gzip+b64" | "gz+base64" | "gzip+base64" => (true, true),
        other => return Err(format!("encoding {:?} is unknown", crate::text::plain(other))),
    };
    let mut bytes = text.into_bytes();
    if base64 {
        bytes.retain(|byte| !byte.is_ascii_whitespace());
        while bytes.last() == Some(&b'=') {
            bytes.pop();
        }
        bytes = STANDARD_NO_PAD.decode(&bytes).map_err(|_| "is not base64".to_owned())?;
    }
    if gzip {
        let mut plain = Vec::new();
        let read = MultiGzDecoder::new(&*bytes).take(room.0 as u64 + 1).read_to_end(&mut plain);
        if read.is_err() || plain.len() > room.0 {
            return Err(format!("is no gzip of which all files have at most {} MiB", MAX_DECODED >> 20));
        }
        room.0 -= plain.len();
        bytes = plain;
    }
    String::from_utf8(bytes).map_err(|_| "is no text".to_owned())
}

/// `'0644'`, `0644`, `644`, `0o644`: a plain number with a leading zero is octal in YAML 1.1, and so is a text to
/// cloud-init.
fn mode(text: &str) -> Option<u32> {
    let digits = text.trim().trim_start_matches("0o");
    u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user_data::yaml::document;

    fn read(text: &str) -> Result<WriteFile, Fault> {
        write_file(&document(text).unwrap().root.unwrap(), &mut Room::default())
    }

    #[test]
    fn each_encoding_and_mode_is_read() {
        for (text, content, mode) in [
            ("{path: /a, content: x}", "x", None),
            ("path: /a\npermissions: 0700\ncontent: |\n  x\n", "x\n", Some(0o700)),
            ("{path: /a, permissions: '0644', encoding: b64, content: eHk=}", "xy", Some(0o644)),
            ("{path: /a, encoding: gz+b64, content: H4sIAAAAAAACA6uoBACZKOaPAgAAAA==}", "xy", None),
            ("{path: /a}", "", None),
        ] {
            let file = read(text).unwrap();
            assert_eq!((file.content.as_str(), file.mode), (content, mode), "{text}");
        }
    }

    #[test]
    fn all_gzipped_files_have_one_limit() {
        let node =
            document("{path: /a, encoding: gz+b64, content: H4sIAAAAAAACA6uoBACZKOaPAgAAAA==}").unwrap().root.unwrap();
        let mut room = Room(3);
        assert!(write_file(&node, &mut room).is_ok());
        assert!(write_file(&node, &mut room).unwrap_err().what.contains("at most"));
    }

    #[test]
    fn nonsense_is_named() {
        for (text, part) in [
            ("[a]", "a mapping"),
            ("{content: x}", "without path"),
            ("{path: /a, content: [x]}", "a text, not a list"),
            ("{path: /a, encoding: rot13, content: x}", "rot13"),
            ("{path: /a, encoding: b64, content: '*'}", "not base64"),
            ("{path: /a, permissions: rwx}", "not octal"),
        ] {
            let fault = read(text).unwrap_err();
            assert!(fault.what.contains(part), "{text}: {}", fault.what);
        }
    }
}
