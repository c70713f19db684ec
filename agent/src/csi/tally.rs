//! What was asked, how it ended, and how long it took: for the log and for metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bootstrap::volume::VolumeId;
use bootstrap::volume::refusal::Refusal;

use crate::console::TARGET;

/// The first so many bytes of an id that is no volume's are shown.
const SHOWN: usize = 128;

/// They change nothing, and come every minute.
const LOOKS: [&str; 1] = ["NodeGetVolumeStats"];

/// Counts calls.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    counts: Arc<Mutex<BTreeMap<(&'static str, &'static str), Count>>>,
}

/// Calls of one RPC that ended in one way.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Count {
    /// How many.
    pub calls: u64,
    /// How long they took altogether.
    pub seconds: f64,
}

impl Tally {
    /// Counts a call, and logs it: whom it was about is a field of the journal.
    pub fn count(&self, rpc: &'static str, id: &VolumeId, took: Duration, refusal: Option<&Refusal>) {
        let volume_id = id.as_str();
        let milliseconds = took.as_secs_f64() * 1000.0;
        match refusal {
            None if LOOKS.contains(&rpc) => {}
            None => tracing::info!(target: TARGET, volume_id, rpc, "{rpc} {volume_id}: done in {milliseconds:.1} ms"),
            Some(refusal) => {
                let code = refusal.class.as_str();
                tracing::warn!(volume_id, rpc, code, "{rpc} {volume_id}: {refusal}");
            }
        }
        self.add(rpc, took, refusal);
    }

    /// Counts a request that can't even be begun.
    pub(super) fn refused(&self, rpc: &'static str, id: &str, refusal: &Refusal) {
        let volume_id: String = bootstrap::text::plain(id).chars().take(SHOWN).collect();
        let of = if volume_id.is_empty() { String::new() } else { format!(" {volume_id}") };
        tracing::warn!(volume_id, rpc, code = refusal.class.as_str(), "{rpc}{of}: {refusal}");
        self.add(rpc, Duration::ZERO, Some(refusal));
    }

    fn add(&self, rpc: &'static str, took: Duration, refusal: Option<&Refusal>) {
        let ended = refusal.map_or("OK", |refusal| refusal.class.as_str());
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry((rpc, ended)).or_default();
        count.calls += 1;
        count.seconds += took.as_secs_f64();
    }

    /// All counts: RPC and how it ended (`OK`, or the class of the refusal).
    #[must_use]
    pub fn counts(&self) -> BTreeMap<(&'static str, &'static str), Count> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
