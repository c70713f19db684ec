//! What an earlier run left of a node that shall be a member of a cluster: gone on with, mended, or made anew.

use std::time::Duration;

use bootstrap::failure::{Code, Failure};
use bootstrap::plan::{Bundle, Step};

use super::offer::{self, Offer};
use super::{Installed, Installing, install};
use crate::board::Board;
use crate::cli;
use crate::member;
use crate::reconcile::{plan, recorded, refuse_upgraded};
use crate::record::NodeRecord;
use crate::report;

/// How long a source is waited for where the node gets on without one: a disc takes a moment to show.
const WITHOUT_NEED: Duration = Duration::from_secs(10);

/// Installs what the node shall be made of, as far as that has not been done.
pub(super) async fn installed(
    arguments: &cli::Bootstrap,
    board: &Board,
    with: Installing<'_>,
) -> Result<Installed, Failure> {
    let record = match with.spec.membership {
        Some(_) => NodeRecord::read(with.host)?.filter(|record| record.role == with.spec.role),
        None => None,
    };
    match record {
        Some(record) if member::is_one(with.host) => of_member(arguments, board, with, &record).await,
        Some(record) => before_joining(arguments, board, with, &record).await,
        None => {
            let offer = offer::find(arguments, board, &with, with.settings.wait).await?;
            install(arguments, board, with, offer).await
        }
    }
}

/// The management server takes the ISO away when a cluster runs: a member that is whole asks for none, and one that is not
/// goes on with what it has where nobody offers it. Its version stays what it is.
async fn of_member(
    arguments: &cli::Bootstrap,
    board: &Board,
    mut with: Installing<'_>,
    record: &NodeRecord,
) -> Result<Installed, Failure> {
    with.only = Some(record.bundle.id);
    let Some(bundle) = recorded(with.host, record) else {
        let offer = offer::find(arguments, board, &with, with.settings.wait).await?;
        return install(arguments, board, with, offer).await;
    };
    let lacks = plan(arguments, &with, &bundle, board).await?;
    let Some(first) = lacks.steps.first() else { return Ok(Installed::before(bundle, board)) };
    if let Err(upgraded) = refuse_upgraded(with.host, with.spec.role, &bundle, &lacks).await {
        warn(board, &upgraded, "its programs stay");
        return Ok(Installed::before(bundle, board));
    }
    let patience = with.settings.wait.min(WITHOUT_NEED);
    let offered = if lacks.steps.iter().any(Step::fetches) {
        offer::find(arguments, board, &with, patience).await
    } else {
        // Texts and links are known without a source.
        let probing = offer::look(arguments, board, &with, patience)?;
        Ok(Offer { probing, bundle: bundle.clone(), patience })
    };
    match offered {
        Ok(offer) => install(arguments, board, with, offer).await,
        Err(failure) => {
            let more = lacks.steps.len().saturating_sub(1);
            warn(board, &failure, &format!("not mended: {first}, and {more} more"));
            Ok(Installed::before(bundle, board))
        }
    }
}

/// Another ISO may have been attached since the last try: what is installed counts where no source offers anything.
async fn before_joining(
    arguments: &cli::Bootstrap,
    board: &Board,
    with: Installing<'_>,
    record: &NodeRecord,
) -> Result<Installed, Failure> {
    let patience = with.settings.wait;
    let probing = offer::look(arguments, board, &with, patience)?;
    let bundle = match probing.bundle(board, patience.min(WITHOUT_NEED)).await {
        Ok(bundle) => bundle,
        Err(failure) => {
            if let Some(bundle) = whole(arguments, board, &with, record).await? {
                if failure.code != Code::MediaNotFound {
                    warn(board, &failure, "goes on with the bundle that is installed");
                }
                return Ok(Installed::before(bundle, board));
            }
            probing.bundle(board, patience).await?
        }
    };
    install(arguments, board, with, Offer { probing, bundle, patience }).await
}

/// The bundle that is installed, where nothing of it was lost.
async fn whole(
    arguments: &cli::Bootstrap,
    board: &Board,
    with: &Installing<'_>,
    record: &NodeRecord,
) -> Result<Option<Bundle>, Failure> {
    let Some(bundle) = recorded(with.host, record) else { return Ok(None) };
    let lacks = plan(arguments, with, &bundle, board).await?;
    Ok(lacks.is_empty().then_some(bundle))
}

fn warn(board: &Board, failure: &Failure, so: &str) {
    let state = report::state_of(failure);
    board.warn(format!("{}: {}: {so} ({})", state.code, state.message, state.remedy));
}
