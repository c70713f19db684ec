//! What is rendered for kubeadm and containerd, as the real ones read it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

mod kubeadm;
