//! Who is asked next when what came was wrong.

use super::stream::Media;

/// A try to bring some bytes: those sources that gave wrong ones before are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    pub(super) serial: u64,
    /// Sources that gave wrong bytes; one bit each.
    pub(super) blamed: u64,
    /// Sources one of which did, together with others.
    pub(super) suspected: u64,
    /// Sources that were asked once more after all had given wrong ones: a byte may have broken on its way.
    asked_again: u64,
}

impl Turn {
    pub(super) fn new(serial: u64) -> Self {
        Self { serial, blamed: 0, suspected: 0, asked_again: 0 }
    }

    /// The next try after the bytes of this one were wrong; none when no source is left. Who alone brought them is
    /// to blame; of several, each is asked alone before it is. Once all are to blame, each is asked once more.
    #[must_use]
    pub fn next(self, media: &Media) -> Option<Self> {
        let live = media.set().live();
        let left = |turn: Self| live.iter().any(|live| turn.blamed & bit(live.id) == 0);
        let first = live.iter().find(|live| self.blamed & bit(live.id) == 0).map(|live| bit(live.id));
        let supplied = media.suppliers().remove(&self.serial).or(first)?;
        let known = supplied & self.suspected == supplied;
        let next = if supplied.count_ones() <= 1 || known {
            Self { blamed: self.blamed | supplied, ..self }
        } else {
            Self { suspected: self.suspected | supplied, ..self }
        };
        if left(next) {
            return Some(next);
        }
        let again = live.iter().map(|live| bit(live.id)).find(|bit| next.asked_again & bit == 0)?;
        let others = live.iter().fold(0, |others, live| others | bit(live.id)) & !again;
        Some(Self { blamed: others, asked_again: next.asked_again | again, ..next })
    }
}

/// More than 64 openings share bits: at worst a source is left out of one try.
pub(super) fn bit(id: u64) -> u64 {
    1 << (id % 64)
}
