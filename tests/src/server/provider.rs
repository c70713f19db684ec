//! Scripts that make objects in the cluster: run first, and pushed only when that fails.

use anyhow::{Context as _, Result};

use super::cluster::FIRST_PORT;
use super::scripts;
use super::transcript::Verdict;
use super::walk::{ACT, Walk};

/// Where CloudStack's API is for the cluster's own programs, and their keys.
const ENDPOINT: &str = "http://198.51.100.2:8080/client/api";
const API_KEY: &str = "aGktS2V5-plgWmo_test";
const SECRET_KEY: &str = "c2VjcmV0LWtleQ-test_0";

/// The cloud provider.
pub(super) fn deploy_provider(walk: &mut Walk<'_>) -> Result<()> {
    deploy(walk, &format!("sudo /opt/bin//{}", scripts::PROVIDER)).context("deploying the provider")
}

/// The CSI driver.
pub(super) fn deploy_csi_driver(walk: &mut Walk<'_>) -> Result<()> {
    deploy(walk, &format!("sudo /opt/bin//{}", scripts::CSI)).context("deploying the CSI driver")
}

/// A command that may want the server's scripts and the cluster's secret first. When it succeeds at once, neither comes.
pub(super) fn deploy(walk: &mut Walk<'_>, command: &str) -> Result<()> {
    let done = walk.run(FIRST_PORT, command, ACT, |said| match &said.exit {
        Ok(0) => (Verdict::Good, Ok(true)),
        Ok(status) => (Verdict::NotYet(format!("exit status {status}")), Ok(false)),
        // Java throws, and nobody catches it before the end of the walk.
        Err(why) => (Verdict::Fatal(why.clone()), Err(anyhow::anyhow!("{command}: {why}"))),
    })??;
    if done {
        return Ok(());
    }
    for script in scripts::together(walk.release) {
        walk.push(FIRST_PORT, script)?;
    }
    let secret = format!("sudo /opt/bin//{} -u '{ENDPOINT}' -k '{API_KEY}' -s '{SECRET_KEY}'", scripts::SECRET);
    walk.must(FIRST_PORT, &secret, ACT)?;
    walk.must(FIRST_PORT, command, ACT)
}
