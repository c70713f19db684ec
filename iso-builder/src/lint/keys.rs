//! The keys of a TOML text with their lines, whatever they mean: a new key of the spec needs nothing here.

use toml::de::{DeTable, DeValue};

use crate::text::without_users;

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// As the spec's own messages write it: `kubernetes.kubelet.url`, `images[0].file`,
    /// `manifests."network.yaml".url`.
    pub(super) name: String,
    /// Its line, from 1.
    pub(super) line: usize,
    /// Its value, where that is a text.
    pub(super) text: Option<String>,
}

/// All keys, in the order of their names; or the line and the cause of what is no TOML.
pub(super) fn all(text: &str) -> Result<Vec<Key>, (Option<usize>, String)> {
    let document = DeTable::parse(text).map_err(|e| {
        let line = e.span().map(|span| line_of(text, span.start));
        (line, without_users(e.message()))
    })?;
    let mut keys = Vec::new();
    table(text, "", document.get_ref(), &mut keys);
    Ok(keys)
}

fn table(text: &str, prefix: &str, fields: &DeTable<'_>, keys: &mut Vec<Key>) {
    for (name, value) in fields {
        let bare = name.get_ref().chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        let shown = if bare { name.get_ref().to_string() } else { format!("{:?}", name.get_ref()) };
        let name_of = if prefix.is_empty() { shown } else { format!("{prefix}.{shown}") };
        let line = line_of(text, name.span().start);
        one(text, name_of, line, value.get_ref(), keys);
    }
}

fn one(text: &str, name: String, line: usize, value: &DeValue<'_>, keys: &mut Vec<Key>) {
    keys.push(Key { name: name.clone(), line, text: value.as_str().map(str::to_owned) });
    match value {
        DeValue::Table(fields) => table(text, &name, fields, keys),
        DeValue::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                one(text, format!("{name}[{at}]"), line_of(text, item.span().start), item.get_ref(), keys);
            }
        }
        _ => {}
    }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count()
}

/// Line and cause of a spec's failure: from TOML's own message, or by the key that it names.
pub(super) fn placed(what: &str, keys: &[Key]) -> (Option<usize>, String) {
    if let Some(rest) = what.strip_prefix("TOML parse error at line ") {
        let line = rest.split(',').next().and_then(|line| line.parse().ok());
        return (line, what.lines().last().unwrap_or(what).to_owned());
    }
    let names = |key: &&Key| what.strip_prefix(key.name.as_str()).is_some_and(|rest| rest.starts_with([':', '.', '[']));
    let nearest = keys.iter().filter(names).max_by_key(|key| key.name.len());
    (nearest.map(|key| key.line), what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "name = 'a'\n\n[kubernetes]\nkubelet = { url = 'u' }\n[[images]]\nfile = 'f'\n\
                        [manifests]\n'network.yaml' = { file = 'g' }\nlist = [\n  'x',\n  'y',\n]\n";

    #[test]
    fn every_key_has_its_line() {
        let keys = all(TEXT).unwrap();
        for (name, line) in [
            ("name", 1),
            ("kubernetes", 3),
            ("kubernetes.kubelet.url", 4),
            ("images[0].file", 6),
            ("manifests.\"network.yaml\".file", 8),
            ("manifests.list[1]", 11),
        ] {
            let found = keys.iter().find(|key| key.name == name).map(|key| key.line);
            assert_eq!(found, Some(line), "{name} in {keys:?}");
        }
        assert_eq!(all("a = 1\nb = ").unwrap_err().0, Some(2));
    }

    #[test]
    fn failures_are_placed_at_the_nearest_key() {
        let keys = all(TEXT).unwrap();
        assert_eq!(placed("kubernetes.kubelet.sha256: x", &keys).0, Some(4));
        assert_eq!(placed("manifests: x", &keys).0, Some(7));
        assert_eq!(placed("no component: x", &keys).0, None);
        assert_eq!(
            placed("TOML parse error at line 3, column 1\n  |\nunknown field", &keys),
            (Some(3), "unknown field".into())
        );
    }
}
