//! How a failure is told: once, in one chain, with its code and its remedy. And where the log goes: to standard error, to
//! the journal with its fields, or to both.

use std::path::Path;

use bootstrap::failure::Failure;
use bootstrap::state::FailureState;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::console::{FAILED, TARGET};
use crate::host::io_failure;
use crate::media::http::HeldOff;

/// The failure as status and JSON show it.
#[must_use]
pub fn state_of(failure: &Failure) -> FailureState {
    FailureState { code: failure.code, message: chain(failure), remedy: failure.remedy().to_owned() }
}

/// The failure as a person reads it at a terminal or in the journal.
#[must_use]
pub fn lines(failure: &FailureState) -> String {
    format!("error[{}]: {}\n  remedy: {}\n", failure.code, failure.message, failure.remedy)
}

/// The failure and its causes in one line; a cause that only repeats what is said already is left out.
#[must_use]
pub fn chain(failure: &Failure) -> String {
    let mut text = failure.what.clone();
    let mut cause = std::error::Error::source(failure);
    while let Some(error) = cause {
        let said = error.to_string();
        // What a server wants of us is told by the next try.
        if !text.contains(&said) && !error.is::<HeldOff>() {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    bootstrap::text::plain(&text)
}

/// Where the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// Standard error.
    Stderr,
    /// The journal, which standard error leads to anyhow, without the fields.
    Journal,
    /// Both: somebody collects standard error, and the journal is there.
    Both,
}

/// Sends log events to where the log goes: warnings, with `verbose` 1 steps, with 2 everything of ours. The journal is
/// always told what happens to the node.
pub fn log(verbose: u8, log: Log) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let journal = (log != Log::Stderr).then(|| tracing_journald::layer().ok()).flatten().map(|journal| {
        let filter = Targets::new().with_default(level).with_target(TARGET, LevelFilter::INFO.max(level));
        journal.with_field_prefix(None).with_syslog_identifier("cks-agent".to_owned()).with_filter(filter)
    });
    let stderr = (log != Log::Journal || journal.is_none()).then(|| {
        // What happens to the node stands there already, in words for people.
        let filter = Targets::new().with_default(level).with_target(TARGET, LevelFilter::OFF);
        // The journal adds the time; at a terminal the bars tell it.
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .without_time()
            .with_ansi(false)
            .with_filter(filter)
    });
    tracing_subscriber::registry().with(journal).with(stderr).init();
}

/// The last words of a program that failed: on standard error, unless they are in the journal already.
pub fn last_words(failure: &FailureState, log: Log) {
    if log != Log::Journal {
        eprint!("{}", lines(failure));
    }
}

/// Tells the log of a failure that no state of a node has told it of.
pub fn log_failure(failure: &FailureState) {
    let (code, remedy) = (failure.code.as_str(), failure.remedy.as_str());
    tracing::error!(target: TARGET, message_id = FAILED, code, remedy, "failed {code}: {}; remedy: {remedy}", failure.message);
}

/// Writes one man page for the program and one for each subcommand.
///
/// # Errors
/// `IO` names the directory.
pub fn man_pages(command: clap::Command, directory: &Path) -> Result<u8, Failure> {
    clap_mangen::generate_to(command, directory).map_err(|e| io_failure("Writing man pages into", directory, e))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootstrap::failure::Code;

    #[test]
    fn the_chain_is_told_once() {
        let cause = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let failure = Failure::new(Code::Io, "Writing /x").with_source(cause);
        let lines = lines(&state_of(&failure));
        assert_eq!(lines.matches("permission denied").count(), 1);
        assert!(lines.starts_with("error[IO]: Writing /x: permission denied\n  remedy: "));
    }
}
