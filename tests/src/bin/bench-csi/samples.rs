//! Times of the same thing, many times.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

/// Times, in nanoseconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Samples(Vec<u64>);

impl Samples {
    pub(crate) fn push(&mut self, took: Duration) {
        self.0.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn extend(&mut self, more: &Self) {
        self.0.extend(&more.0);
    }

    /// Does it, and keeps how long it took.
    pub(crate) fn time<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        let done = work()?;
        self.push(begun.elapsed());
        Ok(done)
    }

    /// Milliseconds that so many percent of the times do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut all = self.0.clone();
        all.sort_unstable();
        let at = (all.len() * percent / 100).min(all.len().saturating_sub(1));
        all.get(at).copied().unwrap_or_default() as f64 / 1e6
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}
