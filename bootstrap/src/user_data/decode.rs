//! User data as bytes → the parts that cloud-init would see: base64, gzip and MIME multipart are taken off, in any
//! order and nesting, within bounds.

mod mime;

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;
use serde::Serialize;

use super::refused;
use crate::failure::Failure;

/// The longest user data, as it comes. CloudStack takes 1 MiB.
pub const MAX_ENCODED: usize = 4 << 20;

/// Bytes of all parts together, decoded.
pub const MAX_DECODED: usize = 8 << 20;

/// The same, with what was inflated on the way.
const MAX_TAKEN: usize = 4 * MAX_DECODED;

/// Encodings inside each other.
const MAX_LAYERS: usize = 8;

/// Parts of one user data.
const MAX_PARTS: usize = 64;

/// A part of user data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub kind: Kind,
    /// Whether it is meant as a jinja template.
    pub jinja: bool,
    /// Whether cloud-init takes it for what it is. A header within MIME counts for it only where the content type says no
    /// more than that it is a text.
    pub honoured: bool,
    /// Its text: lines end with `\n`, no byte order mark.
    pub text: String,
    /// Whether it came in MIME, where nobody cuts a first line off.
    pub mime: bool,
}

/// What a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `#cloud-config`.
    CloudConfig,
    /// `#!`.
    ShellScript,
    /// `#cloud-boothook`.
    Boothook,
    /// `#include`.
    Include,
    /// Another text.
    Other,
    /// Bytes that are no text.
    Binary,
}

impl Kind {
    /// For people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CloudConfig => "cloud-config",
            Self::ShellScript => "a shell script",
            Self::Boothook => "a boothook",
            Self::Include => "an include",
            Self::Other => "a text",
            Self::Binary => "bytes",
        }
    }
}

/// What was taken off on the way to the parts, outermost first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// base64.
    Base64,
    /// gzip.
    Gzip,
    /// MIME multipart.
    Mime,
}

impl Layer {
    /// For people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base64 => "base64",
            Self::Gzip => "gzip",
            Self::Mime => "MIME",
        }
    }
}

/// User data, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Its parts, in their order; none where it is empty.
    pub parts: Vec<Part>,
    /// What was taken off.
    pub layers: Vec<Layer>,
    /// Bytes that were taken off so far, and one for each part.
    taken: usize,
}

/// Takes user data apart.
///
/// # Errors
/// `USER_DATA_INVALID`: longer than [`MAX_ENCODED`] or [`MAX_DECODED`], gzip that is damaged, MIME without boundary.
pub fn decode(bytes: &[u8]) -> Result<Decoded, Failure> {
    if bytes.len() > MAX_ENCODED {
        return Err(refused(format!("user data of more than {} MiB", MAX_ENCODED >> 20)));
    }
    let mut decoded = Decoded::default();
    decoded.take(bytes, &Declared::default(), 0)?;
    Ok(decoded)
}

/// What the headers of a MIME part say of its body.
#[derive(Debug, Clone, Default)]
struct Declared {
    /// `text/cloud-config`; empty outside MIME.
    content_type: String,
    mime: bool,
}

impl Decoded {
    fn take(&mut self, bytes: &[u8], declared: &Declared, layer: usize) -> Result<(), Failure> {
        if layer > MAX_LAYERS {
            return Err(refused(format!("user data with more than {MAX_LAYERS} encodings inside each other")));
        }
        if bytes.starts_with(&[0x1f, 0x8b]) {
            self.layers.push(Layer::Gzip);
            let plain = gunzip(bytes)?;
            self.count(plain.len())?;
            return self.take(&plain, declared, layer + 1);
        }
        let Ok(text) = std::str::from_utf8(bytes) else {
            return self.push(Kind::Binary, false, String::new(), declared);
        };
        let text = text.trim_start_matches('\u{feff}');
        if text.trim().is_empty() {
            return Ok(());
        }
        if mime::is_multipart(text, declared) {
            self.layers.push(Layer::Mime);
            for (declared, body) in mime::parts(text, MAX_PARTS)? {
                self.count(1)?;
                self.take(&body, &declared, layer + 1)?;
            }
            return Ok(());
        }
        if let Some(inner) = base64_of(text) {
            self.layers.push(Layer::Base64);
            self.count(inner.len())?;
            return self.take(&inner, declared, layer + 1);
        }
        let text = text.replace("\r\n", "\n");
        let (kind, jinja) = kind_of(&text, declared);
        self.push(kind, jinja, text, declared)
    }

    /// All that is ever taken off counts, also what turns out to be nothing: a small text can hold the same bomb many
    /// times.
    fn count(&mut self, bytes: usize) -> Result<(), Failure> {
        self.taken = self.taken.saturating_add(bytes);
        if self.taken > MAX_TAKEN || self.layers.len() > MAX_PARTS * MAX_LAYERS {
            return Err(refused(format!("user data of more than {} MiB, decoded", MAX_TAKEN >> 20)));
        }
        Ok(())
    }

    fn push(&mut self, kind: Kind, jinja: bool, text: String, declared: &Declared) -> Result<(), Failure> {
        self.count(text.len())?;
        if self.parts.len() >= MAX_PARTS {
            return Err(refused(format!("user data of more than {MAX_PARTS} parts")));
        }
        let honoured = !jinja || !matches!(declared.content_type.as_str(), "text/cloud-config" | "text/x-shellscript");
        self.parts.push(Part { kind, jinja, honoured, text, mime: declared.mime });
        Ok(())
    }
}

fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut plain = Vec::new();
    let read = MultiGzDecoder::new(bytes).take(MAX_DECODED as u64 + 1).read_to_end(&mut plain);
    if plain.len() > MAX_DECODED {
        return Err(refused(format!("gzip in user data holds more than {} MiB", MAX_DECODED >> 20)));
    }
    match read {
        Ok(_) => Ok(plain),
        Err(e) => Err(refused("the gzip of the user data is damaged").with_source(e)),
    }
}

/// What `text` is the base64 of, where what comes out is user data. A single word is base64 by chance, so that has to
/// begin as user data does.
fn base64_of(text: &str) -> Option<Vec<u8>> {
    let alphabet = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    if !text.chars().all(|c| alphabet(c) || c.is_ascii_whitespace()) {
        return None;
    }
    let dense: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let padded = dense.trim_end_matches('=');
    let inner =
        base64::engine::general_purpose::STANDARD_NO_PAD.decode(padded).or_else(|_| STANDARD.decode(&dense)).ok()?;
    let begins = |start: &str| inner.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start.as_bytes()));
    let known = ["#", "Content-Type:", "MIME-Version:", "From ", "---", "\u{feff}"].into_iter().any(begins);
    // Twice encoded, as tools do that encode what is encoded already.
    let again = || std::str::from_utf8(&inner).ok().and_then(base64_of).is_some();
    (known || inner.starts_with(&[0x1f, 0x8b]) || again()).then_some(inner)
}

/// What a part is: by its first line as cloud-init looks at it, or by its content type, where that says more.
fn kind_of(text: &str, declared: &Declared) -> (Kind, bool) {
    let text = text.trim_start();
    let first = text.lines().next().unwrap_or_default().trim_end();
    if first.to_ascii_lowercase().starts_with("## template: jinja") {
        let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
        return (kind_of(rest, declared).0, true);
    }
    let jinja = declared.content_type == "text/jinja2";
    let kind = match declared.content_type.as_str() {
        "text/cloud-config" => Kind::CloudConfig,
        "text/x-shellscript" => Kind::ShellScript,
        "text/cloud-boothook" => Kind::Boothook,
        "text/x-include-url" | "text/x-include-once-url" => Kind::Include,
        _ => by_first_line(&first.to_ascii_lowercase()),
    };
    (kind, jinja)
}

fn by_first_line(first: &str) -> Kind {
    const KINDS: [(&str, Kind); 5] = [
        ("#cloud-config-", Kind::Other),
        ("#cloud-config", Kind::CloudConfig),
        ("#!", Kind::ShellScript),
        ("#cloud-boothook", Kind::Boothook),
        ("#include", Kind::Include),
    ];
    KINDS.into_iter().find(|(start, _)| first.starts_with(start)).map_or(Kind::Other, |(_, kind)| kind)
}

#[cfg(test)]
mod tests;
