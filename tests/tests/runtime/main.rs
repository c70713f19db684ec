//! What is rendered for kubeadm and containerd, as the real ones read it; and what the real kernel tells of a machine.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

mod bed;
mod kubeadm;
mod network;
mod registries;
mod settings;

/// The containerds: the distribution's (1.6), and those that are built for the tests.
const VERSIONS: [Option<&str>; 4] = [None, Some("1.7"), Some("2.0"), Some("2.3")];
