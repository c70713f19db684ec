//! A tarball of the bundle whose members become files.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bootstrap::bounded::Bounded;
use bootstrap::bundle::{Entry, Kind, Member, layout};
use bootstrap::digest::{Digest, Hasher};
use bootstrap::failure::{Code, Failure};
use bootstrap::plan::{UnpackMember, install_name};
use flate2::read::MultiGzDecoder;

use super::intake::Intake;
use super::{Site, check_program, drop_file};
use crate::direct::{Buffer, Writing};
use crate::files;
use crate::host::io_failure;

/// Members beyond this are refused: the largest real tarball has some thirty.
const MAX_MEMBERS: usize = 10_000;
/// Bytes of a member that are kept to tell what it is.
const HEAD_BYTES: usize = 64;

/// A member that lies staged, whole, under a hidden name.
#[derive(Debug)]
struct Staged {
    member: Member,
    at: PathBuf,
    head: Vec<u8>,
}

/// Unpacks the `members` of `entry`; all that a node installs, into `directory`, where none are named.
///
/// # Errors
/// `DIGEST_MISMATCH`, `CONTENT_INVALID`, `ARCHIVE_UNSAFE`, `ARCH_MISMATCH`, `NO_SPACE`, `SOURCE_…`;
/// no member is then visible.
pub async fn unpack(site: &Arc<Site>, entry: &Entry, directory: &str, members: &[UnpackMember]) -> Result<(), Failure> {
    let stage = site.partial(entry)?;
    let (kind, path) = (entry.kind, entry.path.clone());
    let listed: Vec<String> = members.iter().map(|member| member.member.clone()).collect();
    let (staged, digest, partial) = site
        .fetch(entry, move |intake| {
            let taken = |member: &str, mode| {
                install_name(kind, member, mode).is_some() && (listed.is_empty() || listed.iter().any(|m| m == member))
            };
            unpack_stream(&path, intake, &stage, taken)
        })
        .await
        .inspect_err(|_| drop_staged(site, entry))?;
    let wanted = wanted(site, entry, directory, members, staged).inspect_err(|_| {
        drop_staged(site, entry);
        drop_file(&partial);
    })?;
    let mut places = Vec::new();
    for (_, path) in &wanted {
        places.push(site.host.prepare(path)?);
    }
    let moves: Vec<_> =
        wanted.iter().zip(&places).map(|((staged, _), full)| (staged.at.as_path(), full.as_path(), 0o755)).collect();
    files::publish_all(&moves)?;
    let mut learned = Vec::new();
    for ((staged, path), full) in wanted.into_iter().zip(&places) {
        site.journal.saw_file(&path, full, staged.member.sha256)?;
        learned.push(staged.member);
    }
    if entry.sha256.is_none() {
        site.journal.learned(site.bundle.id, &entry.path, digest, learned)?;
    }
    files::remove(&partial)
}

/// Pairs what was staged with where it goes, and refuses what is not as the manifest says.
fn wanted(
    site: &Site,
    entry: &Entry,
    directory: &str,
    members: &[UnpackMember],
    staged: Vec<Staged>,
) -> Result<Vec<(Staged, String)>, Failure> {
    let mut pairs = Vec::new();
    for staged in staged {
        let of = format!("{} of {}", staged.member.path, entry.path);
        if staged.head.starts_with(b"\x7fELF") || entry.kind == Kind::Etcd {
            check_program(&of, &staged.head, site.arch)?;
        }
        let path = match members.iter().find(|member| member.member == staged.member.path) {
            Some(member) if member.sha256.is_some_and(|should| should != staged.member.sha256) => {
                let what = format!("{of}: is {}, the manifest says otherwise", staged.member.sha256);
                return Err(Failure::new(Code::DigestMismatch, what));
            }
            Some(member) => member.path.clone(),
            None => {
                let name = install_name(entry.kind, &staged.member.path, staged.member.mode).unwrap_or_default();
                format!("{directory}/{name}")
            }
        };
        pairs.push((staged, path));
    }
    let lacks = |what: &str| Err(Failure::new(Code::MediaLacksComponent, format!("{} has no {what}", entry.path)));
    match members.iter().find(|member| !pairs.iter().any(|(staged, _)| staged.member.path == member.member)) {
        Some(member) => lacks(&member.member),
        None if pairs.is_empty() => lacks("program that a node installs"),
        None => Ok(pairs),
    }
}

/// Reads the tarball once. What is taken lands beside the partial, under its name and a number.
fn unpack_stream(
    path: &str,
    intake: &mut Intake,
    stage: &Path,
    taken: impl Fn(&str, u32) -> bool,
) -> Result<Vec<Staged>, Failure> {
    let invalid = |e: io::Error| match e.get_ref().and_then(|e| e.downcast_ref::<StageError>()) {
        Some(StageError(at, kind)) => io_failure("Writing", at, io::Error::from(*kind)),
        None => Failure::new(Code::ContentInvalid, format!("{path} is no gzip'd tar: {e}")),
    };
    let (reader, budget) = Bounded::new(MultiGzDecoder::new(intake));
    let mut archive = tar::Archive::new(reader);
    let (mut staged, mut buffer) = (Vec::new(), Buffer::default());
    for (count, member) in archive.entries().map_err(invalid)?.enumerate() {
        let mut member = member.map_err(invalid)?;
        // Its content, read here or passed over, and then the next one's headers.
        budget.allow(member.size());
        let name = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
        let unsafe_because = |why: &str| Failure::new(Code::ArchiveUnsafe, format!("{path}: member {name:?} {why}"));
        if count >= MAX_MEMBERS {
            return Err(unsafe_because("is one too many"));
        }
        let kind = member.header().entry_type();
        if !kind.is_dir()
            && !name.is_empty()
            && let Err(reason) = layout::check_path(&name)
        {
            return Err(unsafe_because(reason));
        }
        if kind.is_symlink() || kind.is_hard_link() {
            let target = member.link_name_bytes().unwrap_or_default();
            let seen_from = if kind.is_symlink() { name.as_str() } else { "" };
            if !layout::link_stays_inside(seen_from, &String::from_utf8_lossy(&target)) {
                return Err(unsafe_because("is a link that leads out of its directory"));
            }
        }
        let mode = member.header().mode().map_err(invalid)? & 0o7777;
        if !kind.is_file() || !taken(&name, mode) {
            continue;
        }
        let at = stage.with_extension(staged.len().to_string());
        let size = member.size();
        let (sha256, head) = stage_member(&mut member, &at, size, &mut buffer).map_err(invalid)?;
        staged.push(Staged { member: Member { path: name, size, mode, sha256 }, at, head });
    }
    Ok(staged)
}

fn stage_member(member: &mut impl Read, at: &Path, size: u64, buffer: &mut Buffer) -> io::Result<(Digest, Vec<u8>)> {
    let failed = |e: io::Error| io::Error::other(StageError(at.to_owned(), e.kind()));
    let mut file = Writing::new(files::create_anew(at).map_err(failed)?, size, buffer);
    let (mut hasher, mut head) = (Hasher::default(), Vec::new());
    let mut part = vec![0; 64 << 10];
    loop {
        let count = member.read(&mut part)?;
        if count == 0 {
            break;
        }
        if head.len() < HEAD_BYTES {
            // A read may end anywhere: the inflater's input does.
            head.extend(&part[..count.min(HEAD_BYTES - head.len())]);
        }
        hasher.update(&part[..count]);
        file.put(&part[..count]).map_err(|errno| failed(errno.into()))?;
    }
    file.finish().map_err(|errno| failed(errno.into()))?;
    Ok((hasher.finish(), head))
}

/// Members are staged as `<partial>.<number>`.
fn drop_staged(site: &Site, entry: &Entry) {
    let Ok(partial) = site.partial(entry) else { return };
    let (Some(directory), Some(name)) = (partial.parent(), partial.file_name()) else { return };
    let prefix = format!("{}.", name.to_string_lossy());
    for file in fs::read_dir(directory).into_iter().flatten().flatten() {
        if file.file_name().to_string_lossy().starts_with(&prefix) {
            let _ = fs::remove_file(file.path());
        }
    }
}

/// A failure of the disk inside a read of the archive.
#[derive(Debug)]
struct StageError(PathBuf, io::ErrorKind);

impl std::fmt::Display for StageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.0.display(), self.1)
    }
}

impl std::error::Error for StageError {}
