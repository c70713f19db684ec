//! Images into a running containerd, by its gRPC API (1.6 and later): blobs from the bundle's ranges
//! straight into the content store and on the same way into their snapshots, image records last.
//!
//! ```text
//! lease ─► content (resumed by offset, committed by digest) ─► snapshots ─► image records ─► lease off
//! ```
//! The lease keeps containerd's garbage collector away until the image records do; one that a killed run
//! left is taken up again by the next.

pub mod audit;
mod collect;
mod content;
mod deadline;
pub mod images;
mod ingest;
mod leases;
pub mod snapshots;
pub mod survey;
mod unpack;

pub use leases::LEASE_PREFIX;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bootstrap::failure::{Code, Failure};
use containerd_client::services::v1::introspection_client::IntrospectionClient;
use containerd_client::services::v1::version_client::VersionClient;
use containerd_client::services::v1::{Plugin, PluginsRequest};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::board::Board;
use crate::host::io_failure;

/// The namespace that the CRI plugin, and so kubelet, looks in.
const NAMESPACE: &str = "k8s.io";
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A connection to containerd.
#[derive(Debug, Clone)]
pub struct Containerd {
    channel: Channel,
    address: PathBuf,
    /// Its version.
    pub version: String,
    /// The snapshotter that images are unpacked with.
    pub snapshotter: String,
    /// Where the snapshotter keeps its files.
    pub root: Option<PathBuf>,
    /// Where the content store keeps its blobs.
    pub content_root: Option<PathBuf>,
    /// Tells this boot from all others; see [`Self::of_boot`].
    boot: String,
    /// Tells this run's snapshots from those that another one may still be making; see [`Self::prepare`].
    run: String,
    /// Snapshots that this run prepared so far.
    tries: Arc<AtomicU64>,
    lease: Option<String>,
}

impl Containerd {
    /// Waits until containerd answers at the unix socket `address`, for `patience` at most; the wait is
    /// shown on `board`.
    ///
    /// # Errors
    /// `CONTAINERD_UNAVAILABLE` names the socket and the last error; `CONFIG_INVALID` a snapshotter
    /// that this containerd does not have.
    pub async fn connect(
        address: &Path,
        snapshotter: &str,
        patience: Duration,
        board: &Board,
    ) -> Result<Self, Failure> {
        let since = Instant::now();
        let mut pause = FIRST_PAUSE;
        let waits_for = format!("containerd at {}", address.display());
        loop {
            match Self::try_connect(address, snapshotter).await {
                Err(failure) if failure.code == Code::ContainerdUnavailable && since.elapsed() < patience => {
                    // The last try is at the deadline that was shown.
                    pause = pause.min(patience.saturating_sub(since.elapsed()));
                    board.wait_because(failure.code, &waits_for, &failure.what, since, pause, patience);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                outcome => {
                    board.stop_waiting(&waits_for);
                    return outcome.map_err(|mut failure| {
                        if failure.code == Code::ContainerdUnavailable {
                            failure.what = format!("{}, for {} s", failure.what, since.elapsed().as_secs());
                        }
                        failure
                    });
                }
            }
        }
    }

    /// One try, without waiting.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn try_connect(address: &Path, snapshotter: &str) -> Result<Self, Failure> {
        let unavailable = |cause: String| {
            let what = format!("containerd at {} does not answer: {cause}", address.display());
            Failure::new(Code::ContainerdUnavailable, what)
        };
        let channel = containerd_client::connect(address).await.map_err(|e| unavailable(root_cause(&e)))?;
        let mut client = VersionClient::new(channel.clone());
        let version = tokio::time::timeout(Duration::from_secs(10), client.version(()))
            .await
            .map_err(|_| unavailable("no version within 10 s".to_owned()))?
            .map_err(|status| unavailable(status.message().to_owned()))?
            .into_inner()
            .version;
        let mut containerd = Self {
            channel,
            address: address.to_owned(),
            version,
            snapshotter: snapshotter.to_owned(),
            root: None,
            content_root: None,
            boot: String::new(),
            run: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string(),
            tries: Arc::default(),
            lease: None,
        };
        let filters = ["type==io.containerd.snapshotter.v1", "type==io.containerd.content.v1"].map(str::to_owned);
        let request = containerd.request(PluginsRequest { filters: filters.to_vec() });
        let mut client = IntrospectionClient::new(containerd.channel.clone());
        let plugins = containerd.within(client.plugins(request)).await;
        let plugins = plugins.map_err(|status| containerd.refused("listing plugins", &status))?.into_inner().plugins;
        let (content, snapshotters): (Vec<_>, Vec<_>) =
            plugins.into_iter().partition(|plugin| plugin.r#type == "io.containerd.content.v1");
        containerd.root = containerd.snapshotter_root(&snapshotters)?;
        containerd.content_root = content.first().and_then(|plugin| plugin.exports.get("root")).map(PathBuf::from);
        Ok(containerd)
    }

    /// The snapshotter's directory; it has to be there and in order.
    fn snapshotter_root(&self, plugins: &[Plugin]) -> Result<Option<PathBuf>, Failure> {
        let usable = |plugin: &&Plugin| plugin.init_err.is_none();
        match plugins.iter().filter(usable).find(|plugin| plugin.id == self.snapshotter) {
            Some(plugin) => Ok(plugin.exports.get("root").map(PathBuf::from)),
            None => {
                let there: Vec<&str> = plugins.iter().filter(usable).map(|plugin| plugin.id.as_str()).collect();
                let what = format!(
                    "containerd at {} has no working snapshotter {:?}; it has {}",
                    self.address.display(),
                    self.snapshotter,
                    there.join(", ")
                );
                Err(Failure::new(Code::ConfigInvalid, what)
                    .with_remedy("name the one that its CRI plugin uses with --snapshotter"))
            }
        }
    }

    /// The same connection for this boot of the machine ([`crate::host::Host::boot_id`]).
    #[must_use]
    pub fn of_boot(&self, boot: String) -> Self {
        Self { boot, ..self.clone() }
    }

    /// Brings to the disk what was written to the snapshotter's filesystem. containerd syncs its records, but
    /// neither the files of a layer (only 2.0 and later do, when asked) nor the names of blobs: without this a
    /// power cut leaves images that count as whole and are empty (containerd issues 5854 and 10457).
    async fn sync(&self) -> Result<(), Failure> {
        let roots: Option<Vec<PathBuf>> = [&self.root, &self.content_root].into_iter().cloned().collect();
        let syncing = tokio::task::spawn_blocking(move || match roots.as_deref().map(devices) {
            Some(Ok(devices)) => devices.into_values().try_for_each(|root| {
                let synced = File::open(&root).and_then(|root| Ok(nix::unistd::syncfs(root)?));
                synced.map_err(|e| io_failure("Syncing the filesystem of", &root, e))
            }),
            // Not to be seen from here: in another mount namespace of the same kernel, so all of its filesystems.
            _ => {
                nix::unistd::sync();
                Ok(())
            }
        });
        syncing.await.map_err(|e| Failure::new(Code::Io, "syncing what was unpacked").with_source(e))?
    }

    /// A request in our namespace, under our lease.
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
        if let Some(lease) = self.lease.as_ref().and_then(|lease| lease.parse().ok()) {
            request.metadata_mut().insert("containerd-lease", lease);
        }
        request
    }

    /// containerd's refusal as a failure.
    fn refused(&self, doing: &str, status: &Status) -> Failure {
        let message = status.message();
        let code = match status.code() {
            tonic::Code::Unavailable | tonic::Code::DeadlineExceeded => Code::ContainerdUnavailable,
            // A connection that broke has a cause below; an answer of containerd's has none.
            _ if std::error::Error::source(status).is_some() => Code::ContainerdUnavailable,
            _ if message.contains("no space left on device") => Code::NoSpace,
            _ => Code::ContainerdRefused,
        };
        let cause = if message.is_empty() { status.code().description() } else { message };
        Failure::new(code, format!("containerd at {}, {doing}: {cause}", self.address.display()))
    }
}

/// One of `roots` for each filesystem that they lie on.
fn devices(roots: &[PathBuf]) -> io::Result<BTreeMap<u64, PathBuf>> {
    roots.iter().map(|root| Ok((fs::metadata(root)?.dev(), root.clone()))).collect()
}

/// The innermost cause: what is around it repeats "transport error".
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    cause.to_string()
}
