//! How fast a management server lives: a test has not the hour that it gives a node.

use std::thread;
use std::time::{Duration, Instant};

/// Divides the server's times. Their order and how often something is tried stay.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Divides the pauses between two looks.
    pub pauses: u32,
    /// Divides deadlines, and how long a command may be silent.
    pub limits: u32,
    /// No silence and no deadline is cut below this, or below its own length where that is less.
    pub shortest: Duration,
}

impl Pace {
    /// As on a real server.
    pub const REAL: Self = Self { pauses: 1, limits: 1, shortest: Duration::ZERO };

    /// For nodes that are real: what is a minute or less on a server keeps its length.
    pub const BED: Self = Self { pauses: 15, limits: 6, shortest: Duration::from_secs(60) };

    /// For nodes that only pretend: an hour is twelve seconds, and nobody may be silent for longer than three.
    pub const HASTY: Self = Self { pauses: 100, limits: 300, shortest: Duration::from_secs(3) };

    /// A pause of `seconds` on a real server.
    pub(super) fn pause(self, seconds: u64) {
        thread::sleep(Duration::from_secs(seconds) / self.pauses);
    }

    /// What becomes of a deadline, or of a silence, of `seconds`.
    #[must_use]
    pub fn limit(self, seconds: u64) -> Duration {
        let real = Duration::from_secs(seconds);
        (real / self.limits).max(self.shortest.min(real))
    }

    /// The end of `seconds` from now.
    #[must_use]
    pub fn deadline(self, seconds: u64) -> Instant {
        Instant::now() + self.limit(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_keep_their_length() {
        let seconds = |pace: Pace, seconds| pace.limit(seconds).as_secs_f32();
        assert_eq!([20, 60, 600, 3600].map(|s| seconds(Pace::BED, s)), [20.0, 60.0, 100.0, 600.0]);
        assert_eq!([20, 600, 3600].map(|s| seconds(Pace::HASTY, s)), [3.0, 3.0, 12.0]);
        assert_eq!(seconds(Pace::REAL, 3600), 3600.0);
    }
}
