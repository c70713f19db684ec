//! What was covered, for a reader.

use std::fmt::Write as _;

use crate::Outcome;
use crate::cases::{Form, Kind, Moment};

/// A table for each source: a line for each fault, a column for each moment.
pub(crate) fn text(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for form in Form::ALL {
        let title = match form {
            Form::Directory => "a directory of Apache",
            Form::Iso => "an .iso file by URL",
            Form::Standby => "a directory of Apache, and the ISO as a file for a second source",
            Form::Stock => "a directory of Apache without manifest",
        };
        let _ = write!(text, "\n{title}\n{:24}", "");
        for name in ["manifest or listing", "beginning of an entry", "middle of a layer", "last bytes of a layer"] {
            let _ = write!(text, " | {name:28}");
        }
        text.push('\n');
        if form == Form::Standby {
            text +=
                "(what no byte alone can be: at the request for the layer, and at the request for what follows it)\n";
        }
        for kind in Kind::ALL {
            let _ = write!(text, "{:24}", kind.name());
            for moment in Moment::ALL {
                let _ = write!(text, " | {:28}", cell(outcomes, form, moment, kind));
            }
            text.push('\n');
        }
    }
    text
}

fn cell(outcomes: &[Outcome], form: Form, moment: Moment, kind: Kind) -> String {
    let of =
        |outcome: &&Outcome| (outcome.case.form, outcome.case.moment) == (form, moment) && outcome.case.kind == kind;
    match outcomes.iter().find(of).map(|outcome| &outcome.result) {
        None => "-".to_owned(),
        Some(Err(_)) => "FAILED".to_owned(),
        Some(Ok(ended)) => {
            let (kib, sent) = (ended.again.div_ceil(1024), ended.sent / 1024);
            format!("{} +{kib} of {sent} KiB", ended.code.unwrap_or("same"))
        }
    }
}
