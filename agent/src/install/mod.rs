//! From a range of the bundle to files: one pass, checked before anything is visible, resumable.
//!
//! The bytes of an entry go into a hidden partial file as they come; killed half-way, the next run reads
//! that file again instead of the source and goes on behind it. A plain file becomes visible by renaming
//! its partial; a tarball's members are unpacked while it arrives and become visible together.

pub mod file;
pub mod intake;
pub mod labels;
mod removal;
pub mod staging;
pub mod unpack;
pub mod versions;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bootstrap::bundle::{Arch, Entry};
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use bootstrap::plan::{Bundle, Plan, VERSIONS_DIR};

use crate::board::Board;
use crate::files;
use crate::host::{Host, io_failure};
use crate::journal::Journal;
use crate::media::{Media, Turn};
use intake::Intake;

/// What every step needs to work.
#[derive(Debug)]
pub struct Site {
    /// The machine.
    pub host: Host,
    /// What was done.
    pub journal: Arc<Journal>,
    /// The bundle.
    pub bundle: Bundle,
    /// Where its bytes come from.
    pub media: Media,
    /// Where progress is shown.
    pub board: Board,
    /// The machine's architecture.
    pub arch: Arch,
}

impl Site {
    /// Where the bytes of `entry` gather. Without a digest in the name, only the same boot may go on
    /// with them: after a power cut a file's tail may be zeros, and nothing would tell. Nor would it where the
    /// source has another version of the file by now.
    fn partial(&self, entry: &Entry) -> Result<PathBuf, Failure> {
        // Two entries may have the same content; each has a partial of its own.
        let path = Digest::of(entry.path.as_bytes()).short();
        let key = match entry.sha256 {
            Some(digest) => format!("{path}-{}", digest.hex()),
            None => {
                let version = self.media.validator(&entry.path).unwrap_or_default();
                let version = Digest::of(version.as_bytes()).short();
                format!("{path}-{}-{}-{version}", self.bundle.id.short(), self.host.boot_id())
            }
        };
        self.host.prepare(&format!("{VERSIONS_DIR}/.partial/{key}"))
    }

    /// Fetches `entry` and hands its bytes, in order, to `take`, which runs on a thread of its own and
    /// may make files of them. Returns what `take` made, the digest of the whole entry, and the partial
    /// that holds it.
    ///
    /// # Errors
    /// `DIGEST_MISMATCH` when no source has the bytes of the manifest; the failure of the source or of
    /// `take` otherwise. The partial is kept where the next try can go on with it.
    async fn fetch<T: Send + 'static>(
        self: &Arc<Self>,
        entry: &Entry,
        take: impl Fn(&mut Intake) -> Result<T, Failure> + Send + Sync + 'static,
    ) -> Result<(T, Digest, PathBuf), Failure> {
        let partial = self.partial(entry)?;
        let take = Arc::new(take);
        let (mut turn, mut shown) = (self.media.preferred(), 0);
        loop {
            let resumed = fs::metadata(&partial).map_or(0, |meta| meta.len().min(entry.size));
            let changes = self.media.changes(&entry.path);
            let (taken, digest) = self.attempt(entry, turn, &partial, resumed, &mut shown, &take).await?;
            if entry.sha256.is_none() && self.media.changes(&entry.path) != changes {
                // Half of one file and half of another.
                files::remove(&partial)?;
                continue;
            }
            if entry.sha256.is_none_or(|should| should == digest) {
                let made = taken.inspect_err(|_| drop_file(&partial))?;
                return Ok((made, digest, partial));
            }
            files::remove(&partial)?;
            // What an earlier run left may be damaged (a power cut), and the source good: the same again
            // from the first byte, before it is given up.
            if resumed == 0 {
                turn = turn.next(&self.media).ok_or_else(|| self.mismatch(entry, digest))?;
            }
        }
    }

    /// One try, from the source whose `turn` it is. `shown` is how far progress was shown already.
    async fn attempt<T: Send + 'static>(
        &self,
        entry: &Entry,
        turn: Turn,
        partial: &Path,
        resumed: u64,
        shown: &mut u64,
        take: &Arc<impl Fn(&mut Intake) -> Result<T, Failure> + Send + Sync + 'static>,
    ) -> Result<(Result<T, Failure>, Digest), Failure> {
        let (mut intake, feed) = Intake::open(partial, entry.size, !entry.kind.is_tarball())?;
        let take = Arc::clone(take);
        let taking = tokio::task::spawn_blocking(move || {
            let taken = take(&mut intake);
            intake.finish().map(|digest| (taken, digest))
        });
        let mut position = resumed;
        let mut stream = self.media.stream(turn, &entry.path, entry.size, resumed, entry.size - resumed);
        if resumed > *shown {
            self.board.resumed(&entry.path, resumed - *shown);
            *shown = resumed;
        }
        let broken = loop {
            if position > *shown {
                self.board.advance(&entry.path, position - *shown);
                *shown = position;
            }
            match stream.next().await {
                Ok(None) => break None,
                Ok(Some(piece)) => {
                    position += piece.len() as u64;
                    self.board.comes_from(&entry.path, stream.supplier());
                    match feed.give(piece).await {
                        Ok(true) => {}
                        // A taker that stopped tells why below.
                        Ok(false) => break None,
                        Err(failure) => break Some(failure),
                    }
                }
                Err(failure) => break Some(failure),
            }
        };
        let kept = feed.end().await;
        let taken =
            taking.await.map_err(|e| Failure::new(Code::Io, format!("Taking {}", entry.path)).with_source(e))?;
        match broken {
            Some(failure) => Err(failure),
            None => kept.and(taken),
        }
    }

    fn mismatch(&self, entry: &Entry, is: Digest) -> Failure {
        let should = entry.sha256.map(|digest| digest.to_string()).unwrap_or_default();
        let names = self.media.names();
        let what = format!("{} from {}: is {is}, the manifest says {should}", entry.path, names.join(", "));
        Failure::new(Code::DigestMismatch, what)
    }

    /// The entries that `plan` goes on with.
    pub fn entries_of<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = &'a Entry> {
        let fetching = plan.steps.iter().filter(|step| step.fetches());
        fetching.filter_map(|step| self.bundle.manifest.entry(step.object()))
    }

    /// Removes the partials of all but `kept`. One may be left whole: a run that is killed after the last
    /// member of a tarball is in its place has not removed it.
    ///
    /// # Errors
    /// `IO` names the file.
    pub fn drop_partials_except<'a>(&self, kept: impl Iterator<Item = &'a Entry>) -> Result<(), Failure> {
        let directory = self.host.path(&format!("{VERSIONS_DIR}/.partial"));
        let Ok(entries) = fs::read_dir(&directory) else { return Ok(()) };
        let wanted = kept.map(|entry| self.partial(entry)).collect::<Result<Vec<_>, _>>()?;
        for entry in entries {
            let path = entry.map_err(|e| io_failure("Reading", &directory, e))?.path();
            if !wanted.contains(&path) {
                files::remove(&path)?;
            }
        }
        Ok(())
    }
}

/// Removes a file on the way out of a failure, which is what is told.
fn drop_file(path: &Path) {
    let _ = fs::remove_file(path);
}

/// Refuses a program that this machine can't run, and what is no program at all.
fn check_program(entry: &str, head: &[u8], arch: Arch) -> Result<(), Failure> {
    let refuse = |code, why: String| Err(Failure::new(code, format!("{entry} {why}")));
    match bootstrap::bundle::elf::machine(head) {
        Some(machine) if machine == arch.elf_machine() => Ok(()),
        Some(machine) => {
            refuse(Code::ArchMismatch, format!("is a program for ELF machine {machine}, this machine is {arch}"))
        }
        None => {
            let start = String::from_utf8_lossy(&head[..head.len().min(16)]).into_owned();
            refuse(Code::ContentInvalid, format!("is no program (ELF): it begins with {start:?}"))
        }
    }
}
