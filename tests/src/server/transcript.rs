//! What was asked of nodes and what they answered.

use std::fmt;
use std::time::Duration;

use super::Release;

/// A walk, from its first command on.
#[derive(Debug, Clone, PartialEq)]
pub struct Transcript {
    /// Whose walk.
    pub release: Release,
    /// Which one: `create`.
    pub walk: &'static str,
    /// In order.
    pub steps: Vec<Step>,
}

/// One command, or one look from outside.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Where: `198.51.100.10:2222`.
    pub to: String,
    /// The command as the node got it; `connect`, `scp FILE ~/`, `GET URL`, and `api …` for what no node sees.
    pub command: String,
    /// Its exit status; none where there was no answer.
    pub exit: Option<i32>,
    /// All that was said, standard output and standard error mixed.
    pub text: String,
    /// How long it took.
    pub elapsed: Duration,
    /// What the server made of it.
    pub verdict: Verdict,
}

/// What the server made of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was what was wanted.
    Good,
    /// It was not, and will be asked for again or otherwise.
    NotYet(String),
    /// It was not, and the server goes on all the same.
    Ignored(String),
    /// It was not, and that is the end.
    Fatal(String),
}

/// A walk that the server gave up.
#[derive(Debug)]
pub struct GivenUp {
    /// Why.
    pub why: String,
    /// How far it came.
    pub transcript: Transcript,
}

impl Transcript {
    /// The commands that were run on nodes, in order.
    #[must_use]
    pub fn commands(&self) -> Vec<&str> {
        self.steps.iter().map(|step| step.command.as_str()).filter(|command| !command.starts_with("api ")).collect()
    }

    /// The steps whose command contains `part`.
    pub fn with<'a>(&'a self, part: &'a str) -> impl Iterator<Item = &'a Step> {
        self.steps.iter().filter(move |step| step.command.contains(part))
    }

    /// The steps with another verdict than [`Verdict::Good`] that were not asked for again: the server does not mind,
    /// an operator might.
    #[must_use]
    pub fn ignored(&self) -> Vec<&Step> {
        self.steps.iter().filter(|step| matches!(step.verdict, Verdict::Ignored(_))).collect()
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} of CloudStack {}:", self.walk, self.release)?;
        self.steps.iter().try_for_each(|step| write!(f, "{step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exit = self.exit.map_or_else(|| "-".to_owned(), |exit| exit.to_string());
        let verdict = match &self.verdict {
            Verdict::Good => String::new(),
            Verdict::NotYet(why) => format!("  (again: {why})"),
            Verdict::Ignored(why) => format!("  (ignored: {why})"),
            Verdict::Fatal(why) => format!("  (fatal: {why})"),
        };
        let seconds = self.elapsed.as_secs_f32();
        writeln!(f, "{:>6.1} s  {:<21} exit {exit}  {}{verdict}", seconds, self.to, self.command)?;
        let lines: Vec<&str> = self.text.lines().collect();
        // A kubeadm with --v=5 has thousands.
        let shown = lines.len().min(SHOWN);
        if shown < lines.len() {
            writeln!(f, "            | … {} lines", lines.len() - shown)?;
        }
        lines.iter().skip(lines.len() - shown).try_for_each(|line| writeln!(f, "            | {line}"))
    }
}

/// How many lines of an answer are shown.
const SHOWN: usize = 12;

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.why, self.transcript)
    }
}

impl std::error::Error for GivenUp {}
