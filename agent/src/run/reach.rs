//! containerd, as a run meets it.

use bootstrap::failure::{Code, Failure};
use bootstrap::node_spec::NodeSpec;
use bootstrap::plan::Bundle;

use crate::board::Board;
use crate::cli;
use crate::config::Config;
use crate::containerd::{Containerd, LEASE_PREFIX};
use crate::host::Host;
use crate::verify::Outcome;

/// containerd, where the role has images; under a lease, where an earlier run left one. A dry run tells the plan
/// without containerd, too.
pub(super) async fn connect(
    arguments: &cli::Bootstrap,
    settings: &Config,
    board: &Board,
    host: &Host,
    spec: &NodeSpec,
    bundle: &Bundle,
) -> Result<Option<Containerd>, Failure> {
    match reach(arguments, settings, board, host, spec, bundle).await? {
        Some(containerd) if !arguments.dry_run => {
            // Before our lease: what a lease holds is not collected.
            containerd.drop_broken(&Outcome::suspects(host)).await?;
            let containerd = match containerd.left_lease().await? {
                true => containerd.with_lease(&lease_name(bundle)).await?,
                false => containerd,
            };
            containerd.remove_doubtful().await?;
            Ok(Some(containerd))
        }
        reached => Ok(reached),
    }
}

/// containerd, where the role has images; nothing is changed.
pub(crate) async fn reach(
    arguments: &cli::Bootstrap,
    settings: &Config,
    board: &Board,
    host: &Host,
    spec: &NodeSpec,
    bundle: &Bundle,
) -> Result<Option<Containerd>, Failure> {
    if bundle.manifest.images_for(spec.role).next().is_none() {
        return Ok(None);
    }
    let address = settings.containerd.socket.clone().unwrap_or_else(|| host.path("/run/containerd/containerd.sock"));
    if !arguments.dry_run {
        let snapshotter = &settings.containerd.snapshotter;
        let containerd = Containerd::connect(&address, snapshotter, settings.wait, board).await?;
        return Ok(Some(containerd.of_boot(host.boot_id())));
    }
    match Containerd::try_connect(&address, &settings.containerd.snapshotter).await {
        Ok(containerd) => Ok(Some(containerd.of_boot(host.boot_id()))),
        Err(failure) if failure.code == Code::ContainerdUnavailable => {
            board.warn(format!("CONTAINERD_UNAVAILABLE: {}: the plan imports every image", failure.what));
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

pub(super) fn lease_name(bundle: &Bundle) -> String {
    format!("{LEASE_PREFIX}{}", bundle.directory_name())
}
