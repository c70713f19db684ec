//! YAML that reads well and that no value can break out of.

use std::fmt::Write as _;

/// A YAML value. Maps keep the order in which they were filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Yaml {
    /// A string.
    Text(String),
    /// A whole number.
    Number(i64),
    /// A truth value.
    Flag(bool),
    /// A sequence.
    List(Vec<Yaml>),
    /// A mapping.
    Map(Map),
}

/// A mapping in the order of its making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Map(Vec<(String, Yaml)>);

impl Map {
    /// An empty mapping.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more key.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Yaml>) -> Self {
        self.0.push((key.to_owned(), value.into()));
        self
    }

    /// With one more key, where there is a value that says something: not for none, an empty list, an empty map.
    #[must_use]
    pub fn with_some(self, key: &str, value: Option<impl Into<Yaml>>) -> Self {
        match value.map(Into::into) {
            None => self,
            Some(Yaml::List(list)) if list.is_empty() => self,
            Some(Yaml::Map(map)) if map.0.is_empty() => self,
            Some(value) => self.with(key, value),
        }
    }
}

impl From<&str> for Yaml {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Yaml {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Yaml {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<u16> for Yaml {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<Map> for Yaml {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

impl<T: Into<Yaml>> From<Vec<T>> for Yaml {
    fn from(list: Vec<T>) -> Self {
        Self::List(list.into_iter().map(Into::into).collect())
    }
}

/// A stream of documents, with `head` as comment lines before the first.
#[must_use]
pub fn documents(head: &str, documents: impl IntoIterator<Item = Map>) -> String {
    let mut out: String = head.lines().map(|line| format!("# {line}\n")).collect();
    for (at, document) in documents.into_iter().enumerate() {
        if at > 0 {
            out += "---\n";
        }
        map(&mut out, &document, 0);
    }
    out
}

fn map(out: &mut String, map: &Map, depth: usize) {
    for (at, (key, value)) in map.0.iter().enumerate() {
        // The first key of a mapping that is an item stands behind its dash.
        if at > 0 || !out.ends_with("- ") {
            indent(out, depth);
        }
        *out += &scalar(key);
        out.push(':');
        entry(out, value, depth);
    }
}

fn entry(out: &mut String, value: &Yaml, depth: usize) {
    match value {
        Yaml::Map(inner) if !inner.0.is_empty() => {
            out.push('\n');
            map(out, inner, depth + 1);
        }
        Yaml::List(items) if !items.is_empty() => {
            out.push('\n');
            for item in items {
                indent(out, depth + 1);
                *out += "- ";
                match item {
                    Yaml::Map(inner) if !inner.0.is_empty() => map(out, inner, depth + 2),
                    item => {
                        flow(out, item);
                        out.push('\n');
                    }
                }
            }
        }
        value => {
            out.push(' ');
            flow(out, value);
            out.push('\n');
        }
    }
}

fn indent(out: &mut String, depth: usize) {
    for _ in 0..depth {
        *out += "  ";
    }
}

/// On one line, as JSON has it.
fn flow(out: &mut String, value: &Yaml) {
    match value {
        Yaml::Text(text) => *out += &scalar(text),
        Yaml::Number(number) => *out += &number.to_string(),
        Yaml::Flag(flag) => *out += if *flag { "true" } else { "false" },
        Yaml::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                *out += if at > 0 { ", " } else { "" };
                flow(out, item);
            }
            out.push(']');
        }
        Yaml::Map(map) => {
            out.push('{');
            for (at, (key, value)) in map.0.iter().enumerate() {
                *out += if at > 0 { ", " } else { "" };
                *out += &quoted(key);
                *out += ": ";
                flow(out, value);
            }
            out.push('}');
        }
    }
}

/// A word that every YAML reader takes for a string stands as it is; all else in quotes.
fn scalar(text: &str) -> String {
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._/-".contains(c));
    // YAML 1.1 reads these as truth values, nothing, or numbers.
    let reserved = ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"];
    if word && !reserved.contains(&text.to_ascii_lowercase().as_str()) { text.to_owned() } else { quoted(text) }
}

/// In double quotes, in ASCII: nothing in it can end the string or its line.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\t' => out += "\\t",
            ' '..='~' => out.push(c),
            // Writing into a String does not fail.
            c if u32::from(c) <= 0xffff => _ = write!(out, "\\u{:04x}", u32::from(c)),
            c => _ = write!(out, "\\U{:08x}", u32::from(c)),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_read_as_people_write_them() {
        let inner = Map::new().with("b", "x").with("c", vec![Yaml::from("z"), Yaml::from(Map::new())]);
        let document = Map::new()
            .with("kind", "InitConfiguration")
            .with("items", vec![inner.clone(), inner])
            .with("none", Vec::<Yaml>::new())
            .with_some("left-out", Some(Vec::<Yaml>::new()))
            .with_some("too", None::<bool>)
            .with("port", 6443_u16)
            .with("ok", true);
        let want = "# Of us.\nkind: InitConfiguration\nitems:\n  - b: x\n    c:\n      - z\n      - {}\n  - b: x\n    c:\n      - z\n      - {}\nnone: []\nport: 6443\nok: true\n---\na: b\n";
        assert_eq!(documents("Of us.", [document, Map::new().with("a", "b")]), want);
    }

    #[test]
    fn what_could_mean_something_else_is_quoted() {
        for (text, want) in [
            ("systemd", "systemd"),
            ("v1.34.1", "v1.34.1"),
            ("/etc/kubernetes/pki/ca.crt", "/etc/kubernetes/pki/ca.crt"),
            ("kubeadm.k8s.io/v1beta4", "kubeadm.k8s.io/v1beta4"),
            ("", "\"\""),
            ("No", "\"No\""),
            ("null", "\"null\""),
            ("1.34", "\"1.34\""),
            ("0s", "\"0s\""),
            ("-", "\"-\""),
            ("a: b", "\"a: b\""),
            ("a\nkind: Secret", "\"a\\nkind: Secret\""),
            ("\"\\", "\"\\\"\\\\\""),
            ("a #b", "\"a #b\""),
            ("\u{85}\u{2028}\u{feff}", "\"\\u0085\\u2028\\ufeff\""),
            ("ü\u{1f600}", "\"\\u00fc\\U0001f600\""),
            ("{{ token }}", "\"{{ token }}\""),
        ] {
            assert_eq!(scalar(text), want, "{text:?}");
        }
    }
}
