//! What was done, kept over crashes: one JSON line per fact, appended, and fsynced where a lost line would cost
//! more than a hash.
//!
//! The journal is never believed about the world: a file counts as installed when its fingerprint is
//! the one that was written down with its digest, and is hashed again otherwise.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bootstrap::bundle::{Manifest, Member};
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use bootstrap::plan::VERSIONS_DIR;
use serde::{Deserialize, Serialize};

use crate::files::{self, Fingerprint};
use crate::host::{Host, STATE_DIR, io_failure};
use crate::lock::Lock;

/// Lines after which the journal is written anew with one line per fact.
const COMPACT_AFTER: usize = 4096;

/// The outcome of a run that went well.
pub const INSTALLED: &str = "installed";

/// A line of the journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
enum Record {
    /// A file was seen whole.
    File { path: String, sha256: Digest, fingerprint: Fingerprint },
    /// An entry of a stock ISO was read: this is what it holds.
    Learned { bundle: Digest, entry: String, sha256: Digest, members: Vec<Member> },
    /// A run ended; for people.
    Run { at: String, bundle: Digest, outcome: String },
}

#[derive(Debug, Default)]
struct Known {
    files: BTreeMap<String, (Digest, Fingerprint)>,
    learned: BTreeMap<(Digest, String), (Digest, Vec<Member>)>,
    /// The last run that went well; the metrics tell it.
    success: Option<Record>,
    lines: usize,
    /// The last line has no end: the next one must not be glued to it.
    torn: bool,
}

/// When a line has to be on the disk. A process that is killed loses none; a power cut may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lasting {
    /// Before anything goes on: it can't be found out again without fetching.
    Now,
    /// Whenever the next such line is: a lost one only costs a hash.
    Later,
}

/// The journal of one node, held by one process at a time.
#[derive(Debug)]
pub struct Journal {
    host: Host,
    path: PathBuf,
    known: Mutex<Known>,
    /// Released by the kernel when the process ends, however it ends; none where nothing is written.
    lock: Option<Lock>,
}

impl Journal {
    /// Opens the journal below `host` and takes its lock.
    ///
    /// # Errors
    /// `ALREADY_RUNNING` when another process holds it; `IO` names the file.
    pub fn open(host: &Host) -> Result<Self, Failure> {
        let lock_path = host.prepare(&format!("{STATE_DIR}/lock"))?;
        let lock = files::no_links().write(true).create(true).truncate(false).mode(0o600).open(&lock_path);
        let lock = lock.map_err(|e| io_failure("Opening", &lock_path, e))?;
        let lock = Lock::take(lock).map_err(|e| io_failure("Locking", &lock_path, e))?;
        let Some(lock) = lock else {
            let what = format!("another cks-agent bootstrap works on {}", host.root().display());
            return Err(Failure::new(Code::AlreadyRunning, what));
        };
        let path = host.path(&format!("{STATE_DIR}/journal.jsonl"));
        let known = read(&path)?;
        let journal = Self { host: host.clone(), path, known: Mutex::new(known), lock: Some(lock) };
        journal.compact()?;
        Ok(journal)
    }

    /// What the journal below `host` tells, without a lock and without ever writing.
    ///
    /// # Errors
    /// `IO` names the file.
    pub fn peek(host: &Host) -> Result<Self, Failure> {
        let path = host.path(&format!("{STATE_DIR}/journal.jsonl"));
        let known = Mutex::new(read(&path)?);
        Ok(Self { host: host.clone(), path, known, lock: None })
    }

    /// The files below `directory` that were written down, as the node knows them.
    #[must_use]
    pub fn files_below(&self, directory: &str) -> Vec<String> {
        let prefix = format!("{}/", directory.trim_end_matches('/'));
        self.known().files.keys().filter(|path| path.starts_with(&prefix)).cloned().collect()
    }

    /// Whether a process holds the lock below `host` now. Asking keeps nobody from taking it.
    #[must_use]
    pub fn is_held(host: &Host) -> bool {
        let lock = File::open(host.path(&format!("{STATE_DIR}/lock")));
        lock.is_ok_and(|lock| Lock::is_taken(&lock))
    }

    /// The digest of the file that the node knows as `path` and that lies at `at`, with its permission
    /// bits: from the journal where its fingerprint still fits, else by reading it.
    ///
    /// # Errors
    /// `IO` when it can't be read.
    pub fn digest_of(&self, path: &str, at: &Path) -> Result<Option<(Digest, u32)>, Failure> {
        let Some((fingerprint, mode)) = Fingerprint::of(at) else { return Ok(None) };
        let written_down = self.known().files.get(path).cloned();
        if let Some((digest, seen)) = written_down
            && seen == fingerprint
        {
            return Ok(Some((digest, mode)));
        }
        let digest = files::digest(at)?;
        // With the fingerprint from before: of a file that was replaced meanwhile, the next look sees it.
        self.append(&Record::File { path: path.to_owned(), sha256: digest, fingerprint }, Lasting::Later)?;
        Ok(Some((digest, mode)))
    }

    /// Writes down that the file `path`, at `at`, has this digest now.
    ///
    /// # Errors
    /// `IO` or `NO_SPACE` names the journal.
    pub fn saw_file(&self, path: &str, at: &Path, sha256: Digest) -> Result<(), Failure> {
        let Some((fingerprint, _)) = Fingerprint::of(at) else { return Ok(()) };
        self.append(&Record::File { path: path.to_owned(), sha256, fingerprint }, Lasting::Later)
    }

    /// Writes down what an entry of a stock ISO turned out to hold.
    ///
    /// # Errors
    /// `IO` or `NO_SPACE` names the journal.
    pub fn learned(&self, bundle: Digest, entry: &str, sha256: Digest, members: Vec<Member>) -> Result<(), Failure> {
        self.append(&Record::Learned { bundle, entry: entry.to_owned(), sha256, members }, Lasting::Now)
    }

    /// Writes down how a run ended; for one that `changed` nothing, a power cut may lose it.
    ///
    /// # Errors
    /// `IO` or `NO_SPACE` names the journal.
    pub fn ended(&self, at: String, bundle: Digest, outcome: &str, changed: bool) -> Result<(), Failure> {
        let lasting = if changed { Lasting::Now } else { Lasting::Later };
        self.append(&Record::Run { at, bundle, outcome: outcome.to_owned() }, lasting)
    }

    /// Fills in what earlier runs learned about a stock ISO.
    pub fn complete(&self, bundle: Digest, manifest: &mut Manifest) {
        let known = self.known();
        for entry in manifest.entries.iter_mut().filter(|entry| entry.sha256.is_none()) {
            if let Some((sha256, members)) = known.learned.get(&(bundle, entry.path.clone())) {
                entry.sha256 = Some(*sha256);
                entry.members.clone_from(members);
            }
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // A panic while the lock was held leaves maps that are whole: each insert is one call.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, record: &Record, lasting: Lasting) -> Result<(), Failure> {
        if self.lock.is_none() {
            return Ok(());
        }
        let failed = |e| io_failure("Writing journal", &self.path, e);
        let mut line = serde_json::to_vec(record).map_err(|e| failed(e.into()))?;
        line.push(b'\n');
        let mut known = self.known();
        // A write that fails may leave a part of the line.
        if std::mem::replace(&mut known.torn, true) {
            line.insert(0, b'\n');
        }
        let mut file = files::no_links().append(true).create(true).mode(0o600).open(&self.path).map_err(failed)?;
        file.write_all(&line).map_err(failed)?;
        if lasting == Lasting::Now {
            file.sync_data().map_err(failed)?;
        }
        known.torn = false;
        known.take(record.clone());
        Ok(())
    }

    fn compact(&self) -> Result<(), Failure> {
        let known = self.known();
        if known.lines <= COMPACT_AFTER {
            return Ok(());
        }
        // What went away with an old version is not told any more.
        let there = |path: &str| fs::symlink_metadata(self.host.path(path)).is_ok();
        let bundles = fs::read_dir(self.host.path(VERSIONS_DIR)).into_iter().flatten().flatten();
        let bundles: Vec<String> = bundles.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let kept = |bundle: &Digest| bundles.iter().any(|name| name.ends_with(&bundle.short()));
        let files = known.files.iter().filter(|(path, _)| there(path));
        let files = files.map(|(path, (sha256, fingerprint))| Record::File {
            path: path.clone(),
            sha256: *sha256,
            fingerprint: fingerprint.clone(),
        });
        let learned = known.learned.iter().filter(|((bundle, _), _)| kept(bundle));
        let learned = learned.map(|((bundle, entry), (sha256, members))| Record::Learned {
            bundle: *bundle,
            entry: entry.clone(),
            sha256: *sha256,
            members: members.clone(),
        });
        let mut text = Vec::new();
        for record in files.chain(learned).chain(known.success.clone()) {
            serde_json::to_writer(&mut text, &record)
                .map_err(|e| io_failure("Writing journal", &self.path, e.into()))?;
            text.push(b'\n');
        }
        files::write(&self.path, &text, 0o600)
    }
}

impl Known {
    fn take(&mut self, record: Record) {
        self.lines += 1;
        match record {
            Record::File { path, sha256, fingerprint } => {
                self.files.insert(path, (sha256, fingerprint));
            }
            Record::Learned { bundle, entry, sha256, members } => {
                self.learned.insert((bundle, entry), (sha256, members));
            }
            Record::Run { ref outcome, .. } if outcome == INSTALLED => self.success = Some(record),
            Record::Run { .. } => {}
        }
    }
}

/// Lines that can't be read are passed over: the last one may be torn by a crash, and a lost line only
/// costs a hash.
fn read(path: &Path) -> Result<Known, Failure> {
    let mut known = Known::default();
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(known),
        Err(e) => return Err(io_failure("Reading journal", path, e)),
    };
    known.torn = !text.is_empty() && !text.ends_with(b"\n");
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(record) => known.take(record),
            Err(e) => tracing::debug!(journal = %path.display(), error = %e, "passing over a line of the journal"),
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        (root, host)
    }

    #[test]
    fn a_changed_file_is_hashed_again() {
        let (_root, host) = host();
        let at = host.prepare("/opt/x").unwrap();
        files::write(&at, b"one", 0o644).unwrap();
        let journal = Journal::open(&host).unwrap();
        journal.saw_file("/opt/x", &at, Digest::of(b"from the journal")).unwrap();
        drop(journal);
        let journal = Journal::open(&host).unwrap();
        let digest = |journal: &Journal| journal.digest_of("/opt/x", &at).unwrap().unwrap().0;
        assert_eq!(digest(&journal), Digest::of(b"from the journal"), "the fingerprint fits: not read");
        fs::write(&at, b"two").unwrap();
        assert_eq!(digest(&journal), Digest::of(b"two"));
    }

    #[test]
    fn a_torn_line_costs_nothing_but_itself() {
        let (_root, host) = host();
        let journal = Journal::open(&host).unwrap();
        let bundle = Digest::of(b"bundle");
        journal.learned(bundle, "k8s/kubelet", Digest::of(b"k"), Vec::new()).unwrap();
        let path = journal.path.clone();
        drop(journal);
        let mut text = fs::read(&path).unwrap();
        text.extend_from_slice(b"{\"record\":\"file\",\"pa");
        fs::write(&path, text).unwrap();
        let journal = Journal::open(&host).unwrap();
        journal.learned(bundle, "etcd", Digest::of(b"e"), Vec::new()).unwrap();
        drop(journal);
        assert_eq!(read(&path).unwrap().learned.len(), 2);
    }

    #[test]
    fn compaction_drops_what_went_away_with_an_old_version() {
        let (_root, host) = host();
        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        let at = |bundle: Digest| format!("/opt/cks/v1-{}/bin/kubelet", bundle.short());
        let journal = Journal::open(&host).unwrap();
        for bundle in [old, new] {
            let path = at(bundle);
            let full = host.prepare(&path).unwrap();
            files::write(&full, b"x", 0o755).unwrap();
            for _ in 0..=COMPACT_AFTER / 2 {
                journal.saw_file(&path, &full, bundle).unwrap();
            }
            journal.learned(bundle, "k8s/kubelet", bundle, Vec::new()).unwrap();
        }
        for (day, outcome) in [(2, INSTALLED), (3, INSTALLED), (4, "failed")] {
            journal.ended(format!("2026-01-0{day}T00:00:00Z"), new, outcome, true).unwrap();
        }
        assert_eq!(journal.files_below("/opt/cks/").len(), 2);
        fs::remove_file(host.path(&at(old))).unwrap();
        fs::remove_dir(host.path(&at(old)).parent().unwrap()).unwrap();
        fs::remove_dir(host.path(&format!("/opt/cks/v1-{}", old.short()))).unwrap();
        let path = journal.path.clone();
        drop(journal);
        drop(Journal::open(&host).unwrap());
        let known = read(&path).unwrap();
        assert_eq!(known.files.keys().collect::<Vec<_>>(), [&at(new)]);
        assert_eq!((known.learned.len(), known.lines), (1, 3));
        assert!(matches!(&known.success, Some(Record::Run { at, .. }) if at.starts_with("2026-01-03")), "{known:?}");
    }

    #[test]
    fn only_one_process_works_on_a_root() {
        let (_root, host) = host();
        let first = Journal::open(&host).unwrap();
        assert_eq!(Journal::open(&host).unwrap_err().code, Code::AlreadyRunning);
        assert!(Journal::is_held(&host));
        drop(first);
        assert!(!Journal::is_held(&host));
    }

    #[test]
    fn who_asks_keeps_nobody_from_working() {
        let (_root, host) = host();
        drop(Journal::open(&host).unwrap());
        let over = std::sync::atomic::AtomicBool::new(false);
        let is_over = || over.load(std::sync::atomic::Ordering::Relaxed);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !is_over() {
                        let _ = Journal::is_held(&host);
                    }
                });
            }
            let opened: Vec<bool> = (0..2000).map(|_| Journal::open(&host).is_ok()).collect();
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(opened.iter().filter(|opened| !**opened).count(), 0);
        });
    }
}
