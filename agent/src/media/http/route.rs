//! The way to a server: straight or by a proxy, with TLS where the URL says so.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bootstrap::failure::{Code, Failure};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::place::{authorization, shown};
use crate::config;

/// A connection has to stand within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that the kernel may hold for us, twice that with its own. Left to itself it takes 6 MB for each connection of
/// a fast link, which a kill loses, all of them; with this, a connection still brings 25 MB/s from 20 ms away.
const RECEIVE_BYTES: usize = 512 << 10;
/// Three numbers: the last is what the kernel takes at most by itself (kernel, ip-sysctl.rst).
const RECEIVE_LIMITS: &str = "/proc/sys/net/ipv4/tcp_rmem";
/// Bytes that are read ahead of the piece that gathers; the head of an answer has to fit.
const READ_AHEAD: usize = 128 << 10;

pub(super) type Sender = SendRequest<Empty<Bytes>>;
pub(super) type Driver = Connection<TokioIo<Box<dyn Wire>>, Empty<Bytes>>;

pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// One end of a way.
#[derive(Debug, Clone)]
struct End {
    host: String,
    port: u16,
    name: Option<ServerName<'static>>,
}

/// The way to the server of a source.
#[derive(Clone)]
pub(super) struct Route {
    server: End,
    proxy: Option<End>,
    /// `Proxy-Authorization`.
    authorization: Option<HeaderValue>,
    tls: Option<TlsConnector>,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Route").field("server", &self.server).field("proxy", &self.proxy).finish_non_exhaustive()
    }
}

impl Route {
    /// The way to the server of `url`; `direct`: by no proxy.
    pub(super) fn to(url: &Url, http: &config::Http, direct: bool) -> Result<Self, Failure> {
        let server =
            End::of(url).map_err(|why| Failure::new(Code::ConfigInvalid, format!("source {}: {why}", shown(url))))?;
        let (mut proxy, mut credentials) = (None, None);
        if let Some(text) = http.proxy.as_deref().filter(|_| !direct && !reached_without(&http.no_proxy, url)) {
            // The text itself may hold a password.
            let refuse = |why: String| Failure::new(Code::ConfigInvalid, format!("http.proxy: {why}"));
            let url = Url::parse(text).map_err(|e| refuse(e.to_string()))?;
            if !matches!(url.scheme(), "http" | "https") {
                return Err(refuse(format!("{}:// is no proxy that is spoken to", url.scheme())));
            }
            credentials = authorization(&url).map_err(refuse)?;
            proxy = Some(End::of(&url).map_err(refuse)?);
        }
        let secure = [Some(&server), proxy.as_ref()].into_iter().flatten().any(|end| end.name.is_some());
        // The certificates are read where they are needed: that takes longer than a small file's download.
        let tls = if secure { Some(trusting(&http.ca)?) } else { None };
        Ok(Self { server, proxy, authorization: credentials, tls })
    }

    /// Whether requests name the whole URL, and the credentials for the proxy that they carry.
    pub(super) fn by_plain_proxy(&self) -> Option<Option<&HeaderValue>> {
        (self.proxy.is_some() && self.server.name.is_none()).then_some(self.authorization.as_ref())
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> io::Result<(Sender, Driver)> {
        let connecting = async {
            let wire = self.wire().await?;
            let handshake = http1::Builder::new().max_buf_size(READ_AHEAD).handshake(TokioIo::new(wire));
            handshake.await.map_err(io::Error::other)
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection within 5 s");
        tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(late)?
    }

    async fn wire(&self) -> io::Result<Box<dyn Wire>> {
        let Some(proxy) = &self.proxy else {
            let wire = dial(&self.server).await?;
            return self.secured(wire, &self.server).await;
        };
        let named = |e: io::Error| io::Error::new(e.kind(), format!("proxy {}:{}: {e}", proxy.host, proxy.port));
        let wire = dial(proxy).await.map_err(named)?;
        let wire = self.secured(wire, proxy).await.map_err(named)?;
        if self.server.name.is_none() {
            return Ok(wire);
        }
        let tunnel = self.tunnel(wire).await.map_err(named)?;
        self.secured(tunnel, &self.server).await
    }

    /// Lets the proxy hand everything on (`CONNECT`, RFC 9110 §9.3.6).
    async fn tunnel(&self, wire: Box<dyn Wire>) -> io::Result<Box<dyn Wire>> {
        let (mut sender, driver) = http1::handshake(TokioIo::new(wire)).await.map_err(io::Error::other)?;
        tokio::spawn(driver.with_upgrades());
        let host = &self.server.host;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let authority = format!("{host}:{}", self.server.port);
        let mut request = Request::builder().method(Method::CONNECT).uri(&authority).header(HOST, &authority);
        if let Some(authorization) = &self.authorization {
            request = request.header(PROXY_AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        if !answer.status().is_success() {
            return Err(io::Error::other(format!("answers CONNECT with HTTP {}", answer.status())));
        }
        Ok(Box::new(TokioIo::new(hyper::upgrade::on(answer).await.map_err(io::Error::other)?)))
    }

    async fn secured(&self, wire: Box<dyn Wire>, end: &End) -> io::Result<Box<dyn Wire>> {
        match (&self.tls, &end.name) {
            (Some(tls), Some(name)) => Ok(Box::new(tls.connect(name.clone(), wire).await?)),
            _ => Ok(wire),
        }
    }
}

async fn dial(end: &End) -> io::Result<Box<dyn Wire>> {
    let stream = TcpStream::connect((end.host.as_str(), end.port)).await?;
    stream.set_nodelay(true)?;
    let limits = fs::read_to_string(RECEIVE_LIMITS).unwrap_or_default();
    let most = limits.split_whitespace().last().and_then(|most| most.parse().ok());
    if most.is_some_and(|most: usize| most > RECEIVE_BYTES) {
        // Without the right to it, which root has, the kernel bounds it by what programs without rights may ask for;
        // that is too little for a link of any length, and then its own way is better.
        let _ = setsockopt(&stream, sockopt::RcvBufForce, &RECEIVE_BYTES);
    }
    Ok(Box::new(stream))
}

impl End {
    fn of(url: &Url) -> Result<Self, String> {
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err("it names no host".to_owned()),
        };
        let name = match url.scheme() {
            "https" => Some(ServerName::try_from(host.clone()).map_err(|e| e.to_string())?),
            _ => None,
        };
        Ok(Self { port: url.port_or_known_default().unwrap_or(80), host, name })
    }
}

/// TLS that trusts the machine's authorities and those of the files `ca`.
fn trusting(ca: &[PathBuf]) -> Result<TlsConnector, Failure> {
    let mut roots = RootCertStore::empty();
    for path in ca {
        let refuse = |why: String| {
            Failure::new(Code::ConfigInvalid, format!("http.ca: {}: {why}", path.display()))
                .with_remedy("name files with the certificates of authorities in PEM")
        };
        let pem = fs::read(path).map_err(|e| refuse(e.to_string()))?;
        let mut count = 0;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let added = certificate.map_err(|e| refuse(e.to_string())).map(|certificate| roots.add(certificate))?;
            added.map_err(|e| refuse(e.to_string()))?;
            count += 1;
        }
        if count == 0 {
            return Err(refuse("holds no certificate".to_owned()));
        }
    }
    // A node without the public authorities may still trust its operator's.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|e| Failure::new(Code::ConfigInvalid, format!("TLS: {e}")))?;
    Ok(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}

/// Whether the list `no_proxy` (hosts, domains with what is below them, addresses, networks as
/// `10.0.0.0/8`, `*`) has the server of `url`. This machine itself never needs a proxy.
fn reached_without(no_proxy: &[String], url: &Url) -> bool {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        _ => None,
    };
    let name = url.host_str().unwrap_or_default();
    if name == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    no_proxy.iter().any(|entry| {
        let entry = entry.trim();
        match address {
            _ if entry == "*" => true,
            Some(address) => within(entry, address),
            None => {
                let domain = entry.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
                let rest = name.strip_suffix(domain.as_str()).filter(|_| !domain.is_empty());
                rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
        }
    })
}

fn within(network: &str, address: IpAddr) -> bool {
    let (base, bits) = network.split_once('/').map_or((network, None), |(base, bits)| (base, Some(bits)));
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let Ok(base) = base.parse::<IpAddr>() else { return false };
    let ((base, most), (address, other)) = (number(base), number(address));
    let bits = bits.map_or(Some(most), |bits| bits.parse().ok());
    let Some(bits) = bits.filter(|bits| *bits <= most && most == other) else { return false };
    bits == 0 || (base ^ address) >> (128 - bits) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_reached_without_a_proxy() {
        for (entry, url, direct) in [
            ("*", "http://a.example.org/", true),
            (".example.org", "http://a.example.org/", true),
            ("example.org", "http://a.example.org/", true),
            ("example.org", "http://example.org:81/", true),
            ("*.example.org", "http://a.example.org/", true),
            ("example.org", "http://anexample.org/", false),
            ("", "http://example.org/", false),
            ("10.0.0.0/8", "http://10.1.1.1/", true),
            ("10.0.0.0/8", "http://11.1.1.1/", false),
            ("10.1.1.1", "http://10.1.1.1:8080/", true),
            ("10.1.1.1/33", "http://10.1.1.1/", false),
            ("0.0.0.0/0", "http://10.1.1.1/", true),
            ("fd00::/8", "http://[fd12::1]/", true),
            ("fd00::/8", "http://[fe80::1]/", false),
            ("::/0", "http://10.1.1.1/", false),
            ("10.1.1.1", "http://name/", false),
            ("none", "http://127.0.0.1/", true),
            ("none", "http://localhost/", true),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(reached_without(&[entry.to_owned()], &url), direct, "{entry} {url}");
        }
    }

    #[test]
    fn settings_that_are_wrong_are_named_without_passwords() {
        let directory = tempfile::tempdir().unwrap();
        let empty = directory.path().join("empty.pem");
        fs::write(&empty, "no certificate").unwrap();
        let default = config::Http::default();
        let proxy = |text: &str| config::Http { proxy: Some(text.to_owned()), ..default.clone() };
        let ca = |path: &std::path::Path| config::Http { ca: vec![path.to_owned()], ..default.clone() };
        for (http, named) in [
            (proxy("socks5://user:secret@p:1080"), "socks5"),
            (proxy("http://user:secret@:80"), "http.proxy"),
            (ca(&empty), "empty.pem"),
            (ca(&directory.path().join("none.pem")), "none.pem"),
        ] {
            let failure = Route::to(&Url::parse("https://example.org/").unwrap(), &http, false).unwrap_err();
            assert_eq!(failure.code, Code::ConfigInvalid);
            assert!(failure.what.contains(named) && !failure.what.contains("secret"), "{}", failure.what);
        }
        let url = Url::parse("http://example.org/").unwrap();
        let by = |http: &config::Http, direct| Route::to(&url, http, direct).unwrap().by_plain_proxy().is_some();
        assert!(by(&proxy("http://p:3128"), false) && !by(&proxy("http://p:3128"), true));
        assert!(!by(&default, false));
    }
}
