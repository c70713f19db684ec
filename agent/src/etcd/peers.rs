//! What the other members answer at their peer URL. That is open as soon as etcd runs, while clients are answered only
//! once there is a leader.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bootstrap::etcd::certificates::{DIRECTORY, Purpose};
use bootstrap::etcd::members::Cluster;
use bootstrap::etcd::standing::{Answer, Said};
use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::{Authority, NodeSpec};
use futures::future::join_all;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use url::Url;

use crate::host::{Host, io_failure};

/// A machine that is up answers or refuses within this time.
const PATIENCE: Duration = Duration::from_secs(3);
/// Where members listen for each other (CloudStack 4.21).
const PEER_PORT: u16 = 2380;
/// More than a hundred members would tell.
const MOST_BYTES: usize = 256 << 10;

/// What an agent says, whose node has no data and that waits for the others: etcd says nothing like it, and takes the
/// rest of the answer (503) for what it is.
const WAITS: &str = "X-Cks-Etcd-Waits";

/// Asks peers as a peer.
#[derive(Clone)]
pub(super) struct Asker {
    tls: Option<TlsConnector>,
}

/// Says at this node's peer URL that it waits, until dropped.
pub(super) struct Waiting(JoinHandle<()>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Begins to say that this node has no data and waits.
///
/// # Errors
/// `PORT_IN_USE`, `CONFIG_INVALID`.
pub(super) async fn wait(host: &Host, spec: &NodeSpec) -> Result<Waiting, Failure> {
    let tls = match &spec.etcd_authority {
        None => None,
        Some(authority) => {
            let Own { roots, chain, key } = Own::read(host, authority)?;
            let refuse = |why: String| Failure::new(Code::ConfigInvalid, format!("the etcd authority: {why}"));
            let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build().map_err(|e| refuse(e.to_string()))?;
            let config = ServerConfig::builder().with_client_cert_verifier(clients);
            let config = config.with_single_cert(chain, key).map_err(|e| refuse(e.to_string()))?;
            Some(TlsAcceptor::from(Arc::new(config)))
        }
    };
    let place = SocketAddr::new(spec.bind_address(), PEER_PORT);
    let listener = TcpListener::bind(place).await.map_err(|e| {
        Failure::new(Code::PortInUse, format!("listening at {place}: {e}"))
            .with_remedy("stop what listens there (ss -ltnp), or correct the node's address")
    })?;
    Ok(Waiting(tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            // Who asks and does not go on must not keep others from asking.
            tokio::spawn(tokio::time::timeout(PATIENCE, async move {
                match tls {
                    None => say_waiting(stream).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            say_waiting(stream).await;
                        }
                    }
                }
            }));
        }
    })))
}

async fn say_waiting(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let answer = service_fn(|_| async {
        let answer = Response::builder().status(StatusCode::SERVICE_UNAVAILABLE).header(WAITS, "1");
        answer.body(Empty::<Bytes>::new())
    });
    // Whoever asked asks again.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

/// What this node shows to its peers, and by which it knows them.
struct Own {
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// The files of a member that is not ours, such as kubeadm's.
#[derive(Debug)]
pub struct Files<'a> {
    /// The authority's certificate.
    pub authority: &'a str,
    /// The certificate that it shows to its peers.
    pub certificate: &'a str,
    /// Its key.
    pub key: &'a str,
}

/// What the members at the peers' `urls` answer.
///
/// # Errors
/// `CONFIG_INVALID`, `IO`: the files can't be used.
pub async fn ask(host: &Host, files: &Files<'_>, urls: &[String]) -> Result<Vec<Answer>, Failure> {
    let authority = host.path(files.authority);
    let authority = std::fs::read_to_string(&authority).map_err(|e| io_failure("Reading", &authority, e))?;
    let own = Own::of_files(&authority, &host.path(files.certificate), &host.path(files.key))?;
    Ok(Asker::with(own)?.ask(urls.iter().map(String::as_str)).await)
}

impl Own {
    fn read(host: &Host, authority: &Authority) -> Result<Self, Failure> {
        let file = |end: &str| host.path(&format!("{DIRECTORY}/{}.{end}", Purpose::Peer.file()));
        Self::of_files(&authority.certificate, &file("crt"), &file("key"))
    }

    fn of_files(authority: &str, certificate: &Path, key: &Path) -> Result<Self, Failure> {
        let bad = |what: &str, e: String| Failure::new(Code::ConfigInvalid, format!("{what}: {e}"));
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            let certificate = certificate.map_err(|e| bad("the etcd authority's certificate", e.to_string()))?;
            roots.add(certificate).map_err(|e| bad("the etcd authority's certificate", e.to_string()))?;
        }
        let read = |path: &Path| std::fs::read(path).map_err(|e| io_failure("Reading", path, e));
        let chain = CertificateDer::pem_slice_iter(&read(certificate)?).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|e| bad(&certificate.display().to_string(), e.to_string()))?;
        let parsed = PrivateKeyDer::from_pem_slice(&read(key)?);
        let key = parsed.map_err(|e| bad(&key.display().to_string(), e.to_string()))?;
        Ok(Self { roots, chain, key })
    }
}

impl Asker {
    /// With the certificates of `spec`'s node.
    pub(super) fn new(host: &Host, spec: &NodeSpec) -> Result<Self, Failure> {
        match &spec.etcd_authority {
            None => Ok(Self { tls: None }),
            Some(authority) => Self::with(Own::read(host, authority)?),
        }
    }

    fn with(Own { roots, chain, key }: Own) -> Result<Self, Failure> {
        let config = ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key);
        let refuse = |e: rustls::Error| Failure::new(Code::ConfigInvalid, format!("the peer's certificate: {e}"));
        let config = config.map_err(refuse)?;
        Ok(Self { tls: Some(TlsConnector::from(Arc::new(config))) })
    }

    /// What those at `urls` answer, all asked at once.
    pub(super) async fn ask<'u>(&self, urls: impl Iterator<Item = &'u str>) -> Vec<Answer> {
        let ask = |url: &'u str| async move {
            let asked = tokio::time::timeout(PATIENCE, self.members(url)).await;
            let said = asked.unwrap_or_else(|_| Err("no answer".to_owned())).unwrap_or_else(Said::Nothing);
            Answer { url: url.to_owned(), said }
        };
        join_all(urls.map(ask)).await
    }

    async fn members(&self, text: &str) -> Result<Said, String> {
        let url = Url::parse(text).map_err(|e| e.to_string())?;
        let host = url.host_str().ok_or("has no host")?.trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().ok_or("has no port")?;
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|e| words(&e))?;
        match &self.tls {
            None => get(stream, &url).await,
            Some(tls) => {
                let name = match host.parse::<IpAddr>() {
                    Ok(address) => ServerName::from(address),
                    Err(_) => ServerName::try_from(host).map_err(|e| e.to_string())?,
                };
                get(tls.connect(name, stream).await.map_err(|e| words(&e))?, &url).await
            }
        }
    }
}

async fn get(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, url: &Url) -> Result<Said, String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| words(&e))?;
    let request = Request::get("/members").header(HOST, url.authority()).body(Empty::<Bytes>::new());
    let request = request.map_err(|e| e.to_string())?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(|e| words(&e))?;
        if answer.headers().get(WAITS).is_some() {
            return Ok(Said::Waits);
        }
        if !answer.status().is_success() {
            return Err(format!("HTTP {}", answer.status()));
        }
        let id = answer.headers().get("X-Etcd-Cluster-Id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await.map_err(|e| e.to_string())?;
        Cluster::of_peer(id.as_deref(), &body.to_bytes()).map(Said::Members)
    };
    // The connection lives in this call and ends with it.
    tokio::pin!(asked);
    tokio::select! {
        answer = &mut asked => answer,
        ended = connection => match ended {
            Ok(()) => asked.await,
            Err(e) => Err(words(&e)),
        },
    }
}

/// An error with its causes, in one line.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    bootstrap::text::plain(&text)
}
