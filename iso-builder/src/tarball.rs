//! Gzip'd tarballs: what is in one, and making one from programs of this machine.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bootstrap::bounded::Bounded;
use bootstrap::bundle::{Arch, Kind, Member, layout};
use bootstrap::digest::Hasher;
use bootstrap::failure::{Code, Failure};
use flate2::read::MultiGzDecoder;
use flate2::{Compression, GzBuilder};
use tar::EntryType;

use crate::content::{failed, misnamed};
use crate::elf;
use crate::progress::Bar;
use crate::spec::{in_spec, invalid};

/// Entries in one tarball: a hundred times what any release has.
const MAX_ENTRIES: usize = 10_000;

/// Reads the whole tarball `reader`, called `what` in messages, to the end of its checksum, and returns
/// its regular files, sorted by path.
///
/// # Errors
/// `CONTENT_INVALID` when it is no readable gzip'd tar, `ARCHIVE_UNSAFE` when an entry would leave the
/// directory, `ARCH_MISMATCH` when a program in it is for another machine than `arch`.
pub fn members(reader: impl Read, what: &str, arch: Arch) -> Result<Vec<Member>, Failure> {
    let mut reader = BufReader::new(reader);
    let mut magic = [0; 64];
    let begin = read_up_to(&mut reader, &mut magic).map_err(|e| unreadable(what, &e))?;
    if !begin.starts_with(&[0x1f, 0x8b]) {
        let kind = if crate::text::is_html(begin) { "an HTML page" } else { "not gzip'd" };
        return Err(Failure::new(Code::ContentInvalid, format!("{what} is {kind}")));
    }
    let (reader, budget) = Bounded::new(MultiGzDecoder::new(begin.chain(reader)));
    let mut archive = tar::Archive::new(reader);
    let mut members = Vec::new();
    for (count, entry) in archive.entries().map_err(|e| unreadable(what, &e))?.enumerate() {
        let mut entry = entry.map_err(|e| unreadable(what, &e))?;
        // Its content, read here or passed over, and then the next one's headers.
        budget.allow(entry.size());
        if count >= MAX_ENTRIES {
            return Err(Failure::new(Code::ContentInvalid, format!("{what} has more than {MAX_ENTRIES} entries")));
        }
        if let Some(member) = member(&mut entry, what, arch)? {
            members.push(member);
        }
    }
    // The checksum stands behind the end of the tar.
    io::copy(&mut archive.into_inner().into_inner(), &mut io::sink()).map_err(|e| unreadable(what, &e))?;
    members.sort();
    if let Some(twice) = members.windows(2).find(|pair| pair[0].path == pair[1].path) {
        let what = format!("{what} holds {:?} twice", twice[0].path);
        return Err(Failure::new(Code::ContentInvalid, what));
    }
    if members.is_empty() {
        return Err(Failure::new(Code::ContentInvalid, format!("{what} holds no file")));
    }
    Ok(members)
}

/// Accepts a tarball of `kind`, called `what` in messages, that has what the stock scripts take out of it.
///
/// # Errors
/// `CONTENT_INVALID` names the program that is missing.
pub fn check_purpose(kind: Kind, what: &str, members: &[Member]) -> Result<(), Failure> {
    let at_top = |name: &str| members.iter().any(|member| member.path == name);
    // The stock script takes `etcd*/etcd` and `etcd*/etcdctl`.
    let below_etcd = |name: &str| {
        let mut parts = members.iter().filter_map(|member| member.path.split_once('/'));
        parts.any(|(directory, rest)| directory.starts_with("etcd") && rest == name)
    };
    let lacks = match kind {
        Kind::CniPlugins if !at_top("bridge") && !at_top("loopback") => "bridge or loopback at its top",
        Kind::CriTools if !at_top("crictl") => "crictl at its top",
        Kind::Etcd if !below_etcd("etcd") => "etcd in a directory etcd*",
        Kind::Etcd if !below_etcd("etcdctl") => "etcdctl in a directory etcd*",
        _ => return Ok(()),
    };
    Err(Failure::new(Code::ContentInvalid, format!("{what} has no {lacks}"))
        .with_remedy("take upstream's tarball, or the programs themselves"))
}

fn member<R: Read>(entry: &mut tar::Entry<'_, R>, what: &str, arch: Arch) -> Result<Option<Member>, Failure> {
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    let path = name.trim_start_matches("./").trim_end_matches('/').to_owned();
    let unsafe_entry = |why: &str| Failure::new(Code::ArchiveUnsafe, format!("{what}: member {name:?} {why}"));
    let kind = entry.header().entry_type();
    if matches!(kind, EntryType::Directory) && matches!(path.as_str(), "" | ".") {
        return Ok(None);
    }
    layout::check_path(&path).map_err(unsafe_entry)?;
    match kind {
        EntryType::Directory | EntryType::XGlobalHeader => Ok(None),
        EntryType::Symlink | EntryType::Link => {
            let target = entry.link_name_bytes().map(|t| String::from_utf8_lossy(&t).into_owned()).unwrap_or_default();
            let seen_from = if kind == EntryType::Symlink { path.as_str() } else { "" };
            if layout::link_stays_inside(seen_from, &target) {
                Ok(None)
            } else {
                Err(unsafe_entry("is a link that leads out of its directory"))
            }
        }
        EntryType::Regular | EntryType::Continuous => {
            let mode = entry.header().mode().map_err(|e| unreadable(what, &e))? & 0o7777;
            let mut head = [0; elf::HEADER];
            let head = read_up_to(entry, &mut head).map_err(|e| unreadable(what, &e))?;
            elf::check_machine(&format!("{path} in {what}"), head, arch)?;
            let (mut hasher, mut size) = (Hasher::default(), head.len() as u64);
            hasher.update(head);
            let mut buf = vec![0; 64 << 10];
            loop {
                match entry.read(&mut buf).map_err(|e| unreadable(what, &e))? {
                    0 => return Ok(Some(Member { path, size, mode, sha256: hasher.finish() })),
                    count => {
                        hasher.update(&buf[..count]);
                        size += count as u64;
                    }
                }
            }
        }
        _ => Err(unsafe_entry("is neither a file nor a directory")),
    }
}

fn read_up_to<'b>(reader: &mut impl Read, buf: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let mut begin = Vec::new();
    reader.by_ref().take(buf.len() as u64).read_to_end(&mut begin)?;
    buf[..begin.len()].copy_from_slice(&begin);
    Ok(&buf[..begin.len()])
}

fn unreadable(what: &str, error: &io::Error) -> Failure {
    Failure::new(Code::ContentInvalid, format!("{what} can't be read to its end: {error}"))
        .with_remedy("download or pack the tarball again: it is cut off or damaged")
}

/// The regular files of `directory`, sorted.
///
/// # Errors
/// `SPEC_INVALID` when there is none, or no such directory; `IO` when it can't be read.
pub fn files_of(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let listing = std::fs::read_dir(directory).map_err(|e| in_spec(misnamed("Listing", directory, e)))?;
    let mut files = Vec::new();
    for entry in listing {
        let path = entry.map_err(|e| failed("Listing", directory, e))?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(invalid(format!("directory {} holds no file", directory.display())));
    }
    Ok(files)
}

/// Packs `files` as a gzip'd tar that depends on names, contents and executable bits alone. `top` goes
/// before each name: a directory with its `/`, or nothing. Returns the open, unnamed file.
///
/// # Errors
/// `SPEC_INVALID` when two files have one name; `IO` or `NO_SPACE` name the file.
pub fn pack(files: &[PathBuf], top: &str, epoch: u64, scratch: &Path, bar: &Bar) -> Result<File, Failure> {
    let mut named = Vec::new();
    for path in files {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| invalid(format!("{} has no name that can be packed", path.display())))?;
        named.push((name, path));
    }
    named.sort();
    if let Some(twice) = named.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(invalid(format!("{} and {} have one name", twice[0].1.display(), twice[1].1.display())));
    }
    let out = tempfile::tempfile_in(scratch).map_err(|e| failed("Making a temporary file in", scratch, e))?;
    let gzip = GzBuilder::new().mtime(0).operating_system(255).write(io::BufWriter::new(out), Compression::default());
    let mut tar = tar::Builder::new(gzip);
    let writing = |e| failed("Packing into", scratch, e);
    if !top.is_empty() {
        append(&mut tar, &header(top, EntryType::Directory, 0o755, epoch, 0).map_err(writing)?, io::empty())
            .map_err(writing)?;
    }
    for (name, path) in named {
        let file = File::open(path).map_err(|e| failed("Opening", path, e))?;
        let meta = file.metadata().map_err(|e| failed("Reading", path, e))?;
        let mode = if meta.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
        header(&format!("{top}{name}"), EntryType::Regular, mode, epoch, meta.len())
            .and_then(|header| append(&mut tar, &header, file))
            .map_err(|e| failed("Packing", path, e))?;
        bar.add(meta.len());
    }
    let gzip = tar.into_inner().map_err(writing)?;
    let mut buffered = gzip.finish().map_err(writing)?;
    buffered.flush().map_err(writing)?;
    buffered.into_inner().map_err(|e| writing(e.into_error()))
}

fn append(tar: &mut tar::Builder<impl Write>, header: &tar::Header, content: impl Read) -> io::Result<()> {
    let mut content = content.take(header.size()?);
    tar.append(header, &mut content)?;
    if content.limit() > 0 {
        return Err(io::Error::other("the file became shorter while it was packed"));
    }
    Ok(())
}

/// The header of a tar entry that belongs to root and is dated `epoch`.
///
/// # Errors
/// The name does not fit.
pub fn header(name: &str, kind: EntryType, mode: u32, epoch: u64, size: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_gnu();
    let bytes = name.as_bytes();
    // set_path would drop the leading ./ that the stock CNI tarball has.
    match header.as_gnu_mut().and_then(|gnu| gnu.name.get_mut(..bytes.len())) {
        Some(field) => field.copy_from_slice(bytes),
        None => return Err(io::Error::other(format!("the name {name:?} is too long for a tar"))),
    }
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(epoch);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tarball(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, kind, content) in entries {
            let mut header = header(name, *kind, 0o755, 0, content.len() as u64).unwrap();
            if *kind == EntryType::Symlink {
                header.set_link_name(std::str::from_utf8(content).unwrap()).unwrap();
                header.set_size(0);
                header.set_cksum();
                tar.append(&header, io::empty()).unwrap();
            } else {
                tar.append(&header, *content).unwrap();
            }
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    /// A file whose extended header has `size` bytes.
    fn long_name(size: usize) -> Vec<u8> {
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), Compression::fast()));
        tar.append_pax_extensions([("path", &b"x".repeat(size)[..])]).unwrap();
        tar.append(&header("x", EntryType::Regular, 0o755, 0, 1).unwrap(), &b"x"[..]).unwrap();
        tar.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn tarballs_have_what_they_are_for() {
        for (kind, paths, good) in [
            (Kind::CniPlugins, &["loopback", "LICENSE"][..], true),
            (Kind::CniPlugins, &["bin/bridge"], false),
            (Kind::CriTools, &["crictl"], true),
            (Kind::CriTools, &["bin/crictl", "critest"], false),
            (Kind::Etcd, &["etcd-v3/etcd", "etcd-v3/etcdctl"], true),
            (Kind::Etcd, &["etcd", "etcdctl"], false),
            (Kind::Etcd, &["v3/etcd", "v3/etcdctl"], false),
            (Kind::Etcd, &["etcd-v3/bin/etcd", "etcd-v3/bin/etcdctl"], false),
            (Kind::Etcd, &["etcd-v3/etcd"], false),
            (Kind::Other, &[], true),
        ] {
            let member =
                |path: &&str| Member { path: (*path).into(), size: 1, mode: 0o755, sha256: Hasher::default().finish() };
            let members: Vec<_> = paths.iter().map(member).collect();
            assert_eq!(check_purpose(kind, "t", &members).is_ok(), good, "{kind:?} {paths:?}");
        }
    }

    #[test]
    fn members_are_told_and_unsafe_ones_refused() {
        use EntryType::{Directory, Fifo, Regular, Symlink};
        let arm = [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 11], &[183, 0]].concat();
        let good = tarball(&[("./", Directory, b""), ("./bridge", Regular, b"x"), ("./ln", Symlink, b"bridge")]);
        let found = members(&good[..], "t", Arch::Amd64).unwrap();
        assert_eq!((found.len(), found[0].path.as_str(), found[0].size, found[0].mode), (1, "bridge", 1, 0o755));
        for (bytes, code) in [
            (tarball(&[("../x", Regular, b"x")]), Code::ArchiveUnsafe),
            (tarball(&[("/x", Regular, b"x")]), Code::ArchiveUnsafe),
            (tarball(&[("a", Symlink, b"/etc")]), Code::ArchiveUnsafe),
            (tarball(&[("a", Fifo, b"")]), Code::ArchiveUnsafe),
            (tarball(&[("a", Regular, &arm)]), Code::ArchMismatch),
            (tarball(&[("a", Regular, b"1"), ("./a", Regular, b"2")]), Code::ContentInvalid),
            (tarball(&[]), Code::ContentInvalid),
            (long_name(8 << 20), Code::ContentInvalid),
            (good[..good.len() - 4].to_vec(), Code::ContentInvalid),
            (b"<html>".to_vec(), Code::ContentInvalid),
            (vec![], Code::ContentInvalid),
        ] {
            assert_eq!(members(&bytes[..], "t", Arch::Amd64).unwrap_err().code, code);
        }
    }

    #[test]
    fn packing_depends_on_names_and_contents_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let packed = |dir: &str, age: u64| {
            let dir = scratch.path().join(dir);
            std::fs::create_dir(&dir).unwrap();
            let mut files = Vec::new();
            for name in ["b", "a"] {
                let path = dir.join(name);
                std::fs::write(&path, name).unwrap();
                let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(age);
                File::open(&path).unwrap().set_modified(time).unwrap();
                files.push(path);
            }
            let mut file = pack(&files, "etcd-v3-linux-amd64/", 0, scratch.path(), &Bar::none()).unwrap();
            let mut bytes = Vec::new();
            io::Seek::rewind(&mut file).unwrap();
            file.read_to_end(&mut bytes).unwrap();
            bytes
        };
        let (one, two) = (packed("one", 1), packed("two", 2_000_000));
        assert_eq!(one, two);
        let found = members(&one[..], "t", Arch::Amd64).unwrap();
        assert_eq!(found[1].path, "etcd-v3-linux-amd64/b");
    }
}
