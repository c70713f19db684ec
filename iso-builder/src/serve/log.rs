//! The access log: a line per answer on standard output, written by a thread of its own, so that a
//! reader that stops reading holds up no answer.

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use serde_json::json;

use super::date::Moment;

/// Lines that may wait for a slow reader; more are dropped and counted.
const WAITING: usize = 4096;

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Common Log Format, in UTC.
    Common,
    /// A JSON object a line.
    Json,
    /// No log.
    None,
}

/// Writes lines.
#[derive(Debug, Clone)]
pub(super) struct Log {
    format: Format,
    lines: SyncSender<String>,
    dropped: Arc<AtomicU64>,
}

/// The writing thread; see [`Written::wait`].
pub(super) struct Written(Receiver<()>);

/// A request, and what became of it. It is logged when it is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) client: IpAddr,
    pub(super) method: String,
    /// As sent, with the query.
    pub(super) target: String,
    pub(super) protocol: String,
    pub(super) agent: Option<String>,
    pub(super) range: Option<String>,
    pub(super) status: u16,
    /// Bytes of the body that the connection took.
    pub(super) sent: u64,
    pub(super) began: Instant,
    pub(super) log: Log,
}

impl Log {
    /// Starts the writing thread.
    pub(super) fn start(format: Format) -> (Self, Written) {
        let (lines, waiting) = sync_channel::<String>(WAITING);
        let (done, written) = sync_channel(1);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        std::thread::spawn(move || {
            let mut out = std::io::stdout();
            for line in waiting {
                // Nobody reads any more: the server goes on without a log.
                let kept = out.write_all(line.as_bytes()).and_then(|()| out.flush());
                let lost = lost.swap(0, Ordering::Relaxed);
                if lost > 0 && kept.is_ok() {
                    eprintln!("warning: {lost} lines of the access log were dropped: nobody read them in time");
                }
            }
            drop(done);
        });
        (Self { format, lines, dropped }, Written(written))
    }

    /// Writes a line that is not about a request, in JSON logs only.
    pub(super) fn event(&self, event: &serde_json::Value) {
        if self.format == Format::Json {
            self.line(format!("{event}\n"));
        }
    }

    fn line(&self, line: String) {
        if self.lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Written {
    /// Waits, for at most `limit`, until the lines are written and every [`Log`] is gone.
    pub(super) fn wait(self, limit: Duration) {
        if self.0.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            eprintln!("warning: the end of the access log was not read, and is lost");
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(line) = self.format(Moment::now()) {
            self.log.line(line);
        }
    }
}

impl Entry {
    fn format(&self, now: Moment) -> Option<String> {
        match self.log.format {
            Format::None => None,
            Format::Common => Some(format!(
                "{} - - [{}] \"{} {} {}\" {} {}\n",
                self.client,
                now.log(),
                escaped(&self.method),
                escaped(&self.target),
                self.protocol,
                self.status,
                if self.sent > 0 { self.sent.to_string() } else { "-".to_owned() },
            )),
            Format::Json => {
                let event = json!({
                    "event": "request", "time": now.iso(), "client": self.client, "method": self.method,
                    "target": self.target, "status": self.status, "bytes": self.sent, "range": self.range,
                    "agent": self.agent, "seconds": self.began.elapsed().as_secs_f64(),
                });
                Some(format!("{event}\n"))
            }
        }
    }
}

/// `text` between quotes, as Apache writes it.
fn escaped(text: &str) -> String {
    bootstrap::text::plain(&text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_other_programs_read_them() {
        let (log, _written) = Log::start(Format::None);
        let mut entry = Entry {
            client: "10.1.1.2".parse().unwrap(),
            method: "GET".to_owned(),
            target: "/a\"b?q".to_owned(),
            protocol: "HTTP/1.1".to_owned(),
            agent: Some("x\u{1b}".to_owned()),
            range: None,
            status: 200,
            sent: 5,
            began: Instant::now(),
            log,
        };
        assert_eq!(entry.format(Moment(0)), None);
        entry.log.format = Format::Common;
        let line = "10.1.1.2 - - [01/Jan/1970:00:00:00 +0000] \"GET /a\\\"b?q HTTP/1.1\" 200 5\n";
        assert_eq!(entry.format(Moment(0)).unwrap(), line);
        entry.log.format = Format::Json;
        let line = entry.format(Moment(0)).unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&value["status"], &value["target"], &value["agent"]),
            (&200.into(), &"/a\"b?q".into(), &"x\u{1b}".into())
        );
        assert!(line.ends_with("}\n") && !line.contains('\u{1b}'), "{line}");
        entry.log.format = Format::None;
    }
}
