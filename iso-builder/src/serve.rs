//! ISOs and their content over HTTP, as CloudStack's virtual router gives it to nodes: for bare metal and
//! for networks without one. What is served is listed first; files are read off the async threads.

mod answer;
mod body;
mod date;
mod hosts;
mod index;
mod log;
mod patience;
mod respond;
mod shelf;
mod site;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bootstrap::failure::{Code, Failure};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, Semaphore, watch};

pub use self::log::Format;
use self::log::Log;
use self::patience::Patience;
use self::shelf::{Served, Shelf};
use self::site::Site;

/// Connections at once; more wait until one ends.
const CONNECTIONS: usize = 256;
/// The time for a request's head to come, and for the next one on a kept connection.
const HEAD: Duration = Duration::from_secs(15);
/// The time that a client may take nothing of an answer.
const STALL: Duration = Duration::from_secs(60);
/// Buffered bytes of a connection: with a piece of a file, what one costs.
const BUFFER: usize = 64 << 10;
/// Threads that read files.
const READERS: usize = 16;

/// What is served, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// An ISO, a device with its disc, a directory of ISOs, or an extracted ISO.
    pub path: PathBuf,
    /// The address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The access log.
    pub log: Format,
    /// How long running answers may go on after the first signal.
    pub grace: Duration,
}

/// Serves until a signal.
///
/// # Errors
/// `CONFIG_INVALID` for a path that holds nothing to serve and an address that can't be listened on;
/// `MEDIA_NOT_A_BUNDLE`, `SOURCE_INVALID`, `SOURCE_TRUNCATED` or `IO` for an ISO; `INTERRUPTED` when answers
/// were cut off at the end.
pub fn serve(options: &Options) -> Result<(), Failure> {
    let shelf = shelf::list(&options.path)?;
    let listener = listen(options.listen)?;
    let failed = |e| Failure::new(Code::Io, "Starting the server").with_source(e);
    let address = listener.local_addr().map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(READERS)
        .enable_all()
        .build()
        .map_err(failed)?;
    let (log, written) = Log::start(options.log);
    announce(&shelf, address, &log, options.log);
    let ended = runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        Server::new(shelf.site, log.clone()).run(listener, options).await
    });
    let ended = ended.map_err(failed);
    runtime.shutdown_timeout(Duration::from_secs(1));
    let cut = *ended.as_ref().unwrap_or(&0);
    log.event(&json!({ "event": "stopped", "cut": cut }));
    drop(log);
    written.wait(Duration::from_secs(2));
    match ended? {
        0 => Ok(()),
        cut => Err(Failure::new(Code::Interrupted, format!("running answers were cut off: {cut}"))
            .with_remedy("clients resume where they stopped once cks-iso serve runs again; --grace waits longer")),
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).map_err(|e| {
        let remedy = match e.kind() {
            io::ErrorKind::AddrInUse => "choose another port with --listen, or end the program that has this one",
            io::ErrorKind::PermissionDenied => "choose a port above 1023 with --listen, or run it as root",
            io::ErrorKind::AddrNotAvailable => "name an address of this machine with --listen: ip address lists them",
            _ => "correct --listen",
        };
        Failure::new(Code::ConfigInvalid, format!("Listening on {address}")).with_remedy(remedy).with_source(e)
    })
}

/// Says what is served and what to type on a node.
fn announce(shelf: &Shelf, address: SocketAddr, log: &Log, format: Format) {
    let plain = bootstrap::text::plain;
    warn(shelf);
    let hosts = hosts::hosts(address.ip());
    let urls = |path: &str| hosts.iter().map(|host| url(*host, address.port(), path)).collect::<Vec<_>>();
    if format == Format::Json {
        let served = shelf.served.iter().map(|Served { title, paths, content }| {
            let paths = paths.iter().flat_map(|path| urls(path)).collect::<Vec<_>>();
            json!({ "title": title, "urls": paths, "source": content.iter().flat_map(|path| urls(path)).next() })
        });
        log.event(&json!({ "event": "listening", "address": address, "served": served.collect::<Vec<_>>() }));
        return;
    }
    for Served { title, paths, .. } in &shelf.served {
        eprintln!("serving {}", plain(title));
        for url in paths.iter().flat_map(|path| urls(path)) {
            eprintln!("  {url}");
        }
    }
    let contents: Vec<&String> = shelf.served.iter().filter_map(|served| served.content.as_ref()).collect();
    if let Some(url) = contents.iter().flat_map(|path| urls(path)).next() {
        eprintln!("on a node: cks-agent bootstrap --role worker --source {url}");
    }
}

fn url(host: IpAddr, port: u16, path: &str) -> String {
    match port {
        80 if host.is_ipv4() => format!("http://{host}{path}"),
        _ => format!("http://{}{path}", SocketAddr::new(host, port)),
    }
}

/// An answer under way: counted until it is dropped.
#[derive(Debug)]
struct Running(Arc<AtomicUsize>);

impl Running {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Server {
    site: watch::Sender<Arc<Site>>,
    log: Log,
    running: Arc<AtomicUsize>,
    turn: Arc<Mutex<()>>,
    graceful: GracefulShutdown,
}

impl Server {
    fn new(site: Site, log: Log) -> Self {
        let (site, _) = watch::channel(Arc::new(site));
        Self { site, log, running: Arc::default(), turn: Arc::default(), graceful: GracefulShutdown::new() }
    }

    /// Accepts until a signal, waits for the running answers, and returns how many were cut off.
    async fn run(self, listener: tokio::net::TcpListener, options: &Options) -> io::Result<usize> {
        let mut signals = Signals::new()?;
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = async {
                // Never closed, so that there is a place in the end.
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            };
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Stop => break,
                    Asked::Reload => drop(tokio::spawn(reload(self.listing(), options.path.clone()))),
                },
                (place, accepted) = accepted => match accepted {
                    Ok((stream, peer)) => self.connect(stream, peer.ip(), place),
                    // Out of file descriptors, or a client that left again: the next try is not at once.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                },
            }
        }
        drop(listener);
        let Self { graceful, running, .. } = self;
        tokio::select! {
            () = graceful.shutdown() => {}
            () = signals.stop() => {}
            () = tokio::time::sleep(options.grace) => {}
        }
        Ok(running.load(Ordering::Relaxed))
    }

    fn connect(&self, stream: TcpStream, client: IpAddr, place: impl Send + 'static) {
        // Only makes small answers come sooner.
        drop(stream.set_nodelay(true));
        let (sites, log, running) = (self.site.subscribe(), self.log.clone(), Arc::clone(&self.running));
        let service = service_fn(move |request| {
            let (site, log) = (Arc::clone(&sites.borrow()), log.clone());
            let running = Running::begin(&running);
            async move { Ok::<_, Infallible>(respond::respond(request, client, site, log, running).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(Patience::new(stream, STALL)), service);
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            // A client that went away is no failure of the server; the log has what was sent.
            drop(connection.await);
            drop(place);
        });
    }

    fn listing(&self) -> Listing {
        Listing { site: self.site.clone(), turn: Arc::clone(&self.turn), log: self.log.clone() }
    }
}

/// What a new listing is put into.
struct Listing {
    site: watch::Sender<Arc<Site>>,
    /// One at a time: the last signal's listing is the last.
    turn: Arc<Mutex<()>>,
    log: Log,
}

/// Lists `path` anew. Running answers keep the files that they have open.
async fn reload(listing: Listing, path: PathBuf) {
    let Listing { site, turn, log } = listing;
    let _turn = turn.lock().await;
    let listed = tokio::task::spawn_blocking(move || match shelf::list(&path) {
        Ok(shelf) => {
            warn(&shelf);
            eprintln!("listed {} anew", bootstrap::text::plain(&path.to_string_lossy()));
            Some(shelf.site)
        }
        Err(failure) => {
            eprint!("{}", crate::report::failure(&failure));
            None
        }
    });
    if let Ok(Some(new)) = listed.await {
        site.send_replace(Arc::new(new));
        log.event(&json!({ "event": "reloaded" }));
    }
}

fn warn(shelf: &Shelf) {
    for warning in &shelf.warnings {
        eprintln!("warning: {}", bootstrap::text::plain(warning));
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// What a signal asks for.
enum Asked {
    Stop,
    Reload,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }

    async fn stop(&mut self) {
        while let Asked::Reload = self.next().await {}
    }
}
