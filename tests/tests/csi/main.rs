//! The agent as CSI node plugin, on real disks and real mounts. As root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

mod about;
mod chance;
mod crash;
mod deadlines;
mod decoys;
mod encrypting;
mod expanding;
mod identity;
mod linked;
mod machines;
mod publishing;
mod repairing;
mod requests;
mod restarts;
mod sanity;
mod scene;
mod staging;
mod stats;
mod swaps;
mod uses;
mod waiting;
mod wrong_disk;
