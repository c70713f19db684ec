//! What the sources offer.

use std::sync::Arc;
use std::time::Duration;

use bootstrap::failure::Failure;
use bootstrap::plan::Bundle;
use bootstrap::state::Phase;

use super::Installing;
use crate::board::Board;
use crate::cli;
use crate::config::{Config, Http};
use crate::media::locate::Search;
use crate::media::prober::Probing;
use crate::media::shown::SOURCES_PATH;
use crate::media::teller::Teller;
use crate::trust;

const SHORTEST_INACTIVITY: Duration = Duration::from_secs(5);

/// A bundle that a source holds.
pub(super) struct Offer {
    /// The search that found it; it goes on.
    pub(super) probing: Probing,
    /// The bundle.
    pub(super) bundle: Bundle,
    /// How long a source is waited for that is gone meanwhile.
    pub(super) patience: Duration,
}

/// Begins to look for sources, which goes on for as long as the run does. Who waits no longer than `patience` waits for no
/// server long.
pub(super) fn look(
    arguments: &cli::Bootstrap,
    board: &Board,
    with: &Installing<'_>,
    patience: Duration,
) -> Result<Probing, Failure> {
    let Installing { host, settings, spec, only, .. } = with;
    board.phase(Phase::Locate);
    let rules = Arc::new(trust::rules(host, settings, arguments.allow_downgrade)?);
    let http = patient(settings, patience);
    let search = Search { role: Some(spec.role), arch: host.arch()?, rules, only: *only, http };
    let told = if arguments.dry_run { None } else { Some(host.prepare(SOURCES_PATH)?) };
    Ok(Probing::start(&settings.sources, search, host, Teller::new(Some(board.clone()), told)))
}

/// Waits up to `patience` for a source that holds the bundle.
pub(super) async fn find(
    arguments: &cli::Bootstrap,
    board: &Board,
    with: &Installing<'_>,
    patience: Duration,
) -> Result<Offer, Failure> {
    let probing = look(arguments, board, with, patience)?;
    let bundle = probing.bundle(board, patience).await?;
    Ok(Offer { probing, bundle, patience })
}

fn patient(settings: &Config, patience: Duration) -> Http {
    let inactivity = settings.http.inactivity.min(patience.max(SHORTEST_INACTIVITY));
    Http { inactivity, ..settings.http.clone() }
}
