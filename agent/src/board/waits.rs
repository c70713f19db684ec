//! What is waited for. Several may wait at once; the one that is given up first is the most important.

use std::time::{Duration, Instant};

use bootstrap::failure::Code;
use bootstrap::state::{NodeState, Wait};
use bootstrap::text;

use super::{Board, rfc3339};

impl Board {
    /// Something is waited for: since when, why, and until when.
    pub fn wait(&self, waits_for: &str, last_error: &str, since: Instant, pause: Duration, patience: Duration) {
        self.wait_for(None, waits_for, last_error, since, pause, patience);
    }

    /// Like [`Self::wait`], for a reason that has a class.
    pub fn wait_because(
        &self,
        code: Code,
        waits_for: &str,
        last_error: &str,
        since: Instant,
        pause: Duration,
        patience: Duration,
    ) {
        self.wait_for(None, waits_for, last_error, since, pause, patience);
        self.update(|state, _, _| {
            state.waits.iter_mut().filter(|wait| wait.waits_for == waits_for).for_each(|wait| wait.code = Some(code));
            most_important_first(state);
        });
    }

    /// Like [`Self::wait`], and says which artefact (`object`) can't go on meanwhile.
    pub fn wait_for(
        &self,
        object: Option<&str>,
        waits_for: &str,
        last_error: &str,
        since: Instant,
        pause: Duration,
        patience: Duration,
    ) {
        self.update(|state, _, now| {
            let ago = now.instant.saturating_duration_since(since);
            let place = state.waits.iter().position(|wait| wait.waits_for == waits_for);
            let mut objects = place.map(|place| state.waits.remove(place).objects).unwrap_or_default();
            if let Some(object) = object.filter(|object| !objects.iter().any(|known| known == object)) {
                objects.push(object.to_owned());
            }
            state.waits.push(Wait {
                waits_for: waits_for.to_owned(),
                since: rfc3339(now.wall - ago),
                last_error: text::plain(last_error),
                code: None,
                next_try: rfc3339(now.wall + pause),
                deadline: rfc3339(now.wall + patience.saturating_sub(ago)),
                objects,
            });
            most_important_first(state);
        });
    }

    /// `waits_for` is not waited for any more, by nobody.
    pub fn stop_waiting(&self, waits_for: &str) {
        self.update(|state, _, _| {
            state.waits.retain(|wait| wait.waits_for != waits_for);
            most_important_first(state);
        });
    }

    /// `object` does not wait for `waits_for` any more; others may.
    pub fn stop_waiting_for(&self, object: &str, waits_for: &str) {
        self.update(|state, _, _| {
            if let Some(wait) = state.waits.iter_mut().find(|wait| wait.waits_for == waits_for) {
                wait.objects.retain(|known| known != object);
            }
            state.waits.retain(|wait| wait.waits_for != waits_for || !wait.objects.is_empty());
            most_important_first(state);
        });
    }
}

fn most_important_first(state: &mut NodeState) {
    // All times have one form, so their texts sort as they do.
    state.waits.sort_by(|a, b| (&a.deadline, &a.waits_for).cmp(&(&b.deadline, &b.waits_for)));
    state.wait = state.waits.first().cloned();
}
