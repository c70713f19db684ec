//! Unit files as systemd reads them: where they lie, their drop-ins, lists and their resets, quoting.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// Best first.
const DIRECTORIES: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"];

/// What `disable`, `mask` and the `.wants` directories are about.
pub(crate) const ADMIN: &str = "/etc/systemd/system";

/// A unit with its drop-ins.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unit {
    /// Its own name, not an alias.
    pub(crate) name: String,
    /// The main file; none for a target that nobody wrote down.
    pub(crate) path: Option<PathBuf>,
    /// All files with their text, the main one first.
    pub(crate) sources: Vec<(PathBuf, String)>,
    lines: Vec<(String, String, String)>,
}

impl Unit {
    /// Reads it. None where there is no such unit; a masked one has no lines.
    pub(crate) fn load(name: &str) -> Result<Option<Self>> {
        let Some(path) = find(name) else {
            let virtual_one = name.ends_with(".target") || name.ends_with(".slice");
            return Ok(virtual_one.then(|| Self { name: name.to_owned(), ..Self::default() }));
        };
        let own = own_name(name, &path);
        if masked(&path) {
            return Ok(Some(Self { name: own, path: Some(path), ..Self::default() }));
        }
        let mut unit = Self { name: own.clone(), path: Some(path.clone()), ..Self::default() };
        for file in [path].into_iter().chain(drop_ins(&own)) {
            let text = fs::read_to_string(&file).with_context(|| format!("Reading {}", file.display()))?;
            unit.lines.extend(parse(&text));
            unit.sources.push((file, text));
        }
        Ok(Some(unit))
    }

    /// A unit of one file's text.
    #[cfg(test)]
    pub(crate) fn of(name: &str, text: &str) -> Self {
        let sources = vec![(PathBuf::from(name), text.to_owned())];
        Self { name: name.to_owned(), path: None, sources, lines: parse(text) }
    }

    /// Whether it leads to `/dev/null`.
    pub(crate) fn masked(&self) -> bool {
        self.path.as_deref().is_some_and(masked)
    }

    /// Whether what was read is still what is there.
    pub(crate) fn changed_on_disk(&self) -> bool {
        match Self::load(&self.name) {
            Ok(Some(now)) => now.sources != self.sources,
            _ => true,
        }
    }

    /// The values of a key in their order; an empty one forgets those before it.
    pub(crate) fn values(&self, section: &str, key: &str) -> Vec<&str> {
        let mut values = Vec::new();
        for (_, _, value) in self.lines.iter().filter(|(s, k, _)| s == section && k == key) {
            if value.is_empty() { values.clear() } else { values.push(value.as_str()) }
        }
        values
    }

    /// The last value of a key.
    pub(crate) fn last(&self, section: &str, key: &str) -> Option<&str> {
        self.values(section, key).pop()
    }

    /// The words of all values of a key.
    pub(crate) fn list(&self, section: &str, key: &str) -> Vec<String> {
        let words = self.values(section, key).into_iter().flat_map(str::split_whitespace);
        words.map(|word| self.specifiers(word)).collect()
    }

    /// As [`Self::last`] of `[Service]`.
    pub(crate) fn service(&self, key: &str) -> Option<&str> {
        self.last("Service", key)
    }

    /// Whether a switch of `[Service]` is on.
    pub(crate) fn on(&self, key: &str) -> bool {
        matches!(self.service(key), Some("yes" | "true" | "1" | "on"))
    }

    /// A time of `[Service]`; none is `infinity`.
    pub(crate) fn time(&self, key: &str, otherwise: Duration) -> Option<Duration> {
        self.service(key).map_or(Some(otherwise), |value| span(value).unwrap_or(Some(otherwise)))
    }

    /// What it wants of others: the units that are started with it, and whether each has to succeed.
    pub(crate) fn wanted(&self) -> BTreeMap<String, bool> {
        let mut wanted: BTreeMap<String, bool> =
            self.list("Unit", "Wants").into_iter().map(|name| (name, false)).collect();
        for base in [ADMIN, "/run/systemd/system"] {
            for (directory, must) in [("wants", false), ("requires", true)] {
                let links = fs::read_dir(Path::new(base).join(format!("{}.{directory}", self.name)));
                let names =
                    links.into_iter().flatten().flatten().filter_map(|link| link.file_name().into_string().ok());
                wanted.extend(names.map(|name| (name, must)));
            }
        }
        let required = ["Requires", "BindsTo"].into_iter().flat_map(|key| self.list("Unit", key));
        wanted.extend(required.map(|name| (name, true)));
        wanted
    }

    /// The units whose stop or restart is this one's, too.
    pub(crate) fn follows(&self) -> Vec<String> {
        ["Requires", "BindsTo", "PartOf"].into_iter().flat_map(|key| self.list("Unit", key)).collect()
    }

    /// `%n` and its kind, those that a unit of ours may have.
    pub(crate) fn specifiers(&self, text: &str) -> String {
        let prefix = self.name.rsplit_once('.').map_or(self.name.as_str(), |(prefix, _)| prefix);
        let (stem, instance) = prefix.split_once('@').unwrap_or((prefix, ""));
        let mut out = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            match chars.next() {
                Some('n') => out.push_str(&self.name),
                Some('N') => out.push_str(prefix),
                Some('p') => out.push_str(stem),
                Some('i' | 'I') => out.push_str(instance),
                Some('t') => out.push_str("/run"),
                Some('S') => out.push_str("/var/lib"),
                Some('H' | 'l') => out.push_str(fs::read_to_string("/etc/hostname").unwrap_or_default().trim()),
                Some('%') => out.push('%'),
                Some(other) => out.extend(['%', other]),
                None => out.push('%'),
            }
        }
        out
    }
}

/// Where a unit's main file is, an instance's template included.
fn find(name: &str) -> Option<PathBuf> {
    let template = name.split_once('@').and_then(|(stem, rest)| Some(format!("{stem}@.{}", rest.rsplit_once('.')?.1)));
    let names = [Some(name.to_owned()), template];
    names.into_iter().flatten().find_map(|name| {
        DIRECTORIES
            .iter()
            .map(|directory| Path::new(directory).join(&name))
            .find(|path| path.symlink_metadata().is_ok())
    })
}

/// A link from another name is an alias.
fn own_name(name: &str, path: &Path) -> String {
    let real = fs::canonicalize(path).unwrap_or_default();
    let file = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if masked(path) || file.is_empty() || file.contains('@') || !file.contains('.') { name.to_owned() } else { file }
}

fn masked(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|target| target == Path::new("/dev/null"))
}

/// In the order of their names; of two with one name the one in the better directory.
fn drop_ins(name: &str) -> Vec<PathBuf> {
    let mut found = BTreeMap::new();
    for directory in DIRECTORIES.iter().rev() {
        let entries = fs::read_dir(Path::new(directory).join(format!("{name}.d")));
        let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
        let files = paths.filter(|path| path.extension().is_some_and(|extension| extension == "conf"));
        found.extend(files.map(|path| (path.file_name().unwrap_or_default().to_owned(), path)));
    }
    found.into_values().collect()
}

fn parse(text: &str) -> Vec<(String, String, String)> {
    let (mut lines, mut section, mut pending) = (Vec::new(), String::new(), String::new());
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with(['#', ';']) || (line.is_empty() && pending.is_empty()) {
            continue;
        }
        if let Some(begun) = line.strip_suffix('\\') {
            pending.push_str(begun);
            pending.push(' ');
            continue;
        }
        let whole = std::mem::take(&mut pending) + line;
        if let Some(name) = whole.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = whole.split_once('=') {
            lines.push((section.clone(), key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    lines
}

/// `5min 20s`, `100ms`, `10`, `infinity`.
pub(crate) fn span(text: &str) -> Result<Option<Duration>> {
    if text == "infinity" {
        return Ok(None);
    }
    let mut total = Duration::ZERO;
    for part in text.split_whitespace() {
        let digits = part.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(part.len());
        let number: f64 = part[..digits].parse().with_context(|| format!("Reading the time {text:?}"))?;
        let unit = match &part[digits..] {
            "" | "s" | "sec" | "second" | "seconds" => 1.0,
            "ms" | "msec" => 0.001,
            "us" | "usec" => 0.000_001,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86400.0,
            other => bail!("{text:?} has an unknown unit {other:?}"),
        };
        total += Duration::from_secs_f64(number * unit);
    }
    Ok(Some(total))
}

/// A line's words, with quotes taken away.
pub(crate) fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', open) if open != Some('\'') => {
                let next = chars.next().unwrap_or('\\');
                let plain = match next {
                    'n' => '\n',
                    't' => '\t',
                    's' => ' ',
                    other => other,
                };
                word.get_or_insert_default().push(plain);
            }
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_value_forgets_those_before_it() {
        let text = "[Service]\nExecStart=/a\n# no\nExecStart=\nExecStart=/b \\\n  --c\nEnvironment=X=1\n";
        let unit = Unit::of("x.service", text);
        assert_eq!(unit.values("Service", "ExecStart"), ["/b  --c"]);
        assert_eq!(unit.values("Unit", "ExecStart"), Vec::<&str>::new());
    }

    #[test]
    fn words_times_and_specifiers_are_systemds() {
        assert_eq!(words(r#""A=b c" D='e"f' g\sh """#), ["A=b c", "D=e\"f", "g h", ""]);
        assert_eq!(span("1min 30s").unwrap(), Some(Duration::from_secs(90)));
        assert_eq!(span("100ms").unwrap(), Some(Duration::from_millis(100)));
        assert_eq!(span("infinity").unwrap(), None);
        assert!(span("5 parsecs").is_err());
        let unit = Unit::of("a@b.service", "");
        assert_eq!(unit.specifiers("%p %i %n %% %t"), "a b a@b.service % /run");
    }
}
