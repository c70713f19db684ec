//! A web server that stops in the middle of one file until it is told to go on, to break off or to answer
//! nobody: for what has to happen while a download is under way.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// Smaller answers are not held up.
const HELD_BYTES: usize = 64 << 10;

/// A web server on 127.0.0.1.
#[derive(Debug)]
pub struct Gate {
    /// Where the content is.
    pub url: String,
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    content: PathBuf,
    held: String,
    state: Mutex<State>,
    changed: Condvar,
    over: AtomicBool,
    no_ranges: AtomicBool,
    dies: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    reached: bool,
    open: bool,
    cut: bool,
    dead: bool,
}

impl Gate {
    /// Serves the directory `content`; only half of the file `held` comes until [`Gate::open`]. Answers of less
    /// than 64 KiB, such as small blobs of an archive, come whole.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(content: PathBuf, held: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("Listening on 127.0.0.1")?;
        let address = listener.local_addr().context("Asking for the port")?;
        let (state, changed) = (Mutex::default(), Condvar::new());
        let (over, no_ranges, dies) = Default::default();
        let shared = Arc::new(Shared { content, held: held.to_owned(), state, changed, over, no_ranges, dies });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if serving.over.load(Ordering::Relaxed) {
                    break;
                }
                let serving = Arc::clone(&serving);
                // A client that goes away is what tests are about.
                thread::spawn(move || drop(serving.answer(stream)));
            }
        });
        Ok(Self { url: format!("http://{address}/"), address, shared })
    }

    /// Answers every request with the whole file, as servers without byte ranges do.
    #[must_use]
    pub fn without_ranges(self) -> Self {
        self.shared.no_ranges.store(true, Ordering::Relaxed);
        self
    }

    /// Keeps its connections open and answers nothing at all once the half has been sent.
    #[must_use]
    pub fn that_dies(self) -> Self {
        self.shared.dies.store(true, Ordering::Relaxed);
        self
    }

    /// Waits until the half has been sent.
    ///
    /// # Errors
    /// After 30 s.
    pub fn wait(&self) -> Result<()> {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.shared.changed.wait_timeout_while(state, Duration::from_secs(30), |state| !state.reached);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        ensure!(state.reached, "Nobody asked for {} within 30 s", self.shared.held);
        Ok(())
    }

    /// Lets the rest through, now and ever after.
    pub fn open(&self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.open, state.dead) = (true, false);
        self.shared.changed.notify_all();
    }

    /// Breaks the connection off at the half; who asks again gets everything.
    pub fn cut(&self) {
        self.cut_and_die();
        self.open();
    }

    /// Breaks the connection off at the half and answers nobody until [`Gate::open`].
    pub fn cut_and_die(&self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.cut, state.dead) = (true, true);
        self.shared.changed.notify_all();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the listener; it fails only when that is gone already.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn answer(&self, stream: TcpStream) -> io::Result<()> {
        let (mut path, mut range) = (String::new(), None);
        for (at, line) in BufReader::new(stream.try_clone()?).lines().enumerate() {
            let line = line?;
            if at == 0 {
                path = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').replace("%3A", ":");
            } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
                range = value.split_once('-').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
            } else if line.is_empty() {
                break;
            }
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(state, |state| state.dead));
        let range = range.filter(|_| !self.no_ranges.load(Ordering::Relaxed));
        self.send(stream, &path, range)
    }

    fn send(&self, mut stream: TcpStream, path: &str, range: Option<(usize, usize)>) -> io::Result<()> {
        let Ok(bytes) = fs::read(self.content.join(path)) else {
            return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        };
        let (from, to) = range.unwrap_or((0, bytes.len().saturating_sub(1)));
        let body = bytes.get(from..=to).unwrap_or_default();
        let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
        let (length, whole) = (body.len(), bytes.len());
        let told = range.map(|_| format!("Content-Range: bytes {from}-{to}/{whole}\r\n")).unwrap_or_default();
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{told}Connection: close\r\n\r\n")?;
        let open = self.state.lock().unwrap_or_else(PoisonError::into_inner).open;
        if path != self.held || length < HELD_BYTES || open {
            return stream.write_all(body);
        }
        let (first, rest) = body.split_at(length / 2);
        stream.write_all(first)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.reached = true;
        state.dead = self.dies.load(Ordering::Relaxed) && !state.open;
        self.changed.notify_all();
        let waited = self.changed.wait_while(state, |state| !state.open && !state.cut);
        let cut = waited.unwrap_or_else(PoisonError::into_inner).cut;
        if cut { Ok(()) } else { stream.write_all(rest) }
    }
}
