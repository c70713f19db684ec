//! `cks-agent etcd …`: the command line, and who carries it out.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bootstrap::bundle::Role;
use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::{Authority, NodeSpec};
use bootstrap::secret::Secret;
use clap::{Args, Subcommand};

use super::record::Record;
use super::{Patience, ensure_within};
use crate::board::Board;
use crate::cli;
use crate::config::patience;
use crate::host::{Host, io_failure};
use crate::journal::Journal;
use crate::progress;

const EXAMPLES: &str = "\
Examples:
  cks-agent etcd status
  cks-agent etcd status --json | jq .quorum
  cks-agent etcd snapshot --output /backup/etcd.db
  cks-agent etcd member replace

docs/etcd.md tells how a cluster begins, and what to do when members are lost.";

/// Arguments of `etcd`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Etcd {
    /// The node's root directory
    #[arg(long, default_value = "/", value_name = "DIR", global = true)]
    pub root: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: EtcdCommand,
}

/// What is done with etcd.
#[derive(Debug, Subcommand)]
pub enum EtcdCommand {
    /// Make this node a member that serves: begin a cluster, join one, or find that it is one.
    Start(Start),
}

/// Arguments of `etcd start`.
#[derive(Debug, Args)]
pub struct Start {
    /// The node's name; default: as it was started before, else the machine's host name
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// The address that others reach this node at
    #[arg(long, value_name = "ADDRESS")]
    pub node_ip: Option<IpAddr>,
    /// All members of the cluster, this one among them; default: this node alone
    #[arg(long, value_name = "NAME=URL,…")]
    pub etcd_initial_cluster: Option<String>,
    /// The certificate of the cluster's authority (PEM); without one, members speak plain HTTP
    #[arg(long, value_name = "FILE", requires = "ca_key")]
    pub ca_certificate: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "ca_certificate")]
    pub ca_key: Option<PathBuf>,
    /// How long others may be silent before a cluster is begun without them; default: 45s
    #[arg(long, value_name = "TIME", value_parser = patience)]
    pub wait_others: Option<Duration>,
    /// How long etcd may take until it serves; default: 20m
    #[arg(long, value_name = "TIME", value_parser = patience)]
    pub wait: Option<Duration>,
}

/// Carries a command out. Returns the exit code.
///
/// # Errors
/// Those of the command.
pub async fn run(arguments: &Etcd) -> Result<u8, Failure> {
    let host = Host::new(&arguments.root)?;
    match &arguments.command {
        EtcdCommand::Start(start) => begin(&host, start).await,
    }
}

async fn begin(host: &Host, arguments: &Start) -> Result<u8, Failure> {
    // Nobody else changes this node meanwhile.
    let _lock = Journal::open(host)?;
    let spec = spec(host, arguments)?;
    let default = Patience::default();
    let patience = Patience {
        others: arguments.wait_others.unwrap_or(default.others),
        whole: arguments.wait.unwrap_or(default.whole),
        ..default
    };
    with_board(|board| async move { ensure_within(host, &spec, &board, patience).await }).await?;
    Ok(0)
}

/// Does something that is waited for, and shows what for.
pub(super) async fn with_board<F: Future<Output = Result<(), Failure>>>(
    act: impl FnOnce(Board) -> F,
) -> Result<(), Failure> {
    let board = Board::new(Role::Etcd);
    let shown = progress::show(board.subscribe(), false, cli::terminal(std::io::stderr()));
    let outcome = act(board.clone()).await;
    drop(board);
    shown.finish().await;
    outcome
}

/// What the node is wanted to be: as it is told, or else as it was before.
fn spec(host: &Host, arguments: &Start) -> Result<NodeSpec, Failure> {
    let told = arguments.node_name.is_some() || arguments.node_ip.is_some() || arguments.etcd_initial_cluster.is_some();
    if !told
        && arguments.ca_certificate.is_none()
        && let Some(record) = Record::read(host)?
    {
        return record.spec(host);
    }
    let name = arguments.node_name.clone().unwrap_or_else(|| host.name());
    let cluster = arguments.etcd_initial_cluster.as_deref();
    let mut spec = NodeSpec::new(Role::Etcd, &name, arguments.node_ip, cluster)?;
    if let (Some(certificate), Some(key)) = (&arguments.ca_certificate, &arguments.ca_key) {
        let read = |path: &PathBuf| std::fs::read_to_string(path).map_err(|e| io_failure("Reading", path, e));
        spec.etcd_authority = Some(Authority { certificate: read(certificate)?, key: Some(Secret::new(read(key)?)) });
    }
    Ok(spec)
}

/// What this node was made a member of.
pub(super) fn recorded(host: &Host) -> Result<NodeSpec, Failure> {
    match Record::read(host)? {
        Some(record) => record.spec(host),
        None => Err(Failure::new(Code::EtcdUnavailable, "this node was never made a member of an etcd cluster")
            .with_remedy("run it on a member, or make this one: cks-agent etcd start")),
    }
}
