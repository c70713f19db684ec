//! The state for a monitoring system: `cks-agent metrics` prints OpenMetrics text, and a run keeps a file for
//! node_exporter's textfile collector (`docs/metrics.md`).

mod exposition;
mod families;
mod volumes;

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use bootstrap::failure::{Code, Failure};
use bootstrap::state::NodeState;
use serde_json::Value;

pub use self::exposition::Syntax;
use self::families::Known;
use crate::csi::Watched;
use crate::host::{Host, STATE_DIR, io_failure};
use crate::journal::INSTALLED;
use crate::{cli, files, status};

/// The metrics of the last run, beside the status document, for as long as the machine is up.
pub const METRICS_PATH: &str = "/run/cks-agent/metrics.prom";
/// What is read of the journal: thousands of lines, among them that of each run.
const TAIL: u64 = 1 << 20;
/// What the last check of the installed content found.
pub const VERIFY_PATH: &str = "/run/cks-agent/verify.json";

/// Prints the metrics as OpenMetrics text. Returns the exit code, 0.
///
/// # Errors
/// `ROOT_NOT_FOUND`, `STATE_INVALID`, `IO`.
pub fn print(arguments: &cli::Metrics) -> Result<u8, Failure> {
    let host = Host::new(&arguments.root)?;
    let state = status::read(&host)?;
    let text = text(&host, state.as_ref(), None, Syntax::OpenMetrics)?;
    // A reader that went away is no failure of ours.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(0)
}

/// Writes the metrics of `state` for node_exporter.
///
/// # Errors
/// `IO`, `NO_SPACE` or `STATE_INVALID` names the file.
pub fn write(host: &Host, state: &NodeState) -> Result<(), Failure> {
    let text = text(host, Some(state), None, Syntax::Prometheus)?;
    files::write(&host.prepare(METRICS_PATH)?, text.as_bytes(), 0o644)
}

/// The metrics of `state`, of the last check, of the journal, and of what is done with `volumes`.
///
/// # Errors
/// `IO` or `STATE_INVALID` names the file.
pub fn text(
    host: &Host,
    state: Option<&NodeState>,
    volumes: Option<&Watched>,
    syntax: Syntax,
) -> Result<String, Failure> {
    let verify = match read(&host.path(VERIFY_PATH))? {
        Some(bytes) => Some(serde_json::from_slice::<Value>(&bytes).map_err(|e| {
            Failure::new(Code::StateInvalid, format!("{VERIFY_PATH}: {e}"))
                .with_remedy("run cks-agent verify again, which writes it anew")
        })?),
        None => None,
    };
    let journal = tail(&host.path(&format!("{STATE_DIR}/journal.jsonl")))?;
    let known = Known { state, verify: verify.as_ref(), last_success: last_success(&journal) };
    let mut all = families::of(&known);
    all.extend(volumes.map(|watched| volumes::of(watched, host)).unwrap_or_default());
    Ok(exposition::write(&all, syntax))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_failure("Reading", path, e)),
    }
}

/// The end of the journal: what is asked of it is there, and it has no bound of its own.
fn tail(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |e| io_failure("Reading", path, e);
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let from = file.metadata().map_err(failed)?.len().saturating_sub(TAIL);
    file.seek(SeekFrom::Start(from)).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// When a run last went well, as the journal tells it (RFC 3339, UTC).
fn last_success(journal: &[u8]) -> Option<String> {
    // Most lines are about files: only the few about runs are parsed.
    let about_runs = |line: &&[u8]| line.starts_with(b"{\"record\":\"run\"");
    journal.rsplit(|byte| *byte == b'\n').filter(about_runs).find_map(|line| {
        let run: Value = serde_json::from_slice(line).ok()?;
        (run["outcome"] == INSTALLED).then(|| run["at"].as_str().map(str::to_owned)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_success_is_the_journals() {
        let journal = b"{\"record\":\"run\",\"at\":\"2026-01-02T03:04:05Z\",\"bundle\":\"x\",\"outcome\":\"installed\"}\n\
            {\"record\":\"run\",\"at\":\"2026-01-03T03:04:05Z\",\"outcome\":\"failed\"}\n{\"record\":\"file\"}\n{\"record\":\"run\",\"at";
        assert_eq!(last_success(journal).as_deref(), Some("2026-01-02T03:04:05Z"));
        assert_eq!(last_success(b""), None);
    }

    #[test]
    fn of_a_journal_without_end_its_end_is_read() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("journal.jsonl");
        assert_eq!(tail(&path).unwrap(), b"");
        fs::write(&path, b"ab\n").unwrap();
        assert_eq!(tail(&path).unwrap(), b"ab\n");
        File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(tail(&path).unwrap().len() as u64, TAIL);
    }

    #[test]
    fn the_journal_writes_what_is_read_here() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path()).unwrap();
        let journal = crate::journal::Journal::open(&host).unwrap();
        let bundle = bootstrap::digest::Digest::of(b"bundle");
        journal.ended("2026-01-02T03:04:05Z".to_owned(), bundle, "installed", true).unwrap();
        let text = text(&host, None, None, Syntax::OpenMetrics).unwrap();
        assert!(text.contains("\ncks_agent_last_success_timestamp_seconds 1767323045\n"), "{text}");
    }
}
