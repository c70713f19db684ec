//! A real cluster in namespaces, from an ISO that `cks-iso` built: an etcd member, a control plane, two workers.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cks_tests::kubernetes::Cluster;
use cks_tests::process::Command;
use cks_tests::programs;
use clap::{Parser, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Brings up a cluster, proves it by a pod that another node reaches, and that nothing wanted to leave the bed.
///
/// Wants root, and the tools that `./dev beds` builds. All of it is gone when this program ends.
#[derive(Debug, Parser)]
struct Cli {
    /// The minor of Kubernetes, one of those pinned in tests/tools/versions
    #[arg(long, default_value = "1.35")]
    minor: String,
    /// The version of containerd; 1.6 is the distribution's
    #[arg(long, value_enum, default_value = "2.3")]
    containerd: Containerd,
    /// Install by cks-agent and join by kubeadm alone, instead of all by cks-agent
    #[arg(long)]
    by_hand: bool,
    /// Run this on the control plane when the cluster is up, or could not be brought up: `-- bash`
    #[arg(last = true)]
    command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Containerd {
    #[value(name = "1.6")]
    Distribution,
    #[value(name = "1.7")]
    OneSeven,
    #[value(name = "2.3")]
    TwoThree,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            eprintln!("bed-kubernetes: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<i32> {
    let containerd = match cli.containerd {
        Containerd::Distribution => None,
        Containerd::OneSeven => Some(programs::containerd_built("1.7")?),
        Containerd::TwoThree => Some(programs::containerd_built("2.3")?),
    };
    // By dropping, this program clears up; it has to live until then.
    let stop = Arc::new(AtomicBool::new(false));
    if !cli.command.is_empty() {
        flag::register(SIGINT, Arc::default()).context("Catching SIGINT")?;
        flag::register(SIGTERM, Arc::clone(&stop)).context("Catching SIGTERM")?;
    }
    let cluster = Cluster::new(&cli.minor, containerd.as_deref(), 2, say)?;
    let proven = prove(&cluster, cli);
    let Some((program, arguments)) = cli.command.split_first() else { return proven.map(|()| 0) };
    if let Err(error) = &proven {
        eprintln!("bed-kubernetes: {error:#}");
    }
    let code = cluster.control.enter(Command::new(Path::new(program)).args(arguments))?.attached(&stop)?;
    proven.map(|()| code)
}

fn prove(cluster: &Cluster, cli: &Cli) -> Result<()> {
    if cli.by_hand {
        cluster.by_hand()?
    } else {
        cluster.by_agent()?
    }
    let [first, second] = &cluster.workers[..] else { anyhow::bail!("there are no two workers") };
    cluster.serve_a_page("one", first, second)?;
    cluster.serve_a_page("two", second, &cluster.control)?;
    cluster.all_pods_ready()?;
    // Over the API server and kubelet into a pod, and from there to the cluster's DNS.
    let lookup = ["exec", "one", "--", "nslookup", "-type=a", "two.default.svc.cluster.local"];
    let told = cluster.kubectl(lookup)?.ok()?;
    ensure!(told.contains("Address: 10."), "The cluster's DNS does not know a service: {told}");
    print!("{}", cluster.kubectl(["get", "nodes,pods", "-A", "-o", "wide"])?.ok()?);
    cluster.bed.nothing_outside()?;
    println!("no packet wanted to leave the bed");
    Ok(())
}

fn say(elapsed: Duration, text: &str) {
    eprintln!("bed-kubernetes: {:5.1} s  {text}", elapsed.as_secs_f64());
}
