//! How a node finds its user data, takes over from the management server's scripts, and tells where it stands.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

mod again;
mod attending;
mod corpus;
mod finding;
mod telling;
mod upgrading;

use std::fs::{self, File};
use std::future::Future;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use agent::host::Host;

/// The instance of these tests.
pub(crate) const INSTANCE: &str = "2f0e5c1e-5b0f-4a76-9a1f-6f8a3a1b2c3d";

/// Waits for `probe`, for at most ten seconds.
pub(crate) fn within(what: &str, mut probe: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !probe() {
        assert!(Instant::now() < deadline, "{what} within 10 s");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Writes a file of the node below `root`.
pub(crate) fn put(root: &Path, path: &str, text: impl AsRef<[u8]>) {
    fs::write(Host::new(root).unwrap().prepare(path).unwrap(), text).unwrap();
}

/// Runs what `begin` makes on a thread of its own, in the network namespace at `network` where one is named.
pub(crate) fn apart<T, F>(network: Option<String>, begin: impl FnOnce() -> F + Send + 'static) -> thread::JoinHandle<T>
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    thread::spawn(move || {
        if let Some(network) = network {
            nix::sched::setns(File::open(network).unwrap(), nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        }
        // Other threads of the runtime would be in the namespace, too, but name servers are asked on some that are not.
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(begin())
    })
}
