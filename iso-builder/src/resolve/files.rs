//! The files of a lock.

use std::path::{Path, PathBuf};

use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};

use super::{Means, Update, checksum};
use crate::bundle::{MAX_TEXT, check_input, named};
use crate::content::{Content, Source};
use crate::fetch::{self, Wanted};
use crate::helm;
use crate::lock::{Lock, LockedFile, UNCHECKED};
use crate::packing;
use crate::progress::Bar;
use crate::project::Project;
use crate::recipe::{CONSTANTS, Part};
use crate::replace;
use crate::spec::{Chart, Origin, Told, in_spec};
use crate::text::without_users;

/// A checksum file is not larger: `SHA256SUMS` of a release has a few KiB.
const MAX_CHECKSUMS: u64 = 1 << 20;

/// What the files are made from.
pub(super) struct Files<'a> {
    pub(super) project: &'a Project,
    pub(super) epoch: u64,
    pub(super) old: Option<&'a Lock>,
    pub(super) update: &'a Update,
    pub(super) means: &'a Means<'a>,
}

impl Files<'_> {
    /// Every file of the recipe, in its order.
    pub(super) fn all(&self) -> Result<Vec<LockedFile>, Failure> {
        let (mut files, mut wanted): (Vec<LockedFile>, Vec<(usize, Wanted)>) = (Vec::new(), Vec::new());
        for part in &self.project.recipe.parts {
            let kept = self.kept(part)?;
            let is_kept = kept.is_some();
            let file = match kept {
                Some(kept) => kept,
                None => self.begun(part).map_err(|failure| named(&part.key, failure))?,
            };
            if let Origin::File(path, _) = &part.from {
                self.check(part, &self.project.resolve(path))?;
            }
            // What was looked up before is fetched when the ISO is built; only what is read now has to be here.
            if let (Some(url), true) = (far(&part.from), !is_kept || is_read(&part.key) && file.chart.is_none()) {
                let sha256 = if matches!(part.from, Origin::Chart(..)) { file.chart } else { file.sha256 };
                let size = is_kept.then_some(file.size);
                wanted.push((files.len(), Wanted { url: url.clone(), sha256, size, name: part.key.clone() }));
            }
            files.push(file);
        }
        let list: Vec<Wanted> = wanted.iter().map(|(_, wanted)| wanted.clone()).collect();
        let fetched = fetch::fetch_all(&list, self.means.access, self.means.cache, self.means.progress);
        let fetched = fetched.map_err(|failure| self.explained(failure, &files))?;
        for ((at, _), fetched) in wanted.iter().zip(fetched) {
            let (part, file) = (&self.project.recipe.parts[*at], &mut files[*at]);
            match &part.from {
                Origin::Chart(_, chart) => {
                    file.chart = Some(fetched.sha256);
                    self.rendered(file, &fetched.path, chart).map_err(|failure| named(&part.key, failure))?;
                }
                _ => {
                    (file.sha256, file.size) = (Some(fetched.sha256), fetched.size);
                    self.check(part, &fetched.path)?;
                }
            }
        }
        for (part, file) in self.project.recipe.parts.iter().zip(&mut files) {
            file.replaced = Vec::new();
            if !part.replace.is_empty() {
                (_, file.replaced) = replace::apply(self.text(file)?, &part.replace);
            }
        }
        Ok(files)
    }

    /// Refuses now what the build would refuse. Texts that a lock is made from are checked as they are read.
    fn check(&self, part: &Part, path: &Path) -> Result<(), Failure> {
        if is_read(&part.key) {
            return Ok(());
        }
        check_input(&part.key, Content::whole(&Source::open(path)?), self.project.recipe.arch)
    }

    /// What the old lock says of `part`, where that still stands.
    fn kept(&self, part: &Part) -> Result<Option<LockedFile>, Failure> {
        let Some(file) = self.old.and_then(|old| old.file(&part.key)).filter(|_| !self.update.takes(&part.key)) else {
            return Ok(None);
        };
        let same = match &part.from {
            Origin::Url(url, told) => {
                let vouched = match told {
                    Told::Sha256(sha256) => file.sha256 == Some(*sha256),
                    Told::Checksum(checksum) => file.checked == Some(shown(checksum)),
                    Told::Nothing => file.checked.as_deref() == Some(UNCHECKED),
                };
                vouched && file.chart.is_none() && file.url == Some(shown(url))
            }
            // Whether the values are those of before is known for the whole spec only.
            Origin::Chart(archive, _) => {
                let unchanged = self.old.is_some_and(|old| old.spec == self.project.digest);
                let url = match &**archive {
                    Origin::Url(url, _) => Some(shown(url)),
                    _ => None,
                };
                let held = || file.sha256.map_or(Ok(false), |sha256| self.means.cache.holds(sha256));
                unchanged && url.is_some() && file.url == url && held()?
            }
            _ => false,
        };
        Ok(same.then(|| LockedFile { path: part.path.clone(), ..file.clone() }))
    }

    /// What is known of `part` before anything is downloaded.
    fn begun(&self, part: &Part) -> Result<LockedFile, Failure> {
        let mut file = LockedFile { key: part.key.clone(), path: part.path.clone(), ..LockedFile::default() };
        match &part.from {
            Origin::Url(url, told) => {
                file.url = Some(shown(url));
                (file.sha256, file.checked) = self.vouched(url, told)?;
            }
            Origin::File(path, told) => {
                (file.sha256, file.size) = self.local(path, *told)?;
                file.file = Some(path.to_string_lossy().into_owned());
            }
            Origin::Files(_) | Origin::Directory(_) => {
                let packed =
                    packing::pack(self.project, part, self.epoch, self.means.cache.root(), self.means.progress)?;
                file.packed = Some(packing::named_paths(&part.from));
                file.size = packed.length();
                file.sha256 = Some(packed.digest(&Bar::none())?);
            }
            Origin::BuiltIn(name) => {
                let text = packing::built_in(name);
                file.built_in = Some((*name).to_owned());
                (file.size, file.sha256) = (text.len() as u64, Some(Digest::of(text.as_bytes())));
            }
            Origin::Chart(archive, chart) => match &**archive {
                Origin::Url(url, told) => {
                    file.url = Some(shown(url));
                    (file.chart, file.checked) = self.vouched(url, told)?;
                }
                Origin::File(path, told) => {
                    file.file = Some(path.to_string_lossy().into_owned());
                    (file.chart, _) = self.local(path, *told)?;
                    self.rendered(&mut file, &self.project.resolve(path), chart)?;
                }
                _ => {}
            },
        }
        Ok(file)
    }

    /// The digest that the spec or upstream tells of the file at `url`, and who told it.
    fn vouched(&self, url: &url::Url, told: &Told) -> Result<(Option<Digest>, Option<String>), Failure> {
        match told {
            Told::Sha256(sha256) => Ok((Some(*sha256), Some("the spec".to_owned()))),
            Told::Nothing => Ok((None, Some(UNCHECKED.to_owned()))),
            Told::Checksum(checksum) => {
                let text = fetch::text(checksum, MAX_CHECKSUMS, self.means.access)?;
                let name = url.path_segments().and_then(Iterator::last).unwrap_or_default();
                Ok((Some(checksum::find(&text, name, &shown(checksum))?), Some(shown(checksum))))
            }
        }
    }

    fn local(&self, path: &Path, told: Option<Digest>) -> Result<(Option<Digest>, u64), Failure> {
        let content = Content::whole(&Source::open(&self.project.resolve(path)).map_err(in_spec)?);
        let found = content.digest(&Bar::none())?;
        packing::check_told(&self.project.resolve(path), found, told, "the spec")?;
        Ok((Some(found), content.length()))
    }

    fn rendered(&self, file: &mut LockedFile, archive: &Path, chart: &Chart) -> Result<(), Failure> {
        let text = helm::render(self.means.helm, archive, chart, self.project.recipe.kubernetes())?;
        file.size = text.len() as u64;
        file.sha256 = Some(self.means.cache.keep(text.as_bytes())?);
        Ok(())
    }

    /// Says whose digest a download has not.
    fn explained(&self, failure: Failure, files: &[LockedFile]) -> Failure {
        let of = |file: &&LockedFile| failure.what.starts_with(&format!("{}: ", file.key));
        match (failure.code, files.iter().find(of)) {
            (Code::DigestMismatch, Some(file)) => {
                let old = self.old.and_then(|old| old.file(&file.key)).is_some_and(|old| old.sha256 == file.sha256);
                let (by, remedy) = match (&file.checked, old) {
                    (Some(checked), true) if checked == UNCHECKED => (
                        "as the lock says",
                        format!("look at what upstream changed, then run cks-iso lock --update {}", file.key),
                    ),
                    (Some(checked), _) => (
                        checked.as_str(),
                        "do not use the file until upstream says which of the two is right".to_owned(),
                    ),
                    (None, _) => return failure,
                };
                let what = format!("{} ({by})", failure.what);
                Failure { what, ..failure }.with_remedy(remedy)
            }
            _ => failure,
        }
    }

    /// Where the bytes of `file` are, on this machine.
    pub(super) fn path(&self, file: &LockedFile) -> Result<PathBuf, Failure> {
        match (&file.file, file.chart, file.sha256) {
            (Some(path), None, _) => Ok(self.project.resolve(Path::new(path))),
            (_, _, Some(sha256)) => Ok(self.means.cache.path(sha256)),
            _ => Err(Failure::new(Code::LockStale, format!("{}: the lock has no digest", file.key))),
        }
    }

    /// The text of `file`, with what is replaced in it.
    pub(super) fn text(&self, file: &LockedFile) -> Result<String, Failure> {
        let content = Content::whole(&Source::open(&self.path(file)?)?);
        let bytes = content.small(MAX_TEXT).map_err(|failure| named(&file.key, failure))?;
        crate::text::check_text(&file.key, &bytes)?;
        Ok(replace::apply(String::from_utf8_lossy(&bytes).into_owned(), &file.replaced).0)
    }
}

/// Whether making a lock reads what the part says.
fn is_read(key: &str) -> bool {
    key == CONSTANTS || key.starts_with("manifests.") || key.starts_with("images[")
}

fn far(origin: &Origin) -> Option<&url::Url> {
    match origin {
        Origin::Url(url, _) => Some(url),
        Origin::Chart(archive, _) => far(archive),
        _ => None,
    }
}

/// A URL as it may stand in a file.
fn shown(url: &url::Url) -> String {
    without_users(url.as_str())
}
