//! The entries of a tar, with what PAX and GNU headers say about them.

use super::header::{self, BLOCK, Time};
use super::pax;
use super::stream::{Stream, Supply};
use super::{Refused, content_invalid, path};

/// Bytes of an extended header that are read at most, as in Go's archive/tar.
const MAX_EXTENDED: i64 = 1 << 20;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    HardLink,
    SymbolicLink,
    Character,
    Block,
    Fifo,
}

/// An entry; its data follow in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) size: u64,
    /// The twelve bits of the permissions.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) atime: Option<Time>,
    pub(super) device: (u32, u32),
    /// Extended attributes: name and value.
    pub(super) attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A tar that is read entry by entry.
pub(super) struct Entries<S> {
    pub(super) stream: Stream<S>,
    /// Bytes up to the next header: the rest of the data, and the padding behind it, apart because a tar may
    /// end in the padding.
    data: u64,
    padding: u64,
}

#[derive(Default)]
struct Extended {
    pax: Vec<u8>,
    name: Vec<u8>,
    link: Vec<u8>,
}

impl<S: Supply> Entries<S> {
    pub(super) fn new(stream: Stream<S>) -> Self {
        Self { stream, data: 0, padding: 0 }
    }

    /// The next entry, or none at the end of the tar.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Refused> {
        let mut extended = Extended::default();
        loop {
            if self.stream.take(self.data, |_| Ok(()))? < self.data {
                return Err(truncated());
            }
            self.data = 0;
            if self.stream.take(self.padding, |_| Ok(()))? < self.padding {
                return Ok(None);
            }
            self.padding = 0;
            let Some(block) = self.header()? else { return Ok(None) };
            let header = header::parse(&block).map_err(|what| unusual(what, &block))?;
            match header.kind {
                b'x' => extended.pax = self.special(header.size)?,
                b'L' => extended.name = header::text(&self.special(header.size)?).to_vec(),
                b'K' => extended.link = header::text(&self.special(header.size)?).to_vec(),
                _ => {
                    let entry = merge(header, &extended).map_err(|what| unusual(what, &block))?;
                    self.expect(entry.size);
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Hands the data of the last entry to `each`.
    pub(super) fn data(&mut self, each: impl FnMut(&[u8]) -> Result<(), Refused>) -> Result<(), Refused> {
        let there = self.stream.take(self.data, each)?;
        if there < self.data {
            return Err(truncated());
        }
        self.data = 0;
        Ok(())
    }

    fn expect(&mut self, size: u64) {
        self.data = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
    }

    /// The next block that is no end: two blocks of zeros, one at the end of the stream, or nothing at all.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, Refused> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block != [0; BLOCK] {
            return Ok(Some(block));
        }
        match self.block()? {
            Some(next) if next != [0; BLOCK] => {
                Err(Refused::Unknown("a tar that goes on behind an empty block".into()))
            }
            _ => Ok(None),
        }
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Refused> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        let read = self.stream.take(BLOCK as u64, |part| {
            block[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
            Ok(())
        })?;
        match read as usize {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            _ => Err(truncated()),
        }
    }

    fn special(&mut self, size: i64) -> Result<Vec<u8>, Refused> {
        if !(0..=MAX_EXTENDED).contains(&size) {
            return Err(content_invalid(format!("an extended header of {size} bytes")));
        }
        self.expect(size as u64);
        let mut bytes = Vec::with_capacity(size as usize);
        self.data(|part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        Ok(bytes)
    }
}

/// `header` with what extended headers before it say.
fn merge(mut header: header::Header, extended: &Extended) -> Result<Entry, &'static str> {
    let records = pax::records(&extended.pax)?;
    let integer = |value| pax::integer(value).ok_or("a PAX number that is none");
    let time = |value| pax::time(value).ok_or("a PAX time that is none");
    let mut attributes = Vec::new();
    for (&key, &value) in &records {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            attributes.push((name.to_vec(), value.to_vec()));
        } else if !value.is_empty() {
            match key {
                b"path" => header.name = value.to_vec(),
                b"linkpath" => header.link = value.to_vec(),
                b"uid" => header.uid = integer(value)?,
                b"gid" => header.gid = integer(value)?,
                b"size" => header.size = integer(value)?,
                b"mtime" => header.mtime = time(value)?,
                b"atime" => header.atime = Some(time(value)?),
                b"ctime" => drop(time(value)?),
                _ => {}
            }
        }
    }
    for (long, short) in [(&extended.name, &mut header.name), (&extended.link, &mut header.link)] {
        if !long.is_empty() {
            short.clone_from(long);
        }
    }
    let kind = kind(&header)?;
    // Only files have data, whatever the header says.
    let size = if kind == Kind::File { header.size } else { header.size.min(0) };
    let small = |number: i64, bits| u32::try_from(number).ok().filter(|number| u64::from(*number) < 1_u64 << bits);
    // -1 as an owner would mean: as it is.
    let owner = |id| small(id, 32).filter(|id| *id != u32::MAX).ok_or("an owner out of range");
    let device = if matches!(kind, Kind::Character | Kind::Block) {
        small(header.device.0, 12).zip(small(header.device.1, 20)).ok_or("a device out of range")?
    } else {
        (0, 0)
    };
    Ok(Entry {
        kind,
        size: u64::try_from(size).map_err(|_| "a negative size")?,
        mode: (header.mode & 0o7777) as u32,
        uid: owner(header.uid)?,
        gid: owner(header.gid)?,
        mtime: header.mtime,
        atime: header.atime,
        device,
        attributes,
        name: header.name,
        link: header.link,
    })
}

fn kind(header: &header::Header) -> Result<Kind, &'static str> {
    Ok(match header.kind {
        b'0' => Kind::File,
        // Before there was a kind for them, directories ended in a slash.
        0 if header.name.ends_with(b"/") => Kind::Directory,
        0 => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::SymbolicLink,
        b'3' => Kind::Character,
        b'4' => Kind::Block,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'S' => return Err("a sparse file of GNU tar"),
        b'g' => return Err("a global PAX header"),
        _ => return Err("a kind of entry that is not known"),
    })
}

fn truncated() -> Refused {
    content_invalid("its tar is cut off")
}

fn unusual(what: &str, block: &[u8; BLOCK]) -> Refused {
    Refused::Unknown(format!("{what}, at the entry {:?}", path::shown(header::text(&block[..100]))))
}

#[cfg(test)]
mod tests {
    use super::super::stream::Whole;
    use super::*;

    fn all(tar: Vec<u8>) -> Result<Vec<Entry>, Refused> {
        let mut entries = Entries::new(Stream::new(Whole(Some(tar)), None));
        let mut all = Vec::new();
        while let Some(entry) = entries.next()? {
            all.push(entry);
        }
        Ok(all)
    }

    fn block(kind: u8, name: &str, size: u64) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn with(kind: u8, name: &str, data: &str) -> Vec<u8> {
        let mut bytes = block(kind, name, data.len() as u64);
        bytes.extend_from_slice(data.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    #[test]
    fn extended_headers_belong_to_the_next_entry() {
        let tar = [with(b'x', "pax", "11 mtime=2.\n13 path=long\n11 size=3.\n"), with(b'0', "short", "abc")].concat();
        assert!(matches!(all(tar), Err(Refused::Unknown(_))), "a size with a point");
        let tar = [
            with(b'x', "pax", "13 mtime=2.5\n13 path=long\n20 SCHILY.xattr.a=b\n"),
            with(b'0', "short", "abc"),
            with(b'L', "@LongLink", "longer\0rest"),
            with(b'K', "@LongLink", "target"),
            with(b'2', "short", ""),
            with(b'0', "last", ""),
        ]
        .concat();
        let all = all(tar).unwrap();
        assert_eq!((all[0].name.as_slice(), all[0].mtime), (&b"long"[..], 2_500_000_000));
        assert_eq!(all[0].attributes, [(b"a".to_vec(), b"b".to_vec())]);
        assert_eq!((all[1].name.as_slice(), all[1].link.as_slice()), (&b"longer"[..], &b"target"[..]));
        assert_eq!((all[2].name.as_slice(), all[2].mtime, all.len()), (&b"last"[..], 1_000_000_000, 3));
    }

    #[test]
    fn a_tar_ends_where_go_lets_it_end() {
        let file = with(b'0', "a", "abc");
        assert_eq!(all(Vec::new()).unwrap().len(), 0);
        assert_eq!(all(file.clone()).unwrap().len(), 1);
        assert_eq!(all(file[..BLOCK + 3].to_vec()).unwrap().len(), 1, "in the padding");
        assert_eq!(all([&file[..], &[0; 512]].concat()).unwrap().len(), 1);
        assert_eq!(all([&file[..], &[0; 1024], &file].concat()).unwrap().len(), 1);
        for cut in [1, BLOCK - 1, BLOCK + 2] {
            assert!(matches!(all(file[..cut].to_vec()), Err(Refused::Failed(_))), "{cut}");
        }
        assert!(matches!(all([&file[..], &[0; 512], &file].concat()), Err(Refused::Unknown(_))));
    }

    #[test]
    fn large_and_unknown_headers_are_refused() {
        assert!(matches!(all(block(b'x', "pax", 2 << 20)), Err(Refused::Failed(_))));
        for kind in [b'S', b'g', b'V', b'7'] {
            assert!(matches!(all(with(kind, "a", "")), Err(Refused::Unknown(_))), "{kind}");
        }
        // A directory has no data, so what a size promises is the next header.
        assert_eq!(all([block(b'5', "d/", 512), with(b'0', "a", "")].concat()).unwrap().len(), 2);
    }
}
