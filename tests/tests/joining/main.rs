//! Machines that join, break off, leave, and say why they can't: a real cluster that the agent makes.
//!
//! It wants what `./dev beds` builds, and minutes: `just bed-joining`, not part of `cargo test` without a name.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

mod failures;
mod kills;
mod leaving;
mod secrets;
mod told;
mod volumes;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cks_tests::kubernetes::Cluster;
use cks_tests::programs;

/// The longest that one machine may take on a busy computer.
const LIMIT: Duration = Duration::from_secs(420);

/// Two cores carry one cluster at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn containerd() -> PathBuf {
    programs::containerd_built("2.3").unwrap()
}

/// Machines that are switched on, on which nothing is installed.
fn machines(workers: u8) -> Cluster {
    Cluster::new("1.35", Some(&containerd()), workers, |at, text| eprintln!("{:7.1} s  {text}", at.as_secs_f64()))
        .unwrap()
}

/// How often something random is done; `CKS_KILL_TIMES` says otherwise.
#[expect(clippy::disallowed_methods, reason = "a person asks for more")]
fn times() -> usize {
    std::env::var("CKS_KILL_TIMES").ok().and_then(|times| times.parse().ok()).unwrap_or(6)
}
