//! The keys of a mapping, each asked for once; what nobody asked for is refused.

use std::collections::BTreeMap;

use crate::failure::Failure;
use crate::text::plain;
use crate::user_data::place::Place;
use crate::user_data::yaml::{Entry, Node};
use crate::user_data::{placeholder, refused_at, unfilled};

/// A mapping that is being read.
pub(super) struct Keys<'a> {
    entries: &'a [Entry],
    /// Where it is: `cks.etcd`.
    path: String,
    /// Its line.
    line: usize,
    part: Place,
    asked: Vec<&'static str>,
}

impl<'a> Keys<'a> {
    /// Begins to read `node`; nothing is an empty mapping.
    pub(super) fn new(node: &'a Node, path: &str, part: Place) -> Result<Self, Failure> {
        let entries = match node.map() {
            Some(entries) => entries,
            None if node.is_null() => &[],
            None => {
                return Err(refused_at(
                    part.at(node.line),
                    format!("{path} is a mapping of keys, not {}", node.kind()),
                ));
            }
        };
        let mut seen = BTreeMap::new();
        for entry in entries {
            if let Some(first) = seen.insert(&entry.key, entry.line) {
                let what = format!("{path}.{} stands twice, first in line {first}", plain(&entry.key));
                return Err(refused_at(part.at(entry.line), what));
            }
        }
        Ok(Self { entries, path: path.to_owned(), line: node.line, part, asked: Vec::new() })
    }

    fn find(&mut self, key: &'static str) -> Option<&'a Entry> {
        self.asked.push(key);
        self.entries.iter().find(|entry| entry.key == key).filter(|entry| !entry.value.is_null())
    }

    /// The place of a key; without it, that of the mapping.
    pub(super) fn place(&self, key: &str) -> Place {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        self.part.at(entry.map_or(self.line, |entry| entry.line))
    }

    /// A refusal that names the key and its line.
    pub(super) fn refuse(&self, key: &str, what: impl std::fmt::Display) -> Failure {
        refused_at(self.place(key), format!("{}.{key}: {what}", self.path))
    }

    /// Refuses the value of `key` for what is wrong with it, with the same remedy.
    pub(super) fn refuse_as(&self, key: &str, failure: Failure) -> Failure {
        let refusal = self.refuse(key, failure.what);
        match failure.remedy {
            Some(remedy) => refusal.with_remedy(remedy),
            None => refusal,
        }
    }

    /// Refuses the keys that nobody asked for.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let Some(entry) = self.entries.iter().find(|entry| !self.asked.contains(&entry.key.as_str())) else {
            return Ok(());
        };
        let what = format!("{}.{} is unknown", self.path, plain(&entry.key));
        Err(refused_at(self.part.at(entry.line), what).with_remedy(format!("known are {}", self.asked.join(", "))))
    }

    /// A text; an empty one is none.
    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<String>, Failure> {
        let Some(entry) = self.find(key) else { return Ok(None) };
        let text = self.scalar(key, &entry.value)?;
        Ok(Some(text).filter(|text| !text.trim().is_empty()))
    }

    fn scalar(&self, key: &str, node: &Node) -> Result<String, Failure> {
        let text = node.text().ok_or_else(|| self.refuse(key, format!("a text is wanted, not {}", node.kind())))?;
        match placeholder::first(text) {
            Some(token) => Err(self.refuse(key, unfilled("the value", token))),
            None => Ok(text.to_owned()),
        }
    }

    /// A value that `parse` reads; the refusal repeats it.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Failure> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let text = text.trim();
        parse(text).map(Some).map_err(|why| self.refuse(key, format!("{:?} {why}", plain(text))))
    }

    /// A value that `parse` reads; what it says of it is told.
    pub(super) fn told<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        parse(text.trim()).map(Some).map_err(|failure| self.refuse(key, failure.what))
    }

    /// One of `choices`.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Result<Option<T>, Failure> {
        let names = || choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        self.parsed(key, |text| {
            let found = choices.iter().find(|(name, _)| *name == text);
            found.map(|(_, choice)| *choice).ok_or_else(|| format!("is none of {}", names()))
        })
    }

    /// A truth value.
    pub(super) fn truth(&mut self, key: &'static str) -> Result<Option<bool>, Failure> {
        let Some(entry) = self.find(key) else { return Ok(None) };
        self.scalar(key, &entry.value)?;
        match entry.value.truth() {
            None => Err(self.refuse(key, "is neither true nor false")),
            truth => Ok(truth),
        }
    }

    /// A list of texts; a text alone is a list of one.
    pub(super) fn list(&mut self, key: &'static str) -> Result<Vec<String>, Failure> {
        let Some(entry) = self.find(key) else { return Ok(Vec::new()) };
        match entry.value.list() {
            Some(items) => items.iter().map(|item| self.scalar(key, item)).collect(),
            None => Ok(vec![self.scalar(key, &entry.value)?]),
        }
    }

    /// A mapping of texts.
    pub(super) fn texts(&mut self, key: &'static str) -> Result<BTreeMap<String, String>, Failure> {
        let Some(entry) = self.find(key) else { return Ok(BTreeMap::new()) };
        let inner = Keys::new(&entry.value, &format!("{}.{key}", self.path), self.part)?;
        let text = |entry: &Entry| match entry.value.is_null() {
            true => Ok((entry.key.clone(), String::new())),
            false => Ok((entry.key.clone(), inner.scalar(&entry.key, &entry.value)?)),
        };
        inner.entries.iter().map(text).collect()
    }

    /// A mapping with keys of its own.
    pub(super) fn map(&mut self, key: &'static str) -> Result<Option<Keys<'a>>, Failure> {
        let Some(entry) = self.find(key) else { return Ok(None) };
        Keys::new(&entry.value, &format!("{}.{key}", self.path), self.part).map(Some)
    }

    /// A mapping of names that nobody knows before to mappings with keys of their own; names that are still
    /// placeholders are left out.
    pub(super) fn each(&mut self, key: &'static str) -> Result<Vec<(&'a str, Keys<'a>)>, Failure> {
        let Some(entry) = self.find(key) else { return Ok(Vec::new()) };
        let path = format!("{}.{key}", self.path);
        let outer = Keys::new(&entry.value, &path, self.part)?;
        let filled = outer.entries.iter().filter(|entry| placeholder::first(&entry.key).is_none());
        filled
            .map(|entry| {
                Ok((entry.key.as_str(), Keys::new(&entry.value, &format!("{path}.{}", plain(&entry.key)), self.part)?))
            })
            .collect()
    }

    /// A text in PEM form with a block of `kind`. It is never repeated.
    pub(super) fn pem(&mut self, key: &'static str, kind: &str) -> Result<Option<String>, Failure> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let begins = text.trim_start().starts_with("-----BEGIN ");
        match begins && text.contains(&format!("{kind}-----")) && text.contains("-----END ") {
            true => Ok(Some(text)),
            false => Err(self.refuse(key, format!("is no PEM text with a {kind}"))),
        }
    }

    /// `cluster`: members as etcd spells them, `a=http://10.1.1.2:2380,b=…`.
    pub(super) fn take_cluster(&mut self) -> Result<Option<Vec<(String, String)>>, Failure> {
        let member =
            |part: &str| part.split_once('=').map(|(name, url)| (name.trim().to_owned(), url.trim().to_owned()));
        self.parsed("cluster", |text| {
            text.split(',').map(member).collect::<Option<Vec<_>>>().ok_or_else(|| "is not NAME=URL,NAME=URL".to_owned())
        })
    }
}
