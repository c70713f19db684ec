//! What the management server asks of hypervisors and the virtual router; no node sees these calls, only what comes of
//! them.

use std::path::Path;

use anyhow::Result;

use super::cluster::Vm;
use crate::netns::Netns;

/// Hypervisors and a virtual router.
pub trait Cloud {
    /// The network that the server reaches nodes from.
    fn network(&self) -> &Netns;

    /// The private key for the login `cloud`.
    fn key(&self) -> &Path;

    /// Its public half, one line.
    fn public_key(&self) -> &str;

    /// The public address of the cluster's network.
    fn public_address(&self) -> &str;

    /// Reserves an address in the guest network for a machine to be.
    ///
    /// # Errors
    /// When it can't.
    fn acquire(&mut self, name: &str) -> Result<String>;

    /// Makes and starts a machine, which finds the user data (base64) where machines find such.
    ///
    /// # Errors
    /// When it can't.
    fn deploy(&mut self, vm: &Vm, user_data: &str) -> Result<()>;

    /// Forwards `port` of the public address to port `to` of a machine.
    ///
    /// # Errors
    /// When it can't.
    fn forward(&mut self, port: u16, vm: &Vm, to: u16) -> Result<()>;

    /// Takes that back.
    ///
    /// # Errors
    /// When it can't.
    fn unforward(&mut self, port: u16) -> Result<()>;

    /// Puts the binaries' disc of a version of Kubernetes into a machine's drive.
    ///
    /// # Errors
    /// When it can't.
    fn attach(&mut self, vm: &Vm, version: &str) -> Result<()>;

    /// Takes the disc out.
    ///
    /// # Errors
    /// When it can't.
    fn detach(&mut self, vm: &Vm) -> Result<()>;

    /// Lets the virtual router serve the disc's content, or no more.
    ///
    /// # Errors
    /// When it can't.
    fn serve(&mut self, version: Option<&str>) -> Result<()>;

    /// Replaces a machine's user data (base64); it sees that when it asks again.
    ///
    /// # Errors
    /// When it can't.
    fn update(&mut self, vm: &Vm, user_data: &str) -> Result<()>;

    /// Reboots a machine.
    ///
    /// # Errors
    /// When it can't.
    fn reboot(&mut self, vm: &Vm) -> Result<()>;

    /// Stops a machine and removes it.
    ///
    /// # Errors
    /// When it can't.
    fn destroy(&mut self, vm: &Vm) -> Result<()>;
}
