//! Where a node says how it is: the status document, the socket, the console, the journal.

use std::time::{Duration, Instant};

use cks_tests::kubernetes::Machine;

/// How soon a failure has to be told.
const SOON: Duration = Duration::from_secs(60);

/// Waits until all four places name `code`, and gives the time that took.
pub(crate) fn everywhere(machine: &Machine, code: &str) -> Duration {
    let began = Instant::now();
    let mut missing = Vec::new();
    while began.elapsed() < SOON {
        missing = places(machine).into_iter().filter(|(_, text)| !text.contains(code)).collect();
        if missing.is_empty() {
            return began.elapsed();
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("{code} is not told in {} s: {missing:#?}", SOON.as_secs())
}

/// What each place says. A run that has ended serves no socket; the daemon does.
fn places(machine: &Machine) -> Vec<(&'static str, String)> {
    let said = |script: &str| machine.sh(script).unwrap_or_default();
    vec![
        ("status.json", said("cat /run/cks-agent/status.json")),
        ("socket", said("curl -s --max-time 5 --unix-socket /run/cks-agent/status.sock http://node/v1/status")),
        ("console", said("cat /var/log/bed/console.log")),
        ("journal", said("strings -n 3 /var/log/bed/journal.bin || tr -c '[:print:]' '\\n' </var/log/bed/journal.bin")),
    ]
}
