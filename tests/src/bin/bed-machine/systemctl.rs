//! `systemctl`: hands its words to the first process and prints what comes back.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::CONTROL;
use crate::jobs::Done;

/// What `systemctl` prints, and its exit code.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Reply {
    /// With a line of the standard output.
    pub(crate) fn line(&mut self, text: &str) {
        self.out += &format!("{text}\n");
    }

    /// With a line of the standard error and an exit code.
    pub(crate) fn error(&mut self, code: i32, text: &str) {
        self.err += &format!("{text}\n");
        self.code = code;
    }

    /// A job has ended; where it failed, systemd's words for it.
    pub(crate) fn failed(&mut self, done: &Done) {
        let Some(reason) = done.failure else { return };
        let unit = &done.unit;
        let why = match reason {
            "dependency" => format!("A dependency job for {unit} failed. See 'journalctl -xe' for details."),
            "canceled" => format!("Job for {unit} canceled."),
            "timeout" => format!("Job for {unit} failed because a timeout was exceeded."),
            "signal" => format!("Job for {unit} failed because a fatal signal was delivered to the control process."),
            "start-limit-hit" => format!("Job for {unit} failed because start of the service was attempted too often."),
            "resources" => format!("Job for {unit} failed because of unavailable resources or another system error."),
            "protocol" => {
                format!(
                    "Job for {unit} failed because the service did not take the steps required by its unit configuration."
                )
            }
            _ => format!("Job for {unit} failed because the control process exited with error code."),
        };
        self.error(1, &why);
        if !matches!(reason, "dependency" | "canceled") {
            let see = format!("See \"systemctl status {unit}\" and \"journalctl -xeu {unit}\" for details.");
            self.error(1, &see);
        }
    }
}

pub(crate) fn main(arguments: &[String]) -> i32 {
    if arguments.first().is_some_and(|word| word == "--version") {
        println!("systemd 252 (252.bed)");
        return 0;
    }
    match ask(arguments) {
        Ok(reply) => {
            print!("{}", reply.out);
            eprint!("{}", reply.err);
            reply.code
        }
        Err(error) => {
            eprintln!("Failed to connect to bus: {error:#}");
            1
        }
    }
}

fn ask(arguments: &[String]) -> Result<Reply> {
    let mut stream = UnixStream::connect(CONTROL).context("The first process does not listen")?;
    let words = serde_json::to_string(arguments).context("Writing the request")?;
    stream.write_all(words.as_bytes()).context("Asking")?;
    stream.shutdown(Shutdown::Write).context("Asking")?;
    let mut text = String::new();
    stream.read_to_string(&mut text).context("Reading the answer")?;
    serde_json::from_str(&text).context("Reading the answer")
}

/// Sends the answer; who has gone meanwhile gets none.
pub(crate) fn answer(mut stream: UnixStream, reply: &Reply) {
    drop(serde_json::to_string(reply).map(|text| stream.write_all(text.as_bytes())));
}
