//! A spec on this machine: its file, its profiles, and the lock beside it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};

use crate::bundle::named;
use crate::content::{failed, misnamed};
use crate::lock::{LOCK_PATH, Lock};
use crate::partial::{Partial, directory_of};
use crate::profile;
use crate::recipe::Recipe;
use crate::spec::{self, DEFAULT_EPOCH, Spec, in_spec};

/// A spec, read with all that it names.
#[derive(Debug, Clone)]
pub struct Project {
    /// The spec's file; relative paths in it start from its directory.
    pub path: PathBuf,
    /// What the spec asks for, with its profiles and defaults written out.
    pub recipe: Recipe,
    /// The files of the profiles of its own.
    pub profiles: Vec<PathBuf>,
    /// The digest of the spec and of the profiles of its own.
    pub digest: Digest,
}

impl Project {
    /// Reads the spec at `path`; `name` stands instead of the build's name.
    ///
    /// # Errors
    /// `CONFIG_INVALID` when there is no file, `SPEC_INVALID` names the key.
    pub fn read(path: &Path, name: Option<String>) -> Result<Self, Failure> {
        let text = read_text(path)?;
        let inside = |failure| named(&path.display().to_string(), failure);
        let mut spec = Spec::parse(&text).map_err(inside)?;
        if let Some(name) = name {
            spec::check_name(&name)?;
            spec.name = name;
        }
        let (mut others, mut files) = (Vec::new(), Vec::new());
        let read = |profile: &Path| {
            files.push(path.parent().unwrap_or(Path::new("")).join(profile));
            let text = read_text(&directory_of(path).join(profile)).map_err(in_spec)?;
            others.push(text.clone());
            Ok(text)
        };
        let profiles = profile::load(&spec, read).map_err(inside)?;
        let recipe = Recipe::of(&spec, &profiles).map_err(inside)?;
        let others: Vec<_> = others.iter().map(String::as_str).collect();
        Ok(Self { path: path.to_owned(), recipe, profiles: files, digest: spec.digest(&others) })
    }

    /// A path of the spec.
    #[must_use]
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }

    /// Where its lock is, unless the command line says otherwise.
    #[must_use]
    pub fn lock_path(&self) -> PathBuf {
        self.path.with_file_name(LOCK_PATH)
    }

    /// The time that dates everything; `told` goes before the spec's own.
    #[must_use]
    pub fn epoch(&self, told: Option<u64>) -> u64 {
        told.or(self.recipe.epoch).unwrap_or(DEFAULT_EPOCH)
    }

    /// Whether `lock` was made from this very spec.
    #[must_use]
    pub fn made(&self, lock: &Lock) -> bool {
        lock.spec == self.digest && self.is_same_build(lock)
    }

    fn is_same_build(&self, lock: &Lock) -> bool {
        lock.name == self.recipe.name && lock.arch == self.recipe.arch
    }

    /// Refuses to put this build's lock where another build's is.
    ///
    /// # Errors
    /// `CONFIG_INVALID` names both.
    pub fn check_overwrites(&self, lock: &Lock, path: &Path) -> Result<(), Failure> {
        if self.is_same_build(lock) {
            return Ok(());
        }
        let (there, here) = (format!("{} for {}", lock.name, lock.arch), &self.recipe);
        let what = format!("{} is the lock of {there}, the spec is {} for {}", path.display(), here.name, here.arch);
        Err(Failure::new(Code::ConfigInvalid, what).with_remedy("name another file for this build's lock with --lock"))
    }

    /// Refuses a lock that is missing or was made from another spec.
    ///
    /// # Errors
    /// `LOCK_STALE` names the file.
    pub fn check_lock(&self, lock: Option<&Lock>, path: &Path) -> Result<(), Failure> {
        let why = match lock {
            Some(lock) if self.made(lock) => return Ok(()),
            Some(lock) if !self.is_same_build(lock) => format!("is the lock of {} for {}", lock.name, lock.arch),
            Some(_) => "was made from another spec, or the spec changed since".to_owned(),
            None => "does not exist".to_owned(),
        };
        let remedy = format!("run cks-iso lock {}, and look at what changed", self.path.display());
        Err(Failure::new(Code::LockStale, format!("{} {why}", path.display())).with_remedy(remedy))
    }
}

/// The lock at `path`, if there is one.
///
/// # Errors
/// `LOCK_STALE` for a file that is no lock, `IO` for one that can't be read.
pub fn read_lock(path: &Path) -> Result<Option<Lock>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Lock::parse(&text).map(Some).map_err(|failure| named(&path.display().to_string(), failure)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(misnamed("Reading", path, e)),
    }
}

/// Puts `lock` at `path`.
///
/// # Errors
/// As [`Partial`].
pub fn write_lock(lock: &Lock, path: &Path) -> Result<(), Failure> {
    let partial = Partial::begin(path)?;
    partial.file().write_all(lock.to_text().as_bytes()).map_err(|e| failed("Writing", path, e))?;
    partial.finish()
}

/// The text of a spec or profile.
///
/// # Errors
/// `CONFIG_INVALID` when there is no file, `SPEC_INVALID` when it is no text.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    let remedy = "name the spec, a TOML file; docs/building.md has an example";
    fs::read_to_string(path).map_err(|e| match e.kind() {
        io::ErrorKind::InvalidData => {
            Failure::new(Code::SpecInvalid, format!("{} is no text", path.display())).with_remedy(remedy)
        }
        _ => misnamed("Reading", path, e).with_remedy(remedy),
    })
}
