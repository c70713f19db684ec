//! `cks-agent explain`: what user data says, how it is understood, and what would be done.

mod show;

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use bootstrap::failure::{Code, Failure};
use bootstrap::state::FailureState;
use bootstrap::user_data::{Metadata, Reading, look, outline};
use serde::Serialize;

pub use self::show::lines;
use crate::board::Board;
use crate::cli;
use crate::config::Config;
use crate::host::{Host, io_failure};
use crate::metadata::{self, USER_DATA_MAX_BYTES};
use crate::report;

/// Longer than this nobody waits for an answer here.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `--json` prints (`docs/schema/explain.schema.json`).
#[derive(Debug, Serialize)]
pub struct Document {
    /// The format's version.
    pub schema: u32,
    /// Where the user data is from.
    pub source: String,
    /// Why no node can be made of it.
    pub failure: Option<FailureState>,
    /// What was understood; none where nothing was.
    pub reading: Option<Reading>,
    /// What would be done on an empty machine; nothing where there is a failure.
    pub steps: Vec<String>,
}

/// Explains the user data. Returns the exit code: 0 when a node could be made of it, else that of the failure.
///
/// # Errors
/// `ROOT_NOT_FOUND`, `CONFIG_INVALID`, `METADATA_UNREACHABLE`, `IO`.
pub async fn print(arguments: &cli::Explain) -> Result<u8, Failure> {
    let host = Host::new(&arguments.root)?;
    let (user_data, metadata, source) = match &arguments.user_data {
        Some(path) => given(&host, path, arguments.metadata.as_deref())?,
        None => {
            let mut settings = Config::read(&host, arguments.config.as_deref())?;
            settings.wait = settings.wait.min(PATIENCE);
            let found = metadata::find(&host, &settings, &Board::new(None)).await?;
            (found.user_data, found.metadata, found.source)
        }
    };
    let document = explain(&user_data, &metadata, source);
    let text = match arguments.json {
        true => serde_json::to_string_pretty(&document).unwrap_or_default() + "\n",
        false => lines(&document),
    };
    // A reader that went away is no failure of ours.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if let Some(failure) = document.failure.as_ref().filter(|_| !arguments.json) {
        eprint!("{}", report::lines(failure));
    }
    Ok(document.failure.map_or(0, |failure| failure.code.exit_code()))
}

/// Explains `user_data`, which came from `source`.
#[must_use]
pub fn explain(user_data: &[u8], metadata: &Metadata, source: String) -> Document {
    let empty = Document { schema: 1, source, failure: None, reading: None, steps: Vec::new() };
    match look(user_data, metadata) {
        Err(failure) => Document { failure: Some(report::state_of(&failure)), ..empty },
        Ok(reading) => {
            let failure = reading.wish().err().map(|failure| report::state_of(&failure));
            // Where the server's scripts stay they make the node, and the agent does nothing.
            let wish = reading.wish().ok().filter(|_| reading.adoption.refused.is_empty());
            let steps = wish.map(outline).unwrap_or_default();
            Document { failure, reading: Some(reading), steps, ..empty }
        }
    }
}

/// User data in a file or on standard input, and metadata in a directory.
fn given(host: &Host, path: &Path, directory: Option<&Path>) -> Result<(Vec<u8>, Metadata, String), Failure> {
    let mut metadata = directory.map_or_else(|| Ok(Metadata::default()), metadata::directory)?;
    metadata.local_hostname.get_or_insert_with(|| host.name());
    if path == Path::new("-") {
        let source = "standard input".to_owned();
        let mut bytes = Vec::new();
        let read = std::io::stdin().take(USER_DATA_MAX_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|e| io_failure("Reading", Path::new(&source), e))?;
        return if bytes.len() as u64 > USER_DATA_MAX_BYTES {
            Err(metadata::too_long(&source))
        } else {
            Ok((bytes, metadata, source))
        };
    }
    let bytes = metadata::user_data(path)?;
    let missing = || Failure::new(Code::ConfigInvalid, format!("{}: there is no such file", path.display()));
    Ok((bytes.ok_or_else(missing)?, metadata, path.display().to_string()))
}
