//! What is installed on machines: packages, the tarball, units. Made of this workspace's `target/debug` and installed for
//! real, into roots of Debian 11, 12 and 13, one with an rpm database, and a machine of the Kubernetes bed. With
//! `CKS_PACKAGES=DIR` the packages of DIR are installed, which `just packages` makes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends by panicking")]

mod deb;
mod lint;
mod machine;
mod places;
mod programs;
mod rpm;
mod tarball;
mod units;
