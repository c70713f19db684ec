//! The management server's walks over machines that only pretend: real SSH, sudo, files and scripts, and in the place of
//! Kubernetes a `kubectl` that a test tells what to say. What the server makes of good answers and of bad ones.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

mod answers;
mod pretend;
mod ways;
