//! What `verify` and `lint` say: one finding is one line, with the stable id of its rule and a remedy.

use std::fmt;

use bootstrap::text::plain;
use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is wrong.
    Error,
    /// It may be wanted so; `--strict` makes it an error.
    Warning,
}

/// A rule: what every finding of it has in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The stable id; `docs/verifying.md` lists them.
    pub id: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What a person does about it.
    pub remedy: &'static str,
}

impl Rule {
    /// A rule whose findings are errors.
    #[must_use]
    pub const fn error(id: &'static str, remedy: &'static str) -> Self {
        Self { id, level: Level::Error, remedy }
    }

    /// A rule whose findings are advice.
    #[must_use]
    pub const fn warning(id: &'static str, remedy: &'static str) -> Self {
        Self { id, level: Level::Warning, remedy }
    }

    /// A finding of this rule.
    #[must_use]
    pub fn finding(self, what: impl Into<String>) -> Finding {
        let Self { id, level, remedy } = self;
        Finding { rule: id, level, file: None, line: None, what: what.into(), remedy }
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The stable id of the rule.
    pub rule: &'static str,
    /// How bad it is.
    pub level: Level,
    /// The text that it was found in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line of that text, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Object and cause.
    pub what: String,
    /// What a person does about it.
    pub remedy: &'static str,
}

impl Finding {
    /// The same finding, in `file` at `line`.
    #[must_use]
    pub fn at(self, file: &str, line: Option<usize>) -> Self {
        Self { file: Some(file.to_owned()), line, ..self }
    }
}

/// `rule: file:line: object: cause (remedy: …)`, with `warning: ` behind the rule of an advice.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.rule)?;
        if self.level == Level::Warning {
            f.write_str("warning: ")?;
        }
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{}:{line}: ", plain(file))?,
            (Some(file), None) => write!(f, "{}: ", plain(file))?,
            _ => {}
        }
        write!(f, "{} (remedy: {})", plain(&self.what), self.remedy)
    }
}

/// Whether `findings` make the exit code 65: an error does, with `strict` a warning too.
#[must_use]
pub fn refuse(findings: &[Finding], strict: bool) -> bool {
    findings.iter().any(|finding| strict || finding.level == Level::Error)
}

/// `clean`, `1 finding`, `3 findings, 2 warnings`.
#[must_use]
pub fn summary(findings: &[Finding]) -> String {
    let count = |level, one: &str, many: &str| match findings.iter().filter(|finding| finding.level == level).count() {
        0 => None,
        1 => Some(format!("1 {one}")),
        number => Some(format!("{number} {many}")),
    };
    let errors = count(Level::Error, "finding", "findings").unwrap_or_else(|| "clean".to_owned());
    match count(Level::Warning, "warning", "warnings") {
        Some(warnings) => format!("{errors}, {warnings}"),
        None => errors,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line() {
        let rule = Rule::error("a-rule", "mend it");
        assert_eq!(rule.finding("x is\nbad").to_string(), "a-rule: x is\\nbad (remedy: mend it)");
        let placed = Rule::warning("b", "c").finding("d").at("e.yaml", Some(7));
        assert_eq!(placed.to_string(), "b: warning: e.yaml:7: d (remedy: c)");
        assert_eq!(summary(&[]), "clean");
        assert_eq!(summary(&[rule.finding(""), rule.finding(""), placed.clone()]), "2 findings, 1 warning");
        assert_eq!(summary(std::slice::from_ref(&placed)), "clean, 1 warning");
        assert!(!refuse(std::slice::from_ref(&placed), false) && refuse(&[placed], true));
    }
}
