//! The web sites that releases come from: one server that answers for all of them, the site's name being
//! the first part of the path, and for any file the faults that sites have.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bootstrap::digest::Digest;

use crate::netns::{ADDRESS, Netns};
use crate::web::{Answer, Break, Request, Web};

/// The port of the server.
pub const PORT: u16 = 8080;

/// What goes wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 404, with the page that people see.
    NotFoundPage,
    /// 200, with a page instead of the file.
    Page,
    /// The connection ends in order in the middle of the file.
    Truncated,
    /// The connection is reset in the middle of the file.
    Reset,
    /// The connection ends after the headers.
    Cut,
    /// 503, as a site that is overloaded.
    Busy,
    /// The file with one bit changed.
    Changed,
}

/// A running server.
#[derive(Debug)]
pub struct Upstream {
    sites: Arc<Mutex<Sites>>,
    web: Web,
}

#[derive(Debug, Default)]
struct Sites {
    files: BTreeMap<String, Arc<Vec<u8>>>,
    faults: Vec<(String, usize, Fault)>,
}

impl Upstream {
    /// Serves nothing yet, inside `netns`.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(netns: &Netns) -> Result<Self> {
        let sites = Arc::new(Mutex::new(Sites::default()));
        let asked = Arc::clone(&sites);
        let answers =
            move |request: &Request| asked.lock().unwrap_or_else(PoisonError::into_inner).answer(&request.path);
        let web = Web::start(netns, &format!("{ADDRESS}:{PORT}"), None, answers)?;
        Ok(Self { sites, web })
    }

    /// Puts a file at `path`, such as `dl.k8s.io/release/v1.33.1/bin/linux/amd64/kubelet`.
    pub fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.lock().files.insert(path.to_owned(), Arc::new(bytes.into()));
    }

    /// As [`Upstream::put`], with `PATH.sha256` beside it, which holds the digest and nothing else.
    pub fn put_with_digest(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.put(&format!("{path}.sha256"), Digest::of(&bytes).hex());
        self.put(path, bytes);
    }

    /// As [`Upstream::put`], with `PATH.sha256` beside it as `sha256sum` writes it.
    pub fn put_with_sum(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        let name = path.rsplit('/').next().unwrap_or(path);
        self.put(&format!("{path}.sha256"), format!("{}  {name}\n", Digest::of(&bytes).hex()));
        self.put(path, bytes);
    }

    /// The bytes at `path`.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<Arc<Vec<u8>>> {
        self.lock().files.get(path).cloned()
    }

    /// The paths of all files.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.lock().files.keys().cloned().collect()
    }

    /// Lets the next `times` answers for paths that end in `suffix` go wrong.
    pub fn fail(&self, suffix: &str, times: usize, fault: Fault) {
        self.lock().faults.push((suffix.to_owned(), times, fault));
    }

    /// Lets nothing go wrong any more.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Every request so far, in the order of their answers.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.web.requests()
    }

    /// Forgets the requests so far and gives them.
    #[must_use]
    pub fn take_requests(&self) -> Vec<Request> {
        self.web.take_requests()
    }

    /// What stands for `https://SITE` in a machine's configuration: `http://10.1.1.1:8080/SITE`.
    #[must_use]
    pub fn mirror(site: &str) -> String {
        format!("http://{ADDRESS}:{PORT}/{site}")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sites> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sites {
    fn answer(&mut self, path: &str) -> Answer {
        let path = path.replace("%2B", "+").replace("%3A", ":");
        let due = self.faults.iter_mut().find(|(suffix, times, _)| *times > 0 && path.ends_with(suffix.as_str()));
        let fault = due.map(|(_, times, fault)| {
            *times -= 1;
            *fault
        });
        let Some(bytes) = self.files.get(&path) else { return Answer::page(404) };
        let whole = Answer::file(Arc::clone(bytes));
        let half = bytes.len() / 2;
        match fault {
            None => whole,
            Some(Fault::NotFoundPage) => Answer::page(404),
            Some(Fault::Page) => Answer::page(200),
            Some(Fault::Busy) => Answer::page(503),
            Some(Fault::Truncated) => whole.broken(Break::Close(half)),
            Some(Fault::Cut) => whole.broken(Break::Close(0)),
            Some(Fault::Reset) => whole.broken(Break::Reset(half)),
            Some(Fault::Changed) => {
                let mut other = bytes.to_vec();
                if let Some(byte) = other.get_mut(half) {
                    *byte ^= 1;
                }
                Answer::file(Arc::new(other))
            }
        }
    }
}
