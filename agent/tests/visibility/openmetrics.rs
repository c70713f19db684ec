//! A strict reader of OpenMetrics text, as much of it as the agent writes
//! (<https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>).

use std::collections::{BTreeMap, BTreeSet};

type Labels = Vec<(String, String)>;

/// Samples by name and labels.
pub(crate) type Samples = BTreeMap<(String, Labels), f64>;

/// What `text` says, or the rule that it breaks.
pub(crate) fn parse(text: &str) -> Result<Samples, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("does not end with # EOF")?;
    let (mut samples, mut families) = (Samples::new(), BTreeSet::new());
    let (mut family, mut kind) = (String::new(), String::new());
    for line in body.split_terminator('\n') {
        let wrong = |why: &str| Err(format!("{why}: {line:?}"));
        if line.chars().any(char::is_control) {
            return wrong("control character");
        }
        if let Some(rest) = line.strip_prefix("# ") {
            let [what, name, value] = rest.splitn(3, ' ').collect::<Vec<_>>()[..] else { return wrong("metadata") };
            match what {
                "TYPE" if !is_name(name) || !families.insert(name.to_owned()) => return wrong("family"),
                "TYPE" if ["gauge", "counter", "info", "stateset"].contains(&value) => {
                    (family, kind) = (name.to_owned(), value.to_owned());
                }
                "UNIT" if name != family || !name.ends_with(&format!("_{value}")) => return wrong("unit"),
                "HELP" if name != family || value.is_empty() => return wrong("help"),
                "UNIT" | "HELP" => {}
                _ => return wrong("metadata"),
            }
            continue;
        }
        let (name, labels, value) = sample(line).ok_or_else(|| format!("sample: {line:?}"))?;
        let ending = match kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        if name != format!("{family}{ending}") {
            return wrong("sample of another family");
        }
        let right = match kind.as_str() {
            "counter" => value >= 0.0,
            "info" => value == 1.0,
            "stateset" => (value == 0.0 || value == 1.0) && labels.iter().any(|(label, _)| *label == family),
            _ => true,
        };
        if !right || labels.iter().map(|(label, _)| label).collect::<BTreeSet<_>>().len() < labels.len() {
            return wrong("value or labels");
        }
        if samples.insert((name, labels), value).is_some() {
            return wrong("twice");
        }
    }
    Ok(samples)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"")?;
            let (mut value, mut chars) = (String::new(), after.chars());
            loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => value.push(match chars.next()? {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        _ => return None,
                    }),
                    c => value.push(c),
                }
            }
            is_name(label).then_some(())?;
            labels.push((label.to_owned(), value));
            rest = chars.as_str();
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = rest.strip_prefix(' ')?.parse().ok()?;
    is_name(name).then(|| (name.to_owned(), labels, value))
}

#[test]
fn the_reader_refuses_what_is_wrong() {
    let good = "# TYPE x_bytes counter\n# UNIT x_bytes bytes\n# HELP x_bytes Bytes.\nx_bytes_total{a=\"\\\\\\\"\\n\",b=\"\"} 1\n# EOF\n";
    assert_eq!(
        parse(good).unwrap()[&(
            "x_bytes_total".to_owned(),
            vec![("a".to_owned(), "\\\"\n".to_owned()), ("b".to_owned(), String::new())]
        )],
        1.0
    );
    for (from, to) in [
        ("# EOF\n", ""),
        ("_total", ""),
        (" 1\n", " -1\n"),
        (" 1\n", "\n"),
        ("\\n", "\\x"),
        ("b=", "a="),
        ("UNIT x_bytes bytes", "UNIT x_bytes seconds"),
        ("TYPE x_bytes counter", "TYPE x_bytes sum"),
        ("HELP x_bytes", "HELP y_bytes"),
        ("# EOF\n", "# TYPE x_bytes gauge\n# EOF\n"),
        ("\\n", "\r"),
    ] {
        assert_ne!(good, good.replacen(from, to, 1));
        assert!(parse(&good.replacen(from, to, 1)).is_err(), "{from:?} → {to:?}");
    }
}
