//! Tars by the byte: also what no tar program would write.

/// An entry of a tar.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) kind: u8,
    pub(crate) name: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) data: Vec<u8>,
    size: Option<u64>,
    mode: u64,
    owner: (u64, u64),
    mtime: u64,
    device: (u32, u32),
    pax: Vec<(Vec<u8>, Vec<u8>)>,
    magic: &'static [u8; 8],
}

/// An entry of `kind` called `name`, with settings that tell one entry from the other.
pub(crate) fn entry(kind: u8, name: impl AsRef<[u8]>) -> Entry {
    Entry {
        kind,
        name: name.as_ref().to_vec(),
        link: Vec::new(),
        data: Vec::new(),
        size: None,
        mode: if kind == b'5' { 0o755 } else { 0o640 },
        owner: (0, 0),
        mtime: 1_234_567_890,
        device: (0, 0),
        pax: Vec::new(),
        magic: b"ustar  \0",
    }
}

pub(crate) fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Entry {
    Entry { data: data.as_ref().to_vec(), ..entry(b'0', name) }
}

pub(crate) fn dir(name: impl AsRef<[u8]>) -> Entry {
    entry(b'5', name)
}

pub(crate) fn hard(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    Entry { link: target.as_ref().to_vec(), ..entry(b'1', name) }
}

pub(crate) fn soft(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    Entry { link: target.as_ref().to_vec(), mode: 0o777, ..entry(b'2', name) }
}

impl Entry {
    pub(crate) fn kind(self, kind: u8) -> Self {
        Self { kind, ..self }
    }

    pub(crate) fn mode(self, mode: u64) -> Self {
        Self { mode, ..self }
    }

    pub(crate) fn owner(self, uid: u64, gid: u64) -> Self {
        Self { owner: (uid, gid), ..self }
    }

    pub(crate) fn mtime(self, mtime: u64) -> Self {
        Self { mtime, ..self }
    }

    pub(crate) fn device(self, major: u32, minor: u32) -> Self {
        Self { device: (major, minor), ..self }
    }

    /// A size that the data do not have.
    pub(crate) fn size(self, size: u64) -> Self {
        Self { size: Some(size), ..self }
    }

    pub(crate) fn magic(self, magic: &'static [u8; 8]) -> Self {
        Self { magic, ..self }
    }

    pub(crate) fn pax(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.pax.push((key.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn xattr(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax(format!("SCHILY.xattr.{name}"), value)
    }

    fn put(&self, tar: &mut Vec<u8>) {
        if !self.pax.is_empty() {
            let records = self.pax.iter().flat_map(|(key, value)| record(key, value)).collect::<Vec<u8>>();
            Self { data: records, ..entry(b'x', "pax") }.put(tar);
        }
        for (kind, text) in [(b'L', &self.name), (b'K', &self.link)] {
            if text.len() > 100 {
                Self { data: text.clone(), ..entry(kind, "././@LongLink") }.put(tar);
            }
        }
        let mut block = tar::Header::new_old();
        let cut = |text: &[u8], into: &mut [u8]| {
            let length = text.len().min(into.len());
            into[..length].copy_from_slice(&text[..length]);
        };
        cut(&self.name, &mut block.as_mut_bytes()[..100]);
        cut(&self.link, &mut block.as_mut_bytes()[157..257]);
        block.as_mut_bytes()[156] = self.kind;
        block.as_mut_bytes()[257..265].copy_from_slice(self.magic);
        block.set_mode(self.mode as u32);
        block.set_uid(self.owner.0);
        block.set_gid(self.owner.1);
        block.set_mtime(self.mtime);
        block.set_size(self.size.unwrap_or(self.data.len() as u64));
        let device = format!("{:07o}\0{:07o}\0", self.device.0, self.device.1);
        block.as_mut_bytes()[329..345].copy_from_slice(device.as_bytes());
        block.set_cksum();
        tar.extend_from_slice(block.as_bytes());
        tar.extend_from_slice(&self.data);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
}

/// A PAX record: its length counts its own digits.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// The entries without the end of a tar.
pub(crate) fn open_tar(entries: &[Entry]) -> Vec<u8> {
    let mut tar = Vec::new();
    entries.iter().for_each(|entry| entry.put(&mut tar));
    tar
}

/// A tar of `entries`.
pub(crate) fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut tar = open_tar(entries);
    tar.resize(tar.len() + 1024, 0);
    tar
}
