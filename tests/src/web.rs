//! A web server inside a private network whose answers a test tells, wrong ones included. With a key it
//! speaks TLS.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::netns::Netns;

mod answer;

pub use answer::{Answer, Break};

/// A server of this program, listening inside a namespace.
#[derive(Debug)]
pub struct Web {
    address: SocketAddr,
    network: String,
    shared: Arc<Shared>,
}

/// What a client asked for, and what came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `HEAD`.
    pub method: String,
    /// Path and query as sent, without the first `/`: `dl.k8s.io/release/v1.33.1/bin/linux/amd64/kubelet`.
    pub path: String,
    /// The header `Range`, as sent: `bytes=4096-`.
    pub range: Option<String>,
    /// The header `Authorization`, as sent.
    pub authorization: Option<String>,
    /// The status of the answer; 0 where the connection was broken off without one.
    pub status: u16,
    /// How many bytes of the body were handed to the kernel.
    pub bytes: u64,
}

type Answers = dyn Fn(&Request) -> Answer + Send + Sync;

struct Shared {
    answers: Box<Answers>,
    tls: Option<Arc<ServerConfig>>,
    requests: Mutex<Vec<Request>>,
    over: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("requests", &self.requests).finish_non_exhaustive()
    }
}

impl Web {
    /// Listens at `address` inside `netns` and gives what `answers` says; by TLS with the certificate and the
    /// key (PEM files) where there are some.
    ///
    /// # Errors
    /// When the address is taken, or the key is none.
    pub fn start(
        netns: &Netns,
        address: &str,
        tls: Option<(&Path, &Path)>,
        answers: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Result<Self> {
        let tls = tls.map(|(certificate, key)| secured(certificate, key)).transpose()?;
        let network = netns.path();
        let listener = listen(&network, address)?;
        let address = listener.local_addr().context("Asking for the port")?;
        let (requests, over) = Default::default();
        let shared = Arc::new(Shared { answers: Box::new(answers), tls, requests, over });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if serving.over.load(Ordering::Relaxed) {
                    break;
                }
                let serving = Arc::clone(&serving);
                // A client that goes away is what tests are about.
                thread::spawn(move || drop(serving.serve(stream)));
            }
        });
        Ok(Self { address, network, shared })
    }

    /// Every request so far, in the order of their answers.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets the requests so far and gives them.
    #[must_use]
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut *self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the listener; it fails only when that is gone already.
        let address = self.address;
        drop(inside(&self.network, move || Ok(TcpStream::connect(address).map(drop)?)));
    }
}

/// A listener at `address`, bound inside the network namespace at the path `network`.
pub(crate) fn listen(network: &str, address: &str) -> Result<TcpListener> {
    let to = address.to_owned();
    inside(network, move || Ok(TcpListener::bind(to)?)).with_context(|| format!("Listening on {address}"))
}

/// What `job` gives on a thread of its own inside a network namespace; what it opens stays there.
pub(crate) fn inside<T: Send + 'static>(network: &str, job: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let namespace = File::open(network).with_context(|| format!("Opening {network}"))?;
    let entered = thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).context("Entering a network namespace")?;
        job()
    });
    entered.join().map_err(|_| anyhow!("A thread inside a network namespace panicked"))?
}

fn secured(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = chain.with_context(|| format!("Reading {}", certificate.display()))?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("Reading {}", key.display()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_no_client_auth().with_single_cert(chain, key)?))
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let socket = stream.try_clone()?;
        match &self.tls {
            None => self.converse(stream, &socket),
            Some(config) => {
                let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                self.converse(StreamOwned::new(session, stream), &socket)
            }
        }
    }

    /// One request after the other, until the client or an answer ends the connection.
    fn converse<S: io::Read + Write>(&self, stream: S, socket: &TcpStream) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        while let Some(mut request) = heard(&mut stream)? {
            let answer = (self.answers)(&request);
            let broken = answer.broken;
            let sent = answer.send(&mut request, stream.get_mut());
            self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            sent?;
            if let Some(broken) = broken {
                // The client shall see the bytes before the end.
                return match broken {
                    Break::Close(_) => socket.shutdown(Shutdown::Both),
                    Break::Reset(_) => reset(socket),
                };
            }
        }
        Ok(())
    }
}

/// Lets the connection end by RST instead of FIN.
pub(crate) fn reset(socket: &TcpStream) -> io::Result<()> {
    let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::Linger, &at_once)?;
    Ok(())
}

fn heard(stream: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let mut words = line.split(' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let mut request = Request {
        method: method.to_owned(),
        path: path.trim_start_matches('/').to_owned(),
        range: None,
        authorization: None,
        status: 0,
        bytes: 0,
    };
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { return Ok(Some(request)) };
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = Some(value.to_owned()),
            "authorization" => request.authorization = Some(value.to_owned()),
            _ => {}
        }
    }
}
