//! Secret keys in minisign's format: made, read, used. What is secret stays in the key: no message, no
//! `Debug` text and no argument holds it.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blake2::{Blake2b512, Digest};
use bootstrap::failure::{Code, Failure};
use bootstrap::signature::PublicKey;
use minisign::{KeyPair, SecretKeyBox};
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::unistd::linkat;

use crate::content::{failed, misnamed};
use crate::partial::directory_of;

/// Key and password files are smaller than this.
const MAX_BYTES: u64 = 64 << 10;

/// Bytes of minisign's password, at most.
const MAX_PASSWORD: usize = 1024;

/// Where the parts of a secret key lie in its bytes (minisign, "Secret key format"): after the algorithms,
/// salt and limits come id, seed, public key and checksum.
const ID: usize = 54;
const SEED: usize = 62;
const POINT: usize = 94;
const CHECKSUM: usize = 126;
const LENGTH: usize = 158;

/// A password; it shows itself to nobody.
pub struct Password(String);

/// Where a password comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// From a person at the terminal.
    Terminal,
    /// From the first line of a file.
    File(PathBuf),
}

/// A secret key that can sign.
pub struct SecretKey {
    path: PathBuf,
    id: [u8; 8],
    pair: Ed25519KeyPair,
}

/// A pair of key files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The secret key, `NAME.key`.
    pub secret: PathBuf,
    /// The public key, `NAME.pub`.
    pub public: PathBuf,
    /// The id, as minisign prints it.
    pub id: String,
}

impl Asked {
    /// Asks for the password of `key`.
    ///
    /// # Errors
    /// `KEY_INVALID` when there is no terminal, or the file holds no password.
    pub fn ask(&self, key: &Path) -> Result<Password, Failure> {
        match self {
            Self::File(path) => {
                let text = small_text(path)?;
                Password::new(text.lines().next().unwrap_or_default())
                    .map_err(|failure| crate::bundle::named(&path.display().to_string(), failure))
            }
            Self::Terminal => Password::new(&prompt(&format!("Password of {}: ", key.display()))?),
        }
    }

    /// As [`Asked::ask`], for a new key: a person has to type it twice.
    ///
    /// # Errors
    /// As [`Asked::ask`]; `KEY_INVALID` also when the two differ.
    pub fn ask_new(&self, key: &Path) -> Result<Password, Failure> {
        let password = self.ask(key)?;
        if *self == Self::Terminal && prompt("The same again: ")? != password.0 {
            return Err(invalid("the two passwords differ").with_remedy("run the command again"));
        }
        Ok(password)
    }
}

impl Password {
    fn new(text: &str) -> Result<Self, Failure> {
        match text.len() {
            0 => Err(invalid("the password is empty").with_remedy("use another one, or make a key with --no-password")),
            1..=MAX_PASSWORD => Ok(Self(text.to_owned())),
            _ => {
                Err(invalid(format!("the password has more than {MAX_PASSWORD} bytes")).with_remedy("use another one"))
            }
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

impl SecretKey {
    /// Reads the secret key at `path`; `password` is asked when it has one.
    ///
    /// # Errors
    /// `KEY_INVALID` when it is none, or the password is wrong; `CONFIG_INVALID` or `IO` when it can't be
    /// read. None repeats what the file holds.
    pub fn load(path: &Path, password: &Asked) -> Result<Self, Failure> {
        let text = small_text(path)?;
        let naming = |failure| crate::bundle::named(&path.display().to_string(), failure);
        let line = text.lines().nth(1).unwrap_or_default().trim();
        let bytes = STANDARD.decode(line).unwrap_or_default();
        let bytes = match bytes.get(..4) {
            Some(b"EdSc") if bytes.len() == LENGTH => {
                let password = password.ask(path)?;
                let opened = SecretKeyBox::from(text).into_secret_key(Some(password.0));
                let wrong = |_| invalid("its password is another one").with_remedy("give the password of this key");
                opened.map_err(wrong).map_err(naming)?.to_bytes()
            }
            Some(b"Ed\0\0") if bytes.len() == LENGTH => bytes,
            _ if PublicKey::parse_all(&text).is_ok() => {
                let remedy = "name the secret key (.key) that belongs to it";
                return Err(naming(invalid("it is a public key").with_remedy(remedy)));
            }
            _ => return Err(naming(invalid("it is no minisign secret key"))),
        };
        Self::of_bytes(path, &bytes).map_err(naming)
    }

    fn of_bytes(path: &Path, bytes: &[u8]) -> Result<Self, Failure> {
        let damaged = || invalid("it is damaged").with_remedy("take it from its backup");
        let id = bytes.get(ID..SEED).and_then(|id| id.try_into().ok()).ok_or_else(damaged)?;
        // A public half of another key would give the secret one away with the first signature.
        match (bytes.get(SEED..POINT), bytes.get(POINT..CHECKSUM)) {
            (Some(seed), Some(point)) => {
                let pair = Ed25519KeyPair::from_seed_and_public_key(seed, point).map_err(|_| damaged())?;
                Ok(Self { path: path.to_owned(), id, pair })
            }
            _ => Err(damaged()),
        }
    }

    /// The file that it was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id as minisign prints it: 16 upper-case hex digits.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{:016X}", u64::from_le_bytes(self.id))
    }

    /// The signature file over the content with this BLAKE2b-512 hash. The same key, hash and comment make
    /// the same bytes (RFC 8032), which are also minisign's. `comment` is one line.
    #[must_use]
    pub fn sign(&self, prehash: &[u8; 64], comment: &str) -> String {
        let signature = self.pair.sign(prehash);
        let bytes = [&b"ED"[..], &self.id, signature.as_ref()].concat();
        let both = self.pair.sign(&[signature.as_ref(), comment.as_bytes()].concat());
        format!(
            "untrusted comment: signature by cks-iso, key {}\n{}\ntrusted comment: {comment}\n{}\n",
            self.id(),
            STANDARD.encode(bytes),
            STANDARD.encode(both)
        )
    }

    /// As [`SecretKey::sign`], of bytes in memory.
    #[must_use]
    pub fn sign_bytes(&self, content: &[u8], comment: &str) -> String {
        self.sign(&Blake2b512::digest(content).into(), comment)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.id())
    }
}

/// Makes a pair of keys: `NAME.key`, for its owner only, and `NAME.pub`. Neither replaces a file.
///
/// # Errors
/// `CONFIG_INVALID` when one of the files exists or their directory does not; `IO` or `NO_SPACE`;
/// `KEY_INVALID` when no password can be had.
pub fn generate(name: &Path, password: Option<&Asked>) -> Result<Made, Failure> {
    let suffixed = |suffix: &str| {
        let mut path = name.as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
    };
    let (secret, public) = (suffixed(".key"), suffixed(".pub"));
    for path in [&secret, &public] {
        if fs::symlink_metadata(path).is_ok() {
            return Err(exists(path));
        }
    }
    let unmade = |e: minisign::PError| Failure::new(Code::Io, "Making a key").with_source(e);
    let pair = match password {
        None => KeyPair::generate_unencrypted_keypair(),
        Some(asked) => KeyPair::generate_encrypted_keypair(Some(asked.ask_new(&secret)?.0)),
    };
    let pair = pair.map_err(unmade)?;
    let text = pair.pk.to_base64();
    let id = PublicKey::parse(&text)?.id();
    let secret_text = pair.sk.to_box(Some("minisign secret key")).map_err(unmade)?.into_string();
    let public_text = format!("untrusted comment: minisign public key {id}\n{text}\n");
    // Both are on the disk before one has a name. Without the public key the secret one is of use; without
    // the secret one, nothing is.
    let unnamed =
        [Unnamed::new(&secret, secret_text.as_bytes(), 0o600)?, Unnamed::new(&public, public_text.as_bytes(), 0o644)?];
    for file in unnamed {
        file.appear()?;
    }
    let directory = directory_of(&secret);
    File::open(directory).and_then(|d| d.sync_all()).map_err(|e| failed("Syncing", directory, e))?;
    Ok(Made { secret, public, id })
}

/// A file that is whole and has no name: a kill leaves nothing of it.
struct Unnamed<'a> {
    path: &'a Path,
    file: File,
    /// Its name on a file system that knows no files without.
    hidden: Option<tempfile::TempPath>,
}

impl<'a> Unnamed<'a> {
    fn new(path: &'a Path, bytes: &[u8], mode: u32) -> Result<Self, Failure> {
        let (directory, writing) = (directory_of(path), |e| failed("Writing", path, e));
        // Both kinds are made with mode 0600.
        let nameless = OpenOptions::new().write(true).mode(0o600).custom_flags(OFlag::O_TMPFILE.bits()).open(directory);
        let (mut file, hidden) = match nameless {
            Ok(file) => (file, None),
            Err(_) => {
                let named = tempfile::NamedTempFile::new_in(directory).map_err(|e| misnamed("Making", path, e))?;
                let (file, hidden) = named.into_parts();
                (file, Some(hidden))
            }
        };
        file.write_all(bytes).map_err(writing)?;
        file.set_permissions(fs::Permissions::from_mode(mode)).map_err(writing)?;
        file.sync_all().map_err(writing)?;
        Ok(Self { path, file, hidden })
    }

    /// Gives it its name, unless there is a file of this name.
    fn appear(self) -> Result<(), Failure> {
        let Self { path, file, hidden } = self;
        let named = match hidden {
            Some(hidden) => hidden.persist_noclobber(path).map_err(|e| e.error),
            None => {
                let open = format!("/proc/self/fd/{}", file.as_raw_fd());
                linkat(AT_FDCWD, open.as_str(), AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW).map_err(io::Error::from)
            }
        };
        named.map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => exists(path),
            _ => failed("Writing", path, e),
        })
    }
}

fn exists(path: &Path) -> Failure {
    Failure::new(Code::ConfigInvalid, format!("{} exists, and a key is never replaced", path.display()))
        .with_remedy("choose another name, or move the old key away")
}

/// The text of a small file.
fn small_text(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let file = File::open(path).map_err(|e| misnamed("Opening", path, e))?;
    match file.take(MAX_BYTES).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(invalid(format!("{} is no text", path.display()))),
        Err(e) => Err(misnamed("Reading", path, e)),
    }
}

fn prompt(text: &str) -> Result<String, Failure> {
    rpassword::prompt_password(bootstrap::text::plain(text)).map_err(|e| {
        invalid("no password can be asked for: there is no terminal")
            .with_remedy("put the password into a file, and name it with --password-file or CKS_ISO_KEY_PASSWORD_FILE")
            .with_source(e)
    })
}

fn invalid(what: impl Into<String>) -> Failure {
    Failure::new(Code::KeyInvalid, what)
}

#[cfg(test)]
mod tests;
