//! Machines that boot, as CloudStack's instances on KVM do, from a template that the agent has prepared and sealed.
//!
//! It wants what `./dev beds` builds, and a quarter of an hour: `just bed-vm`, not part of `cargo test` without a name.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

mod datacenter;
mod encrypted;
mod life;
mod packer;
mod power;
mod volumes;

use std::path::PathBuf;

use cks_tests::programs;

fn containerd() -> PathBuf {
    programs::containerd_built("2.3").unwrap()
}
