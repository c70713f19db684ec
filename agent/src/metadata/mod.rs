//! Where a machine's user data and metadata come from: a file that the settings name, NoCloud's seed, the virtual router,
//! a ConfigDrive, cloud-init's cache. All are asked side by side, and the first that knows the instance wins.

mod cache;
mod drive;
mod local;
mod server;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bootstrap::failure::{Code, Failure};
use bootstrap::user_data::Metadata;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rand::Rng as _;

use crate::board::Board;
use crate::config::Config;
use crate::files;
use crate::host::Host;

pub use self::local::{directory, too_long, user_data};

/// CloudStack takes user data up to 1 MiB (`vm.userdata.max.length`), in base64.
pub const USER_DATA_MAX_BYTES: u64 = 1 << 20;
/// A key's value; the longest is the list of public keys.
const VALUE_MAX_BYTES: u64 = 64 << 10;
/// The first pause between two looks at a source, up to twice as long; later ones grow up to the longest.
const PAUSE: Duration = Duration::from_millis(700);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A router that knows the machine and has no user data for it may not be done yet; after so long it has none.
const PATIENCE_WITH_NONE: Duration = Duration::from_secs(30);
/// So long the virtual router and a ConfigDrive are asked before what somebody laid on this machine's disk counts.
const AHEAD: Duration = Duration::from_secs(2);
/// What the hypervisor calls this machine; on KVM the instance's UUID.
const PRODUCT_UUID: &str = "/sys/class/dmi/id/product_uuid";
/// What is waited for, as the state tells it.
const WAITS_FOR: &str = "a source of user data";

/// What a source told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it says about the machine.
    pub metadata: Metadata,
    /// What the machine is asked to do, as it came; empty where nobody asks anything.
    pub user_data: Vec<u8>,
    /// Which source it is: an URL, a device, a path.
    pub source: String,
}

/// One look at all places of a kind.
#[derive(Debug)]
enum Look {
    /// A place knows the machine.
    Found(Box<Found>),
    /// A place knows the machine and has no user data for it.
    WithoutUserData(Box<Found>),
    /// A place knows it, maybe from an earlier boot only; who asks again must not be told that.
    Earlier(Box<Found>),
    /// None does: the places, each with the reason.
    Nothing(Vec<(String, String)>),
}

/// Asks every source until one knows this machine, for as long as `settings.wait` says; the wait shows on `board`.
///
/// # Errors
/// `CONFIG_INVALID`, `IO` when what the settings name can't be read; `METADATA_UNREACHABLE` tells what was asked, and why
/// it was of no use.
pub async fn find(host: &Host, settings: &Config, board: &Board) -> Result<Found, Failure> {
    if let Some(found) = local::named(host, &settings.metadata)? {
        return Ok(found);
    }
    let since = Instant::now();
    let mut asked = FuturesUnordered::new();
    for kind in [Kind::Seed, Kind::Server, Kind::Drive, Kind::Cache] {
        asked.push(next(kind, host, settings, Progress::begun()));
    }
    let mut tried: BTreeMap<Kind, Vec<(String, String)>> = BTreeMap::new();
    let (mut without, mut earlier) = (None, None);
    let outcome = loop {
        let left = settings.wait.saturating_sub(since.elapsed());
        let Ok(Some((kind, mut progress, look))) = tokio::time::timeout(left, asked.next()).await else {
            break without.or(earlier).ok_or_else(|| unreachable(settings.wait, &tried));
        };
        match look {
            // A disc is read within moments, and says itself what somebody keeps of it.
            Look::Found(found) if matches!(kind, Kind::Seed | Kind::Cache) && !tried.contains_key(&Kind::Drive) => {
                earlier = Some(*found);
            }
            Look::Found(found) => break Ok(*found),
            Look::WithoutUserData(found) if progress.is_patient_no_more() => break Ok(*found),
            Look::WithoutUserData(found) => {
                let why = "knows this machine, and has no user data for it (yet)".to_owned();
                tried.insert(kind, vec![(found.source.clone(), why)]);
                without = Some(*found);
            }
            Look::Earlier(found) => {
                let why = "may be of an earlier boot, and counts only when nobody else answers".to_owned();
                tried.insert(kind, vec![(found.source.clone(), why)]);
                earlier = Some(*found);
            }
            Look::Nothing(reasons) => drop(tried.insert(kind, reasons)),
        }
        progress.grow();
        // What is shown is what keeps us from going on: the router's answer before that of an empty drive.
        if let Some((place, why)) =
            [Kind::Server, Kind::Drive, Kind::Cache].iter().find_map(|kind| tried.get(kind)?.first())
        {
            let why = format!("{place}: {why}");
            board.wait_because(Code::MetadataUnreachable, WAITS_FOR, &why, since, progress.pause, settings.wait);
        }
        asked.push(next(kind, host, settings, progress));
    };
    board.stop_waiting(WAITS_FOR);
    outcome
}

/// A kind of source, in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Seed,
    Server,
    Drive,
    Cache,
}

/// How far the looks at one kind of source have come.
#[derive(Debug)]
struct Progress {
    looks: u32,
    pause: Duration,
    /// Since when a place says that there is no user data.
    none_since: Option<Instant>,
}

impl Progress {
    fn begun() -> Self {
        Self { looks: 0, pause: Duration::ZERO, none_since: None }
    }

    fn grow(&mut self) {
        self.looks += 1;
        let pause = PAUSE.saturating_mul(1 << self.looks.min(4)).min(LONGEST_PAUSE) / 2;
        self.pause = pause.mul_f64(rand::rng().random_range(1.0..2.0));
    }

    fn is_patient_no_more(&mut self) -> bool {
        self.none_since.get_or_insert_with(Instant::now).elapsed() >= PATIENCE_WITH_NONE
    }
}

/// The next look at a kind, after its pause.
fn next<'a>(
    kind: Kind,
    host: &'a Host,
    settings: &'a Config,
    progress: Progress,
) -> BoxFuture<'a, (Kind, Progress, Look)> {
    Box::pin(async move {
        tokio::time::sleep(progress.pause).await;
        let look = match kind {
            Kind::Seed => local::seed(host, progress.looks).await,
            Kind::Server => server::look(host, &settings.http).await,
            Kind::Drive => drive::look(host).await,
            Kind::Cache => cache::look(host, progress.looks).await,
        };
        (kind, progress, look)
    })
}

fn unreachable(patience: Duration, tried: &BTreeMap<Kind, Vec<(String, String)>>) -> Failure {
    let reasons: Vec<String> = tried.values().flatten().map(|(place, why)| format!("{place}: {why}")).collect();
    let what = format!("no source told this machine its user data in {} s: {}", patience.as_secs(), reasons.join("; "));
    Failure::new(Code::MetadataUnreachable, what)
}

/// Whether the hypervisor calls this machine so, too.
fn is_this_machine(host: &Host, id: &str) -> bool {
    text(&host.path(PRODUCT_UUID)).trim().eq_ignore_ascii_case(id)
}

/// A small text file; empty where there is none that can be read.
fn text(path: &Path) -> String {
    let bytes = files::small(path, USER_DATA_MAX_BYTES).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
