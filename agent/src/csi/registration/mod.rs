//! Makes the CSI driver known to kubelet, without a sidecar.
//!
//! kubelet watches a directory for sockets, asks each new one once who it is, and tells it what came of that. What it
//! does not do decides what is done here (`pkg/kubelet/pluginmanager`, 1.34 to 1.36):
//!
//! - It does not come back after a refusal: the socket is removed, and made again after a pause.
//! - It does not notice that nobody listens any more. So the socket stays when the agent stops: removing it would take
//!   the driver out of the node's CSINode, and pods with volumes would be sent elsewhere, for a restart of a second.
//!   The next start puts a new socket in its place, on which kubelet registers anew. Only [`withdraw`] removes it.
//! - It takes a socket as new when one is created or renamed (fsnotify makes both a `Create`), and at its own start.
//!   So the socket is bound under a hidden name, which kubelet ignores, and renamed when it listens and has its mode:
//!   bound in place, kubelet could dial it in between, and wait for two minutes after some attempts.
//! - It makes the directory itself, before it watches. So that is waited for and never made: where it does not come,
//!   kubelet has another root directory, and a socket would wait in ours for ever.
//!
//! A look each second tells that the directory is there, or that the socket is gone: kubelet itself looks as often,
//! and a watch of the directory would be lost with it.

mod answer;
mod frames;
mod hpack;
mod plain;
mod state;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bootstrap::failure::{Code, Failure};
use futures::StreamExt as _;
use rand::Rng as _;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tonic::transport::Server;

use self::answer::{Answers, Call};
pub use self::plain::Plain;
pub use self::state::{Standing, State};
use super::proto::registration::PluginInfo;
use super::proto::registration::registration_server::RegistrationServer;
use super::socket::{self, Inode};
use crate::{files, report};

/// What kubelet takes for a CSI driver.
const PLUGIN: &str = "CSIPlugin";
/// Of the registration, not of CSI: kubelet knows this one.
const VERSION: &str = "1.0.0";
/// How often it is looked whether the directory and the socket are there.
const LOOK: Duration = Duration::from_secs(1);
/// The first pause after a refusal or a failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// kubelet asks within a second or two when it runs; after this it is said that it did not.
const UNASKED: Duration = Duration::from_secs(60);
/// The time for the last answer to reach kubelet before the connection is cut.
const GRACE: Duration = Duration::from_secs(2);
/// kubelet makes one connection for a registration, and closes it within seconds.
const CONNECTIONS: usize = 8;
/// When one is closed that nobody closed: those that say nothing would keep kubelet out.
const AGE: Duration = Duration::from_secs(60);
/// Calls at once on a connection.
const STREAMS: u32 = 8;
/// Bytes of a request.
const REQUEST: usize = 64 << 10;

/// What is registered, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// kubelet's directory for it, `/var/lib/kubelet/plugins_registry`.
    pub registry: PathBuf,
    /// The driver's name.
    pub driver: String,
    /// The socket that CSI is served on, as kubelet finds it.
    pub endpoint: PathBuf,
}

/// How an offer ended.
enum End {
    Refused(String),
    /// The socket is not ours any more.
    Gone,
}

impl Registration {
    /// The socket that kubelet asks.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.registry.join(format!("{}-reg.sock", self.driver))
    }

    fn info(&self) -> PluginInfo {
        PluginInfo {
            r#type: PLUGIN.to_owned(),
            name: self.driver.clone(),
            endpoint: self.endpoint.to_string_lossy().into_owned(),
            supported_versions: vec![VERSION.to_owned()],
        }
    }
}

/// Takes the driver out of kubelet's hands: for a node that gives it up, not for a restart.
///
/// # Errors
/// As [`socket::remove`].
pub fn withdraw(registration: &Registration) -> Result<(), Failure> {
    socket::remove(&registration.socket())
}

/// Keeps the driver registered, from the moment on when CSI calls are answered (`ready`), until `shutdown`. What kubelet
/// makes of it is told to `states`.
pub async fn keep_registered(
    registration: &Registration,
    mut ready: watch::Receiver<bool>,
    states: &watch::Sender<State>,
    shutdown: impl Future<Output = ()>,
) {
    let keep = async {
        states.send_replace(State::now(Standing::Waiting("the CSI service")));
        // kubelet calls NodeGetInfo before it answers, and refuses where nobody answers that.
        if ready.wait_for(|ready| *ready).await.is_err() {
            tracing::warn!("the CSI service ended before it was ready: {} is not registered", registration.driver);
            return;
        }
        drop(ready);
        keep(registration, states).await;
    };
    tokio::select! {
        () = keep => {}
        () = shutdown => {}
    }
}

async fn keep(registration: &Registration, states: &watch::Sender<State>) {
    let mut pause = PAUSES.0;
    loop {
        directory(&registration.registry, states).await;
        let offered = offer(registration, states).await;
        if states.borrow().standing == Standing::Registered {
            pause = PAUSES.0;
        }
        let now = pause.mul_f64(rand::rng().random_range(0.5..1.0));
        let next = SystemTime::now() + now;
        let standing = match offered {
            // It took a look to notice: that is pause enough.
            Ok(End::Gone) => {
                tracing::warn!("{} is gone: making it again", registration.socket().display());
                continue;
            }
            Ok(End::Refused(error)) => {
                tracing::warn!("kubelet refused {}: {error}; offered again in {now:.1?}", registration.driver);
                Standing::Refused { error, next }
            }
            Err(failure) => {
                let error = format!("{}; {}", report::chain(&failure), failure.remedy());
                tracing::error!(code = failure.code.as_str(), "{error}; tried again in {now:.1?}");
                Standing::Failed { error, next }
            }
        };
        states.send_replace(State::now(standing));
        tokio::time::sleep(now).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Waits until kubelet has made its directory.
async fn directory(registry: &Path, states: &watch::Sender<State>) {
    if registry.is_dir() {
        return;
    }
    tracing::info!("waiting for {}, which kubelet makes when it starts", registry.display());
    states.send_replace(State::now(Standing::Waiting("kubelet's directory")));
    while !registry.is_dir() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Offers the socket until that ends.
async fn offer(registration: &Registration, states: &watch::Sender<State>) -> Result<End, Failure> {
    let path = registration.socket();
    let listener = socket::bind(&path)?;
    let ours = Inode::of(&path);
    states.send_replace(State::now(Standing::Offered));
    tracing::info!("{} is offered to kubelet at {}", registration.driver, path.display());
    let (calls, heard) = mpsc::channel(CONNECTIONS);
    let (stop, stopped) = oneshot::channel::<()>();
    let answers = Answers { info: registration.info(), calls };
    let serving = serve(listener, answers, async { drop(stopped.await) });
    tokio::pin!(serving);
    let end = tokio::select! {
        end = attend(&path, ours, heard, registration, states) => end,
        ended = &mut serving => {
            let failure = Failure::new(Code::Io, format!("serving {} ended", path.display()));
            return Err(match ended {
                Err(e) => failure.with_source(e),
                Ok(()) => failure,
            });
        }
    };
    // Of another process, it stays.
    if Inode::of(&path) == ours {
        files::remove(&path)?;
    }
    drop(stop);
    // What is still under way then is cut.
    let _ = tokio::time::timeout(GRACE, serving).await;
    Ok(end)
}

async fn serve(
    listener: UnixListener,
    answers: Answers,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let plain = socket::connections(listener, CONNECTIONS).map(|connection| connection.map(Plain::new));
    let service = RegistrationServer::new(answers).max_decoding_message_size(REQUEST);
    let server = Server::builder().max_connection_age(AGE).max_connection_age_grace(GRACE);
    server.max_concurrent_streams(STREAMS).add_service(service).serve_with_incoming_shutdown(plain, stop).await
}

/// Follows what kubelet does, until it refuses or the socket is gone.
async fn attend(
    path: &Path,
    ours: Option<Inode>,
    mut heard: mpsc::Receiver<Call>,
    registration: &Registration,
    states: &watch::Sender<State>,
) -> End {
    let unasked = tokio::time::sleep_until(Instant::now() + UNASKED);
    tokio::pin!(unasked);
    let mut look = tokio::time::interval(LOOK);
    let mut asked = false;
    loop {
        tokio::select! {
            call = heard.recv() => match call {
                Some(Call::Asked) => asked = true,
                Some(Call::Registered) => {
                    asked = true;
                    tracing::info!("kubelet has registered {}", registration.driver);
                    states.send_replace(State::now(Standing::Registered));
                }
                Some(Call::Refused(error)) => return End::Refused(error),
                None => return End::Gone,
            },
            _ = look.tick() => {
                if Inode::of(path) != ours {
                    return End::Gone;
                }
            }
            () = &mut unasked, if !asked => {
                tracing::warn!("kubelet has not asked at {}: is it running, with this root directory?", path.display());
                asked = true;
            }
        }
    }
}
