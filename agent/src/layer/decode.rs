//! A layer's bytes, decompressed as its media type and its first bytes say.

use std::cell::RefCell;
use std::io::{self, BufReader, Cursor, Read};
use std::rc::Rc;

use bootstrap::failure::{Code, Failure};
use flate2::bufread::MultiGzDecoder;

use super::{Refused, content_invalid};
use crate::host::code_of;

/// Bytes of a piece: what is decompressed, hashed and written at a time. Lies in the second-level cache.
pub(super) const PIECE: usize = 256 << 10;
/// Compressed bytes read at a time.
const COMPRESSED: usize = 128 << 10;
/// zstd's levels up to 19 need 8 MiB to look back. What needs more is left to containerd: the agent stays small.
const ZSTD_WINDOW: u32 = 23;

/// How the bytes of a media type may be packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// Not at all.
    Plain,
    /// As their first bytes say, whatever the media type promises: containerd looks at nothing else.
    Detected,
}

/// How layers of `media_type` are packed; none where it is no layer that containerd itself would unpack.
pub(super) fn packing(media_type: &str) -> Option<Packing> {
    match media_type {
        "application/vnd.docker.image.rootfs.diff.tar"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Some(Packing::Detected),
        oci => match oci.strip_prefix("application/vnd.oci.image.layer.")?.trim_start_matches("nondistributable.") {
            "v1.tar" => Some(Packing::Plain),
            "v1.tar+gzip" | "v1.tar+zstd" => Some(Packing::Detected),
            _ => None,
        },
    }
}

/// A decompressor.
pub(super) struct Decoder<R: Read> {
    inner: Packed<R>,
    source: Lapse,
}

type Input<R> = BufReader<io::Chain<Cursor<Vec<u8>>, Watched<R>>>;

enum Packed<R: Read> {
    Plain(Input<R>),
    Gzip(Box<MultiGzDecoder<Input<R>>>),
    Zstd(zstd::Decoder<'static, Input<R>>),
}

/// The reader's own failure, kept apart from what a decompressor makes of it.
type Lapse = Rc<RefCell<Option<io::Error>>>;

struct Watched<R> {
    inner: R,
    lapse: Lapse,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            if error.kind() == io::ErrorKind::Interrupted {
                return error;
            }
            *self.lapse.borrow_mut() = Some(error);
            io::ErrorKind::BrokenPipe.into()
        })
    }
}

impl<R: Read> Decoder<R> {
    pub(super) fn new(compressed: R, packing: Packing) -> Result<Self, Refused> {
        let lapse = Lapse::default();
        let mut watched = Watched { inner: compressed, lapse: Rc::clone(&lapse) };
        let mut head = Vec::with_capacity(10);
        if let Err(error) = watched.by_ref().take(10).read_to_end(&mut head) {
            return Err(refuse(&lapse, error));
        }
        let kind = if packing == Packing::Detected { magic(&head) } else { Magic::None };
        let input = BufReader::with_capacity(COMPRESSED, Cursor::new(head).chain(watched));
        let inner = match kind {
            Magic::None => Packed::Plain(input),
            Magic::Gzip => Packed::Gzip(Box::new(MultiGzDecoder::new(input))),
            Magic::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(input).map_err(|error| refuse(&lapse, error))?;
                decoder.window_log_max(ZSTD_WINDOW).map_err(|error| refuse(&lapse, error))?;
                Packed::Zstd(decoder)
            }
        };
        Ok(Self { inner, source: lapse })
    }

    /// Fills `piece` with the next bytes; fewer than [`PIECE`] only at the end, where it stays empty at last.
    pub(super) fn next(&mut self, piece: &mut Vec<u8>) -> Result<(), Refused> {
        piece.resize(PIECE, 0);
        let mut filled = 0;
        while filled < PIECE {
            let free = &mut piece[filled..];
            let read = match &mut self.inner {
                Packed::Plain(plain) => plain.read(free),
                Packed::Gzip(gzip) => gzip.read(free),
                Packed::Zstd(zstd) => zstd.read(free),
            };
            match read {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(refuse(&self.source, error)),
            }
        }
        piece.truncate(filled);
        Ok(())
    }
}

enum Magic {
    None,
    Gzip,
    Zstd,
}

fn magic(head: &[u8]) -> Magic {
    match head {
        [0x1f, 0x8b, 0x08, ..] => Magic::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Magic::Zstd,
        // A frame to be skipped.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, _, _, _, _, ..] => Magic::Zstd,
        _ => Magic::None,
    }
}

/// What reading failed by: the source (its own [`Failure`] where the error holds one), or the compressed bytes.
fn refuse(lapse: &Lapse, error: io::Error) -> Refused {
    let Some(lapse) = lapse.borrow_mut().take() else {
        let cause = error.to_string();
        return if cause.contains("requires too much memory") {
            Refused::Unknown("it was compressed with a large window".to_owned())
        } else {
            content_invalid(format!("its compressed bytes are damaged: {cause}"))
        };
    };
    let code = code_of(&lapse);
    match lapse.into_inner().map(|inner| inner.downcast::<Failure>()) {
        Some(Ok(failure)) => Refused::Failed(*failure),
        Some(Err(other)) => Refused::Failed(Failure::new(code, "reading a layer").with_source(other)),
        None => Refused::Failed(Failure::new(Code::Io, "reading a layer")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(compressed: impl Read, packing: Packing) -> Result<Vec<u8>, Refused> {
        let mut decoder = Decoder::new(compressed, packing)?;
        let (mut all, mut piece) = (Vec::new(), Vec::new());
        loop {
            decoder.next(&mut piece)?;
            if piece.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(&piece);
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_first_bytes_say_how_it_is_packed() {
        let bytes: Vec<u8> = (0..600_000_u32).flat_map(u32::to_le_bytes).collect();
        let (front, back) = bytes.split_at(1_000_001);
        let frames = |level| [zstd::encode_all(front, level).unwrap(), zstd::encode_all(back, level).unwrap()].concat();
        let skipped = [b"\x50\x2a\x4d\x18\x01\0\0\0!".to_vec(), frames(1)].concat();
        for packed in [bytes.clone(), [gzip(front), gzip(back)].concat(), frames(3), frames(19), skipped] {
            assert!(read(&packed[..], Packing::Detected).unwrap() == bytes);
        }
        assert!(read(&frames(1)[..], Packing::Plain).unwrap() == frames(1));
        assert_eq!(read(&b""[..], Packing::Detected).unwrap(), b"");
    }

    #[test]
    fn damage_is_the_content_s_and_a_failed_source_keeps_its_failure() {
        let good = gzip(&[7; 100_000]);
        for damaged in [&good[..good.len() - 5], &[&good[..], b"rest"].concat()] {
            let refused = read(damaged, Packing::Detected).unwrap_err();
            assert!(
                matches!(&refused, Refused::Failed(failure) if failure.code == Code::ContentInvalid),
                "{refused:?}"
            );
        }
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other(Failure::new(Code::SourceUnreachable, "gone")))
            }
        }
        for cut in [0, 5, 50] {
            let refused = read(good[..cut].chain(Broken), Packing::Detected).unwrap_err();
            assert!(
                matches!(&refused, Refused::Failed(failure) if failure.code == Code::SourceUnreachable),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_large_window_is_left_to_containerd() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&[1; 100_000]).unwrap();
        let packed = encoder.finish().unwrap();
        assert!(matches!(read(&packed[..], Packing::Detected), Err(Refused::Unknown(_))));
    }

    #[test]
    fn media_types_are_those_that_containerd_unpacks_itself() {
        let table = [
            ("application/vnd.oci.image.layer.v1.tar", Some(Packing::Plain)),
            ("application/vnd.oci.image.layer.v1.tar+gzip", Some(Packing::Detected)),
            ("application/vnd.oci.image.layer.v1.tar+zstd", Some(Packing::Detected)),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Some(Packing::Detected)),
            ("application/vnd.docker.image.rootfs.diff.tar", Some(Packing::Detected)),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Some(Packing::Detected)),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Some(Packing::Detected)),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", None),
            ("application/vnd.oci.image.layer.v1.tar+xz", None),
            ("application/vnd.erofs.layer.v1", None),
            ("", None),
        ];
        for (media_type, want) in table {
            assert_eq!(packing(media_type), want, "{media_type}");
        }
    }
}
