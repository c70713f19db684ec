//! Sockets that kubelet finds by their paths: bound without taking one from another process.

use std::convert::Infallible;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bootstrap::failure::{Code, Failure};
use futures::stream::{self, Stream};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::Connected;

use crate::files;
use crate::host::io_failure;

/// Of the directory, as kubelet makes those beside it.
const DIRECTORY_MODE: u32 = 0o750;
/// Root talks to it, and nobody else.
const MODE: u32 = 0o600;
/// The pause after a connection that could not be accepted: mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_secs(1);

/// Which file a path names: another one may take its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    /// Of what lies at `path`; none where nothing does.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let meta = fs::symlink_metadata(path).ok()?;
        Some(Self { device: meta.dev(), number: meta.ino() })
    }
}

/// Listens for CSI calls at `path`, in the place of a socket that nobody answers on. Its directory is made where it is
/// missing.
///
/// # Errors
/// As [`bind`]; `IO` and `NO_SPACE` name the directory.
pub fn listen(path: &Path) -> Result<UnixListener, Failure> {
    if let Some(directory) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory);
        made.map_err(|e| io_failure("Making directory", directory, e))?;
    }
    bind(path)
}

/// Binds a socket at `path`, in the place of one that nobody answers on. It listens and has its mode before anybody
/// can see it, whatever the umask is, which is the whole process's and so left alone.
///
/// # Errors
/// `PORT_IN_USE` where another process answers at `path`; `CONFIG_INVALID` where something lies there that is no
/// socket; `IO` and `NO_SPACE` name the path.
pub fn bind(path: &Path) -> Result<UnixListener, Failure> {
    vacant(path)?;
    let beside = beside(path);
    files::remove(&beside)?;
    let bound = (|| {
        let listener = UnixListener::bind(&beside)?;
        fs::set_permissions(&beside, Permissions::from_mode(MODE))?;
        fs::rename(&beside, path)?;
        Ok(listener)
    })();
    bound.map_err(|e| {
        // Best effort: the next one removes what is left.
        let _ = fs::remove_file(&beside);
        io_failure("Listening at", path, e)
    })
}

/// Removes the socket at `path`, where one is there that nobody answers on.
///
/// # Errors
/// As [`bind`].
pub fn remove(path: &Path) -> Result<(), Failure> {
    vacant(path)?;
    // What a killed process left, too.
    files::remove(&beside(path))?;
    files::remove(path)
}

/// Hidden: kubelet's plugin watcher takes no notice of such names.
fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

/// Refuses what may not be replaced.
fn vacant(path: &Path) -> Result<(), Failure> {
    let meta = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        meta => meta.map_err(|e| io_failure("Looking at", path, e))?,
    };
    if !meta.file_type().is_socket() {
        let what = format!("{} is no socket, and so is not replaced", path.display());
        return Err(Failure::new(Code::ConfigInvalid, what)
            .with_remedy(format!("look at what {} is, and move it away", path.display())));
    }
    match knock(path) {
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(()),
        // EAGAIN: there is somebody, with more connections than are taken.
        Err(e) if e != Errno::EAGAIN => Err(io_failure("Connecting to", path, e.into())),
        _ => {
            let what = format!("another process answers at {}", path.display());
            let remedy = "stop it: a CSI driver or registrar that runs as a DaemonSet (kubectl get daemonsets -A), or \
                          another cks-agent; ss -xlp names the process";
            Err(Failure::new(Code::PortInUse, what).with_remedy(remedy))
        }
    }
}

/// Connects, and lets go. It never waits.
fn knock(path: &Path) -> nix::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(probe.as_raw_fd(), &UnixAddr::new(path)?)
}

/// A connection, with its place among those at once.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    _place: OwnedSemaphorePermit,
}

/// The connections that come to `listener`, `limit` at once: more wait until one ends. It never ends.
pub fn connections(listener: UnixListener, limit: usize) -> impl Stream<Item = Result<Connection, Infallible>> {
    let places = Arc::new(Semaphore::new(limit));
    stream::unfold((listener, places), async move |(listener, places)| {
        // Nobody closes it.
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        let stream = loop {
            match listener.accept().await {
                Ok((stream, _)) => break stream,
                Err(e) => {
                    tracing::warn!("accepting a connection: {e}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        Some((Ok(Connection { stream, _place: place }), (listener, places)))
    })
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream as Client;

    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    #[tokio::test]
    async fn a_place_is_free_again_when_its_connection_ends() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("csi.sock");
        let connections = connections(bind(&path).unwrap(), 2);
        tokio::pin!(connections);
        let clients: Vec<Client> = (0..3).map(|_| Client::connect(&path).unwrap()).collect();
        let first = connections.next().await.unwrap();
        let _second = connections.next().await.unwrap();
        assert!(connections.next().now_or_never().is_none(), "the third one waits");
        drop(first);
        let _third = connections.next().await.unwrap();
        drop(clients);
    }

    #[tokio::test]
    async fn a_socket_whose_queue_is_full_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("csi.sock");
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let hung = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        nix::sys::socket::bind(hung.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        nix::sys::socket::listen(&hung, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let _queued = Client::connect(&path).unwrap();
        assert_eq!(knock(&path), Err(Errno::EAGAIN));
        assert_eq!(bind(&path).unwrap_err().code, Code::PortInUse);
    }
}
