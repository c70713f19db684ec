//! Where something stands in user data, and what is found there that nothing is made of.

use std::fmt;

use serde::{Serialize, Serializer};

/// Which text a line is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Origin {
    /// The user data, where it has one part.
    #[default]
    Whole,
    /// A part of the user data, from 1.
    Part(usize),
    /// The CNI configuration as the user registered it.
    Cni,
}

/// A line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// The text that it is of.
    pub origin: Origin,
    /// The line, from 1; 0 for the text as a whole.
    pub line: usize,
}

impl Place {
    /// The same text, another line.
    #[must_use]
    pub fn at(self, line: usize) -> Self {
        Self { line, ..self }
    }

    /// `by` lines further down.
    #[must_use]
    pub fn down(self, by: usize) -> Self {
        self.at(self.line + by)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::Whole if self.line == 0 => f.write_str("user data"),
            Origin::Whole => write!(f, "line {}", self.line),
            Origin::Part(part) if self.line == 0 => write!(f, "part {part}"),
            Origin::Part(part) => write!(f, "part {part}, line {}", self.line),
            Origin::Cni if self.line == 0 => f.write_str("CNI configuration"),
            Origin::Cni => write!(f, "CNI configuration, line {}", self.line),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Something that user data says and that is left alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Ignored {
    /// Where.
    pub at: Place,
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// Something that works, and that somebody should know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Remark {
    /// Where.
    pub at: Place,
    /// What.
    pub text: String,
}

/// What is found beside the wish itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Findings {
    pub(super) ignored: Vec<Ignored>,
    pub(super) warnings: Vec<Remark>,
}

/// More of one kind nobody reads.
const MOST: usize = 200;

impl Findings {
    pub(super) fn ignore(&mut self, at: Place, what: impl Into<String>, why: impl Into<String>) {
        let one = Ignored { at, what: what.into(), why: why.into() };
        if self.ignored.len() < MOST && !self.ignored.contains(&one) {
            self.ignored.push(one);
        }
    }

    pub(super) fn warn(&mut self, at: Place, text: impl Into<String>) {
        let one = Remark { at, text: text.into() };
        if self.warnings.len() < MOST && !self.warnings.contains(&one) {
            self.warnings.push(one);
        }
    }
}
