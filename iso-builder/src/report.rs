//! What is printed at the end: results on standard output, failures on standard error, once.

use std::error::Error;
use std::io::{self, Write};

use bootstrap::failure::Failure;
use bootstrap::text::plain;
use serde::Serialize;

/// Prints a result; a reader that went away (`| head`) is no failure.
///
/// # Errors
/// Standard output can't be written.
pub fn print(text: &str) -> io::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Prints `value` as JSON.
///
/// # Errors
/// Standard output can't be written.
pub fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut text = String::new();
    // The control characters beyond ASCII, which JSON lets stand.
    for c in serde_json::to_string_pretty(value)?.chars() {
        match c {
            c if c.is_control() && c != '\n' => text += &format!("\\u{:04x}", u32::from(c)),
            c => text.push(c),
        }
    }
    print(&(text + "\n"))
}

/// Writes `line` to standard error; that nobody may be there to read it harms nothing.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// `error[CODE]: object: cause` and the remedy below.
#[must_use]
pub fn failure(failure: &Failure) -> String {
    let mut chain = failure.what.clone();
    let mut source = failure.source();
    while let Some(error) = source {
        let text = error.to_string();
        // Some errors repeat what is below them.
        if !chain.contains(&text) {
            chain = format!("{chain}: {text}");
        }
        source = error.source();
    }
    format!("error[{}]: {}\nremedy: {}\n", failure.code, lines(&chain), lines(failure.remedy()))
}

/// `text` as it may go to a terminal, line by line.
fn lines(text: &str) -> String {
    text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}
