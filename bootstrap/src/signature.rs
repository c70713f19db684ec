//! Who signed a bundle: minisign's public keys and signatures.
//!
//! A signature file holds one or more signatures, four lines each, as `minisign -S` writes them; minisign
//! itself reads the first. Only prehashed signatures count (minisign's default since 0.10): the older kind
//! can't be made or checked of a stream, and the two kinds of one key must not be mixed.

use std::fmt;
use std::io::{ErrorKind, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minisign_verify::Error;

use crate::failure::{Code, Failure};

/// The path on the ISO of the signatures over [`crate::bundle::MANIFEST_PATH`]. No manifest lists it.
pub const SIGNATURE_PATH: &str = "cks-bundle.json.minisig";

/// A signature file larger than this is refused unread; one signature has about 350 bytes.
pub const SIGNATURE_MAX_BYTES: u64 = 64 << 10;

/// Signatures in one file; each costs a pass over the content.
const MAX_SIGNATURES: usize = 32;

/// Lines of a signature: comment, signature, trusted comment, signature over both.
const LINES: usize = 4;

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// What every comment line begins with.
const COMMENT: &str = "untrusted comment:";

/// Bytes of a public key: algorithm 2, id 8, Ed25519 key 32.
const KEY_BYTES: usize = 42;

/// A minisign public key.
#[derive(Clone)]
pub struct PublicKey {
    id: [u8; 8],
    point: [u8; 32],
    key: minisign_verify::PublicKey,
}

/// A trusted key that signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The key.
    pub key: PublicKey,
    /// The trusted comment, as the signer wrote it: any character.
    pub comment: String,
}

/// A signature as it stands in a file, proven by nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The id of the key that it says it was made with.
    pub id: String,
    /// Its trusted comment; it may hold any character.
    pub comment: String,
    /// Its four lines, with their ends.
    pub text: String,
}

impl PublicKey {
    /// Reads a text that holds one key: its base64 line, with or without the comment line above.
    ///
    /// # Errors
    /// `KEY_INVALID`; the text is not repeated, it may be a secret key.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let mut keys = Self::parse_all(text)?.into_iter();
        match (keys.next(), keys.next()) {
            (Some(key), None) => Ok(key),
            _ => Err(invalid("several keys where one is wanted")),
        }
    }

    /// Reads a text that holds one key or several.
    ///
    /// # Errors
    /// `KEY_INVALID`, as [`PublicKey::parse`].
    pub fn parse_all(text: &str) -> Result<Vec<Self>, Failure> {
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with(COMMENT));
        let keys: Vec<Self> = keys.map(|(at, line)| Self::of_line(at, line)).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(invalid("it holds no key")) } else { Ok(keys) }
    }

    fn of_line(at: usize, line: &str) -> Result<Self, Failure> {
        let bytes = STANDARD.decode(line).unwrap_or_default();
        if bytes.len() > KEY_BYTES && bytes.starts_with(b"Ed") {
            return Err(invalid(format!("line {at} is a secret key"))
                .with_remedy("name the public key (.pub), and keep the secret one to yourself"));
        }
        let refuse = || invalid(format!("line {at} is no minisign public key"));
        let key = minisign_verify::PublicKey::from_base64(line).map_err(|_| refuse())?;
        match (bytes.get(2..10).map(<[u8; 8]>::try_from), bytes.get(10..KEY_BYTES).map(<[u8; 32]>::try_from)) {
            (Some(Ok(id)), Some(Ok(point))) => Ok(Self { id, point, key }),
            _ => Err(refuse()),
        }
    }

    /// The id as minisign prints it: 16 upper-case hex digits. Anybody can make a key with the same id.
    #[must_use]
    pub fn id(&self) -> String {
        shown(self.id)
    }
}

/// Equal keys verify the same signatures, whatever stands beside them.
impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        (self.id, self.point) == (other.id, other.point)
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

/// The signatures that `text` holds, in its order, proven by nothing.
///
/// # Errors
/// `SIGNATURE_INVALID` when it holds none, or anything else.
pub fn claims(text: &str) -> Result<Vec<Claim>, Failure> {
    Ok(decode(text)?.into_iter().map(|(claim, _)| claim).collect())
}

/// The keys of `keys` that signed `content`, in the order of the signatures in `signature`, each once and
/// at least one. A signature of another key is passed over: nothing can be said about it. One that names a
/// key of `keys` and is not of it makes the whole file invalid.
///
/// # Errors
/// `SIGNATURE_INVALID` when no key signed, or the text holds anything but signatures; `KEY_INVALID` when
/// there are no keys.
pub fn verify(keys: &[PublicKey], content: &[u8], signature: &str) -> Result<Vec<Signer>, Failure> {
    verify_reader(keys, content, signature)
}

/// As [`verify`], for a content that does not fit into memory; it is read once.
///
/// # Errors
/// As [`verify`]; `IO` when the content can't be read.
pub fn verify_reader(keys: &[PublicKey], content: impl Read, signature: &str) -> Result<Vec<Signer>, Failure> {
    if keys.is_empty() {
        return Err(invalid("no trusted key was given").with_remedy("name a public key with --key"));
    }
    let decoded = decode(signature)?;
    let (mut tried, mut strangers) = (Vec::new(), Vec::new());
    for (claim, signature) in &decoded {
        // Two keys may have one id: the signature is of one of them.
        let named: Vec<_> = keys.iter().filter(|key| key.id() == claim.id).collect();
        if named.is_empty() {
            strangers.push(claim.id.as_str());
            continue;
        }
        let streams = named.into_iter().map(|key| Ok((key, key.key.verify_stream(signature)?)));
        let streams = streams.collect::<Result<Vec<_>, _>>().map_err(|error| broken(&claim.id, &error))?;
        tried.push((claim, streams));
    }
    if tried.is_empty() {
        let what = format!("it is signed by {}, which is no trusted key", strangers.join(", "));
        return Err(Failure::new(Code::SignatureInvalid, what));
    }
    each_chunk(content, |chunk| {
        tried.iter_mut().flat_map(|(_, streams)| streams).for_each(|(_, stream)| stream.update(chunk));
    })?;
    let mut signers: Vec<Signer> = Vec::new();
    for (claim, streams) in tried {
        let mut streams = streams.into_iter();
        let signed = streams.find_map(|(key, mut stream)| stream.finalize().is_ok().then_some(key));
        let key = signed.ok_or_else(|| broken(&claim.id, &Error::InvalidSignature))?;
        if !signers.iter().any(|signer| signer.key == *key) {
            signers.push(Signer { key: key.clone(), comment: claim.comment.clone() });
        }
    }
    Ok(signers)
}

fn each_chunk(mut content: impl Read, mut take: impl FnMut(&[u8])) -> Result<(), Failure> {
    let mut buf = vec![0; CHUNK];
    loop {
        match content.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(count) => take(&buf[..count]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(Failure::new(Code::Io, "Reading what is signed").with_source(e)),
        }
    }
}

fn broken(id: &str, why: &Error) -> Failure {
    let refuse = |what: String| Failure::new(Code::SignatureInvalid, what);
    match why {
        Error::UnsupportedLegacyMode => refuse(format!("the signature of key {id} is not prehashed"))
            .with_remedy("sign again with cks-iso sign, or with minisign 0.10 or later (older ones: -H)"),
        _ => refuse(format!("the signature of key {id} does not belong to this content")),
    }
}

/// Each signature with what it says of itself.
fn decode(text: &str) -> Result<Vec<(Claim, minisign_verify::Signature)>, Failure> {
    let refuse = |what: String| {
        Failure::new(Code::SignatureInvalid, what).with_remedy("sign again with cks-iso sign, or with minisign -S")
    };
    if text.len() as u64 > SIGNATURE_MAX_BYTES {
        return Err(refuse(format!("{} bytes are more than signatures have", text.len())));
    }
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() || lines.len() > LINES * MAX_SIGNATURES {
        return Err(refuse(format!("{} lines are no signatures, which have four each", lines.len())));
    }
    let mut decoded = Vec::new();
    for (at, lines) in lines.chunks(LINES).enumerate() {
        let none = || refuse(format!("line {} begins no minisign signature", at * LINES + 1));
        let [comment, line, _, _] = lines else { return Err(none()) };
        if !comment.starts_with(COMMENT) {
            return Err(none());
        }
        let text = lines.join("\n") + "\n";
        let signature = minisign_verify::Signature::decode(&text).map_err(|_| none())?;
        let bytes = STANDARD.decode(line).unwrap_or_default();
        let Some(Ok(id)) = bytes.get(2..10).map(<[u8; 8]>::try_from) else { return Err(none()) };
        let comment = signature.trusted_comment().to_owned();
        decoded.push((Claim { id: shown(id), comment, text }, signature));
    }
    Ok(decoded)
}

/// Key ids are little-endian numbers.
fn shown(id: [u8; 8]) -> String {
    format!("{:016X}", u64::from_le_bytes(id))
}

fn invalid(what: impl Into<String>) -> Failure {
    Failure::new(Code::KeyInvalid, what).with_remedy("name a minisign public key (.pub); cks-iso keygen makes one")
}

#[cfg(test)]
mod tests;
