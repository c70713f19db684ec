//! A look at a candidate: whether it holds a bundle, and which one.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bootstrap::archive;
use bootstrap::bundle::legacy::{self, Listed};
use bootstrap::bundle::{Arch, Manifest, Role};
use bootstrap::digest::Digest;
use bootstrap::disc;
use bootstrap::failure::{Code, Failure};
use bootstrap::plan::{self, Bundle, Signature};
use bootstrap::trust::Rules;

use super::candidates::{Candidate, Kind};
use super::discs;
use super::seek::EntryReader;
use super::{Opened, Source};
use crate::config::Http;

/// When a web server is asked again that gave something senseless.
const SECOND_LOOK: Duration = Duration::from_millis(200);

/// What is looked for, and how.
#[derive(Debug, Clone)]
pub struct Search {
    /// The role that the bundle is for; without one, no image archive of a stock ISO is looked into.
    pub role: Option<Role>,
    /// The machine's architecture.
    pub arch: Arch,
    /// Who has to vouch for the content, and how old it may be.
    pub rules: Arc<Rules>,
    /// The one bundle that is looked for, where no other will do.
    pub only: Option<Digest>,
    /// How servers are spoken to.
    pub http: Http,
}

/// What came of a look at a candidate.
#[derive(Debug)]
pub struct Answer {
    /// The candidate.
    pub candidate: Candidate,
    /// What it holds.
    pub result: Result<(Source, Bundle), Failure>,
    /// Whether it is worth telling of: an own disk of the machine is not.
    pub is_disc: bool,
    /// The volume identifier, of a disc or image.
    pub label: Option<String>,
    /// When the look began.
    pub began: Instant,
    /// How long it took.
    pub latency: Duration,
}

/// Looks at a candidate.
pub async fn ask(candidate: Candidate, search: Arc<Search>) -> Answer {
    let began = Instant::now();
    let (result, is_disc, label) = match candidate.kind {
        Kind::Url | Kind::Router => (open_remote(&candidate, &search).await, true, None),
        Kind::Device { .. } | Kind::Path | Kind::Nothing => {
            let (name, kind, runtime) = (candidate.name.clone(), candidate.kind, tokio::runtime::Handle::current());
            // A drive that has to start up, or a file server that is gone, keeps a thread waiting, not the runtime.
            let asking = tokio::task::spawn_blocking(move || {
                if let Kind::Device { optical } = kind
                    && let Err(failure) = is_disc(&name)
                {
                    return (Err(failure), optical, None);
                }
                let label = discs::open(Path::new(&name)).ok().and_then(|file| disc::volume_id(&file).ok());
                (runtime.block_on(open(&name, false, &search)), true, label)
            });
            asking.await.unwrap_or_else(|e| (Err(Failure::new(Code::Io, "Looking at it").with_source(e)), true, None))
        }
    };
    Answer { candidate, result, is_disc, label, began, latency: began.elapsed() }
}

fn is_disc(name: &str) -> Result<(), Failure> {
    match discs::is_iso(Path::new(name)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(Code::MediaNotABundle, format!("{name}: holds no ISO 9660 volume"))),
        Err(e) => Err(Failure::new(Code::MediaNotFound, format!("{name}: {e}"))),
    }
}

/// A byte that broke on its way, or the page of a portal, is no property of the source: what makes no sense is
/// asked for once more before it is believed.
async fn open_remote(candidate: &Candidate, search: &Search) -> Result<(Source, Bundle), Failure> {
    let direct = candidate.kind == Kind::Router;
    match open(&candidate.name, direct, search).await {
        Err(failure) if makes_no_sense(failure.code) => {
            tracing::debug!("{}: asked again", failure.what);
            tokio::time::sleep(SECOND_LOOK).await;
            open(&candidate.name, direct, search).await
        }
        outcome => outcome,
    }
}

fn makes_no_sense(code: Code) -> bool {
    matches!(
        code,
        Code::ManifestInvalid
            | Code::ManifestUnsupported
            | Code::SignatureInvalid
            | Code::SourceInvalid
            | Code::SourceTruncated
            | Code::SourceFileMissing
            | Code::MediaNotABundle
            | Code::ImageInvalid
    )
}

async fn open(name: &str, direct: bool, search: &Search) -> Result<(Source, Bundle), Failure> {
    let (source, opened) = Source::open(name, &search.http, direct).await?;
    let shown = source.name.clone();
    let named = |mut failure: Failure| {
        failure.what = format!("{shown}: {}", failure.what);
        failure
    };
    let (source, bundle) = match opened {
        Opened::Manifest { bytes, signature } => {
            (source, read_signed(&search.rules, &bytes, signature.as_deref()).map_err(named)?)
        }
        Opened::Listing(listing) => {
            search.rules.check_legacy().map_err(named)?;
            match search.role {
                Some(role) => derive(source, listing, role, search.arch).await?,
                None => (source, listed(&listing, Vec::new(), search.arch)?),
            }
        }
    };
    search.rules.check_version(bundle.manifest.kubernetes.as_deref()).map_err(named)?;
    // Here, not with the plan: another source may hold what fits.
    plan::check_fit(&bundle, search.arch, search.role).map_err(named)?;
    match search.only {
        Some(only) if only != bundle.id => {
            let what = format!("holds {}, and this node was made from {only}", bundle.directory_name());
            Err(named(Failure::new(Code::MediaNotFound, what)).with_remedy(
                "offer the ISO of this node again; to change the version run cks-agent bootstrap --role ROLE",
            ))
        }
        _ => Ok((source, bundle)),
    }
}

/// The bundle of a manifest, whose bytes are looked at only when their signature is good.
fn read_signed(rules: &Rules, bytes: &[u8], signature: Option<&[u8]>) -> Result<Bundle, Failure> {
    let signers = rules.signers(bytes, signature)?;
    let manifest = Manifest::parse(bytes)?;
    let text = String::from_utf8_lossy(bytes).into_owned();
    let kept = |signature| Signature { text: String::from_utf8_lossy(signature).into_owned(), signers };
    Ok(Bundle { id: Digest::of(bytes), manifest, text, derived: false, signature: signature.map(kept) })
}

/// The bundle of a stock ISO.
fn listed(listing: &[Listed], archives: Vec<archive::Archive>, arch: Arch) -> Result<Bundle, Failure> {
    let (text, manifest) = (legacy::text(listing), legacy::derive(listing, archives, arch)?);
    Ok(Bundle { id: Digest::of(text.as_bytes()), manifest, text, derived: true, signature: None })
}

/// Looks into the image archives that the role needs, which takes a few small reads each, and makes a
/// manifest of what is there.
async fn derive(source: Source, listing: Vec<Listed>, role: Role, arch: Arch) -> Result<(Source, Bundle), Failure> {
    let runtime = tokio::runtime::Handle::current();
    let looking = tokio::task::spawn_blocking(move || {
        let mut archives = Vec::new();
        for file in legacy::archives_for(&listing, role) {
            let mut reader = EntryReader::new(&source, &file.path, file.size, runtime.clone());
            match archive::read(&mut reader, &file.path) {
                Ok(archive) => archives.push(archive),
                // A source that breaks off is not an archive that is broken.
                Err(invalid) => return Err(reader.take_failure().unwrap_or(invalid)),
            }
        }
        let bundle = listed(&listing, archives, arch)?;
        Ok((source, bundle))
    });
    looking.await.map_err(|e| Failure::new(Code::Io, "Looking into the image archives").with_source(e))?
}
