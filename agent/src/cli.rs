//! The command line of `cks-agent`. In one file, though it is long: it is a table, which one reads as `--help`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bootstrap::bundle::Role;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::config::{Config, Policy, patience};
use crate::report::Log;
use crate::terminal::Terminal;

const EXIT_CODES: &str = "\
Exit codes:
   0  done, or nothing to do
   2  the command line is wrong
  65  the media is at fault: replace or rebuild the ISO
  75  the same call may succeed later (source or containerd not reachable, interrupted)
  78  this machine or its settings are at fault (no space, no such root)

Every failure has a code in capitals; docs/errors.md explains each.";

/// Turns a CloudStack instance or a bare-metal host into a Kubernetes node.
#[derive(Debug, Parser)]
#[command(name = "cks-agent", version, about, after_long_help = EXIT_CODES, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make this machine the node that its user data asks for; with --role, install it and no more.
    #[command(after_long_help = BOOTSTRAP_EXAMPLES)]
    Bootstrap(Bootstrap),
    /// Do again what was lost since the last bootstrap: same role, same bundle; silent when nothing was.
    #[command(after_long_help = RECONCILE_EXAMPLES)]
    Reconcile(Reconcile),
    /// Take this node out of its cluster, so that it can be added again.
    #[command(after_long_help = LEAVE_EXAMPLES)]
    Leave(Leave),
    /// Show where this node stands.
    #[command(after_long_help = STATUS_EXAMPLES)]
    Status(Status),
    /// Check what is installed and imported, byte by byte, and say what is no longer as it should be.
    #[command(after_long_help = VERIFY_EXAMPLES)]
    Verify(Verify),
    /// Print what a monitoring system reads, as OpenMetrics text (docs/metrics.md).
    Metrics(Metrics),
    /// Show which sources there are, what each holds, and why one is not used.
    #[command(after_long_help = SOURCES_EXAMPLES)]
    Sources(Sources),
    /// Work with the dedicated etcd cluster that this node is a member of.
    Etcd(crate::etcd::command::Etcd),
    /// Tell where this node stands, over HTTP on a socket of this machine (docs/status.md); and serve its volumes, where the
    /// settings say so (docs/csi.md).
    Serve(Serve),
    /// Show which volumes are staged and published here, where, and from which disk.
    #[command(after_long_help = VOLUMES_EXAMPLES)]
    Volumes(Volumes),
    /// Show what user data asks for, how it is understood, and what would be done; nothing is changed.
    #[command(after_long_help = EXPLAIN_EXAMPLES)]
    Explain(Explain),
    /// Make this machine, or an image's tree, a template that nodes are made of (docs/template.md).
    #[command(after_long_help = PREPARE_EXAMPLES)]
    Prepare(Prepare),
    /// Say what this machine, or an image's tree, lacks of what a node needs.
    #[command(after_long_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Take away what makes this machine one of its own, before an image is made of it.
    #[command(after_long_help = SEAL_EXAMPLES)]
    Seal(Seal),
    /// Show what is installed here, by asking the programs themselves.
    Version(Version),
    /// Stay until the agent has done what a script of the management server did.
    #[command(hide = true)]
    Attend(Attend),
    /// Print the completions of a shell.
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the man pages into a directory.
    #[command(hide = true)]
    Man {
        /// The directory; it must exist.
        directory: PathBuf,
    },
}

const PREPARE_EXAMPLES: &str = "\
Examples:
  What would be changed here:
    cks-agent prepare --dry-run

  An image's tree, mounted at /mnt, with the management server's public key in it:
    cks-agent prepare --root /mnt --authorized-keys id_rsa.pub

Exit code: 0 when nothing is left that keeps it from being a template, 78 (HOST_UNFIT) otherwise.";

const CHECK_EXAMPLES: &str = "\
Examples:
  cks-agent check
  cks-agent check --root /mnt --strict
  cks-agent check --json | jq -r '.items[] | select(.result == \"failed\") | .name + \" \" + .evidence'

Exit code: 0 when nothing failed (with --strict: and nothing warns), 78 (HOST_UNFIT) otherwise.";

const SEAL_EXAMPLES: &str = "\
Examples:
  Before the machine is shut down and its disk becomes a template:
    cks-agent seal && poweroff

  What would be taken away:
    cks-agent seal --root /mnt --dry-run";

const VOLUMES_EXAMPLES: &str = "\
Examples:
  What is mounted, and whether each is the disk that it is said to be (exit code 1 when not):
    cks-agent volumes

  Where a volume is published:
    cks-agent volumes --json | jq -r '.volumes[] | select(.volume == \"ID\") | .published[]'";

const BOOTSTRAP_EXAMPLES: &str = "\
Examples:
  What CloudStack's user data asks for, from wherever the ISO is:
    cks-agent bootstrap

  What a file asks for:
    cks-agent bootstrap --user-data node.yaml

  An etcd node, installed from the ISO that the virtual router serves:
    cks-agent bootstrap --role etcd --node-ip 10.1.1.12 --source http://10.1.1.1/cks-iso/

  A worker from the attached disc, or from the router when the disc fails:
    cks-agent bootstrap --role worker --source /dev/sr0 --source http://10.1.1.1/cks-iso/

  What would be done to a template's root, without doing it:
    cks-agent bootstrap --root /mnt/template --role worker --source v1.34.iso --dry-run";

const RECONCILE_EXAMPLES: &str = "\
Examples:
  Every quarter of an hour, by systemd:
    systemctl enable --now cks-agent-reconcile.timer

  What would be done:
    cks-agent reconcile --dry-run";

const LEAVE_EXAMPLES: &str = "\
Examples:
  A worker, with its own identity; its node object is left to the management server:
    cks-agent leave

  The same, with an identity that may delete the node object:
    cks-agent leave --kubeconfig admin.conf

  What would be taken away:
    cks-agent leave --dry-run";

const STATUS_EXAMPLES: &str = "\
Examples:
  cks-agent status --watch
  cks-agent status --json | jq -r .failure.code";

const SOURCES_EXAMPLES: &str = "\
Examples:
  cks-agent sources
  cks-agent sources --source disc --source http://10.1.1.1/cks-iso/
  cks-agent sources --json | jq -r '.sources[] | .source + \" \" + .verdict'";

/// Arguments of `bootstrap`.
#[derive(Debug, Args)]
pub struct Bootstrap {
    /// The node's root directory
    #[arg(long, default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
    /// Install the node as this, and nothing more; default: what the user data asks for, with all that follows
    #[arg(long, value_enum, conflicts_with_all = ["user_data", "metadata"])]
    pub role: Option<RoleName>,
    /// The user data, instead of the one that the virtual router, a ConfigDrive or cloud-init has for this machine
    #[arg(long, value_name = "FILE")]
    pub user_data: Option<PathBuf>,
    /// A directory with the metadata, a file for each key (docs/user-data.md)
    #[arg(long, value_name = "DIR")]
    pub metadata: Option<PathBuf>,
    /// Where the ISO's content is: disc, vr, an URL, an .iso file or device, or a directory; may be
    /// given several times, best first; default: those of the settings
    #[arg(long = "source", value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// Show the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON document: the plan with --dry-run, the node's state otherwise
    #[arg(long)]
    pub json: bool,
    /// The file of settings; default: etc/cks-agent/config.toml below the root, where there is one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What has to vouch for the content; default: a signature where keys are installed, else a manifest
    /// where there is one
    #[arg(long, value_enum)]
    pub policy: Option<Policy>,
    /// Install a bundle that is older than what is installed
    #[arg(long)]
    pub allow_downgrade: bool,
    /// How long a source or containerd may keep us waiting; default: 5m
    #[arg(long, value_name = "TIME", value_parser = patience)]
    pub wait: Option<Duration>,
    /// The node's name; default: the machine's host name
    #[arg(long, value_name = "NAME", requires = "role")]
    pub node_name: Option<String>,
    /// The address that others reach this node at; without one, etcd listens on 127.0.0.1
    #[arg(long, value_name = "ADDRESS", requires = "role")]
    pub node_ip: Option<IpAddr>,
    /// Members of a new etcd cluster; default: this node alone
    #[arg(long, value_name = "NAME=URL,…", requires = "role")]
    pub etcd_initial_cluster: Option<String>,
    /// containerd's socket; default: run/containerd/containerd.sock below the root
    #[arg(long, value_name = "SOCKET", env = "CONTAINERD_ADDRESS")]
    pub containerd: Option<PathBuf>,
    /// The snapshotter that containerd's CRI plugin uses; default: overlayfs
    #[arg(long, value_name = "NAME")]
    pub snapshotter: Option<String>,
    /// Say more (twice: everything)
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl Bootstrap {
    /// `config` with what the command line says instead.
    #[must_use]
    pub fn settings(&self, mut config: Config) -> Config {
        if !self.sources.is_empty() {
            config.sources.clone_from(&self.sources);
        }
        config.wait = self.wait.unwrap_or(config.wait);
        config.trust.policy = self.policy.or(config.trust.policy);
        config.containerd.socket = self.containerd.clone().or(config.containerd.socket);
        if let Some(snapshotter) = &self.snapshotter {
            config.containerd.snapshotter.clone_from(snapshotter);
        }
        config
    }
}

/// Arguments of `reconcile`.
#[derive(Debug, Args)]
pub struct Reconcile {
    /// The node's root directory
    #[arg(long, default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
    /// Show the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON document: the node's state where something was done, else the plan
    #[arg(long)]
    pub json: bool,
    /// The file of settings; default: etc/cks-agent/config.toml below the root, where there is one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How long a source or containerd may keep us waiting; default: 5m
    #[arg(long, value_name = "TIME", value_parser = patience)]
    pub wait: Option<Duration>,
    /// Say more: also that nothing was to do (twice: everything)
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// Arguments of `leave`.
#[derive(Debug, Args)]
pub struct Leave {
    /// An identity that may drain and delete the node; default: admin.conf of a control plane node, else the
    /// node's own, which may drain it
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Leave images in the container runtime, so that a node that is added again needs not fetch them
    #[arg(long)]
    pub keep_images: bool,
    /// How long pods may take to go elsewhere; when they don't, the node stays a member
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = patience)]
    pub drain_timeout: Duration,
    /// Leave pods where they are: they end with the node
    #[arg(long, conflicts_with = "drain_timeout")]
    pub skip_drain: bool,
    /// Delete pods that can't be evicted, and those that nobody starts elsewhere; let the last control plane go, which ends
    /// the cluster
    #[arg(long)]
    pub force: bool,
    /// Let the same user data make this machine a node again at its next boot; without, it stays out until it gets other user
    /// data, or cloud-init is made to run again, as the management server does when it adds a node
    #[arg(long)]
    pub rejoin: bool,
    /// Show what would be taken away and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON document (docs/schema/leave.schema.json)
    #[arg(long)]
    pub json: bool,
    /// Say more (twice: everything)
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// The node's root directory
    #[arg(long, default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
    /// Print the document as it is (docs/status.md)
    #[arg(long)]
    pub json: bool,
    /// Follow the node until its bootstrap is over
    #[arg(long)]
    pub watch: bool,
}

const VERIFY_EXAMPLES: &str = "\
Examples:
  cks-agent verify
  cks-agent verify --quick --json | jq -r '.findings[].object'

Exit code: 0 when everything is as it should be, 78 (DRIFT) otherwise.";

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// The node's root directory
    #[arg(long, default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
    /// What the node is in its cluster; default: what it was installed as
    #[arg(long, value_enum)]
    pub role: Option<RoleName>,
    /// Trust fingerprints of files and the presence of blobs instead of reading them
    #[arg(long)]
    pub quick: bool,
    /// Print a JSON document (docs/schema/node-verify.schema.json)
    #[arg(long)]
    pub json: bool,
    /// The file of settings; default: etc/cks-agent/config.toml below the root, where there is one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// containerd's socket; default: the one that the images were imported by
    #[arg(long, value_name = "SOCKET", env = "CONTAINERD_ADDRESS")]
    pub containerd: Option<PathBuf>,
    /// The snapshotter that containerd's CRI plugin uses; default: the one that the images were imported with
    #[arg(long, value_name = "NAME")]
    pub snapshotter: Option<String>,
}

/// Arguments of `metrics`.
#[derive(Debug, Args)]
pub struct Metrics {
    /// The node's root directory
    #[arg(long, default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
}

/// Arguments of `sources`.
#[derive(Debug, Args)]
pub struct Sources {
    /// The node's root directory
    #[arg(long, default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
    /// Look at these and not at those of the settings, nor at what a running bootstrap sees
    #[arg(long = "source", value_name = "SOURCE")]
    pub sources: Vec<String>,
    /// The file of settings; default: etc/cks-agent/config.toml below the root, where there is one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print a JSON document (docs/schema/sources.schema.json)
    #[arg(long)]
    pub json: bool,
}

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  What this machine is asked, from wherever its user data is:
    cks-agent explain

  A CNI configuration before it is registered, behind the user data that a server of yours once sent:
    cks-agent explain --user-data control.txt --metadata ./metadata

  Only what is wrong:
    cks-agent explain --user-data - --json < user-data | jq -r '.failure.message, .reading.cni[].what'

Exit code: 0 when a node could be made of it, else that of the failure (78).";

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The node's root directory
    #[arg(long, default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
    /// A file with the user data, in any encoding; - for standard input; default: this machine's
    #[arg(long, value_name = "FILE")]
    pub user_data: Option<PathBuf>,
    /// A directory with the metadata, a file for each key; default: this machine's name and nothing else
    #[arg(long, value_name = "DIR", requires = "user_data")]
    pub metadata: Option<PathBuf>,
    /// The file of settings; default: etc/cks-agent/config.toml below the root, where there is one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print a JSON document (docs/schema/explain.schema.json)
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `prepare`.
#[derive(Debug, Args)]
pub struct Prepare {
    /// The root directory of the machine, or of an image's tree
    #[arg(long, default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
    /// Show what would be changed, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Leave an item of `check` as it is; may be given several times
    #[arg(long, value_name = "NAME")]
    pub skip: Vec<String>,
    /// Public keys that may log in as cloud, and that stay when the template is sealed: the management server's
    #[arg(long, value_name = "FILE")]
    pub authorized_keys: Option<PathBuf>,
    /// Print a JSON document (docs/schema/prepare.schema.json)
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The root directory of the machine, or of an image's tree
    #[arg(long, default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
    /// What the machine is to become: whose ports have to be free, how large it has to be
    #[arg(long, value_enum, default_value = "worker")]
    pub role: RoleName,
    /// Leave an item out; may be given several times
    #[arg(long, value_name = "NAME")]
    pub skip: Vec<String>,
    /// Look at this item and no other; may be given several times
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Let warnings count as failures
    #[arg(long)]
    pub strict: bool,
    /// Print a JSON document (docs/schema/check.schema.json)
    #[arg(long)]
    pub json: bool,
    /// Show also the items that are as they should be
    #[arg(short, long)]
    pub verbose: bool,
}

/// Arguments of `seal`.
#[derive(Debug, Args)]
pub struct Seal {
    /// The root directory of the machine, or of an image's tree
    #[arg(long, default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
    /// Show what would be taken away, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print a JSON document (docs/schema/seal.schema.json)
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `version`.
#[derive(Debug, Args)]
pub struct Version {
    /// The node's root directory
    #[arg(long, default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
    /// Print a JSON document
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// The node's root directory
    #[arg(long, default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
}

/// Arguments of `volumes`.
#[derive(Debug, Args)]
pub struct Volumes {
    /// The node's root directory
    #[arg(long, default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
    /// Print a JSON document (docs/schema/volumes.schema.json)
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `attend`.
#[derive(Debug, Args)]
pub struct Attend {
    /// What is waited for
    #[arg(value_enum)]
    pub stage: Stage,
    /// The node's root directory
    #[arg(long, default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
    /// How long a run that failed may wait for the next one
    #[arg(long, value_name = "TIME", value_parser = patience, default_value = "90s")]
    pub pause: Duration,
    /// How long it may take in all
    #[arg(long, value_name = "TIME", value_parser = patience, default_value = "1h")]
    pub patience: Duration,
}

/// What a script of the management server did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// Everything is installed
    Setup,
    /// The node is a member of its cluster
    Ready,
    /// The container runtime is configured
    Containerd,
}

/// What may be drawn on `stream`, as the environment has it (<https://no-color.org>).
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the command line is where the environment is read")]
pub fn terminal(stream: impl std::io::IsTerminal) -> Terminal {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let term = std::env::var_os("TERM");
    Terminal::of(stream, no_color, term.as_deref().and_then(|term| term.to_str()))
}

/// Where the journal takes entries with fields.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Where the log goes, as the environment has it (systemd.exec(5), `JOURNAL_STREAM`).
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the command line is where the environment is read")]
pub fn log() -> Log {
    use std::io::IsTerminal as _;
    let stream = std::env::var_os("JOURNAL_STREAM");
    let stderr = nix::sys::stat::fstat(std::io::stderr()).map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino));
    match (stream, stderr) {
        (Some(stream), Ok(stderr)) if *stream == *stderr => Log::Journal,
        _ if !std::io::stderr().is_terminal() && std::path::Path::new(JOURNAL).exists() => Log::Both,
        _ => Log::Stderr,
    }
}

/// The socket of systemd's that a service of its own tells that it is ready, as the environment has it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the command line is where the environment is read")]
pub fn notify_socket() -> Option<std::ffi::OsString> {
    std::env::var_os("NOTIFY_SOCKET")
}

/// The roles by their names on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleName {
    /// Runs the API server and its companions
    ControlPlane,
    /// Runs workloads only
    Worker,
    /// A member of a dedicated etcd cluster
    Etcd,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::ControlPlane => Self::ControlPlane,
            RoleName::Worker => Self::Worker,
            RoleName::Etcd => Self::Etcd,
        }
    }
}

impl From<Role> for RoleName {
    fn from(role: Role) -> Self {
        match role {
            Role::ControlPlane => Self::ControlPlane,
            Role::Worker => Self::Worker,
            Role::Etcd => Self::Etcd,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
