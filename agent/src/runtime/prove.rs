//! What the running containerd says of itself.

use std::time::{Duration, Instant};

use bootstrap::failure::{Code, Failure};
use bootstrap::render::containerd::Effective;
use rand::Rng as _;
use tokio::net::UnixStream;

use super::Wish;
use crate::board::Board;
use crate::host::Host;
use crate::tool::Tool;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Waits until somebody listens at the socket.
pub(super) async fn answers(board: &Board, wish: &Wish<'_>) -> Result<(), Failure> {
    let socket = wish.socket.display().to_string();
    let unavailable = |why: String| {
        Failure::new(Code::ContainerdUnavailable, format!("containerd at {socket} does not answer: {why}"))
    };
    patiently(board, wish, &format!("containerd at {socket}"), async || {
        UnixStream::connect(wish.socket).await.map(drop).map_err(|e| unavailable(e.to_string()))
    })
    .await
}

/// What the CRI of the running containerd tells; none where there is no crictl to ask it. Its words hold passwords in
/// containerd 1.x, so they are never repeated.
pub(super) async fn running(host: &Host, board: &Board, wish: &Wish<'_>) -> Result<Option<Effective>, Failure> {
    if Tool::Crictl.find(host).is_none() {
        board.warn("TOOL_MISSING: crictl is not installed: what the running containerd does is not proved".to_owned());
        return Ok(None);
    }
    let endpoint = format!("unix://{}", wish.socket.display());
    let refused = |why: String| {
        let what = format!("the CRI of containerd at {} does not answer: {why}", wish.socket.display());
        Failure::new(Code::ContainerdMisconfigured, what)
            .with_remedy("journalctl -u containerd tells which plugin failed")
    };
    let said = patiently(board, wish, "the CRI of containerd", async || {
        let crictl = Tool::Crictl.call(host).args(["--config", "/dev/null", "--timeout", "10s"]);
        let crictl = crictl.args(["--runtime-endpoint", &endpoint, "--image-endpoint", &endpoint, "info"]);
        let said = crictl.patience(Duration::from_secs(20)).output().await?;
        match said.code {
            Some(0) => Ok(said.stdout),
            _ => Err(refused(said.stderr.trim().lines().last().unwrap_or_default().to_owned())),
        }
    });
    Effective::of_info(&said.await?).map(Some).map_err(refused)
}

/// Tries until it succeeds, or for as long as the wish has patience; the wait is shown.
async fn patiently<T>(
    board: &Board,
    wish: &Wish<'_>,
    waits_for: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let since = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt().await {
            Err(failure) if since.elapsed() < wish.patience && failure.code != Code::ToolMissing => {
                let left = wish.patience.saturating_sub(since.elapsed());
                let now = pause.mul_f64(rand::rng().random_range(0.5..1.5)).min(left);
                board.wait_because(failure.code, waits_for, &failure.what, since, now, wish.patience);
                tokio::time::sleep(now).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            outcome => {
                board.stop_waiting(waits_for);
                return outcome;
            }
        }
    }
}
