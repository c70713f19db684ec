//! How a run is seen from outside of its process: on the console, in the log, and at the status socket.

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::board::Board;
use crate::console::{self, Following};
use crate::host::Host;
use crate::serve;

/// What tells the outside.
#[derive(Debug)]
pub struct Outside {
    following: Following,
    /// Its end tells the server to stop.
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Outside {
    /// Begins to tell what `board` says. Where a daemon serves the status already, it goes on doing so.
    #[must_use]
    pub fn of(host: &Host, board: &Board) -> Self {
        let following = console::follow(host, board.subscribe());
        let (stop, stopped) = oneshot::channel::<()>();
        let (host, states) = (host.clone(), serve::of_run(board.subscribe()));
        let serving = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            // A run does not depend on being seen.
            if let Err(failure) = serve::serve(&host, states, None, stopped).await {
                tracing::warn!("{failure}");
            }
        });
        Self { following, stop, serving }
    }

    /// Ends when the last news are told; the board must be gone by then.
    pub async fn finish(self) {
        self.following.finish().await;
        drop(self.stop);
        // One that broke is no reason to fail.
        let _ = self.serving.await;
    }
}
