//! One operation at a time for a volume, and for a path.
//!
//! A guard belongs to the thread that does the work, not to the request: a client that gives up frees nothing.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use bootstrap::volume::refusal::{Class, Refusal};

/// What is being worked on.
#[derive(Debug, Clone, Default)]
pub struct Locks {
    taken: Arc<Mutex<BTreeSet<String>>>,
}

/// The right to work on some things; given back when dropped.
#[derive(Debug)]
#[must_use]
pub struct Guard {
    locks: Locks,
    keys: Vec<String>,
}

impl Locks {
    /// Takes all of `keys`, or none.
    ///
    /// # Errors
    /// `VOLUME_BUSY` names what somebody else works on.
    pub fn take<const N: usize>(&self, keys: [String; N]) -> Result<Guard, Refusal> {
        let mut keys = Vec::from(keys);
        keys.sort();
        keys.dedup();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(busy) = keys.iter().find(|key| taken.contains(*key)) {
            return Err(Refusal::new(Class::VolumeBusy, format!("another operation works on {busy}")));
        }
        taken.extend(keys.iter().cloned());
        drop(taken);
        Ok(Guard { locks: self.clone(), keys })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut taken = self.locks.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.keys {
            taken.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_refused_until_it_is_given_back() {
        let locks = Locks::default();
        let first = locks.take(["volume a".to_owned(), "path /x".to_owned()]).unwrap();
        for busy in [["volume a".to_owned(), "path /y".to_owned()], ["volume b".to_owned(), "path /x".to_owned()]] {
            assert_eq!(locks.take(busy).unwrap_err().class, Class::VolumeBusy);
        }
        // Nothing of what was refused is kept.
        let other = locks.take(["volume b".to_owned(), "path /y".to_owned()]).unwrap();
        drop((first, other));
        drop(locks.take(["volume a".to_owned(), "volume b".to_owned()]).unwrap());
    }

    #[test]
    fn the_same_thing_twice_is_one() {
        let locks = Locks::default();
        drop(locks.take(["path /x".to_owned(), "path /x".to_owned()]).unwrap());
        drop(locks.take(["path /x".to_owned()]).unwrap());
    }
}
