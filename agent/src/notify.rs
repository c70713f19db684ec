//! What a service tells systemd of itself (sd_notify(3)): one datagram for each word.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use bootstrap::text::plain;

/// The way to systemd; nobody listens where the environment named no socket.
#[derive(Debug, Clone, Default)]
pub struct Notify {
    socket: Option<OsString>,
}

impl Notify {
    /// To `socket`, as `NOTIFY_SOCKET` names it: a path, or an abstract name behind `@`.
    #[must_use]
    pub fn to(socket: Option<OsString>) -> Self {
        Self { socket: socket.filter(|socket| !socket.is_empty()) }
    }

    /// What is ordered behind this service may begin.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The service ends.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// What the service is doing, in one line.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", plain(text)));
    }

    fn send(&self, word: &str) {
        let Some(socket) = &self.socket else { return };
        let address = match socket.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            _ => SocketAddr::from_pathname(socket),
        };
        let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(word.as_bytes(), &address));
        if let Err(e) = sent {
            tracing::debug!("telling systemd {word}: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_hears_each_word() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("cks-agent-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (listens, socket) in [
            (UnixDatagram::bind(&path).unwrap(), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&abstract_name).unwrap(), format!("@{name}").into()),
        ] {
            let notify = Notify::to(Some(socket));
            notify.status("join\n2");
            notify.ready();
            let mut bytes = [0; 64];
            for word in ["STATUS=join\\n2", "READY=1"] {
                let count = listens.recv(&mut bytes).unwrap();
                assert_eq!(std::str::from_utf8(&bytes[..count]).unwrap(), word);
            }
        }
        Notify::to(None).ready();
        Notify::to(Some("/nowhere/notify".into())).ready();
    }
}
