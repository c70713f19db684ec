//! What comes from where: bytes, retries, errors, and what need not come again.
//!
//! | who | calls | when |
//! |---|---|---|
//! | whoever reads a source | [`Board::source_progress`] | bytes came |
//! | | [`Board::retry`] | it is asked again after a failure |
//! | | [`Board::moved`] | another source goes on |
//! | whoever knows the artefact | [`Board::comes_from`], or [`Board::fetched`] for both in one | bytes came |
//! | | [`Board::resumed`] | bytes need not come: an earlier run left them |

use bootstrap::text;

use super::{Board, rfc3339};

impl Board {
    /// `count` bytes of `object` came from `source`: [`Self::comes_from`] and [`Self::source_progress`] in one.
    /// The object's own progress is told by [`Self::advance`].
    pub fn fetched(&self, object: &str, source: &str, count: u64) {
        self.comes_from(object, source);
        self.source_progress(source, count);
    }

    /// `object` comes from `source` now.
    pub fn comes_from(&self, object: &str, source: &str) {
        let known = |active: &&bootstrap::state::ActiveStep| active.object == object && active.source != source;
        if self.state.borrow().active.iter().any(|active| known(&active)) {
            self.update(|state, _, _| {
                if let Some(active) = state.active.iter_mut().find(|active| active.object == object) {
                    source.clone_into(&mut active.source);
                }
            });
        }
    }

    /// `count` more bytes came from `source`, whatever they are of.
    pub fn source_progress(&self, source: &str, count: u64) {
        self.update(|_, tally, now| {
            let traffic = tally.source(source);
            traffic.bytes += count;
            traffic.last_byte_at = Some(rfc3339(now.wall));
        });
    }

    /// Shows how many bytes the sources brought in all, in place of what was counted.
    pub fn source_bytes(&self, bytes: &[(String, u64)]) {
        self.update(|_, tally, _| {
            for (name, count) in bytes {
                tally.source(name).bytes = *count;
            }
        });
    }

    /// `source` failed with `error` and is asked again.
    pub fn retry(&self, source: &str, error: &str) {
        self.update(|state, tally, _| {
            let traffic = tally.source(source);
            traffic.retries += 1;
            traffic.last_error = text::plain(error);
            state.counters.retries += 1;
        });
    }

    /// `source` failed with `error`, and another source goes on with the blob or entry.
    pub fn moved(&self, source: &str, error: &str) {
        self.update(|state, tally, _| {
            tally.source(source).last_error = text::plain(error);
            state.counters.blobs_moved += 1;
        });
    }

    /// `count` bytes of `object` are there from an earlier run: progress that no source brought. In place of
    /// [`Self::advance`].
    pub fn resumed(&self, object: &str, count: u64) {
        self.update(|state, tally, _| {
            tally.move_on(state, object, count);
            state.counters.bytes_resumed += count;
        });
    }
}
