//! The beds: real servers in private namespaces, made for one test and gone with it.
//!
//! | module | is |
//! |---|---|
//! | [`process`], [`leash`] | every program that is run, and the leash that daemons are kept on |
//! | [`netns`] | a private network namespace with the virtual router's address |
//! | [`vr`] | Apache as CloudStack's virtual router serves a CKS ISO |
//! | [`data_server`] | what it tells its guests about themselves |
//! | [`throttle`] | that network, slow |
//! | [`link`] | a wire from it to a node's own network, as fast as told |
//! | [`containerd`] | a private containerd |
//! | [`csi`] | the agent as a machine's CSI node plugin, on real disks and mounts |
//! | [`kubernetes`] | machines in namespaces that real Kubernetes runs on |
//! | [`web`], [`relay`] | a web server and a wire whose faults a test tells |
//! | [`upstream`] | the web sites that releases come from |
//! | [`registry`], [`authority`], [`tokens`] | a real registry, with TLS and tokens |
//! | [`published`] | images as registries hold them, for several architectures |
//! | [`vm`] | machines that boot, under QEMU |
//! | [`world`] | the two, filled with a release of Kubernetes |
//! | [`bare`] | a user without rights in that network |
//! | [`images`] | image archives, as `docker save` and `ctr image export` write them |
//! | [`tarball`] | tars without clock, owner or order of the machine that made them |
//! | [`components`] | the content of a CKS ISO, taken from packages of the distribution |
//! | [`spec`] | the builder's spec for that content |
//! | [`small`] | the content of a small CKS ISO, for tests that install often |
//! | [`node`] | a directory that becomes a node, and `cks-agent` at work on it |
//! | [`stock`] | a node that CloudStack's own scripts install |
//! | [`drive`] | a drive that discs are put into and taken from |
//! | [`root`] | a distribution's root file system, to make a template of |
//! | [`disk`] | a small filesystem on a loop device |
//! | [`faults`] | HTTP between a node and its server, with faults at told moments |
//! | [`gate`] | a web server that stops in the middle of a file |
//! | [`programs`] | where this workspace's programs and the pinned tools lie |
//! | [`unit`] | the command line of a systemd unit, run without systemd |
//! | [`server`] | CloudStack's management server, as far as nodes see it |
//! | [`tree`] | a directory tree as one digest and as a listing to compare |

pub mod authority;
pub mod bare;
pub mod components;
pub mod containerd;
pub mod csi;
pub mod data_server;
pub mod disk;
pub mod drive;
pub mod faults;
pub mod gate;
pub mod images;
pub mod kubernetes;
pub mod leash;
pub mod link;
pub mod netns;
pub mod node;
pub mod process;
pub mod programs;
pub mod published;
pub mod registry;
pub mod relay;
pub mod root;
pub mod server;
pub mod small;
pub mod spec;
pub mod stock;
pub mod tarball;
pub mod throttle;
pub mod tokens;
pub mod tree;
pub mod unit;
pub mod upstream;
pub mod vm;
pub mod vr;
pub mod web;
pub mod world;

use std::path::Path;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// A private directory on a disk filesystem, gone when dropped: an overlayfs upper directory can't
/// lie on another overlayfs, and `/tmp` may be memory.
///
/// # Errors
/// When `/var/tmp` can't be written.
pub fn scratch(name: &str) -> Result<TempDir> {
    scratch_below(Path::new("/var/tmp"), name)
}

/// As [`scratch`], in the directory `within`.
///
/// # Errors
/// When it can't be written.
pub fn scratch_below(within: &Path, name: &str) -> Result<TempDir> {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::Builder::new()
        .prefix(&format!("cks-{name}-"))
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir_in(within)
        .with_context(|| format!("Making a directory in {}", within.display()))?;
    Ok(dir)
}
