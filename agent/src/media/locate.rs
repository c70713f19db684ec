//! From the named sources to the bundle: which of them hold one, and which one it is.

use std::sync::Arc;
use std::time::Duration;

use bootstrap::archive;
use bootstrap::bundle::legacy::{self, Listed};
use bootstrap::bundle::{Arch, Manifest, Role};
use bootstrap::digest::Digest;
use bootstrap::failure::{Code, Failure, Retry};
use bootstrap::plan::{Bundle, Signature};
use bootstrap::state::SourceState;
use bootstrap::text;
use bootstrap::trust::Rules;
use futures::StreamExt as _;
use futures::stream::FuturesOrdered;

use super::seek::EntryReader;
use super::{Opened, Source};

/// The bundle, and the sources that hold it, best first.
#[derive(Debug)]
pub struct Located {
    /// The bundle.
    pub bundle: Bundle,
    /// The sources that hold exactly this bundle, in the order they were named.
    pub sources: Vec<Arc<Source>>,
}

/// How long the others are waited for once a source has the bundle.
const GRACE: Duration = Duration::from_millis(500);

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Search {
    /// The role that the bundle is for.
    pub role: Role,
    /// The machine's architecture.
    pub arch: Arch,
    /// Who has to vouch for the content, and how old it may be.
    pub rules: Arc<Rules>,
    /// How long a connection may bring nothing.
    pub stall: Duration,
}

/// Opens all sources side by side. The first in the given order that holds a bundle decides which
/// bundle it is; others with the same one stand by.
///
/// # Errors
/// The failures of all sources, under the code of one, when none holds a bundle; `SIGNATURE_…`,
/// `MANIFEST_REQUIRED` and `VERSION_TOO_OLD` by what the node trusts.
pub async fn locate(names: &[String], search: &Search, verdicts: &mut Vec<SourceState>) -> Result<Located, Failure> {
    let mut opened: FuturesOrdered<_> = names.iter().map(|name| open(name, search)).collect();
    let mut located: Option<Located> = None;
    let mut failures = Vec::new();
    verdicts.clear();
    for name in names {
        let patience = if located.is_some() { GRACE } else { Duration::MAX };
        let Ok(Some(result)) = tokio::time::timeout(patience, opened.next()).await else {
            verdicts.push(verdict(name, "slow", "did not answer in time to stand by"));
            continue;
        };
        let (word, reason) = match result {
            Ok((source, bundle)) => match &mut located {
                None => {
                    located = Some(Located { bundle, sources: vec![Arc::new(source)] });
                    ("in-use".to_owned(), String::new())
                }
                Some(located) if located.bundle.id == bundle.id => {
                    located.sources.push(Arc::new(source));
                    ("standby".to_owned(), String::new())
                }
                Some(located) => {
                    let (this, that) = (bundle.directory_name(), located.bundle.directory_name());
                    ("other-bundle".to_owned(), format!("holds {this}, the first source {that}"))
                }
            },
            Err(failure) => {
                let refused = (failure.code.to_string(), failure.what.clone());
                failures.push(failure);
                refused
            }
        };
        verdicts.push(verdict(name, &word, &reason));
    }
    located.ok_or_else(|| all_refused(failures))
}

/// One failure for all: with a code that lets the caller wait when waiting can help with any of them.
fn all_refused(failures: Vec<Failure>) -> Failure {
    let whats: Vec<String> = failures.iter().map(|failure| failure.what.clone()).collect();
    let transient = failures.iter().position(|failure| failure.code.retry() == Retry::Transient);
    match failures.into_iter().nth(transient.unwrap_or(0)) {
        None => Failure::new(Code::MediaNotFound, "no source was named"),
        Some(mut failure) => {
            failure.what = whats.join("; ");
            failure
        }
    }
}

fn verdict(source: &str, verdict: &str, reason: &str) -> SourceState {
    SourceState { source: source.to_owned(), verdict: verdict.to_owned(), reason: text::plain(reason), bytes: 0 }
}

async fn open(name: &str, search: &Search) -> Result<(Source, Bundle), Failure> {
    let (source, opened) = Source::open(name, search.stall).await?;
    let named = |mut failure: Failure| {
        failure.what = format!("{name}: {}", failure.what);
        failure
    };
    let (source, bundle) = match opened {
        Opened::Manifest { bytes, signature } => {
            (source, read_signed(&search.rules, &bytes, signature.as_deref()).map_err(named)?)
        }
        Opened::Listing(listing) => {
            search.rules.check_legacy().map_err(named)?;
            derive(source, listing, search.role, search.arch).await?
        }
    };
    search.rules.check_version(bundle.manifest.kubernetes.as_deref()).map_err(named)?;
    Ok((source, bundle))
}

/// The bundle of a manifest, whose bytes are looked at only when their signature is good.
fn read_signed(rules: &Rules, bytes: &[u8], signature: Option<&[u8]>) -> Result<Bundle, Failure> {
    let signers = rules.signers(bytes, signature)?;
    let manifest = Manifest::parse(bytes)?;
    let text = String::from_utf8_lossy(bytes).into_owned();
    let kept = |signature| Signature { text: String::from_utf8_lossy(signature).into_owned(), signers };
    Ok(Bundle { id: Digest::of(bytes), manifest, text, derived: false, signature: signature.map(kept) })
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
        let manifest = legacy::derive(&listing, archives, arch)?;
        let text = legacy::text(&listing);
        Ok((source, Bundle { id: Digest::of(text.as_bytes()), manifest, text, derived: true, signature: None }))
    });
    looking.await.map_err(|e| Failure::new(Code::Io, "Looking into the image archives").with_source(e))?
}
