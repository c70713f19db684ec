//! Metric families as text.

use std::fmt::Write as _;

use bootstrap::text::plain;

/// In which form the text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's text format 0.0.4, the only one that node_exporter's textfile collector reads: it refuses a
    /// file with a type that it does not know (info, state set).
    Prometheus,
}

/// What a family measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only goes up, from the begin of a run.
    Counter,
    /// Facts in labels; always 1.
    Info,
    /// One of several is 1; the label has the family's name.
    StateSet,
}

/// Samples of one meaning.
#[derive(Debug)]
pub(super) struct Family {
    /// Name without the ending that its kind adds.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Unit, which ends the name.
    pub(super) unit: Option<&'static str>,
    pub(super) help: &'static str,
    pub(super) samples: Vec<Sample>,
}

/// Labels and value.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) value: f64,
}

/// All families that have samples.
pub(super) fn write(families: &[Family], syntax: Syntax) -> String {
    let mut text = String::new();
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        // Writing to a text can't fail.
        let _ = family.write(&mut text, syntax);
    }
    if syntax == Syntax::OpenMetrics {
        text += "# EOF\n";
    }
    text
}

impl Family {
    fn write(&self, text: &mut String, syntax: Syntax) -> std::fmt::Result {
        let ending = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::StateSet => "",
        };
        let name = self.name;
        let (family, kind) = match (syntax, self.kind) {
            (Syntax::OpenMetrics, kind) => (name.to_owned(), kind.as_str()),
            (Syntax::Prometheus, Kind::Counter) => (format!("{name}{ending}"), "counter"),
            (Syntax::Prometheus, _) => (format!("{name}{ending}"), "gauge"),
        };
        writeln!(text, "# TYPE {family} {kind}")?;
        if let (Some(unit), Syntax::OpenMetrics) = (self.unit, syntax) {
            writeln!(text, "# UNIT {family} {unit}")?;
        }
        writeln!(text, "# HELP {family} {}", self.help)?;
        for sample in &self.samples {
            let labels = sample.labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
            let labels: Vec<String> = labels.collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            writeln!(text, "{name}{ending}{labels} {}", sample.value)?;
        }
        Ok(())
    }
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }
}

/// A label's value: nothing in it ends the value or the line.
fn escaped(value: &str) -> String {
    plain(value).replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(kind: Kind) -> Family {
        let labels = vec![("source", "a\"} 1\n# EOF\\".to_owned())];
        let samples = vec![Sample { labels, value: 1_700_000_000.5 }, Sample { labels: Vec::new(), value: 3e18 }];
        Family { name: "x_bytes", kind, unit: Some("bytes"), help: "Bytes.", samples }
    }

    #[test]
    fn both_syntaxes_name_a_counter_as_they_must() {
        let families = [family(Kind::Counter)];
        let samples =
            "x_bytes_total{source=\"a\\\"} 1\\\\n# EOF\\\\\"} 1700000000.5\nx_bytes_total 3000000000000000000\n";
        assert_eq!(
            write(&families, Syntax::OpenMetrics),
            format!("# TYPE x_bytes counter\n# UNIT x_bytes bytes\n# HELP x_bytes Bytes.\n{samples}# EOF\n")
        );
        assert_eq!(
            write(&families, Syntax::Prometheus),
            format!("# TYPE x_bytes_total counter\n# HELP x_bytes_total Bytes.\n{samples}")
        );
    }

    #[test]
    fn a_textfile_has_no_type_that_its_reader_refuses() {
        for kind in [Kind::Gauge, Kind::Info, Kind::StateSet] {
            assert!(write(&[family(kind)], Syntax::Prometheus).contains(" gauge\n"));
        }
        assert_eq!(write(&[Family { samples: Vec::new(), ..family(Kind::Gauge) }], Syntax::Prometheus), "");
    }
}
