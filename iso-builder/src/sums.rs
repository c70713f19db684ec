//! The files beside a finished ISO: checksums, signature, bill of materials. They are hashed while the ISO
//! is written, and never tell of another ISO than the one beside them: the old ones go before the new ISO
//! gets its name, the new ones come after.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use blake2::Blake2b512;
use bootstrap::bundle::Manifest;
use bootstrap::digest::Digest;
use bootstrap::failure::Failure;
use serde::Serialize;
use sha2::{Digest as _, Sha512};

use crate::content::failed;
use crate::iso::{Image, Written};
use crate::keys::SecretKey;
use crate::partial::{Partial, directory_of};
use crate::progress::Progress;
use crate::{sbom, sign};

/// Suffix of the file for `sha256sum -c`.
pub const SHA256: &str = ".sha256";
/// Suffix of the file for `sha512sum -c`.
pub const SHA512: &str = ".sha512";
/// Suffix of the signature over the whole ISO, for `minisign -V`.
pub const MINISIG: &str = ".minisig";
/// Suffix of the bill of materials, SPDX 2.3.
pub const SPDX: &str = ".spdx.json";

/// Bytes handed to the hashing thread at once; at most four such pieces wait.
const PIECE: usize = 256 << 10;

/// The file beside `iso` with this suffix: `out.iso.sha256`.
#[must_use]
pub fn beside(iso: &Path, suffix: &str) -> PathBuf {
    let mut name = iso.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The paths of the files beside a finished ISO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Companions {
    /// For `sha256sum -c`.
    pub sha256: PathBuf,
    /// For `sha512sum -c`.
    pub sha512: PathBuf,
    /// The bill of materials.
    pub spdx: PathBuf,
    /// The signature over the whole ISO; none where nobody signed.
    pub minisig: Option<PathBuf>,
}

/// What the files beside an ISO tell.
#[derive(Debug)]
pub struct Release<'a> {
    /// The ISO to be made.
    pub output: &'a Path,
    /// What is on it.
    pub manifest: &'a Manifest,
    /// The digest of its `cks-bundle.json`.
    pub manifest_digest: Digest,
    /// The time that dates it, in seconds since 1970.
    pub epoch: u64,
    /// Who signs it.
    pub key: Option<&'a SecretKey>,
}

impl Release<'_> {
    /// Writes `image` into `partial`, gives it its name, and puts the files beside it.
    ///
    /// # Errors
    /// As [`Image::write`]; `IO` or `NO_SPACE` name the file beside it. Where the ISO has its name by
    /// then, files beside it are missing, and none is of another ISO.
    pub fn write(&self, image: &Image, partial: Partial, progress: Progress) -> Result<Written, Failure> {
        let bar = progress.start("Writing", image.size());
        let mut hashing = Hashing::new(partial.file(), self.key.is_some());
        let written = image.write(&mut hashing, &bar)?;
        let (sha512, prehash) = hashing.finish().map_err(|e| failed("Hashing", self.output, e))?;
        let texts = [
            (SHA256, Some(line(&written.sha256.hex(), self.output))),
            (SHA512, Some(line(&hex(&sha512), self.output))),
            (SPDX, Some(sbom::document(self.manifest, self.manifest_digest, self.epoch)?.into_bytes())),
            (MINISIG, prehash.and_then(|prehash| self.signature(&prehash))),
        ];
        // All are held till the last has its name, or those of two programs that write one ISO could mix.
        let mut held = Vec::new();
        for (suffix, text) in texts {
            let path = beside(self.output, suffix);
            let partial = Partial::wait(&path)?;
            if let Some(text) = &text {
                partial.file().write_all(text).map_err(|e| failed("Writing", &path, e))?;
            }
            held.push((path, partial, text.is_some()));
        }
        for (path, ..) in &held {
            remove(path)?;
        }
        // On the disk before the new name: a power cut must not bring them back.
        sync(directory_of(self.output))?;
        partial.finish()?;
        bar.finish();
        for (_, partial, is_wanted) in held {
            if is_wanted {
                partial.finish()?;
            }
        }
        Ok(written)
    }

    /// Where [`Release::write`] puts what.
    #[must_use]
    pub fn companions(&self) -> Companions {
        let at = |suffix| beside(self.output, suffix);
        Companions { sha256: at(SHA256), sha512: at(SHA512), spdx: at(SPDX), minisig: self.key.map(|_| at(MINISIG)) }
    }

    fn signature(&self, prehash: &[u8; 64]) -> Option<Vec<u8>> {
        let name = self.output.file_name().unwrap_or_default().to_string_lossy();
        let comment = sign::comment(self.epoch, &self.manifest.name, &name);
        self.key.map(|key| key.sign(prehash, &comment).into_bytes())
    }
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("Removing", path, e)),
        _ => Ok(()),
    }
}

fn sync(directory: &Path) -> Result<(), Failure> {
    File::open(directory).and_then(|d| d.sync_all()).map_err(|e| failed("Syncing", directory, e))
}

/// A line as `sha256sum` writes it; it marks names with a line end or a backslash by a leading one.
fn line(hex: &str, path: &Path) -> Vec<u8> {
    let (mut name, mut mark): (Vec<u8>, &[u8]) = (Vec::new(), b"");
    for byte in path.file_name().map(|name| name.as_bytes()).unwrap_or_default() {
        let escaped: &[u8] = match byte {
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            other => std::slice::from_ref(other),
        };
        if escaped.len() > 1 {
            mark = b"\\";
        }
        name.extend_from_slice(escaped);
    }
    [mark, hex.as_bytes(), b"  ", &name, b"\n"].concat()
}

/// The hex digits that `text`, a file of `sha256sum` or `sha512sum`, tells of the file at `path`.
#[must_use]
pub fn told(text: &[u8], path: &Path) -> Option<String> {
    // The same name behind 64 or 128 other digits; a star stands there for binary mode.
    let name = line("", path);
    let (mark, name) = name.split_at(usize::from(name.first() == Some(&b'\\')));
    let name = name.strip_prefix(b"  ")?.trim_ascii_end();
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let line = line.strip_prefix(mark)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (hex, rest) = line.split_at(digits);
        let rest = rest.strip_prefix(b"  ").or_else(|| rest.strip_prefix(b" *"))?;
        let hex = std::str::from_utf8(hex).ok()?.to_ascii_lowercase();
        (rest.trim_ascii_end() == name).then_some(hex)
    })
}

/// Lower-case hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-512 and, where the ISO is signed, BLAKE2b-512.
type Hashes = ([u8; 64], Option<[u8; 64]>);

/// A file that is hashed while it is written: on a thread of its own, which keeps pace with the disc.
struct Hashing<W> {
    file: W,
    piece: Vec<u8>,
    pieces: SyncSender<Vec<u8>>,
    thread: JoinHandle<Hashes>,
}

impl<W: Write> Hashing<W> {
    fn new(file: W, prehash: bool) -> Self {
        let (pieces, taken) = sync_channel::<Vec<u8>>(4);
        let thread = std::thread::spawn(move || {
            let (mut sha512, mut blake2) = (Sha512::new(), prehash.then(Blake2b512::new));
            for piece in taken {
                sha512.update(&piece);
                if let Some(blake2) = &mut blake2 {
                    blake2.update(&piece);
                }
            }
            (sha512.finalize().into(), blake2.map(|blake2| blake2.finalize().into()))
        });
        Self { file, piece: Vec::with_capacity(PIECE), pieces, thread }
    }

    fn hand_on(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.pieces.send(piece).map_err(|_| io::Error::other("the hashing thread ended"))
    }

    fn finish(mut self) -> io::Result<Hashes> {
        self.hand_on()?;
        drop(self.pieces);
        self.thread.join().map_err(|_| io::Error::other("the hashing thread failed"))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let count = self.file.write(buf)?;
        let mut rest = &buf[..count];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(PIECE - self.piece.len()));
            self.piece.extend_from_slice(now);
            if self.piece.len() == PIECE {
                self.hand_on()?;
            }
            rest = later;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_hashed_whatever_the_pieces() {
        let bytes: Vec<u8> = (0..3 * PIECE + 7).map(|at| at as u8).collect();
        for size in [1000, PIECE, PIECE + 1, bytes.len()] {
            let mut hashing = Hashing::new(Vec::new(), true);
            bytes.chunks(size).for_each(|chunk| hashing.write_all(chunk).unwrap());
            assert!(hashing.file == bytes);
            let want = (Sha512::digest(&bytes).into(), Some(Blake2b512::digest(&bytes).into()));
            assert!(hashing.finish().unwrap() == want, "pieces of {size}");
        }
        assert_eq!(Hashing::new(Vec::new(), false).finish().unwrap().1, None);
    }

    #[test]
    fn lines_are_read_as_they_are_written() {
        for name in ["out.iso", "a b.iso", "back\\slash\n.iso", "ä.iso"] {
            let path = Path::new("/some/where").join(name);
            let text = [b"00  other\n".to_vec(), line("abcd", &path)].concat();
            assert_eq!(told(&text, &path).as_deref(), Some("abcd"), "{name:?}");
            assert_eq!(told(&line("abcd", Path::new("x.iso")), &path), None);
        }
        assert_eq!(told(b"ABCD *out.iso\r\n", Path::new("out.iso")).as_deref(), Some("abcd"));
        for text in [&b""[..], b"abcd", b"abcd out.iso", b"\xff  out.iso", b"abcd  out.iso.old"] {
            assert!(told(text, Path::new("out.iso")).is_none_or(|hex| hex.is_empty()), "{text:?}");
        }
    }
}
