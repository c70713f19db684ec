//! Opens what a build is made of: downloads what is far, packs what are loose files, checks every digest that
//! the spec or the lock tells.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bootstrap::bundle::Arch;
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};

use crate::build::Options;
use crate::bundle::{Inputs, MAX_TEXT, named, path_of};
use crate::content::{Content, Source};
use crate::fetch::{self, Wanted};
use crate::images::Pulled;
use crate::lock::{Lock, LockedBlob, LockedFile};
use crate::progress::Bar;
use crate::project::Project;
use crate::recipe::{CONSTANTS, Part};
use crate::registry::{self, Resolved};
use crate::replace::{self, Replacement};
use crate::spec::{Chart, Origin, Told, check_manifest_name, in_spec, invalid};
use crate::text::without_users;
use crate::{helm, packing};

/// What a build is made from.
#[derive(Debug)]
pub struct Sources<'a> {
    /// The spec.
    pub project: &'a Project,
    /// Its lock; without one the spec tells every digest.
    pub lock: Option<&'a Lock>,
    /// The time that dates everything, in seconds since 1970.
    pub epoch: u64,
    /// Where the build reads and writes.
    pub options: &'a Options,
}

impl<'a> Sources<'a> {
    /// Opens everything.
    ///
    /// # Errors
    /// The failure names the key.
    pub fn open(&self) -> Result<Inputs<'a>, Failure> {
        let parts = self.parts()?;
        let downloaded = self.download(&parts)?;
        let mut inputs = Inputs { lock: self.lock.map(Lock::to_text), ..Inputs::default() };
        for part in &parts {
            let opened = self.part(part, downloaded.get(&part.key)).map_err(|failure| named(&part.key, failure))?;
            self.check_size(part, &opened)?;
            let opened = replaced(opened, &part.replace).map_err(|failure| named(&part.key, failure))?;
            if part.key.starts_with("images[") {
                let source = Source::open(&opened.origin()).map_err(in_spec)?;
                inputs.archives.push((format!("{} ({})", part.key, opened.origin().display()), source));
            } else {
                inputs.files.insert(part.key.clone(), opened);
            }
        }
        inputs.pulled = self.pull()?;
        Ok(inputs)
    }

    /// What is to be opened: the recipe's parts, where they come from and what is replaced in them as the lock
    /// says. A profile that the builder brings may have changed since the lock was made.
    fn parts(&self) -> Result<Vec<Part>, Failure> {
        let recipe = self.project.recipe.parts.iter();
        // Only making a lock reads it.
        let mut parts: Vec<Part> = recipe.filter(|part| part.key != CONSTANTS).cloned().collect();
        let Some(lock) = self.lock else { return Ok(parts) };
        for part in &mut parts {
            if let Some(file) = self.locked(part)? {
                as_locked(part, file).map_err(|failure| named(&file.key, failure))?;
            }
        }
        let more = lock.files.iter().filter(|file| self.project.recipe.part(&file.key).is_none());
        for file in more.filter(|file| file.key != CONSTANTS) {
            parts.push(only_locked(file).map_err(|failure| named(&file.key, failure))?);
        }
        Ok(parts)
    }

    fn check_size(&self, part: &Part, content: &Content) -> Result<(), Failure> {
        match self.locked(part)? {
            Some(file) if file.size != content.length() => {
                let what = format!("{}: has {} bytes, the lock says {}", part.key, content.length(), file.size);
                Err(Failure::new(Code::LockStale, what))
            }
            _ => Ok(()),
        }
    }

    /// What the lock says of `part`.
    fn locked(&self, part: &Part) -> Result<Option<&'a LockedFile>, Failure> {
        let Some(lock) = self.lock else { return Ok(None) };
        let missing = || Failure::new(Code::LockStale, format!("{}: the lock does not have it", part.key));
        lock.file(&part.key).map(Some).ok_or_else(missing)
    }

    fn download(&self, parts: &[Part]) -> Result<BTreeMap<String, PathBuf>, Failure> {
        let mut wanted = Vec::new();
        for part in parts {
            let Origin::Url(url, told) = &part.from else { continue };
            let locked = self.locked(part)?;
            let sha256 = match (locked, told) {
                (Some(file), _) => file.sha256,
                (None, Told::Sha256(sha256)) => Some(*sha256),
                (None, _) => {
                    return Err(invalid(format!("{}.sha256: missing; a download needs it, or a lock", part.key)));
                }
            };
            let size = locked.map(|file| file.size);
            wanted.push(Wanted { url: url.clone(), sha256, size, name: part.key.clone() });
        }
        let Options { access, cache, progress, .. } = self.options;
        let fetched = fetch::fetch_all(&wanted, access, cache, *progress)?;
        Ok(wanted.into_iter().zip(fetched).map(|(wanted, fetched)| (wanted.name, fetched.path)).collect())
    }

    /// The bytes of `part`, whose digest is right.
    fn part(&self, part: &Part, downloaded: Option<&PathBuf>) -> Result<Content, Failure> {
        let locked = self.locked(part)?;
        let by_lock = locked.and_then(|file| file.sha256);
        match &part.from {
            Origin::Url(..) => {
                let missing = || Failure::new(Code::NotCached, "was not downloaded");
                // Its digest was checked by the cache, a moment ago.
                Ok(Content::whole(&Source::open(downloaded.ok_or_else(missing)?)?))
            }
            Origin::File(path, told) => {
                let path = self.project.resolve(path);
                let content = Content::whole(&Source::open(&path).map_err(in_spec)?);
                if told.is_some() || by_lock.is_some() {
                    let found = content.digest(&Bar::none())?;
                    packing::check_told(&path, found, *told, "the spec")?;
                    packing::check_told(&path, found, by_lock, "the lock")?;
                }
                Ok(content)
            }
            Origin::Files(_) | Origin::Directory(_) => {
                let scratch = crate::partial::directory_of(&self.options.output);
                let packed = packing::pack(self.project, part, self.epoch, scratch, self.options.progress)?;
                if let Some(by_lock) = by_lock {
                    same(packed.digest(&Bar::none())?, by_lock, "packed from the files of this machine it")?;
                }
                Ok(packed)
            }
            Origin::BuiltIn(name) => {
                let text = packing::built_in(name);
                if let Some(by_lock) = by_lock {
                    same(Digest::of(text.as_bytes()), by_lock, "this cks-iso's own text")?;
                }
                Ok(Content::bytes(text.as_bytes()))
            }
            Origin::Chart(archive, chart) => self.chart(archive, chart, locked),
        }
    }

    /// The text that was rendered when the lock was made; where it is gone, it is rendered again.
    fn chart(&self, archive: &Origin, chart: &Chart, locked: Option<&LockedFile>) -> Result<Content, Failure> {
        let Options { access, cache, progress, helm, .. } = self.options;
        let digests = locked.and_then(|file| Some((file, file.chart?, file.sha256?)));
        let Some((file, of_chart, sha256)) = digests else {
            return Err(Failure::new(Code::LockStale, "a chart needs a lock"));
        };
        if let Some(bytes) = cache.read(sha256, MAX_TEXT)? {
            return Ok(Content::bytes(bytes));
        }
        let path = match archive {
            Origin::Url(url, _) => {
                let name = format!("{}.chart", file.key);
                let wanted = Wanted { url: url.clone(), sha256: Some(of_chart), size: None, name };
                fetch::fetch_all(&[wanted], access, cache, *progress)?.into_iter().next().map(|fetched| fetched.path)
            }
            Origin::File(path, _) => Some(self.project.resolve(path)),
            _ => None,
        };
        let path = path.ok_or_else(|| invalid("the chart is no file"))?;
        let text = helm::render(helm, &path, chart, self.project.recipe.kubernetes())?;
        same(cache.keep(text.as_bytes())?, sha256, "rendered again it")?;
        Ok(Content::bytes(text.into_bytes()))
    }

    fn pull(&self) -> Result<Pulled<'a>, Failure> {
        let Some(lock) = self.lock.filter(|lock| !lock.images.is_empty()) else { return Ok(Pulled::default()) };
        let Options { access, cache, progress, .. } = self.options;
        let images: Vec<Resolved> = lock.images.iter().map(Resolved::from).collect();
        registry::pull(&images, access, cache, *progress)?;
        let all =
            lock.images.iter().flat_map(|image| [&image.manifest, &image.config].into_iter().chain(&image.layers));
        let closed = |blob: &LockedBlob| Ok((blob.digest, Source::closed(&cache.path(blob.digest))?));
        let blobs = all.map(closed).collect::<Result<_, Failure>>()?;
        Ok(Pulled { images: &lock.images, blobs })
    }
}

/// Makes `part` come from where the lock has it from; a user and a password are the spec's.
fn as_locked(part: &mut Part, file: &LockedFile) -> Result<(), Failure> {
    part.replace.clone_from(&file.replaced);
    let far = match &mut part.from {
        Origin::Chart(archive, _) => archive.as_mut(),
        other => other,
    };
    match (far, &file.url) {
        (Origin::Url(url, _), Some(locked)) if without_users(url.as_str()) != *locked => *url = parsed(locked)?,
        (Origin::Url(..), None) => return Err(Failure::new(Code::LockStale, "the lock has no url of it")),
        _ => {}
    }
    Ok(())
}

/// What only the lock has.
fn only_locked(file: &LockedFile) -> Result<Part, Failure> {
    let is_known = match file.key.strip_prefix("manifests.") {
        Some(name) => check_manifest_name(name.trim_matches('"')).is_ok(),
        None => path_of(&file.key, Arch::Amd64).is_some(),
    };
    match (&file.url, file.sha256, file.chart) {
        (Some(url), Some(sha256), None) if is_known => Ok(Part {
            key: file.key.clone(),
            path: file.path.clone(),
            from: Origin::Url(parsed(url)?, Told::Sha256(sha256)),
            replace: file.replaced.clone(),
        }),
        _ => Err(Failure::new(Code::LockStale, "neither the spec nor a profile of this cks-iso has it")),
    }
}

fn parsed(url: &str) -> Result<url::Url, Failure> {
    url::Url::parse(url).map_err(|e| Failure::new(Code::LockStale, format!("its url: {e}")))
}

/// `content` with `pairs` replaced; what is no text is told when it is checked.
fn replaced(content: Content, pairs: &[Replacement]) -> Result<Content, Failure> {
    if pairs.is_empty() {
        return Ok(content);
    }
    match String::from_utf8(content.small(MAX_TEXT)?) {
        Ok(text) => Ok(Content::bytes(replace::apply(text, pairs).0.into_bytes())),
        Err(_) => Ok(content),
    }
}

fn same(found: Digest, locked: Digest, what: &str) -> Result<(), Failure> {
    if found == locked {
        return Ok(());
    }
    Err(Failure::new(Code::LockStale, format!("{what} has the digest {found}, the lock says {locked}")))
}

/// The failure of an ISO whose manifests name images that it lacks; `first` of `count`.
#[must_use]
pub fn lacking(first: &str, count: usize) -> Failure {
    let more = if count > 1 { format!(", and {} more are not", count - 1) } else { String::new() };
    invalid(format!("{first}{more}")).with_remedy(
        "add it as [[images]] reference, set images-from.manifests = true, or say incomplete = true in the spec",
    )
}
