//! Runs a command inside a bed: `bed vr …`, `bed containerd …`, `bed world …`, `bed machine …`,
//! `bed csi …`. Beds nest.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result};
use cks_tests::containerd::Containerd;
use cks_tests::csi;
use cks_tests::kubernetes;
use cks_tests::process::Command;
use cks_tests::programs;
use cks_tests::vr::Vr;
use cks_tests::world::World;
use clap::{Parser, Subcommand};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Runs a command beside a real server that is gone when the command ends.
///
/// The exit code is the command's; 125 when the bed can't be made.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  bed vr k8s.iso -- sh -c 'wget -qO- $VR_URL'
  bed containerd --version 1.7 -- sh -c 'ctr -n k8s.io images list'
  bed vr k8s.iso -- bed containerd -- bash
  bed machine k8s.iso -- sh -c 'systemctl status containerd; cks-agent sources'
  bed csi --fs xfs -- sh -c 'csi-sanity --csi.endpoint $CSI_ENDPOINT --csi.controllerendpoint $CSI_CONTROLLER_ENDPOINT \
      --csi.mountdir $CSI_MOUNT_DIR --csi.stagingdir $CSI_STAGING_DIR --ginkgo.focus Node.Service'
  bed world -- sh -c 'cks-iso init --kubernetes 1.33.1 -o a.toml && cks-iso lock a.toml'")]
struct Cli {
    #[command(subcommand)]
    bed: Bed,
}

#[derive(Debug, Subcommand)]
enum Bed {
    /// Apache as CloudStack's virtual router serves a CKS ISO, in a private network namespace; sets VR_URL
    Vr {
        /// What /cks-iso/ holds: a directory, or an .iso file
        content: PathBuf,
        /// The command, run in that network namespace
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// A registry with TLS and tokens and the sites of Kubernetes 1.33.1, all content tiny, in a private network
    /// namespace; sets CKS_ISO_CONFIG
    World {
        /// The command, run in that network namespace
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// A machine with a first process that stands in for systemd, with containerd and a login, beside Apache as the
    /// virtual router
    Machine {
        /// What /cks-iso/ holds: a directory, or an .iso file
        content: PathBuf,
        /// Another containerd than the distribution's: 1.7, 2.3
        #[arg(long)]
        containerd: Option<String>,
        /// The command, run on the machine
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// The agent as CSI node plugin with a controller for tests beside it, in a private mount namespace whose disks are
    /// loop devices; sets CSI_ENDPOINT and CSI_CONTROLLER_ENDPOINT (unix:///…), CSI_MOUNT_DIR and CSI_STAGING_DIR (to be
    /// made by the command), CSI_ACCESS_TYPE (mount, block), CSI_FS_TYPE
    Csi {
        /// The filesystem where a request names none: ext3, ext4, xfs, btrfs
        #[arg(long, value_name = "TYPE", default_value = "ext4")]
        fs: String,
        /// Volumes are asked for as block devices
        #[arg(long)]
        block: bool,
        /// The command, run in that mount namespace
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// A private containerd with its CRI plugin; sets CONTAINERD_ADDRESS, and PATH to its ctr
    Containerd {
        /// Another version than the distribution's: 1.7, v2.3.7 (see tests/tools/build)
        #[arg(long)]
        version: Option<String>,
        /// The command
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().bed) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            eprintln!("bed: {error:#}");
            ExitCode::from(125)
        }
    }
}

fn run(bed: Bed) -> Result<i32> {
    // Ctrl-C reaches the command by itself; this program has to outlive it to clear up.
    let stop = Arc::new(AtomicBool::new(false));
    flag::register(SIGINT, Arc::default()).context("Catching SIGINT")?;
    flag::register(SIGTERM, Arc::clone(&stop)).context("Catching SIGTERM")?;
    match bed {
        Bed::Vr { content, command } => {
            let vr = Vr::start(&content)?;
            vr.netns.enter(typed(&command).env("VR_URL", &vr.url)).attached(&stop)
        }
        Bed::World { command } => {
            let (world, place) = (World::new(true)?, cks_tests::scratch("config")?);
            let config = place.path().join("config.toml");
            std::fs::write(&config, world.config(&world.registry.url())).context("Writing a configuration")?;
            world.netns.enter(typed(&command).env("CKS_ISO_CONFIG", &config)).attached(&stop)
        }
        Bed::Machine { content, containerd, command } => {
            let containerd = containerd.as_deref().map(programs::containerd_built).transpose()?;
            let mut bed = kubernetes::Bed::new(&content, containerd.as_deref())?;
            let machine = bed.machine("node-1")?;
            machine.enter(typed(&command))?.attached(&stop)
        }
        Bed::Csi { fs, block, command } => csi(&fs, block, &command, &stop),
        Bed::Containerd { version, command } => {
            let containerd = Containerd::start(&programs::containerd(version.as_deref())?, None)?;
            let command = typed(&command).env("CONTAINERD_ADDRESS", &containerd.socket);
            command.env("PATH", path_with(&containerd.programs)?).attached(&stop)
        }
    }
}

fn csi(fs: &str, block: bool, command: &[OsString], stop: &AtomicBool) -> Result<i32> {
    let bed = csi::Bed::start(&csi::Options { kind: csi::Kind::filesystem(fs), ..csi::Options::default() })?;
    let controller = bed.controller()?;
    let (mounts, staging) = (format!("{}/pods", csi::KUBELET), format!("{}/plugins/kubernetes.io/csi", csi::KUBELET));
    bed.directory(&mounts)?;
    bed.directory(&staging)?;
    let command = typed(command)
        .env("CSI_ENDPOINT", format!("unix://{}", csi::Bed::socket()))
        .env("CSI_CONTROLLER_ENDPOINT", format!("unix://{}", controller.socket().display()))
        .env("CSI_MOUNT_DIR", format!("{mounts}/mount"))
        .env("CSI_STAGING_DIR", format!("{staging}/staging"))
        .env("CSI_ACCESS_TYPE", if block { "block" } else { "mount" })
        .env("CSI_FS_TYPE", fs);
    let code = bed.enter(command).attached(stop)?;
    if code != 0 {
        eprintln!("bed: exit code {code}; the daemon said:\n{}", bed.log());
    }
    Ok(code)
}

fn typed(words: &[OsString]) -> Command {
    let program = words.first().map_or(Path::new(""), Path::new);
    Command::new(program).args(words.iter().skip(1))
}

#[expect(clippy::disallowed_methods, reason = "the environment is read in main")]
fn path_with(first: &Path) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = [first.to_owned()].into_iter().chain(std::env::split_paths(&path));
    std::env::join_paths(places).context("Making a PATH")
}
