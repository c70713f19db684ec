//! What is known of the terminal that is drawn on.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::time::SystemTime;

use crate::view::Look;

/// Columns and rows of a terminal that does not tell.
const USUAL: (usize, usize) = (80, 24);

/// What may be drawn, decided once for one of the standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// It is a terminal that understands escapes.
    pub draws: bool,
    /// Colours are welcome.
    pub colours: bool,
}

impl Terminal {
    /// Of `stream`. `no_color` and `term` are the environment's `NO_COLOR` (set and not empty) and `TERM`.
    #[must_use]
    pub fn of(stream: impl IsTerminal, no_color: bool, term: Option<&str>) -> Self {
        let draws = stream.is_terminal() && !matches!(term, Some("dumb" | ""));
        Self { draws, colours: draws && !no_color }
    }

    /// What is drawn on now: the size may change at any time.
    #[must_use]
    pub fn look(&self, stream: impl AsFd) -> Look {
        let now = SystemTime::now();
        if !self.draws {
            return Look { width: None, height: None, colours: false, now };
        }
        let (columns, rows) = match rustix::termios::tcgetwinsize(stream) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (usize::from(size.ws_col), usize::from(size.ws_row)),
            _ => USUAL,
        };
        Look { width: Some(columns), height: Some(rows), colours: self.colours, now }
    }
}
