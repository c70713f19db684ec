//! The connections to one server: never more than allowed, kept for the next request, and none at all while
//! the server wants to be left alone.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bootstrap::failure::{Code, Failure};
use rand::Rng as _;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::route::{Route, Sender};
use super::width::{QUEUED, Width};

/// The first pause after a refusal is up to twice this long, each further one up to twice the one before.
const FIRST_HOLD: Duration = Duration::from_millis(250);
const LONGEST_HOLD: Duration = Duration::from_secs(8);
/// Longer pauses than this are left to the caller, who shows them and knows other sources.
const OWN_PATIENCE: Duration = Duration::from_secs(1);

/// The connections to one server.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Requests that may be under way.
    turns: Arc<Semaphore>,
    /// Connections that may stand, idle ones included.
    wires: Arc<Semaphore>,
    /// Of them.
    most: usize,
    idle: Mutex<Vec<(Sender, AbortHandle)>>,
    hold: Mutex<Hold>,
    share: Mutex<Share>,
}

/// How much of the server is used.
#[derive(Debug)]
struct Share {
    width: Width,
    /// Turns to be taken away when they come back.
    owed: usize,
}

#[derive(Debug, Default)]
struct Hold {
    until: Option<Instant>,
    /// Refusals in a row.
    refusals: u32,
    why: String,
}

/// Until when a server is left alone; the source of a failure.
#[derive(Debug, Clone, Copy)]
pub struct HeldOff {
    /// The end of it.
    pub until: Instant,
}

impl std::error::Error for HeldOff {}

impl std::fmt::Display for HeldOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the server is left alone for now")
    }
}

/// A connection in use. Dropped in the middle of an answer, it is closed.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) sender: Option<Sender>,
    /// Whether a request went over it before.
    pub(super) used: bool,
    driver: AbortHandle,
    turn: Turn,
}

/// The right to one request. Given back, or taken away where one is owed.
#[derive(Debug)]
struct Turn {
    permit: Option<OwnedSemaphorePermit>,
    lanes: Arc<Lanes>,
}

impl Lanes {
    pub(super) fn new(connections: usize) -> Self {
        let (turns, wires) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(connections)));
        let share = Mutex::new(Share { width: Width::new(connections), owed: 0 });
        Self { turns, wires, most: connections, idle: Mutex::default(), hold: Mutex::default(), share }
    }

    /// A connection, an idle one first unless it has to be `fresh`.
    pub(super) async fn take(self: &Arc<Self>, route: &Route, fresh: bool) -> io::Result<Lane> {
        let closed = |_| io::Error::other("the source is closed");
        let turn = Turn { permit: Some(self.turn().await.map_err(closed)?), lanes: Arc::clone(self) };
        while let Some((mut sender, driver)) = self.kept() {
            // An idle connection may have been closed by the server meanwhile.
            if !fresh && matches!(tokio::time::timeout(OWN_PATIENCE, sender.ready()).await, Ok(Ok(()))) {
                return Ok(Lane { sender: Some(sender), used: true, driver, turn });
            }
            driver.abort();
        }
        let wire = Arc::clone(&self.wires).acquire_owned().await.map_err(closed)?;
        let (sender, connection) = route.connect().await?;
        let driver = tokio::spawn(async move {
            // How it ended is told to who waits for the answer.
            let _ = connection.await;
            drop(wire);
        });
        let driver = driver.abort_handle();
        Ok(Lane { sender: Some(sender), used: false, driver, turn })
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        let mut turn = pin!(Arc::clone(&self.turns).acquire_owned());
        loop {
            let again = self.share().width.again();
            let time = async {
                match again {
                    Some(again) => tokio::time::sleep_until(again.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                turn = &mut turn => return turn,
                () = time => {
                    if self.share().width.may_try(Instant::now()) {
                        self.more();
                    } else {
                        return turn.await;
                    }
                }
            }
        }
    }

    /// A new connection was answered after `took`: where that was soon, there may be one more.
    pub(super) fn welcomed(&self, took: Duration) {
        if self.share().width.welcomed(took) {
            self.more();
        }
    }

    /// How long a new connection is waited for: one beside others may have to queue at the server, and what it is for
    /// can go over those.
    pub(super) fn patience(&self, inactivity: Duration) -> Duration {
        if self.are_others(1) { inactivity.min(QUEUED) } else { inactivity }
    }

    /// Whether more connections stand than `own` ones.
    pub(super) fn are_others(&self, own: usize) -> bool {
        self.wires.available_permits() + own < self.most
    }

    /// A new connection beside others was not answered: from now on one request at a time.
    pub(super) fn queued(&self) {
        let mut share = self.share();
        let fewer = share.width.queued(Instant::now(), rand::rng().random_range(0.0..1.0));
        share.owed += fewer - self.turns.forget_permits(fewer);
    }

    /// One turn more, or one that is owed stays.
    fn more(&self) {
        let mut share = self.share();
        match share.owed {
            0 => self.turns.add_permits(1),
            _ => share.owed -= 1,
        }
    }

    fn share(&self) -> MutexGuard<'_, Share> {
        self.share.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> Option<(Sender, AbortHandle)> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Waits a moment when the server wants to be left alone.
    pub(super) async fn admit(&self, what: &str) -> Result<(), Failure> {
        let (until, why) = {
            let hold = self.hold();
            (hold.until, hold.why.clone())
        };
        let Some(until) = until else { return Ok(()) };
        let left = until.saturating_duration_since(Instant::now());
        if left > OWN_PATIENCE {
            let what = format!("{what}: {why}; asked again in {} s", left.as_secs() + 1);
            return Err(Failure::new(Code::SourceUnreachable, what).with_source(HeldOff { until }));
        }
        tokio::time::sleep(left).await;
        Ok(())
    }

    /// The server refused: nobody asks it before `retry_after`, or before a pause that grows, chosen by
    /// chance, for many nodes are refused at the same moment.
    pub(super) fn refused(&self, why: &str, retry_after: Option<Duration>) -> HeldOff {
        let mut hold = self.hold();
        hold.refusals = hold.refusals.saturating_add(1);
        let ceiling = FIRST_HOLD.saturating_mul(1 << hold.refusals.min(10)).min(LONGEST_HOLD);
        let pause = rand::rng().random_range(Duration::ZERO..=ceiling);
        let until = Instant::now() + retry_after.map_or(pause, |asked| asked + pause.min(asked / 4));
        let until = hold.until.map_or(until, |earlier| earlier.max(until));
        (hold.until, hold.why) = (Some(until), why.to_owned());
        HeldOff { until }
    }

    /// The server answered as it should.
    pub(super) fn answered(&self) {
        let mut hold = self.hold();
        if hold.until.is_none_or(|until| until <= Instant::now()) {
            *hold = Hold::default();
        }
    }

    fn hold(&self) -> MutexGuard<'_, Hold> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        while let Some((_, driver)) = self.kept() {
            driver.abort();
        }
    }
}

impl Lane {
    /// The answer was read to its end: the connection is kept for the next request.
    pub(super) fn keep(mut self) {
        if let Some(sender) = self.sender.take() {
            let kept = (sender, self.driver.clone());
            self.turn.lanes.idle.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut share = self.lanes.share();
        if share.owed > 0
            && let Some(permit) = self.permit.take()
        {
            share.owed -= 1;
            permit.forget();
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if self.sender.is_some() {
            self.driver.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_is_left_alone_as_long_as_it_asks() {
        let lanes = Lanes::new(1);
        assert!(lanes.admit("x").await.is_ok());
        let held = lanes.refused("HTTP 503", Some(Duration::from_secs(30)));
        let left = held.until.saturating_duration_since(Instant::now());
        assert!(left > Duration::from_secs(29) && left < Duration::from_secs(38), "{left:?}");
        let failure = lanes.admit("x").await.unwrap_err();
        assert!(failure.code == Code::SourceUnreachable && failure.what.contains("HTTP 503; asked again in"));
        // A shorter wish of another answer does not end a longer one, nor does a late good answer.
        lanes.refused("HTTP 503", Some(Duration::ZERO));
        lanes.answered();
        assert!(lanes.admit("x").await.is_err());
    }

    #[test]
    fn pauses_grow_and_have_an_end() {
        let lanes = Lanes::new(1);
        for _ in 0..40 {
            let left = lanes.refused("reset", None).until.saturating_duration_since(Instant::now());
            assert!(left <= LONGEST_HOLD);
        }
        lanes.hold().until = Some(Instant::now());
        lanes.answered();
        assert!(lanes.hold().until.is_none() && lanes.hold().refusals == 0);
    }
}
