//! `cks-agent serve`: where the node stands, over HTTP on a socket of this machine. Read-only; one server at a time, and
//! the next one takes its place.
//!
//! | | |
//! |---|---|
//! | `GET /v1/status` | the document of `cks-agent status --json`; `null` before the first run |
//! | `GET /v1/status?watch` | one document in a line now, and whenever it has changed |
//! | `GET /metrics` | OpenMetrics text |
//! | `GET /healthz` | `ok`: this server is alive |

mod answer;

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bootstrap::failure::{Code, Failure};
use bootstrap::state::NodeState;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use self::answer::Answers;
use crate::config::Config;
use crate::host::{Host, io_failure};
use crate::lock::Lock;
use crate::notify::Notify;
use crate::status::{self, Changes};
use crate::{cli, csi, files, run};

/// Where it listens.
pub const SOCKET_PATH: &str = "/run/cks-agent/status.sock";
const LOCK_PATH: &str = "/run/cks-agent/serve.lock";
/// Root, and the group that an operator gives the socket to.
const MODE: u32 = 0o660;
/// Connections at once; more wait until one ends.
const CONNECTIONS: usize = 32;
/// The time for a request's head to come, and for the next one on a kept connection.
const HEAD: Duration = Duration::from_secs(10);
/// How often somebody asks whether the server before has ended; no event tells.
const TURN: Duration = Duration::from_secs(1);
/// How often the state is looked at between two runs, though nobody told of a change.
const IDLE: Duration = Duration::from_secs(30);
/// Buffered bytes of a connection; a status is some ten thousand.
const BUFFER: usize = 16 << 10;

/// The node's state as it changes; none before the first run since the machine started.
pub type States = watch::Receiver<Option<NodeState>>;

/// Runs `serve` until a signal. Returns the exit code, 0.
///
/// # Errors
/// `ROOT_NOT_FOUND`, `CONFIG_INVALID`; as [`serve`].
pub async fn daemon(arguments: &cli::Serve, notify: &Notify) -> Result<u8, Failure> {
    let host = Host::new(&arguments.root)?;
    let config = Config::read(&host, None)?;
    // Whoever is told that this serves may stop it at once.
    let signal = run::signal();
    let states = follow(&host)?;
    let (stop, stopping) = watch::channel(false);
    let volumes = config.csi.enabled.then(|| csi::start(&host, &config.csi, stopping.clone()));
    if let Some(volumes) = &volumes {
        // kubelet is started after this, and looks for the driver first thing.
        volumes.first_try().await;
    }
    notify.ready();
    notify.status(&format!("Serving {SOCKET_PATH}"));
    tokio::spawn(async move {
        let signal = signal.await;
        tracing::info!("stopped by {signal}");
        // Nobody may be left to be told.
        let _ = stop.send(true);
    });
    let watched = volumes.as_ref().map(csi::Running::watched);
    serve(&host, states, watched, csi::stopped(stopping)).await?;
    notify.stopping();
    if let Some(volumes) = volumes {
        volumes.ended().await;
    }
    Ok(0)
}

/// The states that a run on this machine writes down, by whichever process.
///
/// # Errors
/// `IO` names the directory.
pub fn follow(host: &Host) -> Result<States, Failure> {
    host.prepare(SOCKET_PATH)?;
    let mut changes = Changes::of(host);
    let (sender, receiver) = watch::channel(status::read(host).unwrap_or_default());
    let host = host.clone();
    tokio::spawn(async move {
        loop {
            // Of a run that is killed nobody tells; where none is at work, there is nothing to look for.
            let at_work = sender.borrow().as_ref().is_some_and(|state| !state.phase.is_final());
            tokio::select! {
                () = changes.wait(if at_work { status::LOOK_EVERY } else { IDLE }) => {}
                () = sender.closed() => break,
            }
            let host = host.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || status::read(&host)).await else { break };
            match read {
                Ok(state) => drop(sender.send_if_modified(|known| {
                    let changed = *known != state;
                    *known = state;
                    changed
                })),
                // The next version replaces it.
                Err(failure) => tracing::debug!("{failure}"),
            }
        }
    });
    Ok(receiver)
}

/// The states of a run in this process.
#[must_use]
pub fn of_run(mut states: watch::Receiver<NodeState>) -> States {
    let (sender, receiver) = watch::channel(Some(states.borrow_and_update().clone()));
    tokio::spawn(async move {
        while states.changed().await.is_ok() {
            let state = states.borrow_and_update().clone();
            if sender.send(Some(state)).is_err() {
                break;
            }
        }
        // The last state stays to be asked for.
        sender.closed().await;
    });
    receiver
}

/// Serves `states`, and in the metrics what is done with `volumes`, until `shutdown`; where another process does that already, from the moment on when it has ended.
///
/// # Errors
/// `IO` names the socket or the lock.
pub async fn serve(
    host: &Host,
    states: States,
    volumes: Option<csi::Watched>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Failure> {
    tokio::pin!(shutdown);
    let Some(_lock) = turn(host, shutdown.as_mut()).await? else { return Ok(()) };
    let path = host.prepare(SOCKET_PATH)?;
    let listener = listen(&path)?;
    let answers = Arc::new(Answers::new(host.clone(), states, volumes));
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, place)) => {
                let answers = Arc::clone(&answers);
                tokio::spawn(async move {
                    connection(stream, answers).await;
                    drop(place);
                });
            }
            Err(e) => {
                tracing::warn!("accepting a connection at {}: {e}", path.display());
                tokio::time::sleep(TURN).await;
            }
        }
    }
    // Fails where somebody else removed it.
    let _ = fs::remove_file(&path);
    Ok(())
}

async fn accept(
    listener: &UnixListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(UnixStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    listener.accept().await.map(|(stream, _)| (stream, place))
}

async fn connection(stream: UnixStream, answers: Arc<Answers>) {
    let service = service_fn(move |request| {
        let answers = Arc::clone(&answers);
        async move { Ok::<_, Infallible>(answers.to(&request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(BUFFER);
    // A client that went away, or speaks something else, is its own affair.
    if let Err(e) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!("a connection ended: {e}");
    }
}

/// Waits until no other process serves; none where `shutdown` came first. The kernel frees the lock with its process.
async fn turn(host: &Host, mut shutdown: impl Future<Output = ()> + Unpin) -> Result<Option<Lock>, Failure> {
    let path = host.prepare(LOCK_PATH)?;
    loop {
        let file = files::no_links().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|e| io_failure("Opening", &path, e))?;
        if let Some(lock) = Lock::take(file).map_err(|e| io_failure("Locking", &path, e))? {
            return Ok(Some(lock));
        }
        tokio::select! {
            () = tokio::time::sleep(TURN) => {}
            () = &mut shutdown => return Ok(None),
        }
    }
}

/// Listens at `path`, in the place of the socket that a killed server left. It has its mode before anybody can see it.
fn listen(path: &Path) -> Result<UnixListener, Failure> {
    let beside: PathBuf = path.with_file_name(".status.sock.new");
    let listening = (|| {
        match fs::remove_file(&beside) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(&beside)?;
        fs::set_permissions(&beside, Permissions::from_mode(MODE))?;
        fs::rename(&beside, path)?;
        Ok(listener)
    })();
    listening.map_err(|e| {
        Failure::new(Code::Io, format!("Listening at {}", path.display()))
            .with_remedy("look at who made that path, and remove it")
            .with_source(e)
    })
}

#[cfg(test)]
mod tests;
