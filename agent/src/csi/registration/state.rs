//! How far kubelet knows the driver.

use std::time::SystemTime;

/// Where the registration stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Where.
    pub standing: Standing,
    /// Since when.
    pub since: SystemTime,
}

/// Where the registration stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The socket is not there yet, for want of this.
    Waiting(&'static str),
    /// The socket is there; kubelet has not told what it makes of it.
    Offered,
    /// kubelet has registered the driver.
    Registered,
    /// kubelet refused, and does not come back by itself: the socket comes again.
    Refused {
        /// What kubelet said.
        error: String,
        /// When the socket comes again.
        next: SystemTime,
    },
    /// The socket could not be made.
    Failed {
        /// Object, cause and remedy.
        error: String,
        /// When it is tried again.
        next: SystemTime,
    },
}

impl State {
    /// Now.
    #[must_use]
    pub fn now(standing: Standing) -> Self {
        Self { standing, since: SystemTime::now() }
    }
}
