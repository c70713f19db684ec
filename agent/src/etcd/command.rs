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
use super::restore::{self, Manner};
use super::{Patience, defragment, ensure_within, member, snapshot, status};
use crate::board::Board;
use crate::cli;
use crate::config::{Config, patience};
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
    /// Show the members: who leads, who serves, how large they are, what is wrong
    Status {
        /// Print a JSON document (docs/etcd.md)
        #[arg(long)]
        json: bool,
    },
    /// Write all that this node's member has into a file, whole or not at all
    Snapshot(Snapshot),
    /// Begin the cluster anew from a snapshot, after its quorum was lost
    Restore(Restore),
    /// Show, replace or remove members
    #[command(subcommand)]
    Member(MemberCommand),
    /// Start this node's member again, a new version or new settings perhaps, while the others have a quorum
    Restart {
        /// How long etcd may take until it serves; default: 20m
        #[arg(long, value_name = "TIME", value_parser = patience)]
        wait: Option<Duration>,
    },
    /// Make the members give unused space back, one after the other, the leader last
    Defragment,
    /// Show how long this node's certificates are valid; renew those that are due
    Certificates {
        /// Make all of them anew, with new keys
        #[arg(long)]
        renew: bool,
        /// Print a JSON document
        #[arg(long)]
        json: bool,
    },
}

/// What is done with members.
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// Show the members
    List {
        /// Print a JSON document
        #[arg(long)]
        json: bool,
    },
    /// Move this node's data aside and fetch all of it anew from the others, as a new member of the same name
    Replace {
        /// This node's name, for certainty
        #[arg(value_name = "NAME")]
        name: Option<String>,
        /// How long etcd may take until it serves; default: 20m
        #[arg(long, value_name = "TIME", value_parser = patience)]
        wait: Option<Duration>,
    },
    /// Remove a member that never comes back; or this node, for good
    Remove {
        /// Its name, or its id
        name: String,
    },
}

/// Arguments of `etcd snapshot`.
#[derive(Debug, Args)]
pub struct Snapshot {
    /// The file; default: one named by node and time, in the directory of the settings
    #[arg(long, value_name = "FILE", conflicts_with = "scheduled")]
    pub output: Option<PathBuf>,
    /// Keep only as many as the settings say (etcd.snapshots)
    #[arg(long)]
    pub scheduled: bool,
    /// Print a JSON document
    #[arg(long)]
    pub json: bool,
    /// The file of settings; default: etc/cks-agent/config.toml below the root, where there is one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Arguments of `etcd restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// The snapshot
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: PathBuf,
    /// Begin with this node alone; the others join it by `cks-agent etcd member replace`
    #[arg(long)]
    pub alone: bool,
    /// Restore although the cluster has a quorum: what was written since the snapshot is lost
    #[arg(long)]
    pub force: bool,
    /// Raise revisions by so many (etcd 3.6): no Kubernetes component then takes old objects for new; 1000000000 will do
    #[arg(long, value_name = "COUNT")]
    pub bump_revision: Option<u64>,
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
    /// How long others may be silent before a quorum without data begins the cluster; default: 45s
    #[arg(long, value_name = "TIME", value_parser = patience)]
    pub wait_others: Option<Duration>,
    /// How long etcd may take to serve, before what was begun while the others were silent is taken for a mistake
    #[arg(long, value_name = "TIME", value_parser = patience, hide = true)]
    pub wait_serve: Option<Duration>,
    /// How long all of it may take; default: 20m
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
        EtcdCommand::Status { json } => return status::status(&host, *json).await,
        EtcdCommand::Member(MemberCommand::List { json }) => return status::list(&host, *json).await,
        EtcdCommand::Snapshot(snapshot) => {
            let settings = Config::read(&host, snapshot.config.as_deref())?.etcd;
            let output = snapshot.output.as_deref();
            return snapshot::take(&host, &settings, output, snapshot.scheduled, snapshot.json).await;
        }
        _ => {}
    }
    // The others change this node, as nobody else may meanwhile.
    let _lock = Journal::open(&host)?;
    change(&host, &arguments.command).await
}

async fn change(host: &Host, command: &EtcdCommand) -> Result<u8, Failure> {
    match command {
        EtcdCommand::Start(arguments) => start(host, arguments).await,
        EtcdCommand::Restore(Restore { snapshot, alone, force, bump_revision }) => {
            let manner = Manner { alone: *alone, force: *force, bump_revision: *bump_revision };
            restore::restore(host, snapshot, manner).await
        }
        EtcdCommand::Restart { wait } => member::restart(host, within(*wait)).await,
        EtcdCommand::Member(MemberCommand::Replace { name, wait }) => {
            member::replace(host, name.as_deref(), within(*wait)).await
        }
        EtcdCommand::Member(MemberCommand::Remove { name }) => member::remove(host, name).await,
        EtcdCommand::Defragment => defragment::defragment(host).await,
        EtcdCommand::Certificates { renew, json } => status::certificates(host, *renew, *json).await,
        EtcdCommand::Status { .. } | EtcdCommand::Snapshot(_) | EtcdCommand::Member(MemberCommand::List { .. }) => {
            Ok(0)
        }
    }
}

fn within(wait: Option<Duration>) -> Patience {
    let default = Patience::default();
    Patience { whole: wait.unwrap_or(default.whole), ..default }
}

async fn start(host: &Host, arguments: &Start) -> Result<u8, Failure> {
    let spec = spec(host, arguments)?;
    let default = Patience::default();
    let patience = Patience {
        others: arguments.wait_others.unwrap_or(default.others),
        serve: arguments.wait_serve.unwrap_or(default.serve),
        whole: arguments.wait.unwrap_or(default.whole),
    };
    with_board(|board| async move { ensure_within(host, &spec, &board, patience).await }).await?;
    member::tell(host)?;
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
