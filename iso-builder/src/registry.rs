//! Images from registries (OCI distribution spec 1.1) into the [cache](Cache): manifests, configs and
//! layers, upstream's bytes unchanged.
//!
//! Why the requests are our own: docs/decisions/0003-registry-client.md.

mod document;
mod reference;
mod repository;
mod token;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use bootstrap::bundle::Arch;
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use self::document::{Descriptor, Document, ImageManifest};
use self::reference::Name;
use self::repository::Repository;
use crate::access::Access;
use crate::cache::Cache;
use crate::fetch::download::{Lacking, download};
use crate::fetch::web::{Web, block_on};
use crate::progress::{Group, Progress};

/// Indexes and manifests that are looked at for one reference: real ones need 2 or 3.
const MAX_DOCUMENTS: usize = 32;

/// An image as a registry has it for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The reference as Docker normalises it, tag and digest kept.
    pub reference: String,
    /// The multi-arch index that the reference leads to, if it leads to one.
    pub index: Option<Digest>,
    /// The platform's manifest.
    pub manifest: BlobInfo,
    /// Its config.
    pub config: BlobInfo,
    /// Its layers, the lowest first.
    pub layers: Vec<BlobInfo>,
    /// The digests of the layers' tars, in the same order.
    pub diff_ids: Vec<Digest>,
}

/// A blob of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobInfo {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// `application/vnd.oci.image.layer.v1.tar+gzip`, …
    pub media_type: String,
}

/// Finds out what `references` are on `linux/arch`, in their order. Indexes, manifests and configs are in
/// the cache then. A reference with a digest needs no network for what the cache has.
///
/// # Errors
/// Of the first that fails, naming the reference: `REGISTRY_LACKS_IMAGE` (also where it lacks the
/// platform: names what there is), `REGISTRY_DENIED`, `DIGEST_MISMATCH`, `ARCH_MISMATCH` for a config of
/// another architecture than its index tells, `IMAGE_INVALID` for images that no containerd takes,
/// `SPEC_INVALID` for what is no reference, `NOT_CACHED` (offline), and those of [`crate::fetch`].
pub fn resolve(
    references: &[String],
    arch: Arch,
    access: &Access,
    cache: &Cache,
    progress: Progress,
) -> Result<Vec<Resolved>, Failure> {
    if references.is_empty() {
        return Ok(Vec::new());
    }
    let names = references.iter().map(|text| Name::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let web = Web::new(access);
    let repositories = repositories(&names, &web)?;
    let group = progress.group("Resolving", names.len());
    let looking = Looking { arch, repositories: &repositories, web: &web, cache, group: &group };
    if access.is_offline() {
        let found = looking.offline(&names)?;
        group.finish();
        return Ok(found);
    }
    let looking = &looking;
    let one = |(at, name)| async move { looking.resolve(name).await.map(|resolved| (at, resolved)) };
    let all = futures::stream::iter(names.iter().enumerate().map(one)).buffer_unordered(access.patience().parallel);
    let mut resolved: Vec<(usize, Resolved)> = block_on(all.try_collect())??;
    resolved.sort_by_key(|(at, _)| *at);
    group.finish();
    Ok(resolved.into_iter().map(|(_, resolved)| resolved).collect())
}

/// Gets every blob of `images` into the cache, each once.
///
/// # Errors
/// As [`resolve`].
pub fn pull(images: &[Resolved], access: &Access, cache: &Cache, progress: Progress) -> Result<(), Failure> {
    let names = images.iter().map(|image| Name::parse(&image.reference)).collect::<Result<Vec<_>, _>>()?;
    let web = Web::new(access);
    let repositories = repositories(&names, &web)?;
    let mut seen = BTreeSet::new();
    let mut blobs = Vec::new();
    for (name, image) in names.iter().zip(images) {
        // The manifest last: where there are only some of an image's blobs, its manifest tells nobody.
        for blob in image.layers.iter().chain([&image.config, &image.manifest]) {
            if seen.insert(blob.digest) && !cache.holds(blob.digest)? {
                let is_manifest = blob.digest == image.manifest.digest;
                blobs.push(Missing { name, blob, is_manifest });
            }
        }
    }
    if access.is_offline() {
        let mut lacking = Lacking::default();
        for Missing { name, blob, .. } in &blobs {
            lacking.add(format!("{} of {}", blob.digest, name.whole));
        }
        return lacking.refuse();
    }
    if blobs.is_empty() {
        return Ok(());
    }
    let group = progress.group("Pulling", blobs.len());
    let pulling = Pulling { repositories: &repositories, cache, group: &group };
    let all = futures::stream::iter(blobs.iter().map(|blob| pulling.get(blob)));
    block_on(all.buffer_unordered(access.patience().parallel).try_collect::<Vec<()>>())??;
    group.finish();
    Ok(())
}

/// A blob to be pulled.
struct Missing<'n> {
    name: &'n Name,
    blob: &'n BlobInfo,
    is_manifest: bool,
}

/// What pulling needs.
struct Pulling<'r, 'a> {
    repositories: &'r BTreeMap<String, Repository<'a>>,
    cache: &'r Cache,
    group: &'r Group,
}

impl Pulling<'_, '_> {
    async fn get(&self, missing: &Missing<'_>) -> Result<(), Failure> {
        let Missing { name, blob, is_manifest } = missing;
        let repository = of(self.repositories, name)?;
        if *is_manifest {
            repository.manifest(&blob.digest.to_string(), Some(blob.digest), self.cache).await?;
            self.group.passed();
            return Ok(());
        }
        get(repository, name, blob, self.cache, self.group).await
    }
}

/// One [`Repository`] for each that is named: its token serves all its images.
fn repositories<'a>(names: &[Name], web: &Web<'a>) -> Result<BTreeMap<String, Repository<'a>>, Failure> {
    let mut repositories = BTreeMap::new();
    for name in names.iter().filter(|_| !web.access().is_offline()) {
        if let Entry::Vacant(vacant) = repositories.entry(name.repository()) {
            vacant.insert(Repository::new(name, web)?);
        }
    }
    Ok(repositories)
}

fn of<'r, 'a>(repositories: &'r BTreeMap<String, Repository<'a>>, name: &Name) -> Result<&'r Repository<'a>, Failure> {
    let absent = || Failure::new(Code::NotCached, format!("the cache lacks {}", name.whole));
    repositories.get(&name.repository()).ok_or_else(absent)
}

/// Downloads a blob.
async fn get(
    repository: &Repository<'_>,
    name: &Name,
    blob: &BlobInfo,
    cache: &Cache,
    group: &Group,
) -> Result<(), Failure> {
    let (part, job) = repository.blob(name, blob)?;
    let got = download(&part, &job, cache, repository.patience(), group).await;
    got.map(drop).map_err(|failure| {
        let failure = crate::bundle::named(&name.whole, failure);
        match failure.code {
            Code::DigestMismatch => failure.with_remedy("the registry or its mirror serves wrong bytes: repair it"),
            _ => failure,
        }
    })
}

/// What resolving a reference needs.
struct Looking<'r, 'a> {
    arch: Arch,
    repositories: &'r BTreeMap<String, Repository<'a>>,
    web: &'r Web<'a>,
    cache: &'r Cache,
    group: &'r Group,
}

impl Looking<'_, '_> {
    /// Resolves all that the cache has; names all that it lacks.
    fn offline(&self, names: &[Name]) -> Result<Vec<Resolved>, Failure> {
        let (mut found, mut lacking) = (Vec::new(), Lacking::default());
        for name in names {
            match block_on(self.resolve(name))? {
                Ok(resolved) => found.push(resolved),
                Err(failure) if failure.code == Code::NotCached => lacking.add(name.whole.clone()),
                Err(failure) => return Err(failure),
            }
        }
        lacking.refuse().map(|()| found)
    }

    async fn resolve(&self, name: &Name) -> Result<Resolved, Failure> {
        self.find(name).await.map_err(|failure| crate::bundle::named(&name.whole, failure))
    }

    /// Walks from the reference through its indexes to the platform's manifest.
    async fn find(&self, name: &Name) -> Result<Resolved, Failure> {
        let wanted = name.digest.map_or_else(|| name.tag(), |digest| digest.to_string());
        let (top, bytes) = self.manifest(name, &wanted, name.digest).await?;
        let (mut index, mut platforms) = (None, Vec::new());
        // What to look at, the best last.
        let mut pending: Vec<Descriptor> = Vec::new();
        let mut next = Some((top, bytes, false));
        for _ in 0..MAX_DOCUMENTS {
            let (digest, bytes, told) = match (next.take(), pending.pop()) {
                (Some(first), _) => first,
                (None, Some(descriptor)) => {
                    let digest = descriptor.digest()?;
                    let (_, bytes) = self.manifest(name, &digest.to_string(), Some(digest)).await?;
                    (digest, bytes, descriptor.platform.is_some())
                }
                (None, None) => break,
            };
            match Document::parse(&bytes)? {
                Document::Index(entries) => {
                    if digest == top {
                        index = Some(digest);
                    }
                    platforms.extend(entries.iter().filter_map(Descriptor::platform_shown));
                    pending.extend(document::candidates(entries, self.arch));
                }
                Document::Image(image) => {
                    let size = bytes.len() as u64;
                    let manifest = BlobInfo { digest, size, media_type: image.media_type.clone() };
                    match self.image(name, *image, manifest, told).await? {
                        Ok(resolved) => return Ok(Resolved { index, ..resolved }),
                        Err(platform) => platforms.push(platform),
                    }
                }
            }
        }
        Err(self.no_platform(platforms))
    }

    fn no_platform(&self, mut platforms: Vec<String>) -> Failure {
        platforms.sort();
        platforms.dedup();
        let has = if platforms.is_empty() { "no platform at all".to_owned() } else { platforms.join(", ") };
        Failure::new(Code::RegistryLacksImage, format!("is not there for linux/{}; there is {has}", self.arch))
    }

    async fn manifest(&self, name: &Name, of: &str, digest: Option<Digest>) -> Result<(Digest, Vec<u8>), Failure> {
        let kept = digest.map(|digest| self.cache.read(digest, document::MAX_DOCUMENT)).transpose()?.flatten();
        if let (Some(digest), Some(bytes)) = (digest, kept) {
            return Ok((digest, bytes));
        }
        self::of(self.repositories, name)?.manifest(of, digest, self.cache).await
    }

    /// The image of a manifest, or the platform that it is for if that is another one.
    async fn image(
        &self,
        name: &Name,
        image: ImageManifest,
        manifest: BlobInfo,
        told: bool,
    ) -> Result<Result<Resolved, String>, Failure> {
        let config = image.config()?;
        if !self.web.access().is_offline() && !self.cache.holds(config.digest)? {
            get(of(self.repositories, name)?, name, &config, self.cache, self.group).await?;
        }
        let Some(bytes) = self.cache.read(config.digest, document::MAX_DOCUMENT)? else {
            return Err(Failure::new(Code::NotCached, format!("the cache lacks its config {}", config.digest)));
        };
        let layers = image.layers()?;
        let (platform, diff_ids) = document::config(&bytes, layers.len())?;
        if !platform.is(self.arch) {
            if told {
                let what = format!("its index says linux/{}, its config says {platform}", self.arch);
                return Err(Failure::new(Code::ArchMismatch, what)
                    .with_remedy("tell who publishes the image; choose another tag"));
            }
            return Ok(Err(platform.to_string()));
        }
        let reference = name.whole.clone();
        Ok(Ok(Resolved { reference, index: None, manifest, config, layers, diff_ids }))
    }
}
