//! A deadline for every call: none waits for a containerd that says nothing any more.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use containerd_client::services::v1::version_client::VersionClient;
use tokio::time::timeout;
use tonic::Status;

use super::Containerd;

/// How long a call may be quiet before containerd is asked whether it lives, and how long that may take.
const QUIET: Duration = Duration::from_secs(10);
/// What no single answer of a containerd that lives takes: a whole layer through its diff service, or the sync
/// of a large blob on a slow disk.
const LONGEST: Duration = Duration::from_secs(15 * 60);

impl Containerd {
    /// The answer to `call`. A call may take long where containerd has much to do; so, when it is quiet,
    /// containerd is asked something that it can answer at once.
    ///
    /// # Errors
    /// The call's own, and `DeadlineExceeded`.
    pub(super) async fn within<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let began = Instant::now();
        let mut call = pin!(call);
        loop {
            if let Ok(answer) = timeout(QUIET, call.as_mut()).await {
                return answer;
            }
            if began.elapsed() > LONGEST {
                return Err(Status::deadline_exceeded(format!("no answer within {} s", LONGEST.as_secs())));
            }
            let mut client = VersionClient::new(self.channel.clone());
            let lives = timeout(QUIET, client.version(()));
            tokio::select! {
                answer = call.as_mut() => return answer,
                lives = lives => match lives {
                    Ok(Ok(_)) => {}
                    Ok(Err(status)) => return Err(status),
                    Err(_) => {
                        let seconds = began.elapsed().as_secs();
                        return Err(Status::deadline_exceeded(format!("it says nothing any more, for {seconds} s")));
                    }
                },
            }
        }
    }
}
