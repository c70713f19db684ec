//! Which candidates there are, asked for each name of the settings by itself: a file server that is gone lets
//! nobody wait but those who ask for it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::candidates::{Candidate, merged, unseen};

/// How long a name that does not answer is waited for, once.
const PATIENCE: Duration = Duration::from_millis(500);

/// What was found of each name, and who has not come back yet.
#[derive(Debug, Default)]
pub(super) struct Looks {
    under_way: HashMap<String, JoinHandle<Vec<Candidate>>>,
    known: HashMap<String, Vec<Candidate>>,
}

impl Looks {
    /// The candidates of `names`, best first. `look` finds those of one name, on a thread that may block; of a
    /// name that does not answer, what was known is told, or the name itself.
    pub(super) async fn all<F>(&mut self, names: &[String], look: F) -> Vec<Candidate>
    where
        F: Fn(&str) -> Vec<Candidate> + Clone + Send + 'static,
    {
        let began = Instant::now();
        let late: Vec<String> = self.under_way.keys().cloned().collect();
        for name in names {
            let (asked, look) = (name.clone(), look.clone());
            let begin = || tokio::task::spawn_blocking(move || look(&asked));
            self.under_way.entry(name.clone()).or_insert_with(begin);
        }
        for name in names {
            let Some(looking) = self.under_way.get_mut(name) else { continue };
            let patience = if late.contains(name) { Duration::ZERO } else { PATIENCE };
            match tokio::time::timeout(patience.saturating_sub(began.elapsed()), looking).await {
                Ok(found) => {
                    self.under_way.remove(name);
                    if let Ok(found) = found {
                        self.known.insert(name.clone(), found);
                    }
                }
                Err(_) => _ = self.known.entry(name.clone()).or_insert_with(|| vec![unseen(name)]),
            }
        }
        merged(names.iter().filter_map(|name| self.known.get(name)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc};

    use super::*;

    #[tokio::test]
    async fn a_name_that_does_not_answer_keeps_no_other() {
        let (free, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let look = move |name: &str| {
            if name == "/gone" {
                let _ = held.lock().unwrap().recv();
            }
            vec![Candidate { may_come: true, ..unseen(name) }]
        };
        let names = ["/gone", "/good"].map(str::to_owned);
        let told = |found: &[Candidate]| found.iter().map(|one| (one.name.clone(), one.may_come)).collect::<Vec<_>>();
        let mut looks = Looks::default();
        for _ in 0..2 {
            let found = looks.all(&names, look.clone()).await;
            assert_eq!(told(&found), [("/gone".to_owned(), false), ("/good".to_owned(), true)]);
        }
        assert_eq!(looks.under_way.len(), 1, "one thread is lost to it, not one with each look");
        drop(free);
        while !looks.under_way["/gone"].is_finished() {
            tokio::task::yield_now().await;
        }
        assert_eq!(told(&looks.all(&names, look).await)[0], ("/gone".to_owned(), true), "it is seen when it is back");
    }
}
