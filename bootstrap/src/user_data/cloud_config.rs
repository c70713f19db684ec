//! A cloud-config text: its top level, its files, its commands. Where the text as a whole is no YAML, each part of it
//! that is YAML by itself is read all the same.

use super::yaml::{self, Duplicate, Entry, Fault, Node, Value};

mod file;

pub(super) use self::file::{Room, WriteFile, write_file};

/// Pieces that a text is read in where it is no YAML as a whole.
const MOST_PIECES: usize = 2000;

/// A cloud-config text as far as it can be read.
#[derive(Debug, Default)]
pub(super) struct CloudConfig {
    /// The keys of the top level, in their order.
    pub(super) entries: Vec<Entry>,
    /// What can't be read.
    pub(super) unread: Vec<Fault>,
    /// Keys that stand twice.
    pub(super) duplicates: Vec<Duplicate>,
}

impl CloudConfig {
    /// Reads `text`.
    pub(super) fn read(text: &str) -> Self {
        match yaml::document(text) {
            Ok(document) => {
                let duplicates = document.duplicates;
                match document.root.map(|root| (root.line, root.value)) {
                    Some((_, Value::Map(entries))) => Self { entries, unread: Vec::new(), duplicates },
                    None => Self::default(),
                    Some((line, _)) => {
                        let what = "the top level of a cloud-config is a mapping of keys".to_owned();
                        Self { unread: vec![Fault { line, what }], ..Self::default() }
                    }
                }
            }
            Err(fault) => Self::salvage(text, fault),
        }
    }

    /// Reads each key of the top level by itself, and of a list that is no YAML each item by itself.
    fn salvage(text: &str, whole: Fault) -> Self {
        let mut config = Self::default();
        for (at, chunk) in chunks(text, is_key).into_iter().take(MOST_PIECES) {
            if chunk.lines().next().is_some_and(is_key) {
                config.add(at, &chunk);
            }
        }
        if config.unread.is_empty() {
            config.unread.push(whole);
        }
        config
    }

    /// Reads the `chunk` of one key, which begins `at` lines down.
    fn add(&mut self, at: usize, chunk: &str) {
        match yaml::document(chunk) {
            Ok(document) => {
                let Some(Node { value: Value::Map(entries), .. }) = document.root else { return };
                for mut entry in entries {
                    entry.line += at;
                    entry.value.relocate(&|line| line + at);
                    self.entries.push(entry);
                }
            }
            Err(fault) => {
                let Some((head, list)) = chunk.split_once('\n') else {
                    self.unread.push(Fault { line: fault.line + at, what: fault.what });
                    return;
                };
                let indent = list.lines().find(|line| is_item(line)).map_or(0, indent_of);
                let begins = |line: &str| !line.trim().is_empty() && indent_of(line) <= indent;
                let mut items = Vec::new();
                for (item_at, item) in chunks(list, begins).into_iter().take(MOST_PIECES) {
                    let by = at + 1 + item_at;
                    match yaml::document(&item) {
                        Ok(document) => {
                            if let Some(Node { value: Value::List(read), .. }) = document.root {
                                items.extend(read.into_iter().map(|mut node| {
                                    node.relocate(&|line| line + by);
                                    node
                                }));
                            }
                        }
                        Err(fault) => self.unread.push(Fault { line: fault.line + by, what: fault.what }),
                    }
                }
                let key = head.split(':').next().unwrap_or_default().trim().to_owned();
                let end = items.last().map_or(at + 1, |item| item.end);
                let value = Node { line: at + 1, end, value: Value::List(items) };
                self.entries.push(Entry { key, line: at + 1, value });
            }
        }
    }

    /// The same text at other lines.
    pub(super) fn relocate(&mut self, place: &impl Fn(usize) -> usize) {
        for entry in &mut self.entries {
            entry.line = place(entry.line);
            entry.value.relocate(place);
        }
        self.unread.iter_mut().for_each(|fault| fault.line = place(fault.line));
        for twice in &mut self.duplicates {
            twice.first = place(twice.first);
            twice.second = place(twice.second);
        }
    }

    /// The items of all lists at the top level with one of `keys`: a second key of the same name replaces the first for
    /// cloud-init, and what it replaced was still said.
    pub(super) fn items(&self, keys: &[&str]) -> Vec<&Node> {
        let lists = self.entries.iter().filter(|entry| keys.contains(&entry.key.as_str()));
        lists.filter_map(|entry| entry.value.list()).flatten().collect()
    }

    /// The value of `key` at the top level, of several the last.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().rfind(|entry| entry.key == key)
    }

    /// The files that it writes, those that can be read.
    pub(super) fn files(&self) -> Vec<WriteFile> {
        let mut room = Room::default();
        let items = self.items(&["write_files", "write-files"]).into_iter();
        items.filter_map(|node| write_file(node, &mut room).ok()).collect()
    }
}

/// Whether `line` begins a key of the top level.
pub(super) fn is_key(line: &str) -> bool {
    let name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    line.split_once(':').is_some_and(|(key, rest)| name(key) && (rest.is_empty() || rest.starts_with([' ', '\t'])))
}

/// Whether `line` begins an item of a list.
pub(super) fn is_item(line: &str) -> bool {
    let line = line.trim_start();
    line == "-" || line.starts_with("- ")
}

/// The spaces that `line` begins with.
pub(super) fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// `text` cut before each line that `begins`, each piece with the number of lines before it.
fn chunks(text: &str, begins: impl Fn(&str) -> bool) -> Vec<(usize, String)> {
    let mut chunks: Vec<(usize, String)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if begins(line) || chunks.is_empty() {
            chunks.push((at, String::new()));
        }
        if let Some((_, chunk)) = chunks.last_mut() {
            chunk.push_str(line);
            chunk.push('\n');
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_yaml_by_itself_is_read_though_the_whole_is_not() {
        let text = "users: [a]\nwrite_files:\n  - path: /a\n    content: |\n      x\n  - path: /b\n    content: 'y\n  - path: /c\n\
                    \u{20}   content: z\n- stray: {\nruncmd:\n  - one\n  - two\n";
        assert!(yaml::document(text).is_err());
        let config = CloudConfig::read(text);
        let files: Vec<_> = config.files().into_iter().map(|file| (file.path, file.line, file.content)).collect();
        assert_eq!(
            files,
            [("/a".to_owned(), 3, "x\n".to_owned()), ("/c".to_owned(), 8, "z".to_owned())],
            "{:?}",
            config.unread
        );
        let commands: Vec<_> = config.items(&["runcmd"]).into_iter().map(|node| (node.line, node.text())).collect();
        assert_eq!(commands, [(12, Some("one")), (13, Some("two"))]);
        assert!(config.unread.iter().any(|fault| (6..=8).contains(&fault.line)), "{:?}", config.unread);
        assert_eq!(config.get("users").map(|entry| entry.line), Some(1));
    }

    #[test]
    fn lists_of_both_keys_count() {
        let config = CloudConfig::read("runcmd: [a]\nruncmd: [b]\n");
        assert_eq!(config.items(&["runcmd"]).len(), 2);
        assert_eq!(config.duplicates.len(), 1);
    }
}
