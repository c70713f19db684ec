//! The gRPC border of volumes: the CSI Identity and Node services, and their registration with kubelet.

pub mod about;
pub mod identity;
pub mod node;
pub mod proto;
pub mod registration;
pub mod request;
pub mod show;
pub mod socket;
pub mod status;
pub mod tally;

use std::path::PathBuf;
use std::time::Duration;

use bootstrap::failure::{Code, Failure};
use bootstrap::volume::refusal::Refusal;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::about::About;
use self::identity::IdentityService;
use self::node::NodeService;
use self::proto::csi::identity_server::IdentityServer;
use self::proto::csi::node_server::NodeServer;
use self::registration::{Registration, Standing, State};
use self::tally::Tally;
use crate::host::Host;
use crate::volume::{self, Volumes};
use crate::{config, report};

/// The driver's name, as CloudStack's controller has it.
pub const DRIVER: &str = "csi.cloudstack.apache.org";
/// The topology key of the zone's UUID, as CloudStack's controller has it.
pub const ZONE_KEY: &str = "topology.csi.cloudstack.apache.org/zone";
/// Connections at once: kubelet's, those of sidecars.
const CONNECTIONS: usize = 32;
/// The longest message: secrets and contexts have 4 KiB each.
const MESSAGE: usize = 256 << 10;
/// How long a stop waits for what is at work; a filesystem that is being made goes on for as long.
const PATIENCE: Duration = Duration::from_secs(60);
/// What keeps the service from beginning is an operator's to mend; the pause until it is looked at again.
const AGAIN: Duration = Duration::from_secs(10);

/// What others see of the service.
#[derive(Debug, Clone)]
pub struct Watched {
    /// What was asked, and how it ended.
    pub tally: Tally,
    /// What kubelet makes of it.
    pub registered: watch::Receiver<State>,
    /// Where kubelet mounts volumes.
    pub kubelet: PathBuf,
}

impl Watched {
    /// The volumes that are mounted.
    ///
    /// # Errors
    /// `IO`.
    pub fn list(&self, host: &Host) -> Result<Vec<volume::Found>, Refusal> {
        volume::list(host, &self.kubelet, DRIVER)
    }
}

/// The service, as it is kept running.
#[derive(Debug)]
pub struct Running {
    task: JoinHandle<()>,
    tried: watch::Receiver<bool>,
    watched: Watched,
}

impl Running {
    /// Waits until the socket is there, or can't be made for now.
    pub async fn first_try(&self) {
        stopped(self.tried.clone()).await;
    }

    /// What others see of it.
    #[must_use]
    pub fn watched(&self) -> Watched {
        self.watched.clone()
    }

    /// Waits until it has ended, which it does when it is told to.
    pub async fn ended(self) {
        // It has said what went wrong.
        let _ = self.task.await;
    }
}

/// Serves the node's volumes until `shutdown`; what keeps it from that is told, and tried again.
#[must_use]
pub fn start(host: &Host, settings: &config::Csi, shutdown: watch::Receiver<bool>) -> Running {
    let (states, registered) = watch::channel(State::now(Standing::Waiting("the CSI service")));
    let watched = Watched { tally: Tally::default(), registered, kubelet: settings.kubelet.clone() };
    let (listening, tried) = watch::channel(false);
    let told = Told { tally: watched.tally.clone(), listening, states };
    let (host, settings) = (host.clone(), settings.clone());
    let task = tokio::spawn(async move {
        while let Err(failure) = serve(&host, &settings, &told, shutdown.clone()).await {
            let failure = report::chain(&failure);
            tracing::error!("volumes are not served: {failure}; tried again in {} s", AGAIN.as_secs());
            told.listening.send_replace(true);
            if tokio::time::timeout(AGAIN, stopped(shutdown.clone())).await.is_ok() {
                return;
            }
        }
    });
    Running { task, tried, watched }
}

/// Who is told what.
#[derive(Debug)]
struct Told {
    tally: Tally,
    listening: watch::Sender<bool>,
    states: watch::Sender<State>,
}

/// Serves the node's volumes on the settings' socket until `shutdown`.
async fn serve(
    host: &Host,
    settings: &config::Csi,
    told: &Told,
    shutdown: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let about = About {
        node_id: settings.node_id.clone(),
        zone: settings.zone.clone(),
        max_volumes: settings.max_volumes,
        kubelet: settings.kubelet.clone(),
    };
    // Before anything is touched: who serves already may be in the midst of a mount.
    let listener = socket::listen(&host.path(&settings.socket.to_string_lossy()))?;
    let settled = volume::Settings { attach_wait: settings.attach_wait, filesystem: settings.default_filesystem };
    let volumes = Volumes::of(host.clone(), settled)
        .map_err(|refusal| Failure::new(Code::Io, "Looking at the node's volumes").with_source(refusal))?;
    warn_of_wrong_ones(host, settings).await;
    let node = NodeService::new(volumes, about, told.tally.clone());
    let router = tonic::transport::Server::builder()
        .add_service(IdentityServer::new(IdentityService::of(host.clone())).max_decoding_message_size(MESSAGE))
        .add_service(NodeServer::new(node.clone()).max_decoding_message_size(MESSAGE));
    let connections = socket::connections(listener, CONNECTIONS);
    let stop = stopped(shutdown.clone());
    let serving = tokio::spawn(async move { router.serve_with_incoming_shutdown(connections, stop).await });
    told.listening.send_replace(true);
    let registering = settings.register.then(|| {
        let registration = Registration {
            registry: host.path(&settings.kubelet.to_string_lossy()).join("plugins_registry"),
            driver: DRIVER.to_owned(),
            endpoint: settings.socket.clone(),
        };
        let (ready, states, shutdown) = (told.listening.subscribe(), told.states.clone(), shutdown.clone());
        tokio::spawn(async move {
            registration::keep_registered(&registration, ready, &states, stopped(shutdown)).await;
        })
    });
    stopped(shutdown).await;
    // Somebody may keep a connection, or a disk not answer: the process ends, and the kernel goes on.
    let _ = tokio::time::timeout(PATIENCE, async {
        node.idle().await;
        if let Some(registering) = registering {
            let _ = registering.await;
        }
        serving.await
    })
    .await;
    Ok(())
}

/// Says which of the volumes that are mounted already are not what they are said to be. Nothing is repaired.
async fn warn_of_wrong_ones(host: &Host, settings: &config::Csi) {
    let (host, kubelet) = (host.clone(), settings.kubelet.clone());
    let listed = tokio::task::spawn_blocking(move || volume::list(&host, &kubelet, DRIVER)).await;
    match listed {
        Ok(Ok(found)) => {
            for wrong in found.iter().filter(|found| found.wrong.is_some()) {
                let why = wrong.wrong.as_deref().unwrap_or_default();
                tracing::warn!(
                    volume_id = wrong.volume.as_str(),
                    "the volume {} is mounted wrongly: {why}",
                    wrong.volume
                );
            }
        }
        Ok(Err(refusal)) => tracing::warn!("{refusal}"),
        Err(e) => tracing::warn!("looking at the mounted volumes: {e}"),
    }
}

/// Waits until it is said that all shall end.
pub async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // Who told it is gone: the daemon ends.
    let _ = shutdown.wait_for(|stop| *stop).await;
}
