//! How fast something goes: a moving average over some seconds, on a clock that the caller holds.

use std::collections::VecDeque;
use std::time::Duration;

/// The average is taken over this time.
pub const WINDOW: Duration = Duration::from_secs(5);
/// What comes within this time counts as one.
const SLOT: Duration = Duration::from_millis(250);
/// Of a shorter time nothing is told: the first piece would look like any speed.
const SHORTEST: Duration = Duration::from_millis(500);

/// Counts what comes and tells how fast it does. All times are of one clock that does not go back.
#[derive(Debug, Clone)]
pub struct Rate {
    began: Duration,
    /// Begin of the slot, and what came in it.
    slots: VecDeque<(Duration, u64)>,
}

impl Rate {
    /// Begins at `now`.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self { began: now, slots: VecDeque::new() }
    }

    /// `count` came at `now`.
    pub fn add(&mut self, now: Duration, count: u64) {
        match self.slots.back_mut() {
            Some((slot, sum)) if now.saturating_sub(*slot) < SLOT => *sum = sum.saturating_add(count),
            _ => self.slots.push_back((now, count)),
        }
        while self.slots.front().is_some_and(|(slot, _)| now.saturating_sub(*slot) >= WINDOW) {
            self.slots.pop_front();
        }
    }

    /// How many came per second, as of `now`: over the last [`WINDOW`], or since the begin where that is less.
    #[must_use]
    pub fn per_second(&self, now: Duration) -> u64 {
        let recent = self.slots.iter().filter(|(slot, _)| now.saturating_sub(*slot) < WINDOW);
        let sum: u128 = recent.map(|(_, count)| u128::from(*count)).sum();
        let span = now.saturating_sub(self.began).clamp(SHORTEST, WINDOW);
        u64::try_from(sum * 1000 / span.as_millis().max(1)).unwrap_or(u64::MAX)
    }
}

/// Seconds until `left` have come at `per_second`, rounded up; none while nothing comes or is left.
#[must_use]
pub fn eta_seconds(left: u64, per_second: u64) -> Option<u64> {
    (left > 0 && per_second > 0).then(|| left.div_ceil(per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_rate_follows_what_comes() {
        let mut rate = Rate::new(at(1000));
        assert_eq!(rate.per_second(at(1000)), 0);
        rate.add(at(1000), 1000);
        assert_eq!(rate.per_second(at(1000)), 2000, "of an instant nothing is told");
        rate.add(at(2000), 1000);
        assert_eq!(rate.per_second(at(2000)), 2000);
        for second in 3..=20 {
            rate.add(at(second * 1000), 1000);
        }
        assert_eq!(rate.per_second(at(20_000)), 1000);
        assert_eq!(rate.per_second(at(22_500)), 600);
        assert_eq!(rate.per_second(at(25_000)), 0, "nothing came for long");
        assert!(rate.slots.len() <= 22);
    }

    #[test]
    fn a_clock_that_stands_still_or_a_flood_does_no_harm() {
        let mut rate = Rate::new(at(5));
        for _ in 0..10 {
            rate.add(at(0), u64::MAX);
        }
        assert_eq!(rate.per_second(at(0)), u64::MAX);
    }

    #[test]
    fn an_eta_needs_a_rate() {
        for (left, rate, eta) in
            [(0, 5, None), (5, 0, None), (10, 5, Some(2)), (11, 5, Some(3)), (1, u64::MAX, Some(1))]
        {
            assert_eq!(eta_seconds(left, rate), eta, "{left} at {rate}");
        }
    }
}
