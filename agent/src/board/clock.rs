//! The time, as the board asks for it: the machine's, or one that a test holds.

use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// A moment on both clocks: the one that never jumps, and the one that people read.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For spans.
    pub instant: Instant,
    /// For documents.
    pub wall: SystemTime,
}

/// Tells the time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Now + Send + Sync>);

impl Clock {
    /// A clock that asks `now`.
    pub fn new(now: impl Fn() -> Now + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Now {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(|| Now { instant: Instant::now(), wall: SystemTime::now() })
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
