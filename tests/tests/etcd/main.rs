//! Dedicated etcd clusters: machines that begin one, lose a member and get it back, with the real etcd and its tools, each
//! machine in a network of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

mod bed;
mod begin;
mod commands;
mod kills;
mod replace;
mod restore;
mod tls;
