//! How many requests go to a server at a time: one, and one more for each new connection that is answered at once. A
//! router that serves hundreds of nodes answers what it has accepted, and lets new connections queue; more of them
//! would only fill its queue, and keep out the nodes that have none.

use std::time::{Duration, Instant};

/// A new connection that is answered within this time is welcome.
pub(super) const WELCOME: Duration = Duration::from_millis(500);
/// One more, while others are in use, is not waited for any longer.
pub(super) const QUEUED: Duration = Duration::from_secs(2);
/// The first pause before another try to use one more; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Requests at a time.
#[derive(Debug)]
pub(super) struct Width {
    now: usize,
    most: usize,
    pause: Duration,
    again: Option<Instant>,
}

impl Width {
    /// One, and never more than `most`.
    pub(super) fn new(most: usize) -> Self {
        Self { now: 1, most: most.max(1), pause: FIRST_PAUSE, again: None }
    }

    /// A new connection was answered after `took`. Whether there may be one request more.
    pub(super) fn welcomed(&mut self, took: Duration) -> bool {
        if took > WELCOME || self.now >= self.most || self.again.is_some() {
            return false;
        }
        (self.now, self.pause) = (self.now + 1, FIRST_PAUSE);
        true
    }

    /// A connection that was one of several was not answered at `at`. How many requests there shall be fewer; `by`
    /// chance, 0 to 1, many nodes do not try again as one.
    pub(super) fn queued(&mut self, at: Instant, by: f64) -> usize {
        if self.now == 1 && self.again.is_some_and(|again| again > at) {
            // Of several at the same moment, the first said it.
            return 0;
        }
        let fewer = self.now - 1;
        self.now = 1;
        self.again = Some(at + self.pause.mul_f64(1.0 + by));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        fewer
    }

    /// When one request more is tried; none where nothing has to be waited for.
    pub(super) fn again(&self) -> Option<Instant> {
        self.again
    }

    /// Whether it is time at `at` to try one request more.
    pub(super) fn may_try(&mut self, at: Instant) -> bool {
        if self.again.is_none_or(|again| at < again) || self.now >= self.most {
            return false;
        }
        (self.now, self.again) = (self.now + 1, None);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_answers_at_once_is_soon_used_as_far_as_allowed() {
        let mut width = Width::new(4);
        let soon = Duration::from_millis(3);
        assert_eq!([(); 5].map(|()| width.welcomed(soon)), [true, true, true, false, false]);
        assert!(!Width::new(1).welcomed(soon));
        assert!(!Width::new(4).welcomed(WELCOME * 2), "slow, and yet not queued: as it is");
    }

    #[test]
    fn one_that_lets_us_queue_is_asked_once_at_a_time_and_tried_again_ever_later() {
        let mut width = Width::new(4);
        let soon = Duration::from_millis(3);
        let mut at = Instant::now();
        assert!(width.welcomed(soon) && width.welcomed(soon));
        assert_eq!(width.queued(at, 0.0), 2);
        assert!(!width.welcomed(soon), "not before its time");
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let begin = at;
            while !width.may_try(at) {
                at += Duration::from_secs(1);
            }
            pauses.push((at - begin).as_secs());
            assert_eq!(width.queued(at, 0.0), 1);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
        let again = width.again();
        assert_eq!((width.queued(at, 0.5), width.again()), (0, again), "of several at once the first counts");
        assert!(width.may_try(at + LONGEST_PAUSE) && width.welcomed(soon));
        at += LONGEST_PAUSE;
        assert_eq!(width.queued(at, 1.0), 2);
        assert!(!width.may_try(at + FIRST_PAUSE) && width.may_try(at + FIRST_PAUSE * 2), "chance spreads them");
    }
}
