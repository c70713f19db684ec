//! What each phase took: the end of the demo.

use std::time::{Duration, Instant};

/// The phases so far.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<(String, Option<u64>, Option<Duration>)>,
}

impl Table {
    /// Adds a phase with its bytes and wall time, where it has them.
    pub(crate) fn add(&mut self, phase: &str, bytes: Option<u64>, took: Option<Duration>) {
        self.rows.push((phase.to_owned(), bytes, took));
    }

    /// Prints all, with the time since `begun` below.
    pub(crate) fn print(&self, begun: Instant) {
        let width = self.rows.iter().map(|(phase, ..)| phase.chars().count()).max().unwrap_or(0);
        println!("\n{:width$}  {:>11}  {:>7}", "PHASE", "BYTES", "SECONDS");
        for (phase, bytes, took) in &self.rows {
            let bytes = bytes.map_or_else(String::new, |bytes| bytes.to_string());
            let took = took.map_or_else(String::new, |took| format!("{:.1}", took.as_secs_f64()));
            println!("{}", format!("{phase:width$}  {bytes:>11}  {took:>7}").trim_end());
        }
        println!("{:width$}  {:>11}  {:>7.1}", "in all", "", begun.elapsed().as_secs_f64());
    }
}
