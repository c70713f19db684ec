//! The whole path, for real and watched: components → ISO → virtual router → an etcd node and a worker.

mod node;
mod steps;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};

/// Builds a CKS ISO from real components and makes an etcd node and a worker of two empty directories.
///
/// Everything runs in private namespaces and below /var/tmp, and is gone afterwards. Needs root.
/// Ends with 0 when every step did what it should.
#[derive(Debug, Parser)]
struct Cli {
    /// Where `./dev kubernetes` leaves kubeadm, kubelet and kubectl, as kubernetes-VERSION
    #[arg(long, value_name = "DIR")]
    kubernetes_cache: Option<PathBuf>,
    /// Leave kubeadm, kubelet and kubectl out even if they are there: a quicker demo
    #[arg(long)]
    without_kubernetes: bool,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    // Ctrl-C ends the step under way; what it made is cleared up on the way out.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("Catching signals")?;
    }
    let cache = cli.kubernetes_cache.filter(|_| !cli.without_kubernetes);
    steps::run(cache.as_deref(), &stop)
}
