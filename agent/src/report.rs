//! How a failure is told: once, in one chain, with its code and its remedy.

use std::path::Path;

use bootstrap::failure::Failure;
use bootstrap::state::FailureState;
use tracing_subscriber::filter::LevelFilter;

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

/// Sends log events to standard error: warnings, with `verbose` 1 steps, with 2 everything of ours.
pub fn log(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    // The journal adds the time; at a terminal the bars tell it.
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).without_time().with_ansi(false).init();
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
