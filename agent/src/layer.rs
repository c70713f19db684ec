//! Image layers unpacked by ourselves, into the directory of a snapshot that containerd prepared, with the result
//! that containerd's own diff service would have (docs/decisions/0004-layers.md).
//!
//! ```text
//! compressed ─► decompressor ─► pieces ─► sha256 ─► tar entries ─► files
//! ```
//! A layer that is larger than a piece is decompressed on the calling thread and written by another.

mod decode;
mod entries;
mod header;
mod parents;
mod path;
mod pax;
mod room;
mod rooted;
mod stream;
mod unpack;
mod write;

use std::io::Read;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;

use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};

use decode::{Decoder, PIECE, packing};
use entries::Entries;
use room::{Roomy, leave};
use stream::{Piped, Stream, Supply, Whole};
use unpack::Unpacker;

/// Pieces that wait for the writing thread at most.
const WAITING: usize = 4;
/// Options of an overlay mount that change nothing about what lies in its directories.
const HARMLESS: [&str; 6] = ["index=off", "metacopy=off", "redirect_dir=off", "volatile", "xino=off", "nfs_export=off"];

/// A mount as containerd's `Prepare` answers it.
#[derive(Debug, Clone, Copy)]
pub struct Mounted<'a> {
    /// `overlay`, `bind`, …
    pub kind: &'a str,
    /// The device or directory.
    pub source: &'a str,
    /// Each option by itself.
    pub options: &'a [String],
}

/// How what lower layers have is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteouts {
    /// By character devices 0:0 and `trusted.overlay.opaque`, as overlayfs reads them.
    Overlay,
    /// By removing it: the directory holds all layers.
    Remove,
}

/// Where a layer goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The directory that becomes the snapshot: an overlay's upper one, or the source of a bind mount.
    pub directory: PathBuf,
    /// An overlay's lower directories, the uppermost first.
    pub parents: Vec<PathBuf>,
    /// How whiteouts are written.
    pub whiteouts: Whiteouts,
}

impl Target {
    /// The target behind `mounts`; none where these are not recognised, so that containerd has to unpack.
    #[must_use]
    pub fn of(mounts: &[Mounted<'_>]) -> Option<Self> {
        let [mount] = mounts else { return None };
        match mount.kind {
            "bind" if mount.options.iter().all(|option| option == "rbind" || option == "rw") => {
                Some(Self { directory: absolute(mount.source)?, parents: Vec::new(), whiteouts: Whiteouts::Remove })
            }
            "overlay" => Self::of_overlay(mount.options),
            _ => None,
        }
    }

    fn of_overlay(options: &[String]) -> Option<Self> {
        let (mut upper, mut lower) = (None, None);
        for option in options {
            match option.split_once('=') {
                Some(("upperdir", directory)) if upper.is_none() => upper = Some(absolute(directory)?),
                Some(("lowerdir", directories)) if lower.is_none() => {
                    lower = Some(directories.split(':').map(absolute).collect::<Option<Vec<_>>>()?);
                }
                Some(("workdir", _)) => {}
                _ if HARMLESS.contains(&option.as_str()) => {}
                _ => return None,
            }
        }
        Some(Self { directory: upper?, parents: lower?, whiteouts: Whiteouts::Overlay })
    }
}

/// A directory by its full name. A backslash would quote a colon.
fn absolute(path: &str) -> Option<PathBuf> {
    (path.starts_with('/') && path.len() > 1 && !path.contains('\\')).then(|| PathBuf::from(path))
}

/// Why a layer was not unpacked. Its directory then holds a part of it: the snapshot has to be removed.
#[derive(Debug)]
pub enum Refused {
    /// It reaches for what is not its own (`ARCHIVE_UNSAFE`). Nobody shall unpack it.
    Hostile(Failure),
    /// Something that is left to containerd's diff service.
    Unknown(String),
    /// `IO`, `NO_SPACE`, `CONTENT_INVALID`, or the failure that the reader's error holds.
    Failed(Failure),
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Of the uncompressed bytes, to the very end.
    pub diff_id: Digest,
    /// Uncompressed bytes.
    pub bytes: u64,
}

/// Unpacks the layer `compressed` of type `media_type` into `target`; it may have `limit` uncompressed bytes. It
/// blocks. Nothing is synced to the disk. The caller compares the digest.
///
/// # Errors
/// See [`Refused`]. A [`Failure`] inside an error of `compressed` is handed back as it is.
pub fn apply(compressed: impl Read, media_type: &str, target: &Target, limit: Option<u64>) -> Result<Applied, Refused> {
    let Some(packing) = packing(media_type) else {
        return Err(Refused::Unknown(format!("the media type {media_type:?}")));
    };
    let mut decoder = Decoder::new(compressed, packing)?;
    let mut first = Vec::new();
    decoder.next(&mut first)?;
    if first.len() < PIECE {
        return unpack(Whole(Some(first)), limit, target);
    }
    let (full, to_write) = sync_channel(WAITING);
    let (used, empty) = channel();
    thread::scope(|scope| {
        let pieces = Piped { full: to_write, empty: used };
        let unpack = || unpack(pieces, limit, target);
        let writing = thread::Builder::new().name("layer".to_owned()).spawn_scoped(scope, unpack);
        let writing = writing.map_err(|error| {
            Refused::Failed(Failure::new(Code::Io, "starting a thread for a layer").with_source(error))
        })?;
        feed(&mut decoder, first, full, &empty);
        writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Sends piece after piece, the empty one or a refusal last, until nobody wants more.
fn feed<R: Read>(
    decoder: &mut Decoder<R>,
    first: Vec<u8>,
    full: SyncSender<Result<Vec<u8>, Refused>>,
    empty: &Receiver<Vec<u8>>,
) {
    let mut piece = first;
    loop {
        let last = piece.is_empty();
        if full.send(Ok(piece)).is_err() || last {
            return;
        }
        piece = empty.try_recv().unwrap_or_default();
        if let Err(refused) = decoder.next(&mut piece) {
            // Where nobody listens any more, the other side has a refusal of its own.
            let _ = full.send(Err(refused));
            return;
        }
    }
}

fn unpack<S: Supply>(pieces: S, limit: Option<u64>, target: &Target) -> Result<Applied, Refused> {
    let mut tar = Entries::new(Stream::new(Roomy::new(pieces, &target.directory), limit));
    match Unpacker::new(target)?.run(&mut tar) {
        Ok(()) => tar.stream.finish(),
        Err(Refused::Unknown(what)) if !tar.stream.broken => {
            // containerd's diff service has no limit, so that what is left to it is measured before.
            let all = tar.stream.finish()?;
            leave(&target.directory, all.bytes)?;
            Err(Refused::Unknown(what))
        }
        Err(refused) => Err(refused),
    }
}

fn hostile(what: String) -> Refused {
    Refused::Hostile(Failure::new(Code::ArchiveUnsafe, what))
}

fn content_invalid(what: impl Into<String>) -> Refused {
    Refused::Failed(Failure::new(Code::ContentInvalid, what))
}

#[cfg(test)]
mod tests;
