//! A relay for HTTP between a node and its real server, whose faults a test tells, each with its moment; and
//! what was asked for, so that a test can count what was fetched twice.
//!
//! ```no_run
//! # use cks_tests::{faults::{Fault, Faults, Moment}, vr::Vr};
//! # fn bed(vr: &Vr) -> anyhow::Result<()> {
//! let faults = Faults::between(&vr.netns, &vr.url)?;
//! faults.on(Moment::of("kubelet", 0).after(100_000), Fault::Reset);
//! faults.on(Moment::request(3), Fault::Status(503, Some("2".to_owned())));
//! // … cks-agent bootstrap --source {faults.url} …
//! assert_eq!(faults.left(), 0, "each fault has struck");
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::netns::Netns;
use crate::web::{inside, listen};

mod exchange;

/// What goes wrong.
#[derive(Clone)]
pub enum Fault {
    /// The connection ends by RST.
    Reset,
    /// The connection is closed in order, too early.
    Close,
    /// Nothing more comes, and the connection stays open.
    Stall,
    /// This status and a page of text instead of an answer, with this `Retry-After`.
    Status(u16, Option<String>),
    /// Another range than the one asked for, and the head says so.
    WrongRange,
    /// The whole file with status 200 instead of the range.
    NoRange,
    /// The range in several parts, as if more than one had been asked for.
    Multipart,
    /// The head says that the body is compressed.
    Encoded,
    /// No `Content-Length`: the body comes in chunks.
    Chunked,
    /// From here on so many KiB each second.
    Slow(u64),
    /// One byte is another.
    Corrupt,
    /// No HTTP.
    Garbage,
    /// A redirect to this URL.
    Redirect(String),
    /// Status 200 and a page, as portals give it.
    Page,
    /// So many bytes more than the head says.
    Extra(usize),
    /// The connection ends by RST, and for this time nobody listens.
    Refuse(Duration),
    /// The request is answered by nothing at all.
    Silence,
    /// This happens (a file of the server is replaced, say), and all goes on; at the head, before the server is
    /// asked.
    Happens(Arc<dyn Fn() + Send + Sync>),
    /// This happens, and the connection ends by RST.
    Breaks(Arc<dyn Fn() + Send + Sync>),
    /// The connection ends by RST, and from then on this is due.
    Then(Box<(Moment, Self)>),
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Reset => "reset",
            Self::Close => "close",
            Self::Stall => "stall",
            Self::Status(status, after) => return write!(f, "status {status} {after:?}"),
            Self::WrongRange => "wrong range",
            Self::NoRange => "no range",
            Self::Multipart => "multipart",
            Self::Encoded => "encoded",
            Self::Chunked => "chunked",
            Self::Slow(kib) => return write!(f, "slow, {kib} KiB/s"),
            Self::Corrupt => "corrupt",
            Self::Garbage => "garbage",
            Self::Redirect(to) => return write!(f, "redirect to {to}"),
            Self::Page => "page",
            Self::Extra(count) => return write!(f, "{count} bytes more"),
            Self::Refuse(time) => return write!(f, "refuse for {time:?}"),
            Self::Silence => "silence",
            Self::Happens(_) => "something happens",
            Self::Breaks(_) => "something happens and a reset",
            Self::Then(then) => return write!(f, "reset, then {:?}", then.1),
        };
        f.write_str(text)
    }
}

/// When it goes wrong.
#[derive(Debug, Clone)]
pub struct Moment {
    /// The end of the path, without query.
    path: String,
    nth: usize,
    after: u64,
    always: bool,
    begins: Option<Range<u64>>,
}

impl Moment {
    /// At the request with this number, counted from 0.
    #[must_use]
    pub fn request(nth: usize) -> Self {
        Self::of("", nth)
    }

    /// At the request with this number of those for a path with this end.
    #[must_use]
    pub fn of(path: &str, nth: usize) -> Self {
        Self { path: path.to_owned(), nth, after: 0, always: false, begins: None }
    }

    /// After so many bytes of the body of its answer; an answer that has fewer is passed over, and the next is
    /// the one. Faults of the head strike before any byte.
    #[must_use]
    pub fn after(mut self, bytes: u64) -> Self {
        self.after = bytes;
        self
    }

    /// Only of requests for a range that begins in here.
    #[must_use]
    pub fn beginning(mut self, begins: Range<u64>) -> Self {
        self.begins = Some(begins);
        self
    }

    /// And at every one after that.
    #[must_use]
    pub fn always(mut self) -> Self {
        self.always = true;
        self
    }
}

/// A request and what came of it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Number of the connection it came over.
    pub connection: usize,
    /// `GET`, `HEAD`.
    pub method: String,
    /// Path and query as sent.
    pub path: String,
    /// The header `Host`.
    pub host: String,
    /// First and last byte asked for.
    pub range: Option<(u64, u64)>,
    /// The header `If-Range`.
    pub if_range: Option<String>,
    /// All headers as sent, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// When it was read.
    pub at: Instant,
    /// The status of the answer; 0 without one.
    pub status: u16,
    /// First byte of the file that was sent.
    pub first: u64,
    /// How many bytes of the body were handed to the kernel.
    pub bytes: u64,
    /// The fault that struck it.
    pub fault: Option<String>,
}

/// The relay.
#[derive(Debug)]
pub struct Faults {
    /// What stands for the upstream's URL.
    pub url: String,
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Rule {
    moment: Moment,
    fault: Fault,
    seen: usize,
    struck: usize,
}

#[derive(Debug)]
struct Shared {
    network: String,
    upstream: String,
    rules: Mutex<Vec<Rule>>,
    asked: Mutex<Vec<Asked>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
    refuse: Mutex<Option<Duration>>,
    over: AtomicBool,
    address: SocketAddr,
}

impl Faults {
    /// Stands before the server of the URL `upstream`, inside `netns`.
    ///
    /// # Errors
    /// When `upstream` is no `http://` URL, or no port is free.
    pub fn between(netns: &Netns, upstream: &str) -> Result<Self> {
        let rest = upstream.strip_prefix("http://").context("The upstream is no http:// URL")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, _) = authority.split_once(':').unwrap_or((authority, "80"));
        let server = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        let listener = listen(&netns.path(), &format!("{host}:0"))?;
        let address = listener.local_addr().context("Asking for the port")?;
        let (rules, asked, connections, open, most, refuse, over) = Default::default();
        let network = netns.path();
        let shared = Shared { network, upstream: server, rules, asked, connections, open, most, refuse, over, address };
        let shared = Arc::new(shared);
        let serving = Arc::clone(&shared);
        thread::spawn(move || serving.listen(listener));
        Ok(Self { url: format!("http://{address}/{path}"), address, shared })
    }

    /// Lets `fault` strike at `moment`.
    pub fn on(&self, moment: Moment, fault: Fault) -> &Self {
        locked(&self.shared.rules).push(Rule { moment, fault, seen: 0, struck: 0 });
        self
    }

    /// How many faults have not struck yet.
    #[must_use]
    pub fn left(&self) -> usize {
        locked(&self.shared.rules).iter().filter(|rule| rule.struck == 0).count()
    }

    /// Every request so far, in the order in which they came.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        locked(&self.shared.asked).clone()
    }

    /// How many connections came in all.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many were open at once, at most; one that the client has just closed may still count.
    #[must_use]
    pub fn most_connections(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }

    /// Bytes of files that were sent, and how many of them for another time.
    #[must_use]
    pub fn sent_and_repeated(&self) -> (u64, u64) {
        let mut spans: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
        for asked in self.asked().into_iter().filter(|asked| matches!(asked.status, 200 | 206) && asked.bytes > 0) {
            spans.entry(asked.path).or_default().push((asked.first, asked.first + asked.bytes));
        }
        let (mut sent, mut once) = (0, 0);
        for mut spans in spans.into_values() {
            spans.sort_unstable();
            let mut reached = 0;
            for (from, to) in spans {
                sent += to - from;
                once += to.saturating_sub(from.max(reached));
                reached = reached.max(to);
            }
        }
        (sent, sent - once)
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.shared.wake(self.address);
    }
}

impl Shared {
    fn listen(self: Arc<Self>, mut listener: TcpListener) {
        while !self.over.load(Ordering::SeqCst) {
            let Ok((stream, _)) = listener.accept() else { return };
            if let Some(time) = locked(&self.refuse).take() {
                drop((stream, listener));
                thread::sleep(time);
                match listen(&self.network, &self.address.to_string()) {
                    Ok(again) => listener = again,
                    Err(_) => return,
                }
                continue;
            }
            let connection = self.connections.fetch_add(1, Ordering::SeqCst);
            self.most.fetch_max(self.open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let serving = Arc::clone(&self);
            thread::spawn(move || {
                // A client that goes away is what tests are about.
                drop(exchange::converse(&serving, stream, connection));
                serving.open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }

    /// Lets the listener look up; it fails only when that is gone already.
    fn wake(&self, address: SocketAddr) {
        drop(inside(&self.network, move || Ok(TcpStream::connect(address).map(drop)?)));
    }

    /// The fault that strikes a request for `path`, whose range begins at `first`, and the byte after which it
    /// does. `length`: bytes of the body of its answer; none while only the request is known.
    fn due(&self, path: &str, first: Option<u64>, length: Option<u64>) -> Option<(Fault, u64)> {
        let path = path.split('?').next().unwrap_or_default();
        let mut due = None;
        for rule in locked(&self.rules).iter_mut().filter(|rule| path.ends_with(&rule.moment.path)) {
            let moment = &rule.moment;
            let now = match length {
                None => moment.after == 0,
                Some(length) => moment.after > 0 && length >= moment.after,
            };
            let begins = moment.begins.as_ref();
            if !now || begins.is_some_and(|begins| !first.is_some_and(|first| begins.contains(&first))) {
                continue;
            }
            let this = rule.seen;
            rule.seen += 1;
            if due.is_none() && (this == moment.nth || (moment.always && this > moment.nth)) {
                rule.struck += 1;
                due = Some((rule.fault.clone(), moment.after));
            }
        }
        due
    }

    fn note(&self, asked: Asked) -> usize {
        let mut all = locked(&self.asked);
        all.push(asked);
        all.len() - 1
    }

    fn amend(&self, number: usize, change: impl FnOnce(&mut Asked)) {
        locked(&self.asked).get_mut(number).map(change);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
