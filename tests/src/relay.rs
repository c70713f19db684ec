//! A wire between a client and a server that counts and can be cut, whatever is spoken on it.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};

use crate::netns::Netns;
use crate::web::{Break, inside, listen, reset};

/// A relay inside a namespace.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    network: String,
    server: String,
    brought: AtomicU64,
    connections: AtomicU64,
    cuts: Mutex<Vec<Break>>,
    over: AtomicBool,
}

impl Relay {
    /// Listens at `address` and hands everything on to `server`, both inside `netns`.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn start(netns: &Netns, address: &str, server: &str) -> Result<Self> {
        let listener = listen(&netns.path(), address)?;
        let address = listener.local_addr().context("Asking for the port")?;
        let (brought, connections, cuts, over) = Default::default();
        let (network, server) = (netns.path(), server.to_owned());
        let shared = Arc::new(Shared { network, server, brought, connections, cuts, over });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if serving.over.load(Ordering::Relaxed) {
                    break;
                }
                let serving = Arc::clone(&serving);
                thread::spawn(move || drop(serving.join(stream)));
            }
        });
        Ok(Self { address, shared })
    }

    /// How many bytes the server has sent through it.
    #[must_use]
    pub fn brought(&self) -> u64 {
        self.shared.brought.load(Ordering::Relaxed)
    }

    /// How many connections went through it.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Breaks connections, one for each of `cuts`, the last of these first: each breaks the next connection that
    /// brings as many bytes as it tells.
    pub fn cut(&self, cuts: &[Break]) {
        cuts.clone_into(&mut self.shared.cuts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// How many of the cuts are still to come.
    #[must_use]
    pub fn cuts_left(&self) -> usize {
        self.shared.cuts.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the listener; it fails only when that is gone already.
        let address = self.address;
        drop(inside(&self.shared.network, move || Ok(TcpStream::connect(address).map(drop)?)));
    }
}

impl Shared {
    fn join(&self, mut client: TcpStream) -> Result<()> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let address = self.server.clone();
        let mut server = match inside(&self.network, move || Ok(TcpStream::connect(address)?)) {
            Ok(server) => server,
            Err(error) => {
                // As the kernel does for a port that nobody listens at.
                reset(&client)?;
                return Err(error);
            }
        };
        let (mut asks, mut asked) = (client.try_clone()?, server.try_clone()?);
        thread::spawn(move || {
            drop(io::copy(&mut asks, &mut asked));
            drop(asked.shutdown(Shutdown::Write));
        });
        let mut piece = vec![0; 16 << 10];
        let mut brought = 0;
        loop {
            let got = server.read(&mut piece)?;
            let due = self.due(brought + got);
            let pass = match due {
                Some(Break::Close(after) | Break::Reset(after)) => after.saturating_sub(brought).min(got),
                None => got,
            };
            client.write_all(&piece[..pass])?;
            brought += pass;
            self.brought.fetch_add(pass as u64, Ordering::Relaxed);
            if due.is_some_and(|due| matches!(due, Break::Reset(_))) {
                reset(&client)?;
                // The other direction's copy holds the socket, too: its read ends by this, unseen by the client.
                client.shutdown(Shutdown::Read)?;
                return Ok(server.shutdown(Shutdown::Both)?);
            }
            if due.is_some() || got == 0 {
                client.shutdown(Shutdown::Both)?;
                return Ok(server.shutdown(Shutdown::Both)?);
            }
        }
    }

    /// Takes the next cut when a connection has brought enough for it.
    fn due(&self, brought: usize) -> Option<Break> {
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        let reached = |cut: &Break| matches!(cut, Break::Close(after) | Break::Reset(after) if *after <= brought);
        cuts.last().is_some_and(reached).then(|| cuts.pop()).flatten()
    }
}
