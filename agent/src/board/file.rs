//! The state on disk, for those who are not this process.

use std::path::Path;
use std::time::{Duration, Instant};

use bootstrap::failure::Failure;
use bootstrap::state::NodeState;

use super::Board;
use crate::host::Host;
use crate::{files, metrics};

/// Five times a second is what a person can follow.
const PAUSE: Duration = Duration::from_millis(200);
/// Where nothing happens, rates and seconds go on this often; metrics are written as often.
const BEAT: Duration = Duration::from_secs(1);

/// Keeps the status document at `path`, and the metrics beside it, up to date until it is stopped.
pub async fn write_status(board: Board, host: Host, path: std::path::PathBuf) {
    let mut states = board.subscribe();
    let mut measured: Option<Instant> = None;
    loop {
        let state = states.borrow_and_update().clone();
        if let Err(failure) = write(&path, &state) {
            tracing::debug!(path = %path.display(), "{failure}");
        }
        if measured.is_none_or(|at| at.elapsed() >= BEAT) {
            if let Err(failure) = metrics::write(&host, &state) {
                tracing::debug!("{failure}");
            }
            measured = Some(Instant::now());
        }
        tokio::time::sleep(PAUSE).await;
        match tokio::time::timeout(BEAT - PAUSE, states.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => break,
            Err(_) => board.tick(),
        }
    }
}

/// Writes the status document once.
///
/// # Errors
/// `IO` or `NO_SPACE` names the file.
pub fn write(path: &Path, state: &NodeState) -> Result<(), Failure> {
    files::write_json(path, state, 0o644)
}
